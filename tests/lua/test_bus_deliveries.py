"""ack, hold and retry: what a worker may still do with a delivery, and what it may no longer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lukhas_redis.calls import Refused
from lukhas_redis.testing import assert_same
from tests.lua.bus import Bus, Taken

Step = Callable[[Bus, Taken], str]
# Each step, and what it says while the delivery is the worker's own.
STEPS: dict[str, tuple[Step, str]] = {
    "ack": (lambda bus, one: bus.ack(one)[0], "DONE"),
    "hold": (lambda bus, one: bus.hold(one, hold_ms=1000)[0], "MINE"),
    "retry": (lambda bus, one: bus.retry(one), "RETRY"),
    "dead": (lambda bus, one: bus.retry(one, max_deliveries=0), "DEAD"),
    "commit": (lambda bus, one: str(bus.commit(one)[0].decode()), "OK"),
}
steps = pytest.mark.parametrize("name", STEPS)


def say(name: str, bus: Bus, one: Taken) -> str:
    """Take a step."""
    return STEPS[name][0](bus, one)


@pytest.fixture
def taken(bus: Bus) -> Taken:
    """An event that worker `w1` has."""
    bus.emit("first")
    return bus.claim()[0]


@steps
def test_what_is_its_own_a_worker_may_finish(bus: Bus, taken: Taken, name: str) -> None:
    """Every step works while nobody else has it."""
    assert say(name, bus, taken) == STEPS[name][1]
    assert bus.finished() == (name in ("ack", "dead", "commit"))


@steps
def test_what_another_has_taken_over_is_fenced(bus: Bus, taken: Taken, name: str) -> None:
    """A worker that was away too long changes nothing, and the one that has it now is not disturbed."""
    bus.lapse(taken)
    bus.claim(consumer="w2")
    before = bus.dump()
    assert say(name, bus, taken) == "FENCED"
    assert_same(before, bus.dump())


@steps
def test_its_own_earlier_delivery_is_fenced(bus: Bus, taken: Taken, name: str) -> None:
    """The number of deliveries tells two deliveries to one worker apart."""
    bus.lapse(taken)
    assert bus.claim()[0].deliveries == 2
    before = bus.dump()
    assert say(name, bus, taken) == "FENCED"
    assert_same(before, bus.dump())


@steps
def test_what_was_given_back_is_fenced(bus: Bus, taken: Taken, name: str) -> None:
    """From then on nobody has it."""
    bus.retry(taken, delay_ms=1000)
    before = bus.dump()
    assert say(name, bus, taken) == "FENCED"
    assert_same(before, bus.dump())


@steps
def test_what_was_finished_is_gone(bus: Bus, taken: Taken, name: str) -> None:
    """A repeat does no harm and is told apart."""
    bus.ack(taken)
    before = bus.dump()
    assert say(name, bus, taken) == "GONE"
    assert_same(before, bus.dump())


@steps
def test_without_its_group_it_is_fenced(bus: Bus, taken: Taken, name: str) -> None:
    """Where the group was lost nothing says whose it is."""
    bus.shard.client.xgroup_destroy(bus.shard.keys.bus("normal"), "g")
    before = bus.dump()
    assert say(name, bus, taken) == "FENCED"
    assert_same(before, bus.dump())


@steps
@pytest.mark.parametrize("args", [{"stream_id": "5"}, {"rank": 0}, {"rank": 5}, {"deliveries": 0}, {"deliveries": "x"}])
def test_wrong_deliveries_are_named(bus: Bus, taken: Taken, name: str, args: dict[str, Any]) -> None:
    """Before anything is written."""
    given = {**taken.args, **args}
    wrong = Taken(given["rank"], given["stream_id"], given["deliveries"], {})
    before = bus.dump()
    with pytest.raises(Refused) as caught:
        say(name, bus, wrong)
    assert (caught.value.word, caught.value.facts["name"]) == ("LKARGUMENT", next(iter(args)))
    assert_same(before, bus.dump())


@steps
@pytest.mark.parametrize("by", ["argument", "tenant"])
def test_a_dry_run_changes_nothing(bus: Bus, taken: Taken, name: str, by: str) -> None:
    """Forced or by the tenant's mode; the answer tells it is one."""
    if by == "tenant":
        bus.shard.call("set_flag", name="mode", value="dry_run")
    args: dict[str, Any] = {"dry": 1} if by == "argument" else {}
    before = bus.dump()
    if name == "ack":
        assert bus.call("ack", *taken.words, **args) == [b"OK", b"1", b"DONE"]
    elif name == "hold":
        assert bus.call("hold", *taken.words, **args) == [b"OK", b"1", b"MINE"]
    elif name == "commit":
        assert bus.commit(taken, **args)[:2] == [b"OK", b"1"]
    else:
        assert bus.retry(taken, max_deliveries=int(name == "retry") * 9, **args) == "DRY"
    assert_same(before, bus.dump())


@steps
def test_a_paused_tenant_lets_work_in_hand_end(bus: Bus, taken: Taken, name: str) -> None:
    """Pausing stops what begins, not what is being done."""
    bus.shard.call("set_flag", name="mode", value="paused")
    assert say(name, bus, taken) == STEPS[name][1]


def test_several_at_once_each_have_their_state(bus: Bus) -> None:
    """Of one call some are done, some are another's, and one named twice is done once."""
    bus.emit_many(3)
    a, b, c = bus.claim()
    bus.lapse(b)
    bus.claim(consumer="w2")
    bus.ack(c)
    assert bus.ack(a, a, b, c) == ["DONE", "GONE", "FENCED", "GONE"]
    assert bus.counts()["done"] == 2


def test_a_sign_of_life_keeps_a_delivery(bus: Bus, taken: Taken) -> None:
    """Its hold counts from then on; a finished one is not brought back by it."""
    bus.lapse(taken)
    assert bus.hold(taken, hold_ms=50_000) == ["MINE"]
    assert bus.claim(consumer="w2") == []
    bus.ack(taken)
    assert bus.hold(taken) == ["GONE"]
    assert bus.finished()


def test_a_retry_waits_and_counts(bus: Bus, taken: Taken) -> None:
    """It belongs to nobody until it is due, and comes as the next delivery."""
    assert bus.retry(taken, delay_ms=50_000) == "RETRY"
    assert bus.pending() == {taken.sid: ("@waiting", 1)}
    assert 0 < bus.next_ms(consumer="w2") <= 50_000
    bus.lapse(taken)
    assert [(one.sid, one.deliveries) for one in bus.claim(consumer="w2")] == [(taken.sid, 2)]
    assert (bus.counts()["retried"], bus.counts()["taken_over"]) == (1, 0)


def test_one_that_was_never_handled_does_not_count(bus: Bus, taken: Taken) -> None:
    """A worker that stops gives it back as if it had not had it, however often."""
    for _ in range(4):
        assert bus.retry(taken, counted=0, max_deliveries=1) == "RETRY"
        (taken,) = bus.claim(max_deliveries=1)
        assert taken.deliveries == 1
    assert bus.counts()["retried"] == 0


def test_one_that_does_not_count_may_wait(bus: Bus, taken: Taken) -> None:
    """As when a tenant has no room for what was handled: it comes when its time is over, as the same delivery."""
    assert bus.retry(taken, counted=0, delay_ms=60_000, max_deliveries=1) == "RETRY"
    assert bus.claim(max_deliveries=1) == []
    assert 50_000 < bus.next_ms() <= 60_000
    bus.lapse(taken)
    assert [one.deliveries for one in bus.claim(max_deliveries=1)] == [1]


def test_after_the_last_delivery_it_is_dead(bus: Bus, taken: Taken) -> None:
    """With why, by whom, from where, and all that was in it; nothing of it is left in the group."""
    assert bus.retry(taken, max_deliveries=1, reason="timeout", message="é" * 2000) == "DEAD"
    (letter,) = bus.stream("dead")
    assert (letter["reason"], letter["handler"], letter["error"]) == (
        b"timeout",
        b"module:handler",
        "é".encode() * 2000,
    )
    assert (letter["consumer"], letter["stream_id"], letter["event"]) == (b"w1", taken.sid.encode(), b"first")
    assert (bus.counts()["dead"], bus.finished()) == (1, True)


def test_a_deleted_event_cannot_be_a_letter(bus: Bus, taken: Taken) -> None:
    """Its entry is gone: it is counted as lost."""
    bus.shard.client.xdel(bus.shard.keys.bus("normal"), taken.sid)
    assert bus.call("retry", **taken.args, max_deliveries=0) == [b"DEAD", b"0-0"]
    assert (bus.length("dead"), bus.counts()["lost"], bus.finished()) == (0, 1, True)


@pytest.mark.parametrize("count", [1, 2, 301])
@pytest.mark.parametrize("name", ["ack", "hold"])
def test_half_a_delivery_or_too_many_are_refused(bus: Bus, name: str, count: int) -> None:
    """Words come in threes, of a hundred deliveries at most."""
    before = bus.dump()
    assert bus.outcome(name, *[1] * count).facts == {"name": "delivery"}
    assert_same(before, bus.dump())


def test_a_full_place_for_letters_forgets_the_oldest(bus: Bus) -> None:
    """About as many letters as allowed are kept."""
    bus.emit_many(250)
    for _ in range(3):
        for one in bus.claim(100):
            bus.retry(one, max_deliveries=0, max_dead=20)
    assert 20 <= bus.length("dead") < 250


@pytest.mark.parametrize("part", ["dead", "busy", "parked", "held:low", ""])
def test_a_key_of_another_type_stops_a_retry(bus: Bus, taken: Taken, part: str) -> None:
    """Before the first write, whichever of its keys it is."""
    keys = bus.shard.keys
    key = keys.bus("dead") if part == "dead" else keys.group("g", part)
    bus.shard.client.delete(key)
    bus.shard.client.set(key, "planted")
    before = bus.dump()
    assert "WRONGTYPE" in str(bus.outcome("retry", **taken.args))
    assert_same(before, bus.dump())
