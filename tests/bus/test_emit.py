"""emit, with both buses: what an event may be, and what becomes of one that may not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from lukhas_redis.bus import AsyncContextBus, NewEvent
from lukhas_redis.errors import (
    Backlog,
    InvalidArgument,
    InvalidId,
    PayloadTooLarge,
    RequestReused,
    SerializationError,
    ServerUnsuitable,
    TenantPaused,
    WrongKeyType,
)
from lukhas_redis.keys import session_bits
from lukhas_redis.testing import assert_same
from tests.bus.conftest import Look, MakesBuses
from tests.fix_servers import StartsServers


class Model(BaseModel):
    """A payload with a type."""

    n: int = 1


@dataclass
class Plain:
    """A payload as a dataclass."""

    n: int = 1


CYCLE: dict[str, Any] = {}
CYCLE["self"] = CYCLE
LONG = "x" * 257
LINES = ("a\nb", "\x00", "\ud800", LONG, "é" * 129, None, 5, b"x")
# What `emit` is given, and the error: always before anything is sent.
BAD: dict[str, tuple[type[Exception], tuple[Any, ...]]] = {
    "event": (InvalidArgument, ("", "a b", "a\n", "ä", "x" * 129, "\ud800", 5, None, b"a")),
    "payload": (InvalidArgument, ([1], 5, "text", Model, Plain, object())),
    "priority": (InvalidArgument, ("urgent", "", None, 1, ["low"], "LOW", "later")),
    "source": (InvalidArgument, LINES),
    "correlation_id": (InvalidArgument, LINES),
    "causation_id": (InvalidArgument, LINES),
    "ordering_key": (InvalidArgument, LINES),
    "traceparent": (InvalidArgument, LINES),
    "idempotency_key": (InvalidArgument, ("", "a\tb", "\udfff", LONG, 5, b"", [])),
    "delay": (
        InvalidArgument,
        (-1, float("nan"), float("inf"), "1", True, 1e12, Decimal(1), timedelta(days=366), timedelta(-1)),
    ),
    "at": (InvalidArgument, (datetime(2030, 1, 1), "2030-01-01", 5.0)),
    "context_id": (InvalidId, ("", "x", "\ud800", 5)),
    "session_id": (InvalidId, ("", "a\nb", "\ud800", LONG, 5)),
    "durability": (InvalidArgument, ("disk", 5)),
    "dry_run": (InvalidArgument, ("yes", 5)),
}
CASES = [
    *[
        pytest.param(name, one, error, id=f"{name}-{number}")
        for name, (error, values) in BAD.items()
        for number, one in enumerate(values)
    ],
    *[pytest.param("payload", one, SerializationError) for one in (CYCLE, {"a": object()}, {"a": "\ud800"})],
]


@pytest.mark.parametrize("name, value, error", CASES)
async def test_bad_arguments_are_refused_before_anything_is_sent(
    bus: AsyncContextBus, look: Look, name: str, value: Any, error: type[Exception]
) -> None:
    """Each has the error that names it; the tenant does not even get a record."""
    args: dict[str, Any] = {"event": "a", "payload": {}, name: value}
    with pytest.raises(error):
        await bus.emit(**args)
    assert look.dump() == {}


@pytest.mark.parametrize("payload", [{"n": 1}, Model(), Plain()])
async def test_a_payload_is_a_dict_whatever_it_was(both: AsyncContextBus, payload: Any) -> None:
    """Models and dataclasses travel as what they hold."""
    await both.emit("a", payload)
    (event,) = await both.history()
    assert event.payload == {"n": 1}


async def test_hostile_names_and_payloads_come_back_as_they_were(both: AsyncContextBus, look: Look) -> None:
    """Braces, colons, percent signs, quotes, other scripts; and every kind of value."""
    text = "ä'{x}:*%s\"\\ 漢字 🎉"
    payload = {
        "text": text,
        "bytes": b"\x00\xff",
        "big": 2**70,
        "none": None,
        "set": {1},
        "at": datetime(2030, 1, 1, tzinfo=UTC),
    }
    await both.emit("a/b:c_d.e-f", payload, source=text, correlation_id=text, ordering_key=text, traceparent=text)
    (event,) = await both.history()
    assert (event.event, event.payload, event.source, event.ordering_key) == ("a/b:c_d.e-f", payload, text, text)
    assert abs(event.emitted_ms - look.now_ms()) < 600_000


async def test_a_payload_over_the_limit_is_named(make_both: MakesBuses, look: Look) -> None:
    """With its size and the limit; nothing was sent. One that just fits is taken."""
    bus = make_both(bus_max_payload_bytes=1000)
    with pytest.raises(PayloadTooLarge) as caught:
        await bus.emit("a", {"x": b"y" * 1001})
    assert caught.value.fields["limit_bytes"] == 1000
    assert (look.dump(), caught.value.retryable) == ({}, False)
    await bus.emit("a", {"x": b"y" * 900})


async def test_the_same_idempotency_key_is_the_same_event(both: AsyncContextBus) -> None:
    """Its id comes back, also with the event as a NewEvent; another event under the key is refused."""
    key = "order 5/é"
    first = await both.emit("a", {"n": 1}, idempotency_key=key)
    again = await both.emit(NewEvent("a", {"n": 1}), idempotency_key=key)
    assert (again.event_id, again.stream_id, again.request_id) == (first.event_id, first.stream_id, key)
    others: tuple[dict[str, Any], ...] = (
        {"payload": {"n": 2}},
        {"priority": "high"},
        {"delay": 5},
        {"event": "b"},
        {"source": "s"},
    )
    for other in others:
        with pytest.raises(RequestReused):
            await both.emit(**{"event": "a", "payload": {"n": 1}, "idempotency_key": key, **other})
    assert len(await both.history()) == 1
    assert (await both.emit("a", {"n": 1}, idempotency_key="other")).event_id != first.event_id


async def test_a_repeat_under_another_trace_is_the_same_event(both: AsyncContextBus) -> None:
    """Whoever emits again after a failure is in another span; the first one's trace stays the event's."""
    first = await both.emit("a", {"n": 1}, idempotency_key="k", traceparent="00-1-1-01")
    again = await both.emit("a", {"n": 1}, idempotency_key="k", traceparent="00-2-2-01")
    assert again.event_id == first.event_id
    assert [one.traceparent for one in await both.history()] == ["00-1-1-01"]


@pytest.mark.parametrize("shards", [1, 4])
async def test_repeats_meet_on_one_shard(make_both: MakesBuses, shards: int) -> None:
    """A key without anything else still names one event, however many shards there are."""
    bus, other = make_both(shards=shards), make_both(shards=shards)
    ids = {(await one.emit("a", idempotency_key="k")).event_id for one in (bus, other, bus)}
    assert len(ids) == 1
    assert len(await bus.history()) == 1


async def test_an_event_is_where_what_it_belongs_to_is(make: MakesBuses) -> None:
    """So that a handler can change its context in one step."""
    bus = make(shards=8)
    kept = await bus.store.preserve("session-7", {})
    by_session = await bus.emit("a", session_id="session-7")
    by_context = await bus.emit("a", context_id=kept.context_id)
    by_key = [await bus.emit("a", ordering_key="k") for _ in range(2)]
    assert by_session.event_id[:4] == by_context.event_id[:4] == kept.context_id[:4] == session_bits("session-7")
    assert len({one.event_id[:4] for one in by_key}) == 1
    for _ in range(20):
        await bus.emit("anywhere")
    shards = {event.event_id: event.shard for event in await bus.history()}
    assert len(set(shards.values())) > 1
    assert shards[by_session.event_id] == shards[by_context.event_id] == bus.store.space.shard_for(kept.context_id).tag


async def test_a_full_stream_refuses_and_drops_nothing(make_both: MakesBuses, reader: Any) -> None:
    """Typed and to be tried again later; history makes room first, what nobody has handled never."""
    bus, worker = make_both(bus_max_entries=5), reader()
    worker.read("g")
    sent = [(await bus.emit("a", {"n": number})).event_id for number in range(5)]
    with pytest.raises(Backlog) as caught:
        await bus.emit("a")
    assert (caught.value.retryable, caught.value.fields["priority"], caught.value.fields["limit"]) == (
        True,
        "normal",
        5,
    )
    await bus.emit("a", priority="high")
    events = worker.read("g", count=6, pattern="*")
    assert [one.event_id for one in events if one.priority == "normal"] == sent
    worker.ack("g", *[one for one in events if one.payload.get("n", 9) < 2])
    for number in (5, 6):
        await bus.emit("a", {"n": number})
    with pytest.raises(Backlog):
        await bus.emit("a")
    left = [one.payload["n"] for one in await bus.history(priority="normal")]
    assert left == [2, 3, 4, 5, 6]


async def test_without_a_group_a_stream_is_a_window(make_both: MakesBuses) -> None:
    """Events that nobody will read make room for new ones."""
    bus = make_both(bus_max_entries=3)
    for number in range(9):
        await bus.emit("a", {"n": number})
    assert [one.payload["n"] for one in await bus.history()][-1] == 8


async def test_a_paused_tenant_refuses(both: AsyncContextBus, look: Look) -> None:
    """Typed, to be tried again, and nothing has changed."""
    await both.emit("a")
    await both.store.set_mode("paused")
    before = look.dump()
    with pytest.raises(TenantPaused) as caught:
        await both.emit("a")
    assert caught.value.retryable
    assert_same(before, look.dump())


async def test_a_delay_may_be_given_in_each_way(both: AsyncContextBus, look: Look) -> None:
    """Seconds, a time span, or a moment; the later one counts, and a moment that is over is none."""
    at = datetime.fromtimestamp(look.now_ms() / 1000 + 3600, UTC)
    ways: list[dict[str, Any]] = [{"delay": 3600}, {"delay": timedelta(hours=1)}, {"at": at}, {"at": at, "delay": 1}]
    for args in ways:
        emitted = await both.emit("later", **args)
        assert abs((emitted.due_at - at).total_seconds()) < 600
    emitted = await both.emit("now", at=datetime(2020, 1, 1, tzinfo=UTC), delay=0)
    assert [one.event for one in await both.history()] == ["now"]
    assert (await both.status()).delayed == 4


async def test_a_key_of_another_type_is_told(both: AsyncContextBus, look: Look) -> None:
    """Somebody else uses our key: typed, and no retry helps."""
    await both.emit("a")
    look.client.delete(look.keys.bus("normal"))
    look.client.set(look.keys.bus("normal"), "planted")
    before = look.dump()
    with pytest.raises(WrongKeyType):
        await both.emit("a")
    assert_same(before, look.dump())


async def test_durability_is_had_or_refused(
    bus: AsyncContextBus, look: Look, fresh_server: StartsServers, tenant: str
) -> None:
    """A server that writes every change to disk gives `local`; one that does not is named, before anything is sent."""
    with pytest.raises(ServerUnsuitable):
        await bus.emit("a", durability="local")
    assert look.dump() == {}
    sound = fresh_server(config={"appendonly": "yes", "appendfsync": "always"})
    async with AsyncContextBus.connect(sound.url, tenant=tenant) as other:
        first = await other.emit("a", durability="local", idempotency_key="k")
        assert (await other.emit("a", durability="local", idempotency_key="k")).event_id == first.event_id
        assert len(await other.history()) == 1
