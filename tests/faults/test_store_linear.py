"""Histories recorded from the real store while its servers are killed: every answer can be explained by one order.

What belongs here: clients that record what they asked and were answered, and the faults around them. What does not:
judging a history (`tests/model/linear.py`).
Invariant: what is recorded is never weaker than what the client was told: an answer is an answer, `Unavailable` means
surely not applied, and only what ended in `OutcomeUnknown` is left open.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest

from lukhas_redis import AsyncContextStore, ContextStore
from lukhas_redis.errors import (
    ContextDropped,
    ContextNotFound,
    LukhasRedisError,
    OutcomeUnknown,
    VersionConflict,
)
from lukhas_redis.models import Appended, Context, Dropped, Handoff, Preserved
from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer, SentinelGroup, ServerBinary, start_sentinels
from tests.fix_hypothesis import NIGHTLY
from tests.fix_servers import StartsServers
from tests.model.linear import (
    NEVER,
    Absent,
    Conflict,
    Kind,
    Lack,
    Operation,
    Result,
    Saw,
    Wrote,
    assert_linearizable,
    broken_promises,
)

pytestmark = [pytest.mark.faults, pytest.mark.slow]

LOCAL = {"appendonly": "yes", "appendfsync": "always"}
ROUNDS = 40 if NIGHTLY else 1
KILLS = 4
FAILOVERS = 12 if NIGHTLY else 1
CONTEXTS = 3
_BIG = "." * 400  # over `inline_body_bytes`: such an append writes the whole
_DRAWN = [Kind.APPEND] * 9 + [Kind.RESTORE] * 8 + [Kind.PATCH] * 3 + [Kind.PRESERVE, Kind.HANDOFF] * 2 + [Kind.DROP]

History = dict[str, list[Operation]]


def settings(near: bool, seconds: float, **changes: Any) -> Settings:
    """A store that folds often; `seconds`: how long a call goes on trying."""
    return Settings.load(
        near_cache="on" if near else "off",
        call_timeout_seconds=seconds,
        max_segments=8,
        inline_body_bytes=300,
        max_context_throughput_mbps=0,
        **changes,
    )


@dataclass
class Asked:
    """One operation of a client, called once or, while its outcome is unknown, again with the same request id."""

    kind: Kind
    cid: str
    began: float = 0.0
    items: tuple[str, ...] = ()
    scalars: tuple[tuple[str, Any], ...] = ()
    if_version: int | None = None
    durability: str | None = None
    request_id: str = field(default_factory=lambda: uuid4().hex)
    is_in_doubt: bool = False

    def call(self, store: Any) -> Any:
        """Call the store, of either sort."""
        if self.kind is Kind.RESTORE:
            return store.restore(self.cid)
        options: dict[str, Any] = {"request_id": self.request_id, "durability": self.durability}
        if self.kind is not Kind.DROP:
            options["if_version"] = self.if_version
        if self.kind is Kind.PRESERVE:
            data = {"items": list(self.items), "scalars": dict(self.scalars)}
            return store.preserve("s", data, context_id=self.cid, compression="none", **options)
        if self.kind is Kind.APPEND:
            return store.append(self.cid, ("items",), list(self.items), **options)
        if self.kind is Kind.PATCH:
            return store.patch(self.cid, {"scalars": dict(self.scalars)}, **options)
        if self.kind is Kind.HANDOFF:
            return store.handoff(self.cid, "a", "a", **options)
        return store.drop(self.cid, **options)


@dataclass
class Client:
    """Draws operations and records them; knows nothing of how they are sent."""

    name: str
    seed: int
    ids: Sequence[str]
    durabilities: Sequence[str | None] = (None,)
    history: History = field(default_factory=lambda: defaultdict(list))
    versions: dict[str, int] = field(default_factory=dict)
    hits: int = 0
    made: int = 0
    wrong: list[str] = field(default_factory=list)

    def asks(self, has_ended: Callable[[], bool]) -> Generator[Asked, object]:
        """Operations to call one after the other; each is answered with what came back, result or error.

        A last look at every context, when all faults are over, shows what became of the last writes.
        """
        dice = random.Random(self.seed)
        while not has_ended():
            yield from self._until_told(self._drawn(dice), dice, has_ended)
        for cid in self.ids:
            yield from self._until_told(Asked(Kind.RESTORE, cid), dice, has_ended)

    def pause(self) -> float:
        """How long to think before the next call, in seconds."""
        return random.uniform(0, 0.02)

    def _drawn(self, dice: random.Random) -> Asked:
        cid = dice.choice(self.ids)
        kinds = _DRAWN if self.versions.get(cid) else [Kind.PRESERVE, Kind.RESTORE]
        asked = Asked(dice.choice(kinds), cid, durability=dice.choice(self.durabilities))
        self.made += 1
        name = f"{self.name}-{self.made}"
        if asked.kind in (Kind.PRESERVE, Kind.APPEND):
            asked.items = (name + _BIG,) if dice.random() < 0.1 else (name,)
        elif asked.kind is Kind.PATCH:
            asked.scalars = ((dice.choice("kmn"), None if dice.random() < 0.2 else name),)
        if dice.random() < 0.3 and asked.kind not in (Kind.RESTORE, Kind.DROP):
            asked.if_version = self.versions.get(cid, 0)
        return asked

    def _until_told(self, asked: Asked, dice: random.Random, has_ended: Callable[[], bool]) -> Generator[Asked, object]:
        asked.began = time.monotonic()
        while True:
            answer = yield asked
            result = self._understood(asked, answer)
            asked.is_in_doubt = asked.is_in_doubt or result is Lack.UNKNOWN
            if asked.is_in_doubt and isinstance(result, Lack):
                result = Lack.UNKNOWN
                if not has_ended() and dice.random() < 0.7:
                    continue
            ended = NEVER if result is Lack.UNKNOWN else time.monotonic()
            self._note(asked, ended, result)
            return

    def _note(self, asked: Asked, ended: float, result: Result) -> None:
        if isinstance(result, Wrote | Saw):
            self.versions[asked.cid] = 0 if asked.kind is Kind.DROP else result.version
        elif isinstance(result, Absent | Conflict):
            self.versions[asked.cid] = getattr(result, "actual", None) or 0
        options = (asked.items, asked.scalars, asked.if_version, asked.durability == "replicated")
        self.history[asked.cid].append(Operation(self.name, asked.kind, asked.began, ended, result, *options))

    def _understood(self, asked: Asked, answer: object) -> Result:
        if isinstance(answer, Context):
            self.hits += answer.cache_hit
            data = answer.data
            scalars = frozenset(data["scalars"].items())
            return Saw(answer.metadata.incarnation, answer.version, tuple(data["items"]), scalars)
        if isinstance(answer, Preserved | Appended):
            return Wrote(answer.version, answer.incarnation)
        if isinstance(answer, Handoff | Dropped):
            return Wrote(answer.version)
        return self._refusal(asked, answer)

    def _refusal(self, asked: Asked, answer: object) -> Result:
        if isinstance(answer, ContextNotFound):
            known = {ContextNotFound: "never", ContextDropped: "dropped"}
            return Absent(known.get(type(answer), type(answer).__name__))
        if type(answer) is VersionConflict:
            return Conflict(answer.fields.get("actual"))
        if isinstance(answer, OutcomeUnknown):
            return Lack.UNKNOWN
        if not isinstance(answer, LukhasRedisError) or not answer.retryable:
            self.wrong.append(f"{asked}: {answer!r}")
        return Lack.SURELY_NOT


# -- how they are run ----------------------------------------------------------------------------------------------


def run_blocking(client: Client, store: ContextStore, has_ended: Callable[[], bool]) -> Client:
    """One client on this thread."""
    asks = client.asks(has_ended)
    answer: object = None
    while (asked := _next(asks, answer)) is not None:
        time.sleep(client.pause())
        try:
            answer = asked.call(store)
        except LukhasRedisError as error:
            answer = error
    return client


async def run_async(client: Client, store: AsyncContextStore, has_ended: Callable[[], bool]) -> Client:
    """One client as a task."""
    asks = client.asks(has_ended)
    answer: object = None
    while (asked := _next(asks, answer)) is not None:
        await asyncio.sleep(client.pause())
        try:
            answer = await asked.call(store)
        except LukhasRedisError as error:
            answer = error
    return client


def _next(asks: Generator[Asked, object], answer: object) -> Asked | None:
    try:
        return asks.send(answer)
    except StopIteration:
        return None


def run_loop(clients: Sequence[tuple[Client, AsyncContextStore]], has_ended: Callable[[], bool]) -> list[Client]:
    """Several clients as tasks of one event loop, on this thread."""

    async def run() -> list[Client]:
        done = await asyncio.gather(*(run_async(client, store, has_ended) for client, store in clients))
        for store in {id(store): store for _, store in clients}.values():
            await store.close()
        return list(done)

    return asyncio.run(run())


def run_process(client: Client, url: str, tenant: str, about: Settings, ended: Any, answers: Any) -> None:
    """One client as a process of its own; `time.monotonic` is the same clock in all processes of a Linux machine."""
    with ContextStore.connect(url, tenant=tenant, settings=about) as store:
        answers.send(run_blocking(client, store, ended.is_set))


@dataclass
class Crowd:
    """Clients of every sort on one tenant: threads and tasks that share a store, with and without a near cache."""

    url: str
    tenant: str
    durabilities: Sequence[str | None] = (None,)
    changes: dict[str, Any] = field(default_factory=dict)
    ids: list[str] = field(default_factory=lambda: [str(uuid4()) for _ in range(CONTEXTS)])

    def during(self, faults: Callable[[], None]) -> list[Client]:
        """What they recorded while the faults happened."""
        ended = multiprocessing.get_context("spawn").Event()
        with ThreadPoolExecutor(8) as pool:
            near, far = self._store(True, 20), self._store(False, 0.2)
            running = [pool.submit(run_blocking, self._client(name), near, ended.is_set) for name in ("t1", "t2")]
            running.append(pool.submit(run_blocking, self._client("t3"), far, ended.is_set))
            tasks = pool.submit(run_loop, self._tasks(), ended.is_set)
            process = pool.submit(self._in_a_process, self._client("p1"), ended)
            try:
                faults()
            finally:
                ended.set()
            clients = [one.result() for one in running] + tasks.result() + [process.result()]
        near.close()
        far.close()
        return clients

    def _client(self, name: str) -> Client:
        return Client(name, random.randrange(2**32), self.ids, self.durabilities)

    def _store(self, near: bool, seconds: float) -> ContextStore:
        about = settings(near, seconds, **self.changes)
        return ContextStore.connect(self.url, tenant=self.tenant, settings=about)

    def _tasks(self) -> list[tuple[Client, AsyncContextStore]]:
        near, far = (
            AsyncContextStore.connect(self.url, tenant=self.tenant, settings=settings(near, seconds, **self.changes))
            for near, seconds in ((True, 0.2), (False, 20))
        )
        return [(self._client("a1"), near), (self._client("a2"), near), (self._client("a3"), far)]

    def _in_a_process(self, client: Client, ended: Any) -> Client:
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe(duplex=False)
        about = settings(True, 20, **self.changes)
        process = context.Process(target=run_process, args=(client, self.url, self.tenant, about, ended, theirs))
        process.start()
        theirs.close()
        try:
            found: Client = mine.recv()
        finally:
            process.join()
        return found


def _together(clients: Sequence[Client]) -> History:
    assert [wrong for client in clients for wrong in client.wrong] == []
    history: History = defaultdict(list)
    for client in clients:
        for cid, operations in client.history.items():
            history[cid] += operations
    return history


def _answered(history: History, *kinds: Kind) -> int:
    return sum(op.kind in kinds and not isinstance(op.result, Lack) for ops in history.values() for op in ops)


# -- the tests -----------------------------------------------------------------------------------------------------


@pytest.mark.timeout(3600 if NIGHTLY else 180)
def test_one_node_killed_in_a_loop_is_linearizable(fresh_server: StartsServers, tenant: str) -> None:
    """Kill -9 and restart under seven clients at appendfsync always: no answer contradicts another, held or read."""
    server = fresh_server(config=LOCAL)
    for _ in range(ROUNDS):
        clients = Crowd(server.url, tenant).during(lambda: _killed(server))
        history = _together(clients)
        assert _answered(history, Kind.APPEND, Kind.PATCH, Kind.PRESERVE) > 50
        assert _answered(history, Kind.RESTORE) > 50
        assert [client.name for client in clients if client.hits] == ["t1", "t2", "a1", "a2", "p1"]
        assert_linearizable(history)


def _killed(server: RunningServer) -> None:
    for _ in range(KILLS):
        time.sleep(random.uniform(0.4, 1.2))
        server.kill9()
        time.sleep(random.choice([0, 0.3]))  # longer than some calls go on trying
        server.start()
    time.sleep(0.5)


@pytest.fixture
def group(binary: ServerBinary) -> Generator[SentinelGroup]:
    """A primary and one replica, both of which keep what they confirm: whoever is promoted has confirmed."""
    with start_sentinels(binary, replicas=1, config=LOCAL) as started:
        yield started


@pytest.mark.topology
@pytest.mark.timeout(3600 if NIGHTLY else 240)
def test_a_failover_keeps_what_was_replicated(group: SentinelGroup, tenant: str) -> None:
    """The primary is killed and its replica promoted under seven clients, half of whose writes ask for replication."""
    for _ in range(FAILOVERS):
        crowd = Crowd(group.url, tenant, (None, "replicated"), {"wait_timeout_ms": 500})
        history = _together(crowd.during(lambda: _failed_over(group)))
        assert _answered(history, Kind.APPEND, Kind.PATCH, Kind.PRESERVE) > 50
        assert [f"{cid}: {wrong}" for cid, ops in history.items() for wrong in broken_promises(ops)] == []


def _failed_over(group: SentinelGroup) -> None:
    time.sleep(1.5)
    old = group.kill_primary()
    group.wait_failover(old)
    time.sleep(0.5)
    group.heal()
    time.sleep(1)
