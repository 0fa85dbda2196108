"""The store against a dict: random operations, expiry, evictions, dry runs and clients that die half way.

What belongs here: sending operations and comparing with the model. What does not: the rules (see `store_model`).
Invariant: after every step each context restores as the model says, and the accounts are exact.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    invariant,
    rule,
    run_state_machine_as_test,
)

from lukhas_redis import ops
from lukhas_redis.calls import Op
from lukhas_redis.codec import Append, Patch
from lukhas_redis.models import Context
from lukhas_redis.testing import RunningServer, difference
from tests.fix_hypothesis import NIGHTLY
from tests.model.driver import IDS, StoreDriver
from tests.model.store_model import Entry, Outcome

ids = st.sampled_from(IDS)
targets = st.integers(0, 19)
sizes = st.sampled_from([0, 100, 350, 700])
parts = st.sampled_from([1, 60, 150])
versions = st.sampled_from(["any", "any", "right", "right", "stale", "none"])
providers = st.sampled_from(["a", "b"])
sessions = st.sampled_from(["s"] * 7 + ["t"])
crashes = st.sampled_from([0, 0, 0, 1, 2, 3, 4])
rarely = st.sampled_from([False] * 5 + [True])
modes = st.sampled_from(["live", "live", "dry_run", "paused"])


class StoreMachine(StoreDriver):
    """What can happen to a tenant, and what must hold after it."""

    # -- rules ------------------------------------------------------------------------------------------------

    @rule(cid=ids, session=sessions, size=sizes, saw=versions, crash=crashes, dry=rarely, mode=modes)
    def preserve(self, cid: str, session: str, size: int, saw: str, crash: int, dry: bool, mode: str) -> None:
        """Write a context, large or small, new or again, in any mode."""
        self._switch(mode)
        self._preserve(cid, session, {"x": "y" * size, "l": []}, self._version(cid, saw), crash, dry)
        self._switch("live")

    @rule(size=sizes, other=sizes, crash=crashes)
    def fill(self, size: int, other: int, crash: int) -> None:
        """Write contexts that are not there, so that the tenant fills up."""
        self._switch("live")
        absent = [cid for cid in IDS if cid not in self.model.entries]
        for cid, length in zip(absent, (size, other), strict=False):
            self._preserve(cid, "s", {"x": "z" * length, "l": []}, None, crash, False)

    @rule(which=targets, size=sizes, saw=versions, crash=crashes)
    def rewrite(self, which: int, size: int, saw: str, crash: int) -> None:
        """Write a context that is there, in its own session."""
        self._switch("live")
        cid = self._target(which)
        session = self.model.entries[cid].session if cid in self.model.entries else "s"
        self._preserve(cid, session, {"r": "r" * size, "l": [0]}, self._version(cid, saw), crash, False)

    @rule(which=targets, more=st.lists(parts, min_size=1, max_size=4), saw=versions, crash=crashes, dry=rarely)
    def grow(self, which: int, more: list[int], saw: str, crash: int, dry: bool) -> None:
        """Append to a context and patch it, so that it outgrows its place."""
        self._switch("live")
        cid = self._target(which)
        for size in more[1:]:
            self._grow(cid, self._change(cid, size), None, crash, False)
        self._grow(cid, self._change(cid, more[0]), self._version(cid, saw), crash, dry)

    @rule(which=targets, size=parts, crash=crashes, mode=modes)
    def fold(self, which: int, size: int, crash: int, mode: str) -> None:
        """Let a context grow and make one piece of it, which nobody may see; in any mode."""
        self._switch("live")
        cid = self._target(which)
        self._grow(cid, self._change(cid, size), None, 0, False)
        if self.model.absence(cid) is None:
            self._switch(mode)
            self._fold(cid, crash)
            self._switch("live")

    def _change(self, cid: str, size: int) -> Append | Patch:
        """Now an append and then a patch, which provides the list for it."""
        entry = self.model.entries.get(cid)
        is_append = entry is not None and "l" in entry.data and (size + entry.version) % 3 > 0
        return Append(("l",), ["a" * size]) if is_append else Patch({"p": "q" * size, "l": [1]})

    @rule(which=targets, source=providers, destination=providers, saw=versions, crash=crashes, dry=rarely)
    def handoff(self, which: int, source: str, destination: str, saw: str, crash: int, dry: bool) -> None:
        """Pass a context on."""
        cid = self._target(which)
        version = self._version(cid, saw)

        def ask(rid: str, dry: bool) -> Op[Any]:
            return ops.handoff(self.space, cid, source, destination, if_version=version, request_id=rid, dry_run=dry)

        wanted = self.model.handoff(cid, source, version)
        if self._write(ask, wanted, lambda one: (one.version, one.hop), crash, dry) is not None:
            self.model.handed(cid, destination)

    @rule(which=targets, pinned=st.booleans(), crash=crashes, dry=rarely)
    def pin(self, which: int, pinned: bool, crash: int, dry: bool) -> None:
        """Protect a context, or no longer."""
        cid = self._target(which)

        def ask(rid: str, dry: bool) -> Op[Any]:
            return ops.pin(self.space, cid, pinned, request_id=rid, dry_run=dry)

        wanted = self.model.blocked() or self.model.absence(cid) or (pinned,)
        if self._write(ask, wanted, lambda one: (one.pinned,), crash, dry) is not None:
            self.model.pinned(cid, pinned)

    @rule(which=targets, crash=crashes, dry=rarely, mode=modes)
    def drop(self, which: int, crash: int, dry: bool, mode: str) -> None:
        """Remove a context; also while the tenant is paused."""
        cid = self._target(which)
        self._switch(mode)

        def ask(rid: str, dry: bool) -> Op[Any]:
            return ops.drop(self.space, cid, request_id=rid, dry_run=dry)

        wanted: Outcome = self.model.absence(cid) or (self.model.entries[cid].version,)
        if self._write(ask, wanted, lambda one: (one.version,), crash, dry) is not None:
            self.model.dropped(cid)

    @rule(which=targets, mode=modes)
    def read(self, which: int, mode: str) -> None:
        """A touching read moves a context to the end of the order, if the tenant is live and evicts by use."""
        cid = self._target(which)
        self._switch(mode)
        wanted, before = self.model.absence(cid), self._dump()
        found = self._outcome(ops.restore(self.space, cid))
        assert (found if wanted else found.data) == (wanted or self.model.entries[cid].data)
        assert mode == "live" or not difference(before, self._dump())
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

    @rule(which=targets)
    def deadline_passes(self, which: int) -> None:
        """A context's keys expire; its accounts wait for somebody to sweep."""
        cid = self._target(which)
        if cid in self.model.entries:
            for kind in ("ctx", "body", "segs", "hops", "log"):
                self.raw.pexpireat(getattr(self.keys, kind)(cid), 1)
            self.raw.zadd(self.keys.index, {cid: self._now_ms() - 1}, xx=True)
            self.model.died(cid)

    @rule(which=targets)
    def lose(self, which: int) -> None:
        """A hand deletes a context's keys."""
        cid = self._target(which)
        if cid in self.model.entries:
            self.raw.delete(self.keys.ctx(cid), self.keys.body(cid))
            self.model.lost(cid)

    @rule(which=targets, mode=modes)
    def sweep(self, which: int, mode: str) -> None:
        """Expired contexts leave the accounts, unless the tenant is in dry run."""
        if not self.model.expired:
            self.deadline_passes(which)
        self._switch(mode)
        assert self.store.sweep().removed == len(self.model.expired)
        if mode != "dry_run":
            self.model.swept()

    @rule(which=targets, mode=modes)
    def repair(self, which: int, mode: str) -> None:
        """What is lost is buried, unless the tenant is in dry run."""
        if which % 2:
            self.lose(which)
        self._switch(mode)
        self.store.repair()
        if mode != "dry_run":
            self.model.repaired()

    # -- after every step -------------------------------------------------------------------------------------

    @invariant()
    def every_context_is_as_the_model_says(self) -> None:
        """Data and version, or the reason why there is none."""
        if not hasattr(self, "store"):
            return
        found = self.store.restore_many(IDS, touch=False)
        hops = [self.raw.llen(self.keys.hops(cid)) for cid in IDS]
        for cid, one, count in zip(IDS, found, hops, strict=True):
            entry, reason = self.model.entries.get(cid), self.model.absence(cid)
            if reason is not None or entry is None:
                assert type(one) is reason, f"{cid}: {one!r} instead of {reason}"
                continue
            assert isinstance(one, Context), f"{cid}: {one!r}"
            known = one.metadata
            assert (one.data, one.version, known.session_id) == (entry.data, entry.version, entry.session)
            assert (known.owner, known.hop_count, known.pinned) == (entry.owner, entry.hops, entry.pinned)
            assert count == entry.hops

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
        for name in ("preserved", "appended", "patched", "folded", "evicted", "dropped", "handed_off", "expired"):
            assert stats.totals.get(name, 0) == model.totals.get(name, 0), name
        assert {f.context_id for f in checked.faults} == {cid for cid, e in model.entries.items() if e.lost}
        assert {f.fault for f in checked.faults} <= {"lost"}
        assert (checked.bytes_off, checked.entries_off) == (0, 0)


@pytest.mark.slow
@pytest.mark.timeout(3600 if NIGHTLY else 240)
def test_the_store_behaves_like_a_dict_with_rules(server: RunningServer) -> None:
    """Random operations, deadlines, losses, crashes and modes: the store and the model never differ."""
    profile = settings(stateful_step_count=40 if NIGHTLY else 30)
    machine: Any = lambda: StoreMachine(server)  # noqa: E731 - Hypothesis calls it like a class
    run_state_machine_as_test(machine, settings=profile)
