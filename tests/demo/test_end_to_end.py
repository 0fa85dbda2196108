"""The whole demo as a user runs it: a process, its output, its exit code, and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lukhas_redis.demo.conversations import RECORDED_RUNS
from lukhas_redis.embedded import status, stop
from lukhas_redis.testing import RunningServer, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]

SECONDS = 60


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A current directory with nothing beside it, and a directory for temporary files."""
    (tmp_path / "work" / "here").mkdir(parents=True)
    (tmp_path / "tmp").mkdir()
    return tmp_path


def command(*arguments: str) -> list[str]:
    """The demo as a command line."""
    return [sys.executable, "-m", "lukhas_redis.demo", *arguments]


def surroundings(home: Path) -> dict[str, Any]:
    """Where and with what environment it runs: none of the caller's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LUKHAS_", "CONTEXT_BUS"))}
    package = str(Path(__file__).parents[2])
    environment = {**kept, "TMPDIR": str(home / "tmp"), "LUKHAS_STATE_DIR": str(home / "state"), "PYTHONPATH": package}
    return {"cwd": home / "work" / "here", "env": environment, "text": True}


def demo(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(command(*arguments), capture_output=True, timeout=SECONDS, check=False, **surroundings(home))


def left_behind(home: Path) -> list[str]:
    """What is in the directory for temporary files, and which processes were started for it."""
    return [*map(str, (home / "tmp").iterdir()), *processes_about(str(home))]


def processes_about(text: str) -> list[str]:
    """The command lines of all processes whose arguments or environment name `text`, but for this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            facts = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue  # it ended meanwhile, or is somebody else's
        if text.encode() in facts and folder.name != str(os.getpid()):
            found.append(f"{folder.name} {(folder / 'cmdline').read_bytes()!r}")
    return found


def test_it_verifies_everything_and_leaves_nothing(home: Path) -> None:
    """On its own server it exits 0 with the table, the killed worker's turn finished, and nothing left behind."""
    done = demo(home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verified: 8 runs" in done.stdout
    for operation in ("preserve", "restore", "handoff"):
        assert re.search(rf"^{operation} +\d+ +[\d.]+ +[\d.]+ +[\d.]+  .*(yes|NO)$", done.stdout, re.MULTILINE)
    assert re.search(r"kill -9 +\w+ \(\d+\) in the middle of turn \d+ of run \d", done.stdout)
    assert re.search(r"\w+ finished that turn \(turn \d+ of run \d\)", done.stdout)
    assert re.search(r"^> HGETALL lukhas:\{demo\}:ctx:[0-9a-f-]{36}$", done.stdout, re.MULTILINE)
    assert left_behind(home) == []
    assert not (home / "state").exists()


def test_it_is_readable_without_a_terminal(home: Path) -> None:
    """Into a pipe it writes no control character, and what it says fits into 80 columns."""
    done = demo(home)
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    story = [line for line in done.stdout.splitlines() if "/" not in line]  # paths are as long as they are
    assert max(map(len, story)) <= 80
    assert re.search(r"^  \d+ of 488 turns", done.stderr, re.MULTILINE)


def test_json_is_all_there_is_on_stdout(home: Path) -> None:
    """With `-o json` stdout is one document that says it was verified, how long each operation took, and who died."""
    done = demo(home, "-o", "json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["verified"], report["faults"]) == (0, True, [])
    assert [one["operation"] for one in report["latencies"]] == ["preserve", "restore", "handoff"]
    assert all(one["count"] > 0 for one in report["latencies"])
    assert report["killed"] in {owner for _, _, owner, _ in report["takeovers"]}


def test_another_server_is_used_and_left_as_it_was(home: Path, server: RunningServer) -> None:
    """With `--url` it works there under a tenant of its own, of which no key is left at the end."""
    admin = server.client()
    before = set(admin.scan_iter("lukhas*"))
    done = demo(home, "--url", server.url)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"tenant (demo-[0-9a-f]{8})", done.stdout)
    assert found is not None
    # A worker that was killed may leave a payload on its way, which goes by itself within a minute.
    left = {key for key in admin.scan_iter(f"*{found[1]}*") if b":stage:" not in key}
    assert left == set()
    assert set(admin.scan_iter("lukhas*")) - before <= {b"lukhas:help"}
    assert left_behind(home) == []


def test_kept_it_can_be_looked_at_with_the_commands_it_prints(home: Path) -> None:
    """With `--keep` the server stays, and what is printed works when pasted into a shell, to the line that ends it."""
    done = demo(home, "--keep")
    (directory,) = (home / "tmp").iterdir()
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        server = status(state_dir=directory)
        assert server is not None
        assert f"export LUKHAS_URL={server.url} LUKHAS_TENANT=demo" in done.stdout
        printed = done.stdout.split("to look further\n")[1].split("\n\n")[0]
        pasted = subprocess.run(
            ["sh", "-ex"], input=printed, capture_output=True, timeout=SECONDS, check=False, **surroundings(home)
        )
        assert pasted.returncode == 0, pasted.stdout + pasted.stderr
        assert printed.count("lukhas ") == 4
        assert pasted.stdout.count("run-7") >= 2  # in the list and in the context
        assert left_behind(home) == []
    finally:
        stop(state_dir=directory)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_cleans_up(home: Path, number: signal.Signals) -> None:
    """Ctrl-C or a request to end, in the middle of the relay: exit code 130, nothing left behind."""
    with subprocess.Popen(command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, **surroundings(home)) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if "workers" in line:
                break
        running.send_signal(number)
        said, _ = running.communicate(timeout=SECONDS)
    assert (running.returncode, said.splitlines()[-1]) == (130, "interrupted; everything was cleaned up")
    assert left_behind(home) == []


def test_killed_it_takes_workers_and_server_along(home: Path) -> None:
    """After kill -9 of the demo itself its workers notice, stop its server, remove its files and end."""
    with subprocess.Popen(
        command(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **surroundings(home)
    ) as running:
        assert running.stdout is not None
        said: list[str] = []
        for line in running.stdout:
            said.append(line.strip())
            if "kill -9" in line:
                break
        running.kill()
        running.wait()
    (url,) = [line for line in said if line.startswith("unix://")]
    socket = Path(url.removeprefix("unix://"))
    wait_until(lambda: left_behind(home) == [] and not socket.parent.exists(), timeout=20)


def test_a_server_that_is_not_there_is_an_error_of_its_own(home: Path) -> None:
    """A URL where nobody listens: one line, the exit code of an unreachable server, nothing left behind."""
    done = demo(home, "--url", f"unix://{home}/nobody.sock")
    assert done.returncode == 5
    assert f"{home}/nobody.sock" in done.stdout
    assert left_behind(home) == []


def test_it_reads_recorded_runs_beside_the_current_directory(home: Path) -> None:
    """Runs found in the shared folder are used instead of the shipped one."""
    folder = (home / "work" / "here" / RECORDED_RUNS).resolve()
    folder.mkdir(parents=True)
    messages = [{"role": "user", "content": f"message {number} ä€😀"} for number in range(9)]
    (folder / "tiny.json").write_text(json.dumps({"history": messages}), encoding="utf-8")
    done = demo(home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verified: 8 runs, 72 messages" in done.stdout
    assert "7 tiny" in done.stdout
