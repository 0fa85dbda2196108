"""ls, show, rm: what people see of contexts, as a table and as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from lukhas_redis import ContextStore
from lukhas_redis.codec import decode
from lukhas_redis.errors import ContextDropped
from lukhas_redis.keys import KeySpace
from lukhas_redis.testing import RunningServer, assert_same, dump
from tests.cli.running import Lukhas, run_process


def test_ls_lists_what_the_store_lists(lukhas: Lukhas, store: ContextStore) -> None:
    """`ls -o json` is an array, one object per live context with the store's own values, soonest deadline first."""
    late = store.preserve("s1", {"n": 1}, ttl=600)
    soon = store.preserve("s2", {"n": 2}, ttl=60, context_type="session")
    store.handoff(late.context_id, "a", "b")
    listed = lukhas.json("ls")
    assert [one["context_id"] for one in listed] == [soon.context_id, late.context_id]
    assert listed[0]["session_id"] == "s2"
    assert listed[0]["expires_ms"] == soon.expires_ms
    assert listed[1]["owner"] == "b"
    assert listed[1]["version"] == 2
    assert 0 < listed[0]["ttl_left_ms"] <= 60_000


def test_ls_filters_by_session_and_type(lukhas: Lukhas, store: ContextStore) -> None:
    """`--session` and `--type` leave out what does not match."""
    wanted = store.preserve("s1", {}, context_type="session")
    store.preserve("s2", {})
    assert [one["context_id"] for one in lukhas.json("ls", "--session", "s1")] == [wanted.context_id]
    assert [one["context_id"] for one in lukhas.json("ls", "--type", "session")] == [wanted.context_id]
    assert lukhas.json("ls", "--session", "nobody") == []


def test_ls_limits_and_says_so(lukhas: Lukhas, store: ContextStore) -> None:
    """`--limit` bounds the list and stderr says that there is more; 0 lists all of more than one page."""
    store.preserve_many([{"session_id": "s", "data": {"n": n}} for n in range(7)])
    some = lukhas("ls", "--limit", "3", "-o", "json")
    assert len(some.json) == 3
    assert "only the first 3" in some.err
    every = lukhas("ls", "--limit", "0", "-o", "json")
    assert len({one["context_id"] for one in every.json}) == 7
    assert "only" not in every.err


def test_ls_as_a_table(lukhas: Lukhas, store: ContextStore) -> None:
    """The table has a header, whole ids, and no more than one line a context."""
    kept = store.preserve("s1", {"n": 1})
    ran = lukhas("ls")
    head, row = ran.out.splitlines()
    assert head.split()[:4] == ["ID", "SESSION", "TYPE", "OWNER"]
    assert row.split()[:4] == [kept.context_id, "s1", "conversation", "-"]


def test_show_as_json(lukhas: Lukhas, store: ContextStore) -> None:
    """`show -o json` has metadata, hops and the lifecycle document; the data only with `--data`."""
    kept = store.preserve("s1", {"at": datetime(2026, 1, 2, tzinfo=UTC), "raw": b"\xff", "tags": {"b", "a"}})
    store.handoff(kept.context_id, "planner", "coder", metadata={"why": "patch"})
    shown = lukhas.json("show", kept.context_id)
    assert shown["metadata"]["version"] == 2
    assert [(hop["source"], hop["destination"], hop["metadata"]) for hop in shown["hops"]] == [
        ("planner", "coder", {"why": "patch"})
    ]
    assert shown["lifecycle"] == store.lifecycle(kept.context_id).to_dict()
    assert "data" not in shown
    data = lukhas.json("show", kept.context_id, "--data")["data"]
    assert data == {"at": "2026-01-02T00:00:00+00:00", "raw": "/w==", "tags": ["a", "b"]}


def test_show_as_a_table(lukhas: Lukhas, store: ContextStore) -> None:
    """The facts, the handoffs, the lifecycle and, if asked for, the data, each under its name."""
    kept = store.preserve("s1", {"n": 41})
    store.handoff(kept.context_id, "planner", "coder")
    out = lukhas("show", kept.context_id, "--data").out
    assert f"id          {kept.context_id}" in out
    assert "owner       coder" in out
    assert "invariants  hold" in out
    assert "planner  coder" in out
    assert '"n": 41' in out.split("\ndata\n")[1]


def test_show_changes_nothing(lukhas: Lukhas, store: ContextStore, server: RunningServer, tenant: str) -> None:
    """After `show`, `show --data`, `show --raw`, `ls` and `stats` every key is as it was, access times included."""
    kept = store.preserve("s1", {"n": 1})
    prefix = f"lukhas:{{{tenant}"
    with server.client() as client:
        before = dump(client, prefix=prefix)
        for words in (["show", kept.context_id], ["show", kept.context_id, "--data"], ["ls"], ["stats"], ["check"]):
            assert lukhas(*words).code == 0
        assert lukhas("show", kept.context_id, "--raw").code == 0
        assert_same(before, dump(client, prefix=prefix))


def test_show_raw_writes_the_stored_bytes(lukhas: Lukhas, store: ContextStore, server: RunningServer) -> None:
    """`--raw` writes exactly the bytes in Redis, which decode to the data."""
    data = {"text": "x" * 5000}
    kept = store.preserve("s1", data)
    ran = lukhas("show", kept.context_id, "--raw")
    with server.client() as client:
        assert ran.raw == client.get(KeySpace("lukhas", store.tenant).root.body(kept.context_id))
    assert decode(ran.raw, kept.context_id, checksum=kept.checksum, digest=None) == data


def test_damaged_context_can_be_shown_and_copied_but_not_read(
    lukhas: Lukhas, store: ContextStore, server: RunningServer
) -> None:
    """Of a context whose bytes were changed, metadata and raw bytes are shown; `--data` exits 1 and says what to do."""
    kept = store.preserve("s1", {"n": 1})
    with server.client() as client:
        client.setrange(KeySpace("lukhas", store.tenant).root.body(kept.context_id), kept.stored_bytes - 1, b"\x00")
    assert lukhas("show", kept.context_id).code == 0
    assert lukhas("show", kept.context_id, "--raw").raw.endswith(b"\x00")
    ran = lukhas("show", kept.context_id, "--data")
    assert ran.code == 1
    assert "--raw" in ran.err
    assert "Traceback" not in ran.err


def test_rm_drops(lukhas: Lukhas, store: ContextStore) -> None:
    """`rm --yes` drops the context for everybody and prints what it dropped."""
    kept = store.preserve("s1", {"n": 1})
    assert lukhas.json("rm", kept.context_id, "--yes")["context_id"] == kept.context_id
    with pytest.raises(ContextDropped):
        store.restore(kept.context_id)


def test_rm_dry_run_changes_nothing(lukhas: Lukhas, store: ContextStore) -> None:
    """`rm --dry-run` needs no --yes, says what it would drop, and the context stays."""
    kept = store.preserve("s1", {"n": 1})
    ran = lukhas("rm", kept.context_id, "--dry-run")
    assert ran.out.startswith(f"would drop {kept.context_id}")
    assert store.restore(kept.context_id).version == 1


def test_rm_without_a_terminal_asks_nobody(server: RunningServer, store: ContextStore) -> None:
    """Without a terminal and without --yes, `rm` exits 2 at once, names --yes, and drops nothing."""
    kept = store.preserve("s1", {"n": 1})
    ran = run_process("rm", kept.context_id, "--url", server.url, "--tenant", store.tenant)
    assert ran.code == 2
    assert "--yes" in ran.err
    assert ran.out == ""
    assert store.metadata(kept.context_id).version == 1


@pytest.mark.parametrize("command", ["show", "rm"])
def test_absent_context_is_exit_3_with_the_reason(lukhas: Lukhas, store: ContextStore, command: str) -> None:
    """A context that never was and one that was dropped both exit 3, each with its own code."""
    gone = store.preserve("s1", {})
    store.drop(gone.context_id)
    never = lukhas(command, str(uuid4()), "-o", "json")
    assert (never.code, never.error["code"], never.raw) == (3, "CONTEXT_NOT_FOUND", b"")
    dropped = lukhas(command, gone.context_id, "-o", "json")
    assert (dropped.code, dropped.error["code"]) == (3, "CONTEXT_DROPPED")


def test_session_names_cannot_drive_the_terminal(lukhas: Lukhas, store: ContextStore) -> None:
    """Characters of a session id that a terminal would obey are written out in tables and kept in JSON."""
    name = "evil\u202etxt\u2066"
    store.preserve(name, {})
    out = lukhas("ls").out
    assert "\\u202e" in out
    assert "\u202e" not in out
    assert lukhas.json("ls")[0]["session_id"] == name


def test_output_option_stands_before_or_after(lukhas: Lukhas, store: ContextStore) -> None:
    """`-o json` works before and after the command's name, and LUKHAS_OUTPUT stands in for it."""
    store.preserve("s1", {})
    before = json.loads(lukhas("-o", "json", "ls").raw)
    assert [one["session_id"] for one in before] == ["s1"]
    assert [one["session_id"] for one in lukhas.json("ls")] == ["s1"]


def test_environment_and_options(server: RunningServer, store: ContextStore) -> None:
    """LUKHAS_URL, LUKHAS_TENANT and LUKHAS_OUTPUT do what the options do; an option wins over them."""
    store.preserve("s1", {})
    env = {"LUKHAS_URL": server.url, "LUKHAS_TENANT": store.tenant, "LUKHAS_OUTPUT": "json"}
    assert [one["session_id"] for one in run_process("ls", **env).json] == ["s1"]
    assert run_process("ls", "--tenant", f"{store.tenant}-x", **env).json == []
    assert run_process("-o", "table", "ls", **env).out.startswith("ID")
