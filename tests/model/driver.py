"""The machine's hands: opening a tenant, sending a write in the way that was drawn, looking at what is stored.

What belongs here: whatever is no rule and no invariant. What does not: those (see `test_store_machine`).
Invariant: a write that was sent is compared with the model's outcome, and one that changes nothing with the dump.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from lukhas_redis import ContextStore, ops
from lukhas_redis.calls import Op, Refused
from lukhas_redis.codec import Append, Change, apply, encode, pack_change, seal_segment
from lukhas_redis.errors import LukhasRedisError, StoreFull
from lukhas_redis.ops.folding import fold
from lukhas_redis.ops.restore import found_in
from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer, difference, dump
from tests.fix_tenants import new_tenant
from tests.model.dying import ClientDiedError, dying
from tests.model.store_model import Entry, Outcome, StoreModel

IDS = [str(uuid4()) for _ in range(4)]
TTL = 3600
Ask = Callable[[str, bool], Op[Any]]
Say = Callable[[Any], tuple[Any, ...]]


class StoreDriver(RuleBasedStateMachine):
    """One tenant of a real server, and the dict that says what it should hold."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__()
        self.raw = server.admin
        self.url = server.url
        self.past: list[tuple[Ask, str, tuple[Any, ...], Say]] = []

    @initialize(
        entries=st.sampled_from([2, 3, 100]),
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
        self.space = self.store._space
        self.keys = self.space.keys.root

    def teardown(self) -> None:
        """Leave nothing on the server."""
        if hasattr(self, "store"):
            self.store.close()
            for key in self._dump():
                self.raw.unlink(key)

    def _preserve(
        self, cid: str, session: str, data: dict[str, Any], version: int | None, crash: int, dry: bool
    ) -> None:

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

    def _grow(self, cid: str, change: Change, version: int | None, crash: int, dry: bool) -> None:
        """Append or patch; both are far below the size from which a context is written whole instead."""
        added = len(seal_segment(pack_change(change), cid).stored)

        def ask(rid: str, dry: bool) -> Op[Any]:
            options: dict[str, Any] = {"if_version": version, "request_id": rid, "dry_run": dry}
            if isinstance(change, Append):
                return ops.append(self.space, cid, change.path, change.items, **options)
            return ops.patch(self.space, cid, change.merge, **options)

        wanted, victims = self.model.grow(cid, added, version), list[str]()
        sweeps = (isinstance(wanted, tuple) or wanted is StoreFull) and self.model.crowded(cid, added)
        if isinstance(wanted, tuple):
            victims = wanted[1]
            wanted = (wanted[0], len(victims))
        done = self._write(ask, wanted, lambda one: (one.version, one.evicted), crash, dry)
        if sweeps and not dry and self.model.mode == "live":
            self.model.swept()
        if done is not None:
            data = deepcopy(self.model.entries[cid].data)
            apply(data, deepcopy(change))
            self.model.evicted(victims)
            self.model.grown(cid, added, data, int(self.raw.hget(self.keys.ctx(cid), "updated_ms") or 0))
            self.model.count("appended" if isinstance(change, Append) else "patched")

    def _fold(self, cid: str, crash: int) -> None:
        """Write what was appended into the body, where that is allowed and makes it smaller."""
        entry = self.model.entries[cid]
        whole = encode(entry.data, cid, compression="auto", limits=self.space.limits).stored_bytes
        is_done = bool(self.model.mode == "live" and entry.parts and whole <= entry.size)

        def ask() -> Op[bool]:
            found = yield from found_in(self.space, cid)
            return (yield from fold(self.space, cid, found.held, found.metadata))

        before = None if is_done else self._dump()
        outcomes = [self._outcome(dying(ask(), crash))] if crash else []
        outcomes.append(self._outcome(ask()))
        if before is not None:
            assert not difference(before, self._dump())
        # Who died may have done it; then there is nothing to do for who comes after.
        assert (True in outcomes or ClientDiedError in outcomes) if is_done else True not in outcomes, outcomes
        if is_done:
            self.model.folded(cid, whole)

    def _switch(self, mode: str) -> None:
        if mode != self.model.mode:
            self.store.set_mode(mode)
            self.model.mode = mode

    def _target(self, which: int) -> str:
        """Mostly a context that is there; no rule depends on that, so that the same draws can be made again."""
        if not self.model.entries:
            self._switch("live")
            self._preserve(IDS[0], "s", {}, None, 0, False)
        present = sorted(self.model.entries)
        return present[which % len(present)] if which < 16 and present else IDS[which % len(IDS)]

    def _version(self, cid: str, saw: str) -> int | None:
        entry = self.model.entries.get(cid)
        right = entry.version if entry else 0
        return {"any": None, "right": right, "stale": max(0, right - 1), "none": 0}[saw]

    def _write(self, ask: Ask, wanted: Outcome, say: Say, crash: int, dry: bool) -> Any:
        """Send a write, perhaps after a client that died with it; its result when it changed something."""
        rid = uuid4().hex
        changes = not dry and self.model.mode != "dry_run"
        before = None if changes else self._dump()
        if crash and changes:
            self._outcome(dying(ask(rid, False), crash))
        outcome = self._outcome(ask(rid, dry))
        if before is not None:
            assert not difference(before, self._dump())
        if isinstance(outcome, type):
            assert outcome is wanted, f"{outcome} instead of {wanted}"
            return None
        said = say(outcome)
        assert said == wanted, f"{said} instead of {wanted}"
        assert outcome.dry_run is not changes
        if changes:
            answered_ms = self._now_ms()  # the next write has another time, so that the order has no ties
            while self._now_ms() <= answered_ms:
                continue
            self.past.append((ask, rid, said, say))
        return outcome if changes else None

    def _outcome(self, op: Op[Any]) -> Any:
        try:
            return self.store.run(op)
        except (LukhasRedisError, Refused, ClientDiedError) as error:
            return type(error)

    def _now_ms(self) -> int:
        seconds, micros = self.raw.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def _dump(self) -> dict[bytes, Any]:
        return dump(self.raw, prefix=self.keys.base)
