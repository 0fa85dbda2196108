"""Growing contexts against a dict: append, patch, fold, near cache and leases, over two clients.

What belongs here: sending operations by either client and comparing with the model. What does not: the rules of growing
(`growth_model`), quotas and modes (`test_store_machine`).
Invariant: after every step each client reads, shared and private, exactly what the model says, whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from lukhas_redis import ContextStore
from lukhas_redis.errors import LeaseHeld, LeaseLost, LukhasRedisError
from lukhas_redis.models import Context, Lease
from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer, difference, dump
from tests.fix_hypothesis import NIGHTLY
from tests.fix_tenants import new_tenant
from tests.model.growth_model import DROPPED, EXPIRED, GrowthModel, Outcome

IDS = [str(uuid4()) for _ in range(3)]
ids = st.sampled_from(IDS)
clients = st.integers(0, 1)
tokens = st.sampled_from(["none", "none", "none", "live", "live", "old"])
versions = st.sampled_from([None, None, None, 0, -1])
paths = st.sampled_from([("a",), ("a",), ("a",), ("b", "c"), ("d",), ("a", 0), ("a", 0, "in"), ("missing",)])
values = st.sampled_from([1, "text", [], [1], {"c": []}, {"c": [2]}, {"in": []}, "z" * 400])
patches = st.dictionaries(st.sampled_from(["a", "b", "d"]), values | st.none(), min_size=1, max_size=2)
providers = st.sampled_from(["x", "y"])


class GrowthMachine(RuleBasedStateMachine):
    """Three contexts of one tenant, two stores that hold what they have read, and the dict."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__()
        self.raw = server.admin
        self.url = server.url
        self.views: list[tuple[Any, Any]] = []

    @initialize(
        near=st.sampled_from([("on", "on"), ("on", "off"), ("by_type", "on")]), most=st.sampled_from([2, 4, 64])
    )
    def open(self, near: tuple[str, str], most: int) -> None:
        """A tenant nobody has used, and contexts of which few appended parts are allowed."""
        tenant = new_tenant()
        self.model = GrowthModel()
        self.leases: dict[str, list[Lease]] = {cid: [] for cid in IDS}
        self.stores = [
            ContextStore.connect(
                self.url,
                tenant=tenant,
                settings=Settings(
                    near_cache=one,
                    max_segments=most,
                    inline_body_bytes=600,
                    max_context_throughput_mbps=0,
                    touch_interval_seconds=0,
                    metrics=False,
                ),
            )
            for one in near
        ]
        self.keys = self.stores[0].space.keys.root
        for cid in IDS[:2]:
            self.preserve(cid, 0, {"c": []}, "none", None)

    def teardown(self) -> None:
        """Leave nothing on the server."""
        for store in getattr(self, "stores", []):
            store.close()
        if hasattr(self, "keys"):
            for key in self._dump():
                self.raw.unlink(key)

    # -- rules ------------------------------------------------------------------------------------------------

    @rule(cid=ids, by=clients, b=values, hand=tokens, saw=versions)
    def preserve(self, cid: str, by: int, b: Any, hand: str, saw: int | None) -> None:
        """Store a context whole, new or again."""
        data = {"a": [{"in": [0]}, "first"], "b": b, "d": 7}
        token, seen = self._token(cid, hand), self._version(cid, saw)
        wanted = self._wanted(lambda: self.model.preserve(cid, data, token, seen))
        options: dict[str, Any] = {"context_id": cid, "lease": token, "if_version": seen}
        self._compare(lambda: self.stores[by].preserve("s", data, **options).version, wanted)

    @rule(cid=ids, by=clients, path=paths, items=st.lists(values, min_size=1, max_size=3), hand=tokens, saw=versions)
    def append(self, cid: str, by: int, path: tuple[Any, ...], items: list[Any], hand: str, saw: int | None) -> None:
        """Add to a list, where there is one."""
        token, seen = self._token(cid, hand), self._version(cid, saw)
        refused = self.model.absence(cid) or self.model.refusal(cid, token, seen)
        wanted = self._wanted(lambda: self.model.append(cid, path, items, token, seen))
        self._compare(
            lambda: self.stores[by].append(cid, path, items, lease=token, if_version=seen).version, wanted, refused
        )

    @rule(cid=ids, by=clients, merge=patches, hand=tokens, saw=versions)
    def patch(self, cid: str, by: int, merge: dict[str, Any], hand: str, saw: int | None) -> None:
        """Merge a patch, which may change what lists there are."""
        token, seen = self._token(cid, hand), self._version(cid, saw)
        wanted = self._wanted(lambda: self.model.patch(cid, merge, token, seen))
        self._compare(lambda: self.stores[by].patch(cid, merge, lease=token, if_version=seen).version, wanted)

    @rule(cid=ids, by=clients, source=providers, destination=providers, hand=tokens)
    def handoff(self, cid: str, by: int, source: str, destination: str, hand: str) -> None:
        """Pass a context on: what near caches hold stays valid."""
        token = self._token(cid, hand)
        wanted = self._wanted(lambda: self.model.handoff(cid, source, destination, token))
        self._compare(lambda: self.stores[by].handoff(cid, source, destination, lease=token).version, wanted)

    @rule(cid=ids, by=clients, again=st.booleans(), b=values)
    def drop(self, cid: str, by: int, again: bool, b: Any) -> None:
        """Remove a context, and perhaps preserve another one under its id at once."""
        token = self._live(cid)
        if self.model.absence(cid) is None:
            self.stores[by].drop(cid, lease=token)
            self.model.end(cid, DROPPED)
            if again:
                self.preserve(cid, by, b, "none", None)

    @rule(cid=ids)
    def deadline_passes(self, cid: str) -> None:
        """A context's keys expire, its appended parts as well."""
        if self.model.absence(cid) is None:
            for kind in ("ctx", "body", "segs", "hops", "log"):
                self.raw.pexpireat(getattr(self.keys, kind)(cid), 1)
            self.raw.zadd(self.keys.index, {cid: self._now_ms() - 1}, xx=True)
            self.model.end(cid, EXPIRED)

    @rule(cid=ids, by=clients)
    def lease(self, cid: str, by: int) -> None:
        """Take a context for one worker alone; tokens only grow."""
        wanted = self.model.absence(cid) or (LeaseHeld if self._live(cid) else None)
        got = self._outcome(lambda: self.stores[by].lease(cid, f"worker-{uuid4().hex[:6]}", 60))
        assert (got if isinstance(got, type) else None) == wanted
        if isinstance(got, Lease):
            assert got.token > self.model.newest_token
            self.model.newest_token = got.token
            self.model.contexts[cid].lease = got.token
            self.leases[cid].append(got)

    @rule(cid=ids, by=clients, which=st.integers(0, 2), release=st.booleans())
    def renew_or_release(self, cid: str, by: int, which: int, release: bool) -> None:
        """Whoever has the live token may go on or let go; nobody else."""
        if not self.leases[cid] or self.model.absence(cid):
            return
        one, store = self.leases[cid][-1 - which % len(self.leases[cid])], self.stores[by]
        got = self._outcome(lambda: store.release(one) if release else store.renew(one, 60))
        if one.token != self._live(cid):
            assert got is LeaseLost
        else:
            assert not isinstance(got, type)
            self.model.contexts[cid].lease = None if release else one.token

    @rule(cid=ids)
    def lease_lapses(self, cid: str) -> None:
        """Its time is over: its token writes no more, though nobody took over."""
        if (token := self._live(cid)) is not None:
            self.raw.hset(self.keys.ctx(cid), "lease", f"{token} {self._now_ms() - 1}")
            self.model.contexts[cid].lease = None

    @rule(cid=ids, by=clients, kind=st.sampled_from(["append", "patch", "preserve"]))
    def dry_run(self, cid: str, by: int, kind: str) -> None:
        """Whatever it answers, nothing changes."""
        before, store = self._dump(), self.stores[by]
        self._outcome(
            {
                "append": lambda: store.append(cid, ("a",), [1], dry_run=True),
                "patch": lambda: store.patch(cid, {"d": [1]}, dry_run=True),
                "preserve": lambda: store.preserve("s", {"a": []}, context_id=cid, dry_run=True),
            }[kind]
        )
        assert not difference(before, self._dump())

    @rule(cid=ids, by=clients)
    def spoil_a_copy(self, cid: str, by: int) -> None:
        """What a caller does to its own copy is nobody else's business; a view cannot be changed at all."""
        if self.model.absence(cid):
            return
        store = self.stores[by]
        data = store.restore(cid).data
        data["a"] = "spoiled"
        data.setdefault("b", {})
        view = store.restore(cid, shared=True).data
        self.views.append((view, _plain(view)))
        with pytest.raises(TypeError):
            view["a"] = "spoiled"

    # -- after every step -------------------------------------------------------------------------------------

    @invariant()
    def both_clients_read_what_the_model_says(self) -> None:
        """Shared first, so that what is held is asked for; then a private copy."""
        for store in getattr(self, "stores", []):
            for cid in IDS:
                for shared in (True, False):
                    found = self._outcome(lambda: store.restore(cid, shared=shared))  # noqa: B023 - called at once
                    absent = self.model.absence(cid)
                    if absent is not None:
                        assert found is absent, f"{cid}: {found!r} instead of {absent}"
                        continue
                    entry = self.model.contexts[cid]
                    assert isinstance(found, Context), f"{cid}: {found!r}"
                    assert _plain(found.data) == entry.data
                    assert (found.version, found.metadata.owner) == (entry.version, entry.owner)

    @invariant()
    def a_view_never_changes(self) -> None:
        """Whoever holds one goes on seeing the moment it was read at."""
        for view, was in self.views:
            assert _plain(view) == was

    @invariant()
    def the_accounts_are_sound(self) -> None:
        """Bytes and entries agree with what is stored."""
        if hasattr(self, "stores"):
            checked = self.stores[0].check()
            assert checked.sound, checked

    # -- hands ------------------------------------------------------------------------------------------------

    def _wanted(self, ask: Callable[[], Outcome]) -> Outcome:
        return ask()

    def _compare(self, ask: Callable[[], int], wanted: Outcome, *also: type[LukhasRedisError] | None) -> None:
        """What was answered is what the model says; where two things are wrong at once, either may be said."""
        got = self._outcome(ask)
        allowed = {wanted, *(one for one in also if one is not None)} if isinstance(wanted, type) else {wanted}
        assert got in allowed, f"{got} instead of {allowed}"

    def _outcome(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except LukhasRedisError as error:
            return type(error)

    def _live(self, cid: str) -> int | None:
        found = self.model.contexts.get(cid)
        return found.lease if found else None

    def _token(self, cid: str, hand: str) -> int | None:
        """No token, the live one, or one that was given before."""
        if hand == "live":
            return self._live(cid)
        old = [one.token for one in self.leases[cid] if one.token != self._live(cid)]
        return old[-1] if hand == "old" and old else None

    def _version(self, cid: str, saw: int | None) -> int | None:
        found = self.model.contexts.get(cid)
        return None if saw is None else max(0, (found.version if found else 0) + saw)

    def _now_ms(self) -> int:
        seconds, micros = self.raw.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def _dump(self) -> dict[bytes, Any]:
        return dump(self.raw, prefix=self.keys.base)


def _plain(value: Any) -> Any:
    """A copy made of plain dicts and lists."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


@pytest.mark.slow
@pytest.mark.timeout(3600 if NIGHTLY else 240)
def test_growing_contexts_behave_like_a_dict(server: RunningServer) -> None:
    """Two clients append, patch, fold, hand off, lease, drop and expire: neither reads anything but the newest."""
    profile = settings(max_examples=500 if NIGHTLY else 60, stateful_step_count=40 if NIGHTLY else 25)
    machine: Any = lambda: GrowthMachine(server)  # noqa: E731 - Hypothesis calls it like a class
    run_state_machine_as_test(machine, settings=profile)
