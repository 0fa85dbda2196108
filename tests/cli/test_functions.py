"""functions and lukhas:help: the verbs for plain redis-cli, on every topology."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from lukhas_redis import ContextStore, Settings
from lukhas_redis.bus import ContextBus
from lukhas_redis.cli.help_text import help_text
from lukhas_redis.functions import library, library_version, verbs
from lukhas_redis.keys import SHARD_KEYS, KeySpace, ShardKeys
from lukhas_redis.scripts import load, script_names
from lukhas_redis.testing import RunningServer
from tests.cli.running import Lukhas
from tests.fix_farm import Topology


@pytest.fixture
def anywhere(topology: Topology, tenant: str, capsysbinary: pytest.CaptureFixture[bytes]) -> Lukhas:
    """`lukhas` for the test's tenant, on every topology; it starts without library and help."""
    for server in _primaries(topology):
        with server.client() as client:
            client.function_flush()
    return Lukhas(capsysbinary, "--url", topology.url, "--tenant", tenant)


def _primaries(topology: Topology) -> list[RunningServer]:
    handle: Any = topology.handle
    if topology.kind == "cluster":
        return list(handle.primaries())
    return [handle.primary() if topology.kind == "sentinel" else handle]


def test_load_verify_and_help_everywhere(anywhere: Lukhas, topology: Topology) -> None:
    """`load` puts the library on every primary and the help where GET finds it; `verify` says 1 before and 0 after."""
    count = len(_primaries(topology))
    missing = anywhere("functions", "verify", "-o", "json")
    assert missing.code == 1
    assert [row["version"] for row in missing.json] == [None] * count
    assert [row["version"] for row in anywhere.json("functions", "load")] == [library_version()] * count
    assert all(row["ok"] for row in anywhere.json("functions", "verify"))
    assert "ok" in anywhere("functions", "verify").out
    for server in _primaries(topology):
        assert server.command("FCALL", "lukhas_version", 0) == library_version().encode()
    with topology.client() as client:
        assert client.get("lukhas:help") == help_text("lukhas").encode()


def test_loading_twice_and_over_another_release(lukhas: Lukhas, server: RunningServer) -> None:
    """A library of another release is reported by `verify` and replaced by `load`, as often as one likes."""
    other = library().replace(library_version(), "0" * 16)
    server.command("FUNCTION", "LOAD", "REPLACE", other)
    found = lukhas("functions", "verify", "-o", "json")
    assert (found.code, found.json[0]["version"]) == (1, "0" * 16)
    lukhas.json("functions", "load")
    lukhas.json("functions", "load")
    assert lukhas("functions", "verify").code == 0


def test_show_lists_verbs_and_source_without_a_server(bare: Lukhas) -> None:
    """`functions show` lists every verb with its key and arguments; `--source` is the library, byte for byte."""
    shown = {verb["name"]: verb for verb in bare.json("functions", "show")}
    assert set(shown) == {f"lukhas_{script.name}" for script in verbs()}
    assert shown["lukhas_extend"]["key"] == "lukhas:{t}:ctx:<id>"
    assert [argument["name"] for argument in shown["lukhas_redrive"]["arguments"]][-1] == "letter"
    assert "ttl_ms" in [argument["name"] for argument in shown["lukhas_extend"]["arguments"]]
    assert bare("functions", "show", "--source").out == library()
    assert "lukhas_set_flag" in bare("functions", "show").out


def test_help_names_every_key_and_every_verb() -> None:
    """Every key of every script, every kind of key that `keys` builds and every verb of the library is in the text."""
    text = help_text("lukhas")
    patterns = {row.pattern.split("}:", 1)[1] for name in script_names() for row in load(name).keys if not row.many}
    described = {line.split("  ")[1] for line in text.splitlines() if line.startswith("  ") and "  " in line[2:]}
    priority = re.compile(r":(critical|high|normal|low)$")
    shapes = {re.sub("<.*?>", "<>", priority.sub(":<>", pattern)) for pattern in patterns}
    assert shapes <= {re.sub("<.*?>", "<>", name) for name in described}
    named = {name.split(":")[0] for name in described}
    built = {name for name, made in vars(ShardKeys).items() if callable(made) and not name.startswith("_")}
    assert {"req" if name == "request" else name for name in built} | SHARD_KEYS <= named
    for script in verbs():
        assert f"lukhas_{script.name} 1 " in text
        assert f"      {script.summary}" in text


def test_help_uses_the_prefix() -> None:
    """Another prefix stands in every key of the text."""
    assert "lukhas:{" not in help_text("acme")
    assert "acme:{default}:index" in help_text("acme")


@pytest.mark.parametrize("part", ["LOOKING", "EXAMPLES"])
def test_every_line_of_the_help_runs(part: str, lukhas: Lukhas, store: ContextStore, server: RunningServer) -> None:
    """Each command that the text shows under LOOKING and EXAMPLES is taken by the server as it stands."""
    kept = store.preserve("s1", {})
    bus = ContextBus(store)
    bus.emit("task.made", {})
    (event,) = bus.read("reviewers")
    bus.ack("reviewers", event)
    lukhas.json("functions", "load")
    section = help_text("lukhas").split(f"\n{part}\n")[1].split("\n\n")[0]
    lines = [re.split(r"  {3,}", line.strip())[0] for line in section.splitlines()]
    assert len(lines) >= 4
    for line in lines:
        line = line.replace("{default}", f"{{{store.tenant}}}").replace("<id>", kept.context_id)
        line = line.replace("<group>", "reviewers").replace("<letter>", event.stream_id)
        server.command(*shlex.split(line))
    assert [entry.why for entry in store.audit()] == (["moving house"] if part == "EXAMPLES" else [])


def test_load_without_the_right_is_exit_6(fresh_server: Any, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """A user who may not load functions gets exit code 6 and the name of the right, and no help key is written."""
    server: RunningServer = fresh_server()
    server.command("ACL", "SETUSER", "reader", "on", ">secret", "~lukhas:*", "+@read", "+@connection", "+fcall")
    url = f"redis://reader:secret@{server.host}:{server.port}"
    ran = Lukhas(capsysbinary, "--url", url)("functions", "load")
    assert ran.code == 6
    assert "function" in ran.err
    assert "secret" not in ran.err
    assert server.command("EXISTS", "lukhas:help") == 0


def test_help_key_is_of_the_configured_prefix() -> None:
    """The key is the one that `keys` names."""
    assert KeySpace(Settings(prefix="acme").prefix, "t").help == "acme:help"
