"""worker: a process that runs an app's handlers; its signals, its end, its summary."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from uuid import uuid4

import pytest

from lukhas_redis import ContextStore
from lukhas_redis.bus import ContextBus
from lukhas_redis.bus_models import GroupStatus
from lukhas_redis.testing import RunningServer, assert_same, dump, wait_until
from tests.cli.running import COMMAND, Lukhas, run_process
from tests.cli.workers import APP, GROUP, Workers


@pytest.fixture
def bus(store: ContextStore) -> ContextBus:
    """The bus of the test's tenant."""
    return ContextBus(store)


@pytest.fixture
def workers(server: RunningServer, tenant: str, tmp_path: Path) -> Generator[Workers]:
    """Worker processes for the test's tenant."""
    home = tmp_path / "home"
    home.mkdir()
    with Workers(server.url, tenant, home) as workers:
        yield workers


def emit(bus: ContextBus, count: int, **payload: object) -> None:
    """So many events for the app."""
    for n in range(count):
        # With a key the record of the request outlasts the test: a dump before and one after can be compared.
        bus.emit("draft.written", {"n": n, **payload}, idempotency_key=uuid4().hex)


def settled(condition: Callable[[], bool], what: str) -> None:
    """Wait for what other processes do, on a machine that may be busy."""
    wait_until(condition, timeout=60, what=what)


def group(bus: ContextBus) -> GroupStatus:
    """How far the app's group is."""
    return next(one for one in bus.status().groups if one.name == GROUP)


@pytest.mark.parametrize("app", ["app:bus", "app:later"])
def test_it_handles_until_sigterm(workers: Workers, bus: ContextBus, app: str) -> None:
    """A bus, or an async function that returns one, is run; stdout is one line of JSON, stderr one of words."""
    emit(bus, 20, emit=True)
    worker = workers.start(app=app)
    workers.wait_for("ended", 20)
    settled(lambda: group(bus).counts["done"] == 20, what="all are done")
    assert worker.end(signal.SIGTERM) == 0
    (life,) = worker.lives
    assert (life["app"], life["ended"], life["dry_run"], life["handled"]) == (app, "stop", False, 20)
    assert (life["retried"], life["dead"], life["lost"]) == (0, 0, 0)
    assert life["seconds"] > 0
    assert len(worker.err.splitlines()) == 1
    assert len(bus.history("draft.reviewed")) == 20
    assert group(bus).workers == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_graceful_stop_finishes_what_is_in_hand(workers: Workers, bus: ContextBus, number: int) -> None:
    """What has begun ends, what has not begun is left to others, exit code 0."""
    emit(bus, 5, wait=True)
    worker = workers.start("--grace", "30")
    began = workers.wait_for("began", 2)
    worker.signal(number)
    worker.say("2 events in hand")
    workers.go()
    assert worker.end() == 0
    assert len(workers.notes("began")) == len(began) == 2
    assert worker.lives[0]["handled"] == 2
    assert (group(bus).pending, group(bus).lag) == (0, 3)


def test_what_outlasts_the_grace_is_given_back(workers: Workers, bus: ContextBus) -> None:
    """After `--grace` handlers are cancelled; their delivery does not count, and the next worker has it at once."""
    emit(bus, 1, wait=True)
    first = workers.start("--grace", "0.2")
    workers.wait_for("began", 1)
    assert first.end(signal.SIGTERM) == 0
    assert first.lives[0]["handled"] == 0
    workers.go()
    second = workers.start()
    workers.wait_for("ended", 1)
    settled(lambda: group(bus).counts["done"] == 1, what="it is done")
    assert second.end(signal.SIGTERM) == 0
    assert (group(bus).counts["taken_over"], group(bus).counts["retried"]) == (0, 0)


def test_a_second_signal_ends_it_at_once(workers: Workers, bus: ContextBus) -> None:
    """What is in hand is given back, exit code 130."""
    emit(bus, 2, wait=True)
    worker = workers.start("--grace", "600")
    workers.wait_for("began", 2)
    worker.signal(signal.SIGTERM)
    worker.say("2 events in hand")
    assert worker.end(signal.SIGINT) == 130
    assert worker.lives[0]["ended"] == "now"
    assert "Traceback" not in worker.err
    assert set(group(bus).workers) <= {"@waiting"}
    assert [event.deliveries for event in bus.read(GROUP, count=10)] == [1, 1]


DEAF = """
async def deaf():
    try:
        await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        pass
"""


@pytest.mark.parametrize("again", [1, 2])
def test_a_handler_that_will_not_be_cancelled_keeps_nobody(workers: Workers, bus: ContextBus, again: int) -> None:
    """The process ends without it, after some seconds or, asked a third time, there and then."""
    (workers.home / "app.py").write_text(APP.replace("asyncio.sleep(0.01)", "deaf()") + DEAF)
    emit(bus, 1, wait=True)
    worker = workers.start("--grace", "600")
    workers.wait_for("began", 1)
    worker.signal(signal.SIGTERM)
    worker.say("1 events in hand")
    worker.signal(signal.SIGTERM)
    worker.say("stopping at once")
    assert worker.end(*[signal.SIGTERM] * (again - 1)) == 130
    assert [life["ended"] for life in worker.lives] == (["now"] if again == 1 else [])


@pytest.mark.faults
def test_a_killed_worker_is_replaced(workers: Workers, bus: ContextBus) -> None:
    """What a worker had when it was killed is taken over when its hold lapses; every effect is there once."""
    emit(bus, 6, wait=True, emit=True)
    first = workers.start()
    workers.wait_for("began", 2)
    second = workers.start()
    workers.wait_for("began", 4)
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    workers.go()
    settled(lambda: group(bus).counts["done"] == 6, what="all are done")
    assert second.end(signal.SIGTERM) == 0
    assert second.lives[0]["handled"] == 6
    assert {pid for _, _, pid, _ in workers.notes("ended")} == {str(second.pid)}
    assert sorted(event.payload["n"] for event in bus.history("draft.reviewed")) == list(range(6))
    assert group(bus).counts["taken_over"] == 2


def test_quiet_takes_nothing_more(workers: Workers, bus: ContextBus) -> None:
    """After SIGUSR1 what is in hand is finished, nothing is taken, and the process waits for its end."""
    emit(bus, 2, wait=True)
    worker = workers.start()
    workers.wait_for("began", 2)
    worker.signal(signal.SIGUSR1)
    worker.say("quiet: ")
    emit(bus, 3)
    workers.go()
    workers.wait_for("ended", 2)
    settled(lambda: group(bus).counts["done"] == 2, what="what was in hand is done")
    other = workers.start()
    workers.wait_for("ended", 5)
    settled(lambda: group(bus).counts["done"] == 5, what="another does the rest")
    assert other.end(signal.SIGTERM) == 0
    assert worker.process.poll() is None
    assert worker.end(signal.SIGTERM) == 0
    assert (worker.lives[0]["handled"], other.lives[0]["handled"]) == (2, 3)


def test_an_idle_worker_is_quiet_at_once(workers: Workers, bus: ContextBus) -> None:
    """One that waits for events does not take the next one either."""
    emit(bus, 1)
    worker = workers.start()
    workers.wait_for("ended", 1)
    settled(lambda: group(bus).counts["done"] == 1, what="it is done")
    worker.signal(signal.SIGUSR1)
    worker.say("quiet: ")
    emit(bus, 1)
    other = workers.start()
    workers.wait_for("ended", 2)
    assert workers.notes("ended")[-1][2] == str(other.pid)
    assert (worker.end(signal.SIGTERM), other.end(signal.SIGTERM)) == (0, 0)


def test_a_reload_runs_the_code_as_it_is_then(workers: Workers, bus: ContextBus) -> None:
    """SIGHUP finishes what is in hand with the old code and goes on with the new one, in the same process."""
    emit(bus, 1, wait=True)
    worker = workers.start("--grace", "30")
    workers.wait_for("began", 1)
    (workers.home / "app.py").write_text(APP.replace("VERSION = 1", "VERSION = 2"))
    worker.signal(signal.SIGHUP)
    worker.say("reload: ")
    workers.go()
    settled(lambda: len(worker.lives) == 1, what="the first life ends")
    emit(bus, 1)
    workers.wait_for("ended", 2)
    settled(lambda: group(bus).counts["done"] == 2, what="both are done")
    assert [note[1:] for note in workers.notes("ended")] == [["0", str(worker.pid), "1"], ["0", str(worker.pid), "2"]]
    assert worker.end(signal.SIGTERM) == 0
    assert [(life["ended"], life["handled"]) for life in worker.lives] == [("reload", 1), ("stop", 1)]


def test_sigterm_while_it_reloads_ends_it(workers: Workers, bus: ContextBus) -> None:
    """A reload that waits for a handler becomes a stop, and is not yet one at once."""
    emit(bus, 1, wait=True)
    worker = workers.start("--grace", "30")
    workers.wait_for("began", 1)
    worker.signal(signal.SIGHUP)
    worker.say("reload: ")
    worker.signal(signal.SIGTERM)
    workers.go()
    assert worker.end() == 0
    assert [(life["ended"], life["handled"]) for life in worker.lives] == [("stop", 1)]


def test_a_dry_run_changes_nothing(workers: Workers, bus: ContextBus, server: RunningServer, tenant: str) -> None:
    """Handlers are called with what there is; no key, group, worker or pending entry is changed."""
    emit(bus, 5, emit=True)
    with server.client() as client:
        before = dump(client, prefix=f"lukhas:{{{tenant}")
        worker = workers.start("--dry-run")
        workers.wait_for("ended", 5)
        assert worker.end(signal.SIGTERM) == 0
        assert_same(before, dump(client, prefix=f"lukhas:{{{tenant}"))
    (life,) = worker.lives
    assert (life["dry_run"], life["peeked"], life["handled"]) == (True, 5, 0)


def test_options_are_what_an_app_finds(
    server: RunningServer, store: ContextStore, bus: ContextBus, tmp_path: Path
) -> None:
    """`--url` and `--tenant` reach an app that asks for no server of its own; one that names a tenant has its own."""
    emit(bus, 1)
    options = ["--url", server.url, "--tenant", store.tenant]
    own = APP.replace("AsyncContextBus.connect()", f"AsyncContextBus.connect({server.url!r}, tenant={store.tenant!r})")
    for place, (app, words) in enumerate([(APP, options), (own, ["--url", "redis://127.0.0.1:1", "--tenant", "x"])]):
        home = tmp_path / str(place)
        home.mkdir()
        bus.replay(bus.history("draft.written", count=1), group=GROUP) if place else None
        with Workers("redis://127.0.0.1:1", "nobody", home, app) as workers:
            worker = workers.start(*words)
            workers.wait_for("ended", 1)
            assert worker.end(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    "app, words",
    [
        ("app", "MODULE:ATTRIBUTE"),
        ("app.py:bus", "MODULE:ATTRIBUTE"),
        ("app:", "MODULE:ATTRIBUTE"),
        ("nowhere:bus", "there is no module nowhere"),
        ("app.nowhere:bus", "there is no module app.nowhere"),
        ("app:nothing_here", "there is no 'nothing_here'"),
        ("app:number", "no AsyncContextBus"),
        ("app:note", "calling it failed: TypeError"),
        ("app:nothing", "without any subscription"),
        ("broken:bus", "importing it failed: ZeroDivisionError: division by zero (broken.py:2)"),
        ("needy:bus", "importing it failed: ModuleNotFoundError: No module named 'no_such_package'"),
        ("unread:bus", "importing it failed: SyntaxError"),
        ("failing:make", "calling it failed: RuntimeError: no \\x1b[31mway (failing.py:2)"),
    ],
)
def test_a_bad_app_is_exit_2(
    bare: Lukhas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app: str, words: str
) -> None:
    """What is wrong and where, in at most three lines or one JSON object; stdout stays empty."""
    files = {
        "app": APP,
        "broken": "\n1 / 0\n",
        "needy": "import no_such_package\n",
        "unread": "def (:\n",
        "failing": "async def make():\n    raise RuntimeError('no \x1b[31mway')\n",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for more in ([], ["-o", "json"]):
        ran = bare("worker", app, *more)
        assert (ran.code, ran.out) == (2, ""), ran.err
        assert len(ran.err.splitlines()) <= 3
        assert "\x1b" not in ran.err
        if more:
            assert (ran.error["code"], ran.error["type"]) == ("BAD_APP", "BadApp")
            assert words in ran.error["message"]
        else:
            assert words in ran.err


def test_a_right_that_is_missing_is_exit_6(server: RunningServer, tmp_path: Path) -> None:
    """A worker that may not work ends with the error and a summary; one line, no traceback."""
    url = f"redis://nobody:hunter2@{server.host}:{server.port}"
    with Workers(url, "t", tmp_path) as workers:
        worker = workers.start()
        assert worker.end() == 6
        assert "Traceback" not in worker.err
        assert "hunter2" not in worker.err
        assert [life["ended"] for life in worker.lives] == ["error"]


@pytest.mark.faults
def test_a_server_that_goes_away_is_waited_for(tenant: str, fresh_server: object, tmp_path: Path) -> None:
    """A worker goes on by itself after a restart."""
    server: RunningServer = fresh_server(config={"appendonly": "yes"})  # type: ignore[operator]
    with ContextStore.connect(server.url, tenant=tenant) as store, Workers(server.url, tenant, tmp_path) as workers:
        bus = ContextBus(store)
        emit(bus, 1)
        worker = workers.start()
        workers.wait_for("ended", 1)
        server.restart()
        emit(bus, 1)
        workers.wait_for("ended", 2)
        assert worker.end(signal.SIGTERM) == 0
        assert "Traceback" not in worker.err


def test_a_worker_on_a_terminal(workers: Workers, bus: ContextBus, server: RunningServer) -> None:
    """A line shows what is done and at what rate; at the end there is a sentence instead of JSON."""
    emit(bus, 3)
    ours, theirs = pty.openpty()
    env = {
        **os.environ,
        "TERM": "xterm-256color",
        "COLUMNS": "200",
        "LUKHAS_URL": server.url,
        "LUKHAS_TENANT": bus.store.tenant,
    }
    words = [*COMMAND, "worker", "app:bus"]
    with subprocess.Popen(words, cwd=workers.home, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        try:
            shown = _screen_until(ours, b"handled 3 ")
            assert b"/s  retried 0  dead 0  lost 0  in hand 0" in shown
            process.send_signal(signal.SIGTERM)
            shown = _screen_until(ours, b"3 handled, 0 retried, 0 dead, 0 lost")
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
            os.close(ours)


def _screen_until(terminal: int, words: bytes) -> bytes:
    shown = b""
    while words not in shown:
        assert select.select([terminal], [], [], 60)[0], shown
        shown += os.read(terminal, 65_536)
    return shown


def test_help_needs_no_app() -> None:
    """The signals are in the help."""
    ran = run_process("worker", "--help")
    assert ran.code == 0
    assert {"SIGTERM", "SIGHUP", "SIGUSR1"} <= set(ran.out.replace(",", " ").replace(":", " ").split())
