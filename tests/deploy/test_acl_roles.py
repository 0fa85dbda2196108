"""The real store as each user of users.acl: what a role is for works, the rest is refused and changes nothing.

What belongs here: whole operations. What does not: single commands (`test_acl_matrix`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from uuid import uuid4

import pytest

from lukhas_redis import AsyncContextStore, ContextStore
from lukhas_redis.bus import ContextBus
from lukhas_redis.errors import AccessDenied, ContextNotFound
from lukhas_redis.functions import library, library_version
from lukhas_redis.testing import Dump, assert_same, dump
from tests.deploy.deployed import TENANT_USER, Deployed

# Beyond `inline_body_bytes`: goes in through a stage, comes out by a plain GET.
LARGE = {"noise": [f"{n * 2654435761 % 4294967296:08x}" for n in range(40_000)]}
SMALL: dict[str, object] = {"step": 1, "list": []}
Write = Callable[[ContextStore, str], object]


def store_of(deployed: Deployed, user: str, tenant: str, **settings: object) -> ContextStore:
    """A store that works as `user`."""
    return ContextStore.connect(tenant=tenant, settings=deployed.settings(user, **settings))


@pytest.fixture
def tenant() -> str:
    """A tenant of the test's own."""
    return f"t-{uuid4().hex[:16]}"


@pytest.fixture
def context(deployed: Deployed, tenant: str) -> str:
    """A context that a worker preserved."""
    with store_of(deployed, "worker", tenant) as store:
        return store.preserve("s", SMALL).context_id


def keys_of(deployed: Deployed, tenant: str) -> Dump:
    """All keys of a tenant. None of them expires within a test: their deadlines are an hour away."""
    return dump(deployed.server.admin, prefix=f"lukhas:{{{tenant}}}")


def denials(deployed: Deployed) -> list[str]:
    """What the server refused anybody, from its own log."""
    with deployed.client("admin") as client:
        return [f"{entry['username']} {entry['object']}" for entry in client.acl_log()]


@pytest.fixture
def no_denial(deployed: Deployed) -> Generator[None]:
    """The server refused nothing during the test: not even what a client would swallow."""
    with deployed.client("admin") as client:
        client.acl_log_reset()
    yield
    assert denials(deployed) == []


def everything(store: ContextStore) -> None:
    """Every method of the store once."""
    store.ready()
    kept = store.preserve("s", SMALL)
    large = store.preserve("s", LARGE)
    assert store.restore(kept.context_id).data == SMALL
    assert store.restore(large.context_id).data == LARGE
    ids = [
        one.context_id
        for one in store.preserve_many([{"session_id": "s", "data": data} for data in (SMALL, LARGE)])
        if not isinstance(one, Exception)
    ]
    assert len(ids) == 2
    assert [one.data for one in store.restore_many(ids) if not isinstance(one, Exception)] == [SMALL, LARGE]
    assert store.handoff(kept.context_id, "a", "b", ttl=600).hop == 1
    assert store.extend(kept.context_id, 7200).context_id == kept.context_id
    assert store.pin(kept.context_id).pinned
    assert not store.pin(kept.context_id, pinned=False).pinned
    assert store.drop(large.context_id).context_id == large.context_id
    grows(store)
    looks_around(store, kept.context_id)
    store.set_mode("paused", by="test", reason="test")
    store.set_mode("live", by="test", reason="test")
    store.set_flag("max_entries", "100")
    assert store.sweep().remaining == 0


def grows(store: ContextStore) -> None:
    """Every way to change a part of a context, and to hold it: segments, large changes, new deadlines, folding."""
    one = store.preserve("s", {"list": [1], "map": {}}).context_id
    held = store.renew(store.lease(one, "ann", 60), 90)
    assert store.append(one, ("list",), [2], lease=held).version
    assert store.patch(one, {"map": {"a": 1}}, lease=held, ttl=600).version
    assert store.append(one, ("list",), LARGE["noise"], lease=held).version
    assert store.release(held).token == held.token
    for number in range(40):
        store.append(one, ("list",), [f"{number:02}" * 1000])
    data = store.restore(one).data
    assert (data["list"][:2], data["map"], len(data["list"])) == ([1, 2], {"a": 1}, 42 + len(LARGE["noise"]))
    assert store.drop(one).context_id == one


def looks_around(store: ContextStore, context_id: str) -> None:
    """Every method that only reads."""
    assert store.restore(context_id, touch=True).data == SMALL
    assert store.metadata(context_id).context_id == context_id
    assert store.lifecycle(context_id).context_id
    assert store.hops(context_id) is not None
    assert context_id in {one.context_id for one in store.list(session_id="s")}
    assert context_id in {one.context_id for one in store.list()}
    assert store.stats().live >= 1
    shard = int(context_id[:4], 16) % store.settings.shards
    assert context_id in {event.context_id for event in store.events(shard=shard)}
    assert store.flags() is not None
    assert store.audit() is not None


@pytest.mark.usefixtures("no_denial")
@pytest.mark.parametrize("durability", ["memory", "local"])
def test_worker_can_do_everything_a_store_can(deployed: Deployed, tenant: str, durability: str) -> None:
    """As lukhas-worker every operation works, and the server refuses nothing on the way, small or large."""
    with store_of(deployed, "worker", tenant, durability=durability) as store:
        everything(store)
        assert store.check().sound
        assert store.repair().sound


@pytest.mark.usefixtures("no_denial")
async def test_worker_can_do_it_without_blocking(deployed: Deployed, tenant: str) -> None:
    """The same holds for the asynchronous store's connections."""
    async with AsyncContextStore.connect(tenant=tenant, settings=deployed.settings("worker")) as store:
        await store.ready()
        kept = await store.preserve("s", LARGE)
        assert (await store.restore(kept.context_id)).data == LARGE
        assert (await store.check()).sound


@pytest.mark.usefixtures("no_denial")
@pytest.mark.parametrize("policy", ["evict_oldest", "evict_lru"])
def test_worker_can_evict_and_sweep(deployed: Deployed, tenant: str, policy: str) -> None:
    """A full tenant that evicts works as lukhas-worker: victims, tombstones, expiry included."""
    settings = {"max_memory_store_entries": 3, "eviction_policy": policy, "max_tombstones": 1, "min_ttl_seconds": 1}
    with store_of(deployed, "worker", tenant, **settings) as store:
        for _ in range(8):
            store.preserve("s", SMALL)
        assert store.stats().live == 3
        assert store.check().sound


@pytest.mark.usefixtures("no_denial")
def test_worker_can_repair_what_somebody_broke(deployed: Deployed, tenant: str, context: str) -> None:
    """After keys were deleted by hand, repair as lukhas-worker makes the accounts sound again."""
    with deployed.client("admin") as admin:
        admin.delete(f"lukhas:{{{tenant}}}:body:{context}")
    with store_of(deployed, "worker", tenant) as store:
        assert not store.check().sound
        store.repair()
        assert store.check().sound


def test_reader_reads_everything_and_a_touch_is_skipped(deployed: Deployed, tenant: str, context: str) -> None:
    """As lukhas-reader every reading operation works, check too; touch=True succeeds and changes nothing."""
    with store_of(deployed, "worker", tenant) as store:
        large = store.preserve("s", LARGE).context_id
    before = keys_of(deployed, tenant)
    with store_of(deployed, "reader", tenant) as store:
        store.ready()
        looks_around(store, context)
        assert store.restore(large, touch=True).data == LARGE
        assert [one.data for one in store.restore_many([context]) if not isinstance(one, Exception)] == [SMALL]
        assert store.check().sound
    assert_same(before, keys_of(deployed, tenant))


WRITES: dict[str, Write] = {
    "preserve small": lambda store, _: store.preserve("s", SMALL),
    "preserve large": lambda store, _: store.preserve("s", LARGE),
    "preserve over": lambda store, cid: store.preserve("s", SMALL, context_id=cid),
    "handoff": lambda store, cid: store.handoff(cid, "a", "b"),
    "extend": lambda store, cid: store.extend(cid, 7200),
    "pin": lambda store, cid: store.pin(cid),
    "drop": lambda store, cid: store.drop(cid),
    "append": lambda store, cid: store.append(cid, ("list",), [1]),
    "append large": lambda store, cid: store.append(cid, ("list",), LARGE["noise"]),
    "patch": lambda store, cid: store.patch(cid, {"a": 1}),
    "lease": lambda store, cid: store.lease(cid, "ann", 60),
    "mode": lambda store, _: store.set_mode("paused"),
    "flag": lambda store, _: store.set_flag("max_entries", "1"),
    "repair": lambda store, _: store.repair(),
}


@pytest.mark.parametrize("write", WRITES)
def test_reader_writes_nothing(deployed: Deployed, tenant: str, context: str, write: str) -> None:
    """As lukhas-reader every writing operation is AccessDenied at once, and the whole dataset is as before."""
    before = keys_of(deployed, tenant)
    with store_of(deployed, "reader", tenant) as store, pytest.raises(AccessDenied):
        WRITES[write](store, context)
    assert_same(before, keys_of(deployed, tenant))


def test_reader_reads_what_is_due_for_folding(deployed: Deployed, tenant: str, context: str) -> None:
    """A reader that may not write meets a context whose segments have outgrown it: it is read and left as it is."""
    with store_of(deployed, "worker", tenant) as store:
        for number in range(40):
            store.append(context, ("list",), [f"{number:02}" * 1000])
    before = keys_of(deployed, tenant)
    with store_of(deployed, "reader", tenant) as store:
        for _ in range(2):
            assert len(store.restore(context).data["list"]) == 40
    assert_same(before, keys_of(deployed, tenant))


@pytest.mark.usefixtures("no_denial")
def test_ops_can_intervene(deployed: Deployed, tenant: str, context: str) -> None:
    """As lukhas-ops: look at everything, change flags, hand off, extend, pin, sweep, check, repair, drop."""
    with store_of(deployed, "ops", tenant) as store:
        store.ready()
        looks_around(store, context)
        store.set_mode("paused", by="ops", reason="test")
        store.set_mode("live", by="ops", reason="test")
        assert store.handoff(context, "a", "b").hop == 1
        assert store.extend(context, 7200).version
        assert store.pin(context).pinned
        held = store.lease(context, "ops", 60)
        assert store.append(context, ("list",), [1], lease=held).version
        assert store.release(held).token
        assert store.sweep().remaining == 0
        assert store.check().sound
        assert store.repair().sound
        assert store.drop(context).context_id == context


def test_ops_cannot_preserve_what_is_large(deployed: Deployed, tenant: str, context: str) -> None:
    """As lukhas-ops a staged preserve is refused, and no stage and no context is left."""
    before = keys_of(deployed, tenant)
    with store_of(deployed, "ops", tenant) as store, pytest.raises(AccessDenied):
        store.preserve("s", LARGE)
    assert_same(before, keys_of(deployed, tenant))


@pytest.mark.usefixtures("no_denial")
def test_deploy_user_loads_the_verbs_and_ops_calls_them(deployed: Deployed, tenant: str, context: str) -> None:
    """lukhas-deploy loads the function library, lukhas-ops then uses its verbs; lukhas-deploy sees no context."""
    with deployed.client("deploy") as deploy:
        deploy.function_load(library(), replace=True)
        assert deploy.fcall("lukhas_version", 0) == library_version()
        deploy.set("lukhas:help", "text")
    base = f"lukhas:{{{tenant}}}:"
    with deployed.client("ops") as ops:
        assert ops.fcall("lukhas_version", 0) == library_version()
        assert ops.fcall_ro("lukhas_stats", 1, f"{base}index")[1] == 1
        assert ops.fcall("lukhas_set_flag", 1, f"{base}flags", "name", "mode", "value", "paused")[0] == "OK"
        assert ops.fcall("lukhas_set_flag", 1, f"{base}flags", "name", "mode")[0] == "OK"
        assert ops.fcall("lukhas_sweep", 1, f"{base}index")[0] == "OK"
        token = ops.fcall("lukhas_lease", 1, f"{base}ctx:{context}", "owner", "ops", "lease_ms", "60000")[3]
        assert ops.fcall("lukhas_renew", 1, f"{base}ctx:{context}", "lease", token, "lease_ms", "90000")[0] == "OK"
        assert ops.fcall("lukhas_release", 1, f"{base}ctx:{context}", "lease", token)[0] == "OK"
        assert ops.fcall("lukhas_drop", 1, f"{base}ctx:{context}")[0] == "OK"
        with ContextBus.connect(tenant=tenant, settings=deployed.settings("worker", bus_max_deliveries=1)) as bus:
            bus.emit("draft.written", {})
            bus.emit("draft.written", {})
            letters = [bus.retry("g", event).letter_id for event in bus.read("g", count=2)]
        assert ops.fcall_ro("lukhas_status", 1, f"{base}bus:groups")[5][0] == "g"
        assert ops.fcall("lukhas_redrive", 1, f"{base}bus:dead", "letter", str(letters[0]))[2]
        assert ops.fcall("lukhas_discard", 1, f"{base}bus:dead", "letter", str(letters[1]))[2] == "1"
        assert ops.fcall("lukhas_trim", 1, f"{base}bus:wake")[0] == "OK"
        assert ops.fcall("lukhas_retire", 1, f"{base}bus:groups", "group", "g", "force", "1")[3] == "1"
    with store_of(deployed, "reader", tenant) as store, pytest.raises(ContextNotFound):
        store.restore(context)


@pytest.mark.usefixtures("no_denial")
@pytest.mark.parametrize("shards", [1, 4])
def test_tenant_user_works_in_its_tenant(deployed: Deployed, shards: int) -> None:
    """A user that make-acl made for the tenant acme does everything there but check and repair, sharded or not."""
    with deployed.client("admin") as admin:
        for key in admin.scan_iter("lukhas:{acme*"):
            admin.unlink(key)
    with store_of(deployed, TENANT_USER, "acme", shards=shards) as store:
        everything(store)


def test_tenant_user_reaches_no_other_tenant(deployed: Deployed, tenant: str, context: str) -> None:
    """The same user is refused in another tenant, reading and writing; SCAN, which names all keys, always."""
    with store_of(deployed, TENANT_USER, tenant) as store:
        with pytest.raises(AccessDenied):
            store.restore(context)
        with pytest.raises(AccessDenied):
            store.preserve("s", SMALL)
    with store_of(deployed, TENANT_USER, "acme") as store, pytest.raises(AccessDenied):
        store.check()
