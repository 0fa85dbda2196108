"""Leases and what they are for: workers that stop and come back, servers that restart, replicas that take over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from typing import Any

import pytest

from lukhas_redis import ContextStore
from lukhas_redis.errors import LeaseHeld, LeaseLost
from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer, wait_until
from tests.fix_servers import StartsServers

pytestmark = pytest.mark.faults

# A worker that takes a lease, and writes under it whenever it is told to.
WORKER = """
import sys
from lukhas_redis import ContextStore
from lukhas_redis.errors import LukhasRedisError
url, tenant, cid = sys.argv[1:]
with ContextStore.connect(url, tenant=tenant) as store:
    held = store.lease(cid, "worker", 2.0)
    store.append(cid, ("log",), ["worker"], lease=held)
    print(held.token, flush=True)
    for line in sys.stdin:
        try:
            store.append(cid, ("log",), [line.strip()], lease=held)
            print("done", flush=True)
        except LukhasRedisError as error:
            print(type(error).__name__, flush=True)
"""


@pytest.fixture
def store(server: RunningServer, tenant: str) -> Generator[ContextStore]:
    """A store of the test's tenant."""
    with ContextStore.connect(server.url, tenant=tenant, settings=Settings()) as store:
        yield store


class Worker:
    """A worker in a process of its own."""

    def __init__(self, store: ContextStore, url: str, context_id: str) -> None:
        words = [sys.executable, "-c", WORKER, url, store.tenant, context_id]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.token = int(self._said())

    def write(self, item: str) -> str:
        """Have it append an item; what came of it."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{item}\n")
        self.process.stdin.flush()
        return self._said()

    def _said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture
def worker(store: ContextStore, server: RunningServer) -> Generator[tuple[Worker, str]]:
    """It has written once under its lease of two seconds."""
    context_id = store.preserve("s", {"log": []}).context_id
    made = Worker(store, server.url, context_id)
    yield made, context_id
    made.process.send_signal(signal.SIGCONT)
    made.process.kill()
    made.process.communicate()


def _lapsed(store: ContextStore, context_id: str) -> bool:
    return store.metadata(context_id).lease is None


def test_a_worker_that_slept_through_its_lease_is_fenced(store: ContextStore, worker: tuple[Worker, str]) -> None:
    """Stopped for longer than its lease, and another took over: its late write is refused, the new holder's stays."""
    one, cid = worker
    with pytest.raises(LeaseHeld):
        store.append(cid, ("log",), ["too soon"])
    os.kill(one.process.pid, signal.SIGSTOP)
    wait_until(lambda: _lapsed(store, cid), what="the lease to lapse")
    held = store.lease(cid, "successor", 60)
    assert held.token > one.token
    store.append(cid, ("log",), ["successor"], lease=held)
    os.kill(one.process.pid, signal.SIGCONT)
    assert one.write("late") == "LeaseLost"
    assert store.restore(cid).data == {"log": ["worker", "successor"]}
    store.release(held)
    assert one.write("later") == "LeaseLost"


def test_a_worker_that_slept_is_fenced_though_nobody_took_over(store: ContextStore, worker: tuple[Worker, str]) -> None:
    """Only somebody without a lease has written since, or nobody at all: the late write is refused all the same."""
    one, cid = worker
    os.kill(one.process.pid, signal.SIGSTOP)
    wait_until(lambda: _lapsed(store, cid), what="the lease to lapse")
    os.kill(one.process.pid, signal.SIGCONT)
    assert one.write("late") == "LeaseLost"
    store.append(cid, ("log",), ["anybody"])
    assert one.write("later") == "LeaseLost"
    assert store.restore(cid).data == {"log": ["worker", "anybody"]}


def test_a_worker_that_was_killed_blocks_nobody_for_longer_than_its_lease(
    store: ContextStore, worker: tuple[Worker, str]
) -> None:
    """Kill -9 under a lease: after its end the next one gets it."""
    one, cid = worker
    one.process.kill()
    wait_until(lambda: _lapsed(store, cid), what="the lease to lapse")
    assert store.lease(cid, "next", 60).token > one.token


@pytest.mark.parametrize("keeps", [True, False], ids=["appendonly", "nothing kept"])
def test_tokens_grow_over_a_restart(fresh_server: StartsServers, tenant: str, keeps: bool) -> None:
    """Whether the server kept its data or came back empty, a token given out before is never live again."""
    server = fresh_server(config={"appendonly": "yes", "appendfsync": "always"} if keeps else {})
    settings = Settings(call_timeout_seconds=20.0)
    with ContextStore.connect(server.url, tenant=tenant, settings=settings) as store:
        cid = store.preserve("s", {"log": []}).context_id
        held = store.lease(cid, "w", 60)
        server.kill9()
        server.start()
        if keeps:
            with pytest.raises(LeaseHeld):
                store.append(cid, ("log",), [1])
            store.append(cid, ("log",), [1], lease=held)
            store.release(held)
        else:
            store.preserve("s", {"log": []}, context_id=cid)
            with pytest.raises(LeaseLost):
                store.append(cid, ("log",), [1], lease=held)
        assert store.lease(cid, "v", 60).token > held.token


def test_a_replica_that_takes_over_gives_out_larger_tokens(fresh_server: StartsServers, tenant: str) -> None:
    """The lease was not replicated before the primary went: the next token is larger, and the lost one is refused."""
    primary, replica = fresh_server(), fresh_server()
    replica.command("REPLICAOF", primary.host, primary.port)
    with ContextStore.connect(primary.url, tenant=tenant) as before:
        cid = before.preserve("s", {"log": []}).context_id
        first = before.lease(cid, "w", 0.1)
        wait_until(lambda: _there(replica, before, cid), what="the replica to have the lease")
        replica.command("REPLICAOF", "NO", "ONE")
        wait_until(lambda: _lapsed(before, cid), what="the lease to lapse")
        lost = before.lease(cid, "w", 60)
    with ContextStore.connect(replica.url, tenant=tenant) as after:
        with pytest.raises(LeaseLost):
            after.append(cid, ("log",), [1], lease=lost)
        new = after.lease(cid, "v", 60)
        assert new.token > lost.token > first.token
        with pytest.raises(LeaseLost):
            after.append(cid, ("log",), [1], lease=lost)


def _there(replica: RunningServer, store: ContextStore, context_id: str) -> bool:
    return bool(replica.admin.hexists(store._space.keys.root.ctx(context_id), "lease"))


def test_under_many_that_take_turns_no_write_is_out_of_turn(server: RunningServer, tenant: str) -> None:
    """Six threads with short leases, some of which sleep through theirs: tokens of the writes never go back."""
    settings = Settings(max_context_throughput_mbps=0)
    with ContextStore.connect(server.url, tenant=tenant, settings=settings) as store:
        cid = store.preserve("s", {"log": []}).context_id
        failures: list[BaseException] = []
        pause = threading.Event()

        def work(worker: int) -> None:
            try:
                for n in range(8):
                    _turn(store, cid, worker, n, pause)
            except BaseException as error:  # noqa: BLE001 - shown by the test
                failures.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        log: list[Any] = store.restore(cid).data["log"]
        assert [token for token, _ in log] == sorted(token for token, _ in log)
        assert len(log) >= 48


def _turn(store: ContextStore, cid: str, worker: int, n: int, pause: threading.Event) -> None:
    """Take the lease, write twice, perhaps too late for the second, give it back."""
    for _ in range(2000):
        try:
            held = store.lease(cid, f"w{worker}", 0.1 if n % 4 == 0 else 30)
        except LeaseHeld:
            pause.wait(0.005)
            continue
        try:
            store.append(cid, ("log",), [(held.token, worker)], lease=held)
            if n % 4 == 0:
                pause.wait(0.12)
            store.append(cid, ("log",), [(held.token, worker)], lease=held)
            store.release(held)
        except LeaseLost:
            assert n % 4 == 0
        return
    raise AssertionError("no turn")
