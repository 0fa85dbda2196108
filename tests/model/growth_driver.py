"""The growth machine's hands: three clients of one tenant, writes sent in the way that was drawn, looking and spoiling.

What belongs here: whatever is no rule and no invariant. What does not: those (see `test_growth_machine`).
Invariant: a write is compared with the model; one that is refused or a dry run with the dump; and what a caller lent or
was given is spoilt afterwards, so that nobody may still look at it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from lukhas_redis import ContextStore, ops
from lukhas_redis.calls import Op
from lukhas_redis.errors import LukhasRedisError
from lukhas_redis.models import Context, Lease
from lukhas_redis.ops.space import Space
from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer, difference, dump
from tests.fix_tenants import new_tenant
from tests.model.dying import ClientDiedError, dying
from tests.model.growth_model import GrowthModel, Outcome

T = TypeVar("T")
IDS = [str(uuid4()) for _ in range(3)]
# A client that holds by type holds the first two.
KINDS = dict(zip(IDS, ("user_profile", "user_profile", "conversation"), strict=True))
OBSERVER = 2
_MANY = 1000
_KEPT = 5
Ask = Callable[[Space, str, bool], Op[Any]]
Say = Callable[[Any], int]


@dataclass(frozen=True)
class Way:
    """How a write is sent: `by` whom, after which reply he dies (0: never) and who asks `again`, dry, in which mode."""

    by: int
    again: int
    crash: int
    dry: bool
    mode: str


class GrowthDriver(RuleBasedStateMachine):
    """Three contexts of one tenant, two clients that may hold what they read, one that only looks, and the dict."""

    def __init__(self, server: RunningServer, met: Counter[str]) -> None:
        super().__init__()
        self.raw = server.admin
        self.url = server.url
        self.met = met
        self.model = GrowthModel()
        self.stores: list[ContextStore] = []
        self.leases: dict[str, list[Lease]] = {cid: [] for cid in IDS}
        self.past: list[tuple[Ask, str, int, Say]] = []
        self.views: list[tuple[Any, Any]] = []
        self.lent: list[Any] = []
        self.known: dict[tuple[int, str], tuple[str, int]] = {}

    @initialize(
        near=st.sampled_from([("on", "on"), ("on", "off"), ("on", "by_type"), ("by_type", "off")]),
        most=st.tuples(st.sampled_from([2, 3, 64]), st.sampled_from([2, 5, 64])),
    )
    def open(self, near: tuple[str, str], most: tuple[int, int]) -> None:
        """A tenant nobody has used, clients that fold early or hardly ever, and two contexts."""
        tenant = new_tenant()
        for cache, segments in zip((*near, "off"), (*most, _MANY), strict=True):
            settings = Settings(
                near_cache=cache,
                max_segments=segments,
                inline_body_bytes=600,
                max_context_throughput_mbps=0,
                touch_interval_seconds=0,
                metrics=False,
            )
            self.stores.append(ContextStore.connect(self.url, tenant=tenant, settings=settings))
        self.keys = self.stores[OBSERVER].space.keys.root
        for cid in IDS[:2]:
            self._preserve(cid, whole("zeroth", {"c": []}), None, None, Way(0, 0, 0, False, "live"))

    def teardown(self) -> None:
        """Leave nothing on the server."""
        for store in self.stores:
            store.close()
        for key in self._dump() if self.stores else ():
            self.raw.unlink(key)

    # -- writing ----------------------------------------------------------------------------------------------

    def _be_there(self, cid: str, way: Way) -> None:
        """Mostly a context is there: what changes one would seldom have anything to do otherwise."""
        if self.model.absence(cid) and way.crash < 4:
            self._preserve(cid, whole("third", {"c": []}), None, None, Way(way.by, 0, 0, False, "live"))

    def _preserve(self, cid: str, data: dict[str, Any], token: int | None, seen: int | None, way: Way) -> None:
        def ask(space: Space, rid: str, dry: bool) -> Op[Any]:
            options: dict[str, Any] = {"context_type": KINDS[cid], "if_version": seen, "lease": token}
            return ops.preserve(space, "s", self._lend(data), context_id=cid, request_id=rid, dry_run=dry, **options)

        self._write(cid, ask, lambda model: model.preserve(cid, data, token, seen), _version_of, way)

    def _write(self, cid: str, ask: Ask, judge: Callable[[GrowthModel], Outcome], say: Say, way: Way) -> Any:
        """Send a write, perhaps after a client that died with it; its result when it changed something."""
        self._switch(way.mode)
        trial, rid = deepcopy(self.model), uuid4().hex
        wanted = judge(trial)
        changes = isinstance(wanted, int) and not way.dry and way.mode != "dry_run"
        before = None if changes else self._dump()
        folded = self._folded()
        by = way.by
        if way.crash and changes:
            self._run(by, dying(ask(self._space(by), rid, False), way.crash))
            self.met["asked again"] += 1
            by = way.again
        outcome = self._run(by, ask(self._space(by), rid, way.dry))
        self._spoil_lent()
        if before is not None:
            assert not difference(before, self._dump())
        if not isinstance(wanted, int):
            assert outcome in wanted, f"{outcome!r} instead of {wanted}"
            self.met[outcome.__name__] += 1
            return None
        assert not isinstance(outcome, type), f"{outcome} instead of {wanted}"
        assert say(outcome) == wanted, f"{outcome} instead of {wanted}"
        assert outcome.dry_run is not changes
        if not changes:
            return None
        self.met["folded by a writer"] += self._folded() > folded
        self.model = trial
        self.past.append((ask, rid, wanted, say))
        self._name(cid, getattr(outcome, "incarnation", ""))
        return outcome

    def _name(self, cid: str, nonce: str) -> None:
        """A write tells the incarnation, which stays the same as long as the context lives."""
        if nonce:
            found = self.model.contexts[cid]
            found.nonce = found.nonce or nonce
            assert found.nonce == nonce

    def _switch(self, mode: str) -> None:
        if mode != self.model.mode:
            self.stores[OBSERVER].set_mode(mode)
            self.model.mode = mode

    def _token(self, cid: str, hand: str) -> int | None:
        """No token, the live one, or one that was given before, or to nobody."""
        live = self.model.live(cid)
        if hand == "live":
            return live
        old = [one.token for one in self.leases[cid] if one.token != live]
        return (old[-1] if old else 1) if hand == "old" else None

    def _version(self, cid: str, saw: int | None) -> int | None:
        found = self.model.contexts.get(cid)
        return None if saw is None else max(0, (found.version if found else 0) + saw)

    # -- reading ----------------------------------------------------------------------------------------------

    def _read(self, by: int, cid: str, *, shared: bool, touch: bool = False) -> Context | None:
        """What a client reads, compared with the model; None when there is nothing."""
        folded = self._folded()
        found = self._run(by, ops.restore(self._space(by), cid, shared=shared, touch=touch))
        self.met["folded by a reader"] += self._folded() > folded
        self._compare(cid, found)
        if not isinstance(found, Context):
            self.known.pop((by, cid), None)
            return None
        now = (found.metadata.incarnation, found.metadata.sequence)
        held = self.known.get((by, cid))
        self.known[by, cid] = now
        if found.cache_hit:
            assert self._space(by).holds(KINDS[cid])
            self.met["hit"] += 1
            self.met["grew"] += held is not None and held[1] < now[1]
        return found

    def _compare(self, cid: str, found: Any) -> None:
        absent = self.model.absence(cid)
        if absent is not None:
            assert found is absent or type(found) is absent, f"{cid}: {found!r} instead of {absent}"
            return
        entry = self.model.contexts[cid]
        assert isinstance(found, Context), f"{cid}: {found!r}"
        known = found.metadata
        assert plain(found.data) == entry.data
        assert (found.version, known.incarnation, known.owner) == (entry.version, entry.nonce, entry.owner)
        assert (known.lease.token if known.lease else None) == entry.lease

    def _run(self, by: int, op: Op[T]) -> T | type[Exception]:
        try:
            return self.stores[by].run(op)
        except (LukhasRedisError, ClientDiedError) as error:
            return type(error)

    def _space(self, by: int) -> Space:
        return self.stores[by].space

    def _folded(self) -> int:
        return int(self.raw.hget(self.keys.usage, "folded") or 0)

    def _now_ms(self) -> int:
        seconds, micros = self.raw.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def _dump(self) -> dict[bytes, Any]:
        return dump(self.raw, prefix=self.keys.base)

    def _keep(self, view: Context) -> None:
        """Have a view for a while: that keeps the store from letting it grow in place."""
        self.views = [*self.views[-_KEPT:], (view.data, plain(view.data))]

    # -- spoiling ---------------------------------------------------------------------------------------------

    def _lend(self, value: Any) -> Any:
        """An argument of which the store may keep nothing."""
        self.lent.append(deepcopy(value))
        return self.lent[-1]

    def _spoil_lent(self) -> None:
        for value in self.lent:
            spoil(value)
        self.lent.clear()


def _version_of(result: Any) -> int:
    return int(result.version)


def whole(item: str, b: Any) -> dict[str, Any]:
    """Data with lists at several depths."""
    return {"a": [{"in": [0]}, item], "b": b, "d": [], "n": 7}


def plain(value: Any) -> Any:
    """A copy made of plain dicts and lists."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def spoil(value: Any) -> None:
    """Change everything in it that can be changed."""
    for one in _inside(value):
        spoil(one)
    if isinstance(value, dict):
        value["spoilt"] = value.pop("a", None)
    elif isinstance(value, list):
        value.insert(0, "spoilt")


def unspoilable(value: Any) -> bool:
    """Whether nothing in it can be changed."""
    for name, arguments in (("__setitem__", (0, 0)), ("clear", ()), ("extend", ([0],)), ("update", ({"a": 0},))):
        try:
            getattr(value, name)(*arguments)
        except (TypeError, AttributeError):
            continue
        return False
    return all(map(unspoilable, _inside(value)))


def _inside(value: Any) -> list[Any]:
    return list(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
