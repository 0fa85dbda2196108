"""The store against a dict: random operations, expiry, evictions, dry runs and clients that die half way.

What belongs here: sending operations and comparing with the model. What does not: the rules (see `store_model`).
Invariant: after every step each context restores as the model says, and the accounts are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from lukhas_redis import ContextStore, ops
from lukhas_redis.calls import Op, Refused
from lukhas_redis.codec import encode
from lukhas_redis.errors import LukhasRedisError
from lukhas_redis.models import Context
from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer, difference, dump
from tests.fix_hypothesis import NIGHTLY
from tests.fix_tenants import new_tenant
from tests.model.store_model import Entry, Outcome, StoreModel

IDS = [str(uuid4()) for _ in range(6)]
TTL = 3600
Ask = Callable[[str, bool], Op[Any]]
Say = Callable[[Any], tuple[Any, ...]]

ids = st.sampled_from(IDS)
sizes = st.sampled_from([0, 100, 350, 700])
versions = st.sampled_from([None, None, None, 0, 1, 2, 3])
providers = st.sampled_from(["a", "b"])
sessions = st.sampled_from(["s", "s", "s", "t"])
crashes = st.sampled_from([0, 0, 0, 1, 2, 3, 4])
rarely = st.sampled_from([False, False, False, True])


class ClientDied(Exception):
    """Raised where a worker would be killed: after an answer has come that nobody looks at any more."""


def dying(op: Op[Any], after: int) -> Op[Any]:
    """Run an operation until its `after`th reply, then die."""
    wanted = next(op)
    try:
        for _ in range(after):
            try:
                reply = yield wanted
            except (LukhasRedisError, Refused) as error:
                wanted = op.throw(error)
            else:
                wanted = op.send(reply)
    except StopIteration as done:
        return done.value
    op.close()
    raise ClientDied


class StoreMachine(RuleBasedStateMachine):
    """One tenant of a real server, and the dict that says what it should hold."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__()
        self.raw = server.admin
        self.url = server.url
        self.past: list[tuple[Ask, str, tuple[Any, ...], Say]] = []

    @initialize(
        entries=st.sampled_from([2, 4, 100]),
        limit=st.sampled_from([0, 700, 1500]),
        policy=st.sampled_from(["reject", "evict_oldest", "evict_lru"]),
    )
    def open(self, entries: int, limit: int, policy: str) -> None:
        """A tenant nobody has used."""
        self.model = StoreModel(entries, limit, policy)
        self.store = ContextStore.connect(
            self.url,
            tenant=new_tenant(),
            settings=Settings(
                max_memory_store_entries=entries,
                max_tenant_bytes=limit,
                eviction_policy=policy,
                inline_body_bytes=300,
                max_context_throughput_mbps=0,
                touch_interval_seconds=0,
                metrics=False,
            ),
        )
        self.space = self.store._space  # noqa: SLF001 - operations are run by hand so that they can die half way
        self.keys = self.space.keys.root

    def teardown(self) -> None:
        """Leave nothing on the server."""
        if hasattr(self, "store"):
            self.store.close()
            for key in self._dump():
                self.raw.unlink(key)

    # -- rules ------------------------------------------------------------------------------------------------

    @rule(cid=ids, session=sessions, size=sizes, n=st.integers(0, 9), version=versions, crash=crashes, dry=rarely)
    def preserve(self, cid: str, session: str, size: int, n: int, version: int | None, crash: int, dry: bool) -> None:
        """Write a context, large or small, new or again."""
        data = {"n": n, "x": "y" * size}

        def ask(rid: str, dry: bool) -> Op[Any]:
            options: dict[str, Any] = {"context_id": cid, "if_version": version, "request_id": rid, "dry_run": dry}
            return ops.preserve(self.space, session, data, ttl=TTL, compression="none", **options)

        stored = encode(data, cid, compression="none", limits=self.space.limits).stored_bytes
        wanted = self.model.preserve(cid, session, stored, version)
        victims: list[str] = []
        if isinstance(wanted, tuple):
            victims = wanted[1]
            wanted = (wanted[0], len(victims))
        result = self._write(ask, wanted, lambda one: (one.version, one.evicted), crash, dry)
        if result is not None:
            at = result.expires_ms - TTL * 1000
            self.model.swept()
            self.model.stored(cid, Entry(data, session, result.stored_bytes, written_ms=at, order_ms=at), victims)

    @rule(cid=ids, source=providers, destination=providers, version=versions, crash=crashes, dry=rarely)
    def handoff(self, cid: str, source: str, destination: str, version: int | None, crash: int, dry: bool) -> None:
        """Pass a context on."""

        def ask(rid: str, dry: bool) -> Op[Any]:
            return ops.handoff(
                self.space, cid, source, destination, if_version=version, request_id=rid, dry_run=dry
            )

        wanted = self.model.handoff(cid, source, version)
        if self._write(ask, wanted, lambda one: (one.version, one.hop), crash, dry) is not None:
            self.model.handed(cid, destination)

    @rule(cid=ids, pinned=st.booleans(), crash=crashes, dry=rarely)
    def pin(self, cid: str, pinned: bool, crash: int, dry: bool) -> None:
        """Protect a context, or no longer."""

        def ask(rid: str, dry: bool) -> Op[Any]:
            return ops.pin(self.space, cid, pinned, request_id=rid, dry_run=dry)

        wanted = self.model.blocked() or self.model.absence(cid) or (pinned,)
        if self._write(ask, wanted, lambda one: (one.pinned,), crash, dry) is not None:
            self.model.pinned(cid, pinned)

    @rule(cid=ids, crash=crashes, dry=rarely)
    def drop(self, cid: str, crash: int, dry: bool) -> None:
        """Remove a context; also while the tenant is paused."""

        def ask(rid: str, dry: bool) -> Op[Any]:
            return ops.drop(self.space, cid, request_id=rid, dry_run=dry)

        wanted: Outcome = self.model.absence(cid) or (self.model.entries[cid].version,)
        if self._write(ask, wanted, lambda one: (one.version,), crash, dry) is not None:
            self.model.dropped(cid)

    @rule(cid=ids)
    def read(self, cid: str) -> None:
        """A touching read moves a context to the end of the order, if the tenant evicts by use."""
        wanted = self.model.absence(cid)
        found = self._outcome(ops.restore(self.space, cid))
        assert (found if wanted else found.data) == (wanted or self.model.entries[cid].data)
        score = self.raw.zscore(self.keys.order, cid)
        if not wanted and score is not None and self.model.policy == "evict_lru":
            old = self.model.entries[cid]
            self.model.entries[cid] = Entry(**{**vars(old), "order_ms": int(score)})

    @rule(which=st.integers(0, 30))
    def repeat(self, which: int) -> None:
        """A request id that was answered is answered the same again, whatever happened since."""
        if self.past:
            ask, rid, said, say = self.past[which % len(self.past)]
            before = self._dump()
            assert say(self.store.run(ask(rid, False))) == said
            assert not difference(before, self._dump())

    @rule(cid=ids)
    def deadline_passes(self, cid: str) -> None:
        """A context's keys expire; its accounts wait for somebody to sweep."""
        if cid in self.model.entries:
            keys = [getattr(self.keys, kind)(cid) for kind in ("ctx", "body", "hops", "log")]
            for key in keys:
                self.raw.pexpireat(key, 1)
            seconds, micros = self.raw.time()
            self.raw.zadd(self.keys.index, {cid: seconds * 1000 + micros // 1000 - 1}, xx=True)
            self.model.died(cid)

    @rule(cid=ids)
    def lose(self, cid: str) -> None:
        """A hand deletes a context's keys."""
        if cid in self.model.entries:
            self.raw.delete(self.keys.ctx(cid), self.keys.body(cid))
            self.model.lost(cid)

    @rule()
    def sweep(self) -> None:
        """Expired contexts leave the accounts, unless the tenant is in dry run."""
        dry = self.model.mode == "dry_run"
        assert self.store.sweep().removed == len(self.model.expired)
        if not dry:
            self.model.swept()

    @rule()
    def repair(self) -> None:
        """What is lost is buried, unless the tenant is in dry run."""
        self.store.repair()
        if self.model.mode != "dry_run":
            self.model.repaired()

    @rule(mode=st.sampled_from(["live", "live", "live", "dry_run", "paused"]))
    def switch(self, mode: str) -> None:
        """The tenant's mode changes."""
        self.store.set_mode(mode)
        self.model.mode = mode

    # -- after every step -------------------------------------------------------------------------------------

    @invariant()
    def every_context_is_as_the_model_says(self) -> None:
        """Data and version, or the reason why there is none."""
        if not hasattr(self, "store"):
            return
        found = self.store.restore_many(IDS, touch=False)
        for cid, one in zip(IDS, found, strict=True):
            entry, reason = self.model.entries.get(cid), self.model.absence(cid)
            if reason is not None or entry is None:
                assert type(one) is reason, f"{cid}: {one!r} instead of {reason}"
                continue
            assert isinstance(one, Context), f"{cid}: {one!r}"
            known = one.metadata
            assert (one.data, one.version, known.session_id) == (entry.data, entry.version, entry.session)
            assert (known.owner, known.hop_count, known.pinned) == (entry.owner, entry.hops, entry.pinned)

    @invariant()
    def the_accounts_are_exact(self) -> None:
        """Entries, bytes and totals; check finds what a hand has deleted and nothing else."""
        if not hasattr(self, "store"):
            return
        model, stats, checked = self.model, self.store.stats(), self.store.check()
        assert (stats.live, stats.expired, stats.bytes) == (len(model.entries), len(model.expired), model.bytes)
        assert stats.totals.get("entries", 0) == len(model.entries) + len(model.expired)
        assert stats.live <= model.max_entries
        assert not model.max_bytes or sum(e.size for e in model.entries.values()) <= model.max_bytes
        for name in ("preserved", "evicted", "dropped", "handed_off", "expired"):
            assert stats.totals.get(name, 0) == model.totals.get(name, 0), name
        assert {f.context_id for f in checked.faults} == {cid for cid, e in model.entries.items() if e.lost}
        assert {f.fault for f in checked.faults} <= {"lost"}
        assert (checked.bytes_off, checked.entries_off) == (0, 0)

    # -- the work ---------------------------------------------------------------------------------------------

    def _write(self, ask: Ask, wanted: Outcome, say: Say, crash: int, dry: bool) -> Any:
        """Send a write, perhaps after a client that died with it; its result when it changed something."""
        rid = uuid4().hex
        changes = not dry and self.model.mode != "dry_run"
        before = None if changes else self._dump()
        if crash and changes:
            self._outcome(dying(ask(rid, False), crash))
        outcome = self._outcome(ask(rid, dry))
        said = outcome if isinstance(outcome, type) else say(outcome)
        assert said == wanted, f"{said} instead of {wanted}"
        if before is not None:
            assert not difference(before, self._dump())
        if isinstance(outcome, type):
            return None
        assert outcome.dry_run is not changes
        if changes:
            self.past.append((ask, rid, said, say))
        return outcome if changes else None

    def _outcome(self, op: Op[Any]) -> Any:
        try:
            return self.store.run(op)
        except (LukhasRedisError, ClientDied) as error:
            return type(error)

    def _dump(self) -> dict[bytes, Any]:
        return dump(self.raw, prefix=self.keys.base)


@pytest.mark.slow
@pytest.mark.timeout(3600 if NIGHTLY else 240)
def test_the_store_behaves_like_a_dict_with_rules(server: RunningServer) -> None:
    """Random operations, deadlines, losses, crashes and modes: the store and the model never differ."""
    profile = settings(stateful_step_count=40 if NIGHTLY else 25)
    run_state_machine_as_test(lambda: StoreMachine(server), settings=profile)  # type: ignore[no-untyped-call]
