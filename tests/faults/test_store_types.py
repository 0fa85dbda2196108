"""Keys of ours that hold something else: a typed error that names the key, and not a byte is changed."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from lukhas_redis import ContextStore
from lukhas_redis.errors import ContextCorrupted, ContextNotFound, LukhasRedisError, RequestReused, WrongKeyType
from lukhas_redis.settings import Settings
from lukhas_redis.testing import KeyDump, RunningServer, difference, dump

pytestmark = pytest.mark.faults

Ask = Callable[[ContextStore, str], Any]
PARTS = ("ctx", "body", "segs", "hops", "log")
SEGMENTS = {"append", "append ttl", "patch"}
CHANGES = SEGMENTS | {"append large", "lease"}
# Which methods must refuse when a key is of another type.
USERS: dict[str, set[str]] = {
    "ctx": {"preserve", "restore", "handoff", "extend", "pin", "drop", "metadata", "lifecycle", "list"} | CHANGES,
    "body": {"preserve", "restore", "extend", "drop", "lifecycle", "large", "append ttl", "append large"},
    "segs": {"restore", "extend", "drop", "lifecycle", "check", "append large"} | SEGMENTS,
    "hops": {"preserve", "handoff", "drop", "lifecycle", "hops"},
    "log": {"preserve", "drop", "lifecycle", "hops"} | SEGMENTS,
    "index": {"preserve", "list", "stats", "sweep", "extend", "drop", "check", "repair", "append ttl"},
    "order": {"preserve", "drop", "pin", "sweep", "stats", "check", "repair"} | SEGMENTS,
    "sizes": {"preserve", "drop", "check", "repair"} | SEGMENTS,
    "usage": {"preserve", "handoff", "drop", "sweep", "stats", "check", "repair"} | SEGMENTS,
    "tombs": {"preserve", "drop", "sweep", "stats", "repair"},
    "events": {"preserve", "handoff", "extend", "pin", "drop", "stats", "events"} | CHANGES,
    "flags": {"preserve", "handoff", "extend", "pin", "drop", "sweep", "stats", "set_flag", "flags", "repair"}
    | CHANGES,
    "shard": {"preserve", "handoff", "extend", "pin", "drop", "sweep", "stats"} | CHANGES,
    "audit": {"set_flag", "audit"},
    "session": {"preserve", "extend", "list session", "append ttl"},
    "request": {"preserve", "handoff", "extend", "pin", "drop"} | CHANGES,
}
ASKS: dict[str, Ask] = {
    "preserve": lambda s, cid: s.preserve("s", {"n": 2}, context_id=cid, request_id="r"),
    "large": lambda s, cid: s.preserve("s", {"n": b"x" * 90_000}, context_id=cid, compression="none", request_id="r"),
    "restore": lambda s, cid: s.restore(cid, touch=False),
    "handoff": lambda s, cid: s.handoff(cid, "a", "b", request_id="r"),
    "extend": lambda s, cid: s.extend(cid, 7200, request_id="r"),
    "pin": lambda s, cid: s.pin(cid, request_id="r"),
    "drop": lambda s, cid: s.drop(cid, request_id="r"),
    "append": lambda s, cid: s.append(cid, ("log",), [1], request_id="r"),
    "append ttl": lambda s, cid: s.append(cid, ("log",), [1], ttl=90, request_id="r"),
    "append large": lambda s, cid: s.append(cid, ("log",), [b"x" * 40_000], request_id="r"),
    "patch": lambda s, cid: s.patch(cid, {"n": 3}, request_id="r"),
    "lease": lambda s, cid: s.lease(cid, "w", 60, request_id="r"),
    "metadata": lambda s, cid: s.metadata(cid),
    "lifecycle": lambda s, cid: s.lifecycle(cid),
    "hops": lambda s, cid: s.hops(cid),
    "list": lambda s, _: list(s.list()),
    "list session": lambda s, _: list(s.list(session_id="s")),
    "stats": lambda s, _: s.stats(),
    "sweep": lambda s, _: s.sweep(),
    "check": lambda s, _: s.check(),
    "repair": lambda s, _: s.repair(),
    "events": lambda s, _: s.events(),
    "audit": lambda s, _: s.audit(),
    "flags": lambda s, _: s.flags(),
    "set_flag": lambda s, _: s.set_flag("beta", "1"),
}


@pytest.fixture
def store(server: RunningServer, tenant: str) -> Generator[ContextStore]:
    """A store of the test's tenant."""
    with ContextStore.connect(server.url, tenant=tenant, settings=Settings()) as store:
        yield store


@pytest.mark.parametrize("kind", ["string", "set"])
@pytest.mark.parametrize("key", USERS)
def test_a_key_of_another_type_is_named_and_left_alone(
    store: ContextStore, server: RunningServer, tenant: str, key: str, kind: str
) -> None:
    """Every method that uses the key refuses with WrongKeyType and its name; the dump stays the same."""
    one = store.preserve("s", {"n": 1, "log": []})
    store.append(one.context_id, ("log",), [0])
    store.handoff(one.context_id, "a", "a")
    store.set_flag("alpha", "1")
    keys = store._space.keys.root
    own = {"session": keys.session("s"), "request": keys.request("r")}
    name = own.get(key) or (getattr(keys, key)(one.context_id) if key in PARTS else None)
    name = name or getattr(keys, key)
    server.admin.delete(name)
    if kind == "set" or key in ("body", "request"):
        server.admin.sadd(name, "not ours")
    else:
        server.admin.set(name, "not ours")
    for method in sorted(USERS[key]):
        before = dump(server.admin, prefix=f"lukhas:{{{tenant}")
        with pytest.raises(WrongKeyType) as caught:
            ASKS[method](store, one.context_id)
        assert name in str(caught.value), f"{method}: {caught.value}"
        changes = difference(before, dump(server.admin, prefix=f"lukhas:{{{tenant}"))
        reads = method in ("restore", "append large")  # who reads reports damage
        told = (":stage:", ":events'", ":usage'") if reads else (":stage:",)
        assert not [line for line in changes if not any(word in line for word in told)], f"{method}: {changes}"


@pytest.mark.parametrize("field", ["version", "seq", "expires_ms", "hops", "created_ms", "updated_ms", "stored_bytes"])
@pytest.mark.parametrize("value", ["", "x", "1.5", "1e3", "0x1", "9" * 400])
def test_a_field_that_holds_something_else_is_corruption(
    store: ContextStore, server: RunningServer, tenant: str, field: str, value: str
) -> None:
    """A metadata field that is no number ends in ContextCorrupted or an untouched success, never in a half write."""
    one = store.preserve("s", {"n": 1})
    server.admin.hset(store._space.keys.root.ctx(one.context_id), field, value)

    def seen() -> dict[bytes, KeyDump]:
        found = dump(server.admin, prefix=f"lukhas:{{{tenant}")
        return {k: v for k, v in found.items() if not k.endswith((b":events", b":usage"))}  # damage is reported there

    before = seen()
    refused: list[type[LukhasRedisError]] = []
    for method in ("restore", "metadata", "lifecycle", "hops", "handoff", "extend", "drop"):
        try:
            ASKS[method](store, one.context_id)
        except LukhasRedisError as error:
            refused.append(type(error))
            assert not difference(before, seen()), method
        else:
            before = seen()
    assert len(refused) >= 2
    assert all(issubclass(one, ContextCorrupted | ContextNotFound | RequestReused) for one in refused)
