"""Growing contexts against a dict: append, patch, fold, near cache and leases, over clients that hold what they read.

What belongs here: the rules and invariants. What does not: sending and comparing (`growth_driver`), how contexts grow
(`growth_model`), quotas (`test_store_machine`).
Invariant: whoever reads, shared or private, after however many writes of others that he did not see, gets exactly what
the model says. A client that holds nothing looks after every step; those that hold something only when a rule says so.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from lukhas_redis import ops
from lukhas_redis.calls import Op
from lukhas_redis.errors import ContextDropped, ContextExpired
from lukhas_redis.models import Context
from lukhas_redis.ops.space import Space
from lukhas_redis.testing import RunningServer, difference, wait_until
from tests.fix_hypothesis import NIGHTLY
from tests.model.growth_driver import IDS, OBSERVER, GrowthDriver, Way, plain, spoil, unspoilable, whole

ids = st.sampled_from(IDS[:1] * 3 + IDS)
clients = st.integers(0, 1)
crashes = st.sampled_from([0] * 6 + [1, 2, 3, 4])
rarely = st.sampled_from([False] * 7 + [True])
modes = st.sampled_from(["live"] * 8 + ["dry_run", "paused"])
ways = st.builds(Way, by=clients, again=clients, crash=crashes, dry=rarely, mode=modes)
tokens = st.sampled_from(["live"] * 6 + ["none"] * 2 + ["old"])
versions = st.sampled_from([None, None, None, 0, -1])
paths = st.sampled_from([("a",), ("a",), ("b", "c"), ("d",), ("a", 0), ("a", 0, "in"), ("missing",), ("a", "x")])
values = st.sampled_from([1, "text", [], [1], {"c": []}, {"c": [2]}, {"in": []}, "z" * 400])
turns = st.sampled_from(["add"] * 9 + ["read"] * 6 + ["large", "patch", "turn"] * 2 + ["astray"] * 3)
# Not "d": to add to that is always possible.
patches = st.dictionaries(st.sampled_from(["a", "b"]), values | st.none(), min_size=1, max_size=2)
# Scalars by scalars: what a client that holds the data knows to leave every list where it is.
small_patches = st.dictionaries(st.just("n"), st.integers(0, 9), min_size=1)
_LATE = 9  # more replies than any write waits for: it is done, and then asked again
providers = st.sampled_from(["x", "y"])

# What a run must have met: a machine in which one of these does not happen proves nothing about it.
MET = (
    *("hit", "grew", "folded by a reader", "folded by a writer", "asked again", "repeated"),
    *("InvalidPath", "LeaseHeld", "LeaseLost", "VersionConflict", "TenantPaused"),
)


class GrowthMachine(GrowthDriver):
    """What two clients may do to three contexts, and what anybody must see."""

    # -- writing ----------------------------------------------------------------------------------------------

    @rule(cid=ids, b=values, hand=tokens, saw=versions, way=ways)
    def preserve(self, cid: str, b: Any, hand: str, saw: int | None, way: Way) -> None:
        """Store a context whole, new or again."""
        data = whole("first", b)
        self._preserve(cid, data, self._token(cid, hand), self._version(cid, saw), way)

    @rule(
        cid=ids,
        path=paths,
        pointer=st.booleans(),
        items=st.lists(values, min_size=1, max_size=3),
        hand=tokens,
        saw=versions,
        way=ways,
    )
    def append(
        self, cid: str, path: tuple[Any, ...], pointer: bool, items: list[Any], hand: str, saw: int | None, way: Way
    ) -> None:
        """Add to a list, where there is one."""
        self._be_there(cid, way)
        token, seen = self._token(cid, hand), self._version(cid, saw)
        where = "/" + "/".join(map(str, path)) if pointer else path

        def ask(space: Space, rid: str, dry: bool) -> Op[Any]:
            options: dict[str, Any] = {"if_version": seen, "lease": token, "request_id": rid, "dry_run": dry}
            return ops.append(space, cid, where, self._lend(items), **options)

        self._write(cid, ask, lambda model: model.append(cid, path, items, token, seen), lambda one: one.version, way)

    @rule(cid=ids, turns=st.lists(st.tuples(clients, turns), min_size=3, max_size=8), crash=crashes)
    def talk(self, cid: str, turns: list[tuple[int, str]], crash: int) -> None:
        """Both clients add what they have to say and read now and then: parts pile up, are missed, and are folded."""
        for number, (by, turn) in enumerate(turns):
            way = Way(by, 1 - by, crash if number == 1 else 0, False, "live")
            self._be_there(cid, way)
            if turn == "read":
                found = self._read(by, cid, shared=number % 2 == 0)
                if found is not None and number % 4 == 0:
                    self._keep(found)
            elif turn == "patch":
                # Done by one, and the same request again by the other, who may know more of the data, or less.
                self.patch(cid, {"n": number}, "live", None, replace(way, crash=_LATE))
            elif turn == "turn":
                # What was a list is none any more, or is one now: whoever knew better must look again.
                was = self.model.contexts[cid].data.get("e") if cid in self.model.contexts else None
                self.patch(cid, {"e": number if isinstance(was, list) else [number]}, "live", None, way)
            else:
                path = ("e",) if turn == "astray" else ("d",)
                self.append(cid, path, True, ["z" * 700 if turn == "large" else number], "live", None, way)

    @rule(cid=ids, merge=patches | small_patches, hand=tokens, saw=versions, way=ways)
    def patch(self, cid: str, merge: dict[str, Any], hand: str, saw: int | None, way: Way) -> None:
        """Merge a patch, which may change what lists there are."""
        self._be_there(cid, way)
        token, seen = self._token(cid, hand), self._version(cid, saw)

        def ask(space: Space, rid: str, dry: bool) -> Op[Any]:
            options: dict[str, Any] = {"if_version": seen, "lease": token, "request_id": rid, "dry_run": dry}
            return ops.patch(space, cid, self._lend(merge), **options)

        self._write(cid, ask, lambda model: model.patch(cid, merge, token, seen), lambda one: one.version, way)

    @rule(cid=ids, source=providers, destination=providers, hand=tokens, saw=versions, way=ways)
    def handoff(self, cid: str, source: str, destination: str, hand: str, saw: int | None, way: Way) -> None:
        """Pass a context on: what near caches hold stays valid."""
        self._be_there(cid, way)
        token, seen = self._token(cid, hand), self._version(cid, saw)

        def ask(space: Space, rid: str, dry: bool) -> Op[Any]:
            options: dict[str, Any] = {"if_version": seen, "lease": token, "request_id": rid, "dry_run": dry}
            return ops.handoff(space, cid, source, destination, **options)

        self._write(
            cid,
            ask,
            lambda model: model.handoff(cid, source, destination, token, seen),
            lambda one: one.version,
            way,
        )

    @rule(cid=ids, hand=tokens, again=st.booleans(), b=values, way=ways)
    def drop(self, cid: str, hand: str, again: bool, b: Any, way: Way) -> None:
        """Remove a context, and perhaps let the other client preserve another one under its id at once."""
        token = self._token(cid, hand)

        def ask(space: Space, rid: str, dry: bool) -> Op[Any]:
            return ops.drop(space, cid, lease=token, request_id=rid, dry_run=dry)

        self._write(cid, ask, lambda model: model.drop(cid, token, ContextDropped), lambda one: one.version, way)
        if again and self.model.absence(cid):
            self._preserve(cid, whole("second", b), None, None, Way(1 - way.by, 0, 0, False, "live"))

    @rule(cid=ids)
    def deadline_passes(self, cid: str) -> None:
        """A context's keys expire, its appended parts as well."""
        if self.model.absence(cid) is None:
            for kind in ("ctx", "body", "segs", "hops", "log"):
                self.raw.pexpireat(getattr(self.keys, kind)(cid), 1)
            self.raw.zadd(self.keys.index, {cid: self._now_ms() - 1}, xx=True)
            self.model.ended(cid, ContextExpired)

    @rule(which=st.integers(0, 30), by=clients)
    def repeat(self, which: int, by: int) -> None:
        """A request id that was answered is answered the same again to any client, whatever happened since."""
        if self.past:
            ask, rid, said, say = self.past[-1 - which % len(self.past)]
            before = self._dump()
            assert say(self._run(by, ask(self._space(by), rid, False))) == said
            self._spoil_lent()
            assert not difference(before, self._dump())
            self.met["repeated"] += 1

    # -- leases -----------------------------------------------------------------------------------------------

    @rule(cid=ids, way=ways)
    def lease(self, cid: str, way: Way) -> None:
        """Take a context for one worker alone; tokens only grow."""
        self._be_there(cid, way)
        owner = f"worker-{uuid4().hex[:6]}"

        def ask(space: Space, rid: str, dry: bool) -> Op[Any]:
            return ops.lease(space, cid, owner, 60, request_id=rid, dry_run=dry)

        got = self._write(cid, ask, lambda model: model.lease(cid), lambda _: 0, way)
        if got is not None:
            assert (got.context_id, got.owner) == (cid, owner)
            self.model.leased(cid, got.token)
            self.leases[cid].append(got)

    @rule(cid=ids, which=st.integers(0, 2), release=st.booleans(), way=ways)
    def renew_or_release(self, cid: str, which: int, release: bool, way: Way) -> None:
        """Whoever has the live token may go on or let go, also while the tenant is paused; nobody else."""
        if not self.leases[cid]:
            return
        one = self.leases[cid][-1 - which % len(self.leases[cid])]

        def ask(space: Space, rid: str, dry: bool) -> Op[Any]:
            if release:
                return ops.release(space, one, request_id=rid, dry_run=dry)
            return ops.renew(space, one, 60, request_id=rid, dry_run=dry)

        def judge(model: Any) -> Any:
            return model.release(cid, one.token) if release else model.renew(cid, one.token)

        self._write(cid, ask, judge, lambda got: got.token, way)

    @rule(cid=ids, by=clients, by_clock=rarely)
    def lease_lapses(self, cid: str, by: int, by_clock: bool) -> None:
        """Its time is over: its token writes no more, though nobody took over."""
        token = self.model.live(cid)
        if token is None:
            return
        if by_clock:
            self._switch("live")
            until_ms = self.stores[by].renew(self.leases[cid][-1], 0.1).until_ms
            self._read(by, cid, shared=True)
            wait_until(lambda: self._now_ms() > until_ms, what="the lease has lapsed")
        else:
            self.raw.hset(self.keys.ctx(cid), "lease", f"{token} {self._now_ms() - 1}")
        self.model.contexts[cid].lease = None

    # -- reading ----------------------------------------------------------------------------------------------

    @rule(cid=ids, by=clients, shared=st.booleans(), touch=st.booleans(), keep=st.booleans())
    def read(self, cid: str, by: int, shared: bool, touch: bool, keep: bool) -> None:
        """The newest, whatever this client missed; then nothing has to be sent to who holds it."""
        before = self._dump() if self.model.mode != "live" else None
        first = self._read(by, cid, shared=shared, touch=touch)
        assert before is None or not difference(before, self._dump())
        if first is None:
            return
        second = self._read(by, cid, shared=not shared)
        assert second is not None
        assert second.cache_hit is self._space(by).holds(first.metadata.context_type)
        self._part_with(first if shared else second, second if shared else first, keep)
        self._read(by, cid, shared=shared)
        self._read(by, cid, shared=not shared)

    def _part_with(self, view: Context, copy: Context, keep: bool) -> None:
        """A copy belongs to the caller, who does with it as he likes; a view cannot be changed at all."""
        spoil(copy.data)
        assert unspoilable(view.data)
        if keep:
            self._keep(view)

    # -- after every step -------------------------------------------------------------------------------------

    @invariant()
    def who_holds_nothing_reads_what_the_model_says(self) -> None:
        """The observer never folds and holds nothing: what it reads is what is stored."""
        if self.stores:
            for cid, found in zip(IDS, self.stores[OBSERVER].restore_many(IDS, touch=False), strict=True):
                self._compare(cid, found)
                assert not isinstance(found, Context) or not found.cache_hit

    @invariant()
    def a_view_never_changes(self) -> None:
        """Whoever holds one goes on seeing the moment it was read at."""
        for view, was in self.views:
            assert plain(view) == was

    @invariant()
    def the_accounts_are_sound(self) -> None:
        """Bytes and entries agree with what is stored."""
        if self.stores:
            checked = self.stores[OBSERVER].check()
            assert checked.sound, checked


@pytest.mark.slow
@pytest.mark.timeout(3600 if NIGHTLY else 240)
def test_growing_contexts_behave_like_a_dict(server: RunningServer) -> None:
    """Clients append, patch, fold, hand off, lease, drop, die and repeat: nobody reads anything but the newest."""
    met: Counter[str] = Counter()
    profile = settings(max_examples=500 if NIGHTLY else 80, stateful_step_count=40 if NIGHTLY else 25)
    machine: Any = lambda: GrowthMachine(server, met)  # noqa: E731 - Hypothesis calls it like a class
    run_state_machine_as_test(machine, settings=profile)
    assert not [name for name in MET if not met[name]], met


def test_a_patch_repeated_by_whom_knows_more_of_the_data(server: RunningServer) -> None:
    """Found by the machine: he took the structure for unchanged, which is stored as changed, and appended no more."""
    machine = GrowthMachine(server, Counter())
    try:
        machine.open(near=("on", "off"), most=(64, 64))
        machine.talk(IDS[0], turns=[(0, "read"), (1, "patch"), (0, "add"), (0, "read")], crash=0)
    finally:
        machine.teardown()
