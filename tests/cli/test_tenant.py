"""stats, flags, sweep, check, repair: what people see and change of a tenant."""

from __future__ import annotations

import signal
import subprocess

import pytest

from lukhas_redis import ContextStore
from lukhas_redis.errors import TenantPaused
from lukhas_redis.keys import KeySpace
from lukhas_redis.testing import RunningServer, wait_until
from tests.cli.running import COMMAND, Lukhas


def test_stats_as_json_and_as_a_table(lukhas: Lukhas, store: ContextStore) -> None:
    """`stats` shows what the store counts, in both forms."""
    store.preserve("s1", {"n": 1})
    found, shown = store.stats(), lukhas.json("stats")
    assert {name: shown[name] for name in ("tenant", "live", "bytes", "max_entries", "mode", "pressure")} == {
        "tenant": store.tenant,
        "live": 1,
        "bytes": found.bytes,
        "max_entries": found.max_entries,
        "mode": "live",
        "pressure": found.pressure,
    }
    assert shown["totals"] == {n: v for n, v in found.totals.items() if not n.startswith("rate_")}
    assert "contexts   1 of 5000" in lukhas("stats").out


def test_stats_watch_goes_on_until_interrupted(server: RunningServer, store: ContextStore) -> None:
    """`stats --watch` prints one JSON line a look, with what changed meanwhile, and Ctrl-C ends it quietly with 130."""
    words = ["stats", "--watch", "0.1", "-o", "json", "--url", server.url, "--tenant", store.tenant]
    with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b'"live": 0' in process.stdout.readline()
        store.preserve("s1", {})
        wait_until(lambda: b'"live": 1' in process.stdout.readline(), what="the new context is counted")  # type: ignore[union-attr]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == b""


def test_flags_set_takes_effect_and_is_audited(lukhas: Lukhas, store: ContextStore) -> None:
    """`flags set mode paused` stops other workers' writes, `unset` resumes, and the audit has both with who and why."""
    assert lukhas.json("flags", "set", "mode", "paused", "--reason", "moving", "--by", "ann") == {
        "name": "mode",
        "from": "",
        "to": "paused",
    }
    with pytest.raises(TenantPaused):
        store.preserve("s1", {})
    assert lukhas("flags", "unset", "mode").out == "mode: paused -> default\n"
    store.preserve("s1", {})
    newest, first = lukhas.json("flags", "audit")
    assert (first["flag"], first["to"], first["by"], first["why"]) == ("mode", "paused", "ann", "moving")
    assert (newest["from"], newest["to"]) == ("paused", "")
    assert "@" in newest["by"]
    head, *rows = lukhas("flags", "audit").out.splitlines()
    assert head.split() == ["AT", "FLAG", "FROM", "TO", "BY", "WHY"]
    assert len(rows) == 2


def test_flags_ls_and_get_show_defaults(lukhas: Lukhas, store: ContextStore) -> None:
    """`flags ls` lists mode and limits also when not set, with their defaults; `get` prints one value."""
    store.set_flag("beta", "on")
    store.set_flag("max_entries", "7")
    listed = {row["name"]: row for row in lukhas.json("flags", "ls")}
    assert listed["mode"] == {"name": "mode", "value": "live", "set": False}
    assert listed["max_entries"] == {"name": "max_entries", "value": "7", "set": True}
    assert listed["flag.beta"]["value"] == "on"
    assert lukhas("flags", "get", "beta").out == "on\n"
    assert lukhas("flags", "get", "policy").out == "reject\n"
    assert lukhas.json("flags", "get", "max_entries")["value"] == "7"
    assert "max_entries  7" in lukhas("flags", "ls").out


def test_flags_get_of_nothing_is_exit_3(lukhas: Lukhas) -> None:
    """A feature flag that is not set exits 3."""
    assert lukhas("flags", "get", "nothing").code == 3
    assert lukhas("flags", "get", "nothing", "-o", "json").error["code"] == "NOT_SET"


def test_flags_refuse_what_is_no_flag(lukhas: Lukhas) -> None:
    """A mode nobody knows, a malformed name and an empty value exit 2 and change nothing."""
    for words in (("mode", "sleeping"), ("bad name", "x"), ("mode", "")):
        assert lukhas("flags", "set", *words).code == 2
    assert lukhas.json("flags", "audit") == []


def test_sweep(lukhas: Lukhas, store: ContextStore) -> None:
    """`sweep --dry-run` says what `sweep` then removes; afterwards nothing waits."""
    store.preserve("s1", {}, ttl=1)
    wait_until(lambda: store.stats().expired == 1, what="the context has expired")
    assert lukhas.json("sweep", "--dry-run") == {"removed": 1, "remaining": 0, "dry_run": True}
    assert lukhas("sweep").out == "removed 1, 0 remain\n"
    assert store.stats().expired == 0


def test_check_and_repair(lukhas: Lukhas, store: ContextStore, server: RunningServer) -> None:
    """A body deleted by hand makes `check` exit 1; `repair --dry-run` changes nothing, `repair --yes` mends it."""
    kept = store.preserve("s1", {})
    assert lukhas.json("check")["sound"] is True
    assert lukhas("check").out == "sound\n"
    with server.client() as client:
        client.delete(KeySpace("lukhas", store.tenant).root.body(kept.context_id))
    found = lukhas("check", "-o", "json")
    assert found.code == 1
    assert found.json["faults"] == [{"context_id": kept.context_id, "fault": "lost"}]
    assert kept.context_id in lukhas("check").out
    assert lukhas("repair").code == 2  # nobody can be asked
    assert lukhas.json("repair", "--dry-run")["repaired"] is False
    assert lukhas("check").code == 1
    assert lukhas.json("repair", "--yes")["repaired"] is True
    assert lukhas("check").code == 0
