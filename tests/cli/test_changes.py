"""append, patch, lease, renew, release: changing a part of a context by hand, and who may."""

from __future__ import annotations

from os import urandom
from uuid import uuid4

import pytest

from lukhas_redis import ContextStore
from lukhas_redis.errors import LeaseHeld, LeaseLost
from lukhas_redis.models import Lease
from lukhas_redis.testing import RunningServer, assert_same, dump, wait_until
from tests.cli.running import Lukhas, run_process


def test_append_adds_to_the_list(lukhas: Lukhas, store: ContextStore) -> None:
    """The items of a JSON array stand at the end of the list at the pointer; what else is there keeps its types."""
    kept = store.preserve("s1", {"messages": [b"\xff"], "plan": {"done": []}})
    done = lukhas.json("append", kept.context_id, "/messages", '[{"role": "user"}, 7]')
    assert (done["context_id"], done["version"], done["dry_run"]) == (kept.context_id, 2, False)
    ran = lukhas("append", kept.context_id, "/plan/done", '["a"]', "--if-version", "2")
    assert ran.out == f"appended 1 items to /plan/done: {kept.context_id} version 3\n"
    assert store.restore(kept.context_id).data == {"messages": [b"\xff", {"role": "user"}, 7], "plan": {"done": ["a"]}}


def test_patch_merges(lukhas: Lukhas, store: ContextStore) -> None:
    """As RFC 7396 says: null deletes, objects are merged, all else is replaced."""
    kept = store.preserve("s1", {"a": 1, "b": {"c": 1, "d": 2}, "raw": b"\xff"})
    assert lukhas.json("patch", kept.context_id, '{"a": null, "b": {"c": [1]}}')["version"] == 2
    ran = lukhas("patch", kept.context_id, '{"e": 5}', "--if-version", "2")
    assert ran.out == f"patched 1 keys: {kept.context_id} version 3\n"
    assert store.restore(kept.context_id).data == {"b": {"c": [1], "d": 2}, "raw": b"\xff", "e": 5}


@pytest.mark.parametrize(
    "words",
    [
        ["append", "ID", "/list", "[1]", "--dry-run"],
        ["patch", "ID", '{"a": 1}', "--dry-run"],
        ["lease", "ID", "ann", "--dry-run"],
    ],
)
def test_a_dry_run_changes_nothing(
    lukhas: Lukhas, store: ContextStore, server: RunningServer, tenant: str, words: list[str]
) -> None:
    """`--dry-run` answers with the same names, marked, and not a key is changed."""
    kept = store.preserve("s1", {"list": []})
    words = [kept.context_id if word == "ID" else word for word in words]
    with server.client() as client:
        before = dump(client, prefix=f"lukhas:{{{tenant}")
        assert lukhas.json(*words)["dry_run"] is True
        assert lukhas(*words).out.startswith(f"would {words[0]} ")
        assert_same(before, dump(client, prefix=f"lukhas:{{{tenant}"))


@pytest.mark.parametrize(
    "words, code",
    [
        (["append", "ID", "/list", "{}"], 2),
        (["append", "ID", "/list", "[]"], 2),
        (["append", "ID", "/list", "[1"], 2),
        (["append", "ID", "list", "[1]"], 2),
        (["append", "ID", "/nowhere", "[1]"], 2),
        (["patch", "ID", "[1]"], 2),
        (["patch", "ID", "NaN"], 2),
        (["patch", "ID", '{"a": 1}', "--lease", "0"], 2),
        (["lease", "ID", "bad owner"], 2),
        (["lease", "ID", "ann", "--ttl", "0"], 2),
        (["append", "ID", "/list", "[1]", "--if-version", "7"], 4),
        (["patch", "ID", '{"a": 1}', "--lease", "7"], 4),
        (["renew", "ID", "7"], 4),
        (["release", "ID", "7"], 4),
        (["release", "ID", "--yes"], 3),
        (["append", str(uuid4()), "/list", "[1]"], 3),
        (["patch", str(uuid4()), '{"a": 1}'], 3),
        (["lease", str(uuid4()), "ann"], 3),
    ],
)
def test_what_is_refused(lukhas: Lukhas, store: ContextStore, words: list[str], code: int) -> None:
    """Each refusal has its exit code, an empty stdout, and leaves the version as it was."""
    kept = store.preserve("s1", {"list": []})
    ran = lukhas(*[kept.context_id if word == "ID" else word for word in words])
    assert (ran.code, ran.out) == (code, ""), ran.err
    assert len(ran.err.splitlines()) <= 3
    assert store.metadata(kept.context_id).version == 1


def test_lease_renew_release(lukhas: Lukhas, store: ContextStore) -> None:
    """With the token that `lease` prints its holder writes, renews and releases; nobody else writes meanwhile."""
    kept = store.preserve("s1", {"list": []})
    held = lukhas.json("lease", kept.context_id, "ann", "--ttl", "30")
    assert (held["context_id"], held["owner"], held["dry_run"]) == (kept.context_id, "ann", False)
    refused = lukhas("append", kept.context_id, "/list", "[1]", "-o", "json")
    assert (refused.code, refused.error["code"], refused.error["fields"]["owner"]) == (4, "LEASE_HELD", "ann")
    token = str(held["token"])
    assert lukhas("append", kept.context_id, "/list", "[1]", "--lease", token).code == 0
    assert lukhas("patch", kept.context_id, '{"a": 1}', "--lease", token).code == 0
    renewed = lukhas.json("renew", kept.context_id, token, "--ttl", "600")
    assert (renewed["token"], renewed["owner"]) == (held["token"], "ann")
    assert renewed["until_ms"] > held["until_ms"]
    assert lukhas("renew", kept.context_id, token).out.startswith(f"renewed {kept.context_id} to ann until ")
    assert lukhas("release", kept.context_id, token).out == f"released {kept.context_id}, token {token}\n"
    assert lukhas("append", kept.context_id, "/list", "[2]", "--lease", token).code == 4
    assert store.restore(kept.context_id).data == {"list": [1], "a": 1}


def test_the_lease_of_a_dead_worker_is_ended(lukhas: Lukhas, server: RunningServer, store: ContextStore) -> None:
    """`release` without a token ends whoever's lease it is, but only with --yes where nobody can be asked."""
    kept = store.preserve("s1", {"list": []})
    held = store.lease(kept.context_id, "worker-7", 600)
    ran = run_process("release", kept.context_id, "--url", server.url, "--tenant", store.tenant)
    assert (ran.code, ran.out) == (2, "")
    assert "worker-7" in ran.err
    assert lukhas("release", kept.context_id, "--dry-run").out.startswith("would release")
    with pytest.raises(LeaseHeld):
        store.append(kept.context_id, "/list", [1])
    ended = lukhas.json("release", kept.context_id, "--yes")
    assert ended == {"context_id": kept.context_id, "token": held.token, "dry_run": False}
    store.append(kept.context_id, "/list", [1])
    with pytest.raises(LeaseLost):
        store.append(kept.context_id, "/list", [2], lease=held)


def test_show_and_ls_tell_of_parts_and_leases(lukhas: Lukhas, store: ContextStore) -> None:
    """The number of parts, the chain, and who holds the context until when; None and 0 where there is nothing."""
    kept = store.preserve("s1", {"list": []})
    (plain,) = lukhas.json("ls")
    assert (plain["segments"], plain["appended_bytes"], plain["lease"]) == (0, 0, None)
    assert "leased      no" in lukhas("show", kept.context_id).out
    store.append(kept.context_id, "/list", [1])
    held = store.lease(kept.context_id, "ann", 600)
    known = store.metadata(kept.context_id)
    for shown in (lukhas.json("show", kept.context_id)["metadata"], lukhas.json("ls")[0]):
        assert (shown["segments"], shown["appended_bytes"], shown["chain"]) == (1, known.appended_bytes, known.chain)
        assert shown["lease"] == {"owner": "ann", "token": held.token, "until_ms": held.until_ms}
    out = lukhas("show", kept.context_id).out
    assert f"appended    1 parts, {known.appended_bytes} B" in out
    assert "leased      by ann until 2" in out
    assert f"token {held.token}" in out
    assert "(of the body alone)" in out


def test_show_folds_nothing(lukhas: Lukhas, store: ContextStore, server: RunningServer, tenant: str) -> None:
    """`show --data` of a context that is due for folding has all the data and leaves every key as it was."""
    kept = store.preserve("s1", {"list": []})
    for _ in range(8):
        store.append(kept.context_id, "/list", [urandom(3000)])
    with server.client() as client:
        before = dump(client, prefix=f"lukhas:{{{tenant}")
        assert len(lukhas.json("show", kept.context_id, "--data")["data"]["list"]) == 8
        raw = lukhas("show", kept.context_id, "--raw")
        assert raw.raw == client.get(f"lukhas:{{{tenant}}}:body:{kept.context_id}")
        assert "8 parts" in raw.err
        assert_same(before, dump(client, prefix=f"lukhas:{{{tenant}"))


def test_a_leased_context_expires(lukhas: Lukhas, store: ContextStore) -> None:
    """A lease that would last longer than its context does not keep it; both end, with the reason told."""
    kept = store.preserve("s1", {}, ttl=1)
    held = store.lease(kept.context_id, "ann", 600)
    wait_until(lambda: lukhas("show", kept.context_id).code == 3, what="the context has expired")
    gone = lukhas("renew", kept.context_id, str(held.token), "-o", "json")
    assert (gone.code, gone.error["code"]) == (3, "CONTEXT_EXPIRED")


def test_a_lease_that_ended_is_not_shown(lukhas: Lukhas, store: ContextStore) -> None:
    """A released lease is gone from `show`."""
    kept = store.preserve("s1", {})
    held: Lease = store.lease(kept.context_id, "ann", 600)
    store.release(held)
    assert lukhas.json("show", kept.context_id)["metadata"]["lease"] is None
