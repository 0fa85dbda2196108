"""The edges: exit codes, messages, passwords, pipes, terminals, missing packages, start-up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from lukhas_redis import ContextStore
from lukhas_redis.cli.app import COMMANDS, run
from lukhas_redis.cli.failures import likely_cause
from lukhas_redis.testing import RunningServer, free_port
from tests.cli.running import COMMAND, Lukhas, run_process

NO_SUCH = "8b6bb1a4-4cc4-4d44-9c0a-2f5d3d1f0c11"


def imported_by(*words: str) -> set[str]:
    """The modules that a command line has imported when it ends."""
    program = (
        "import sys; from lukhas_redis.cli import main\n"
        f"try: main({list(words)!r})\n"
        "finally: print('\\n' + ' '.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["nonsense"]])
def test_help_and_version_import_little(words: list[str]) -> None:
    """`--help`, `--version` and a mistyped command import no redis, pydantic, rich or command."""
    modules = imported_by(*words)
    assert not modules & {"redis", "pydantic", "pydantic_settings", "rich", "msgpack", "lz4", "prometheus_client"}
    assert not modules & {place.partition(":")[0] for place, _ in COMMANDS.values()}
    assert "click" in modules


def test_a_command_imports_its_own_module_only() -> None:
    """Running one command imports no other command, and no rich without a terminal."""
    modules = imported_by("config", "show")
    others = {place.partition(":")[0] for name, (place, _) in COMMANDS.items() if name != "config"}
    assert "lukhas_redis.cli.config" in modules
    assert not modules & (others | {"rich", "redis"})


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_explains_itself(name: str, bare: Lukhas) -> None:
    """Each command of the list can be imported, has a `--help` of its own and takes the shared options."""
    ran = bare(name, "--help")
    assert ran.code == 0
    assert f"lukhas {name}" in ran.out
    assert "--url" in ran.out
    assert COMMANDS[name][1] in bare("--help").out


def test_version_is_that_of_the_package(bare: Lukhas) -> None:
    """`--version` prints the version of the package, and `python -m lukhas_redis` is the same command."""
    import lukhas_redis

    assert bare("--version").out == f"lukhas {lukhas_redis.__version__}\n"
    assert run_process("--version").out == bare("--version").out


@pytest.mark.parametrize(
    "words",
    [["ls", "--limit", "x"], ["nonsense"], ["show"], ["ls", "--nonsense"], ["-o", "yaml", "ls"], ["flags", "x"]],
)
def test_usage_errors_are_exit_2(bare: Lukhas, words: list[str]) -> None:
    """What cannot be understood exits 2 with one message and the help to read, as JSON when asked."""
    ran = bare(*words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("lukhas: ")
    assert "--help" in ran.err.splitlines()[-1]
    if "yaml" not in words:
        found = bare(*words, "-o", "json").error
        assert (found["code"], found["exit_code"]) == ("USAGE", 2)


def test_nothing_to_do_shows_the_help(bare: Lukhas) -> None:
    """`lukhas` and `lukhas flags` alone show their help and exit 2."""
    for words in ([], ["flags"]):
        ran = bare(*words)
        assert ran.code == 2
        assert "Usage:" in ran.err


@pytest.mark.parametrize(
    "words, code",
    [
        (["show", "no-uuid"], 2),
        (["ls", "--tenant", "bad name"], 2),
        (["ls", "--url", "http://x"], 2),
        (["ls", "--config", "/nowhere.toml"], 2),
        (["show", NO_SUCH], 3),
        (["flags", "get", "nothing"], 3),
        (["functions", "verify"], 1),
    ],
)
def test_exit_codes_of_refusals(lukhas: Lukhas, server: RunningServer, words: list[str], code: int) -> None:
    """Each class of error has its exit code and one line on stderr, or one JSON object; stdout stays empty."""
    server.command("FUNCTION", "FLUSH")
    ran = lukhas(*words)
    assert ran.code == code
    assert "Traceback" not in ran.err
    if words != ["functions", "verify"]:
        assert ran.out == ""
        assert len(ran.err.splitlines()) <= 3
        assert lukhas(*words, "-o", "json").error["exit_code"] == code


def test_conflict_is_exit_4(lukhas: Lukhas, store: ContextStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A context that changes between the question and the answer is not dropped: exit 4."""
    from lukhas_redis.cli.frame import Session

    kept = store.preserve("s1", {})

    def change_meanwhile(_session: Session, _question: str, *, yes: bool) -> None:
        store.handoff(kept.context_id, "a", "b")

    monkeypatch.setattr(Session, "confirm", change_meanwhile)
    ran = lukhas("rm", kept.context_id, "-o", "json")
    assert (ran.code, ran.error["code"]) == (4, "CONTEXT_CONFLICT")
    assert store.metadata(kept.context_id).owner == "b"


def test_unreachable_is_exit_5_with_a_diagnosis(bare: Lukhas) -> None:
    """An unreachable server exits 5 and says what was tried, the likely cause and the next step; no password."""
    url = f"redis://ann:hunter2@127.0.0.1:{free_port()}"
    ran = bare("--url", url, "ls")
    assert ran.code == 5
    what, tried, step = ran.err.splitlines()
    assert "refused" in what
    assert "redis://ann:***@127.0.0.1" in tried
    assert "(from --url)" in tried
    assert "is the server started" in step
    found = bare("--url", url, "ls", "-o", "json")
    assert found.error["retryable"] is True
    assert "hunter2" not in ran.err + found.err


@pytest.mark.parametrize(
    "message, cause",
    [
        ("cannot connect to x:1: Error 111 connecting to x:1. Connection refused.", "is the server started"),
        ("cannot connect to /no/s: Error 2 connecting to unix:/no/s. No such file or directory.", "no such socket"),
        ("cannot connect to db-2:1: Error -2 connecting to db-2:1. Name or service not known.", "host name"),
        ("cannot connect to db-2:6379: Timeout connecting to server: timed out", "does not answer"),
        ("cannot connect to x:1: [SSL: WRONG_VERSION_NUMBER] wrong version number", "encryption"),
        ("x:1: the connection broke while replies were due: closed by the server", "rediss://"),
        ("ERR max number of clients reached", "maxclients"),
    ],
)
def test_likely_causes(message: str, cause: str) -> None:
    """The messages that connections fail with point to what people can check."""
    assert cause in likely_cause(message)


def test_denied_is_exit_6(server: RunningServer, bare: Lukhas) -> None:
    """Wrong credentials exit 6, and neither stream has the password."""
    ran = bare("ls", "--url", f"redis://nobody:hunter2@{server.host}:{server.port}", "-o", "json")
    assert ran.code == 6
    assert ran.error["type"] == "AccessDenied"
    assert "hunter2" not in ran.out + ran.err


def test_no_password_in_a_usage_error(bare: Lukhas) -> None:
    """A URL typed in the wrong place is not echoed with its password."""
    for more in ([], ["-o", "json"]):
        ran = bare("redis://ann:hunter2@localhost", *more)
        assert ran.code == 2
        assert "hunter2" not in ran.err


def test_config_show_says_where_values_come_from(bare: Lukhas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`config show --origin` names default, file, environment and option; passwords are masked; no server is needed."""
    file = tmp_path / "lukhas.toml"
    file.write_text("max_depth = 7\n")
    monkeypatch.setenv("LUKHAS_SHARDS", "4")
    words = ["config", "show", "--config", str(file), "--url", "redis://ann:hunter2@h"]
    shown = bare.json(*words, "--origin")
    assert shown["max_depth"] == {"value": 7, "origin": f"file {file}"}
    assert shown["shards"] == {"value": 4, "origin": "environment LUKHAS_SHARDS"}
    assert shown["url"] == {"value": "redis://ann:***@h", "origin": "argument"}
    assert shown["tenant"] == {"value": "default", "origin": "default"}
    assert bare.json(*words)["max_depth"] == 7
    plain, table = bare(*words).out, bare(*words, "--origin").out
    assert "hunter2" not in plain + table
    assert "environment LUKHAS_SHARDS" in table
    monkeypatch.setenv("LUKHAS_CONFIG", str(file))
    assert bare.json("config", "show", "--origin")["max_depth"]["origin"] == f"file {file}"


@pytest.mark.parametrize("words", [["functions", "show", "--source"], ["ls", "--limit", "0"]])
def test_a_closed_pipe_is_silent(server: RunningServer, store: ContextStore, words: list[str]) -> None:
    """When the reader goes away (`| head`), the command ends without a word."""
    store.preserve_many([{"session_id": f"s{n}", "data": {}} for n in range(300)])
    command = [*COMMAND, *words, "--url", server.url, "--tenant", store.tenant]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_without_click_one_line_names_the_extra() -> None:
    """A missing click is one line with the command that installs it, and no traceback."""
    program = "import sys; sys.modules['click'] = None; from lukhas_redis.cli import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'lukhas_redis[cli]'" in done.stderr


def test_errors_are_json_whatever_they_hold(lukhas: Lukhas) -> None:
    """An error's object on stderr is one line with stable names."""
    error = lukhas("show", str(uuid4()), "-o", "json").error
    assert set(error) == {"code", "type", "message", "exit_code", "retryable", "hint", "tried", "fields"}


def test_run_returns_what_main_returns(capsys: pytest.CaptureFixture[str]) -> None:
    """The entry point of the wheel returns the exit code as a number."""
    assert run(["config", "show", "-o", "json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["tenant"] == "default"
