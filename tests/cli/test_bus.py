"""emit, bus, tail --bus: events from the command line, groups, history, replay."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import import_module

import pytest

from lukhas_redis import ContextStore, Settings
from lukhas_redis.bus import ContextBus
from lukhas_redis.bus_models import BusEvent
from lukhas_redis.testing import RunningServer, assert_same, dump
from tests.cli.running import COMMAND, Lukhas, run_process

GROUP = "reviewers"


@pytest.fixture
def bus(store: ContextStore) -> ContextBus:
    """The bus of the test's tenant."""
    return ContextBus(store)


def taken(bus: ContextBus, count: int = 100) -> list[BusEvent]:
    """What the group is given; it stays in hand."""
    return bus.read(GROUP, count=count)


def finished(bus: ContextBus) -> list[BusEvent]:
    """What the group is given, and has then finished."""
    events = taken(bus)
    bus.ack(GROUP, *events)
    return events


def test_emit_with_everything(lukhas: Lukhas, store: ContextStore, bus: ContextBus) -> None:
    """Every option reaches the event that a worker is given."""
    kept = store.preserve("s1", {})
    words = ["--payload", '{"text": "hello", "n": [1, null]}', "--priority", "high", "--key", "k1"]
    done = lukhas.json("emit", "draft.written", *words, "--context", kept.context_id)
    assert set(done) == {"event_id", "stream_id", "due_ms", "dry_run"}
    assert done["event_id"][:4] == kept.context_id[:4]
    (event,) = finished(bus)
    assert (event.event_id, event.event, event.priority) == (done["event_id"], "draft.written", "high")
    assert (event.payload, event.ordering_key) == ({"text": "hello", "n": [1, None]}, "k1")
    ran = lukhas("emit", "draft.written", "--session", "s1")
    (plain,) = finished(bus)
    assert ran.out == f"emitted draft.written: {plain.event_id}\n"
    assert (plain.payload, plain.priority) == ({}, "normal")


def test_emit_reads_its_payload_from_stdin(
    lukhas: Lukhas, bus: ContextBus, monkeypatch: pytest.MonkeyPatch, server: RunningServer
) -> None:
    """`--payload -` takes the object on stdin; what is no text or no object is exit 2 and is not repeated."""
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"from": "a pipe"}'))
    assert lukhas("emit", "a", "--payload", "-").code == 0
    assert [event.payload for event in finished(bus)] == [{"from": "a pipe"}]
    words = [*COMMAND, "emit", "a", "--payload", "-", "--url", server.url, "--tenant", bus.store.tenant]
    for given in (b"\xff\xfe", b"hunter2", b"[1]", b""):
        done = subprocess.run(words, input=given, capture_output=True, check=False, timeout=60)
        assert (done.returncode, done.stdout) == (2, b"")
        assert b"hunter2" not in done.stderr
    assert finished(bus) == []


def test_emit_once(lukhas: Lukhas, bus: ContextBus) -> None:
    """With an idempotency key a repeat brings the first one's id; another event under that key is exit 4."""
    words = ["emit", "a", "--payload", '{"n": 1}', "--idempotency-key", "k"]
    first, again = lukhas.json(*words), lukhas.json(*words)
    assert first["event_id"] == again["event_id"]
    assert len(finished(bus)) == 1
    refused = lukhas("emit", "b", "--idempotency-key", "k", "-o", "json")
    assert (refused.code, refused.error["code"]) == (4, "REQUEST_REUSED")


def test_emit_later(lukhas: Lukhas, bus: ContextBus) -> None:
    """A delayed event waits; the line says until when."""
    ran = lukhas("emit", "a", "--delay", "600")
    assert ", due 2" in ran.out
    assert taken(bus) == []
    assert lukhas.json("bus", "status")["delayed"] == 1


@pytest.mark.parametrize(
    "words, code",
    [
        (["emit", "bad name"], 2),
        (["emit", "a", "--payload", "[]"], 2),
        (["emit", "a", "--payload", "{"], 2),
        (["emit", "a", "--priority", "urgent"], 2),
        (["emit", "a", "--delay", "-1"], 2),
        (["emit", "a", "--delay", "nan"], 2),
        (["emit", "a", "--delay", "1e9"], 2),
        (["emit", "a", "--context", "no-uuid"], 2),
        (["emit", "a", "--idempotency-key", ""], 2),
        (["emit", "a", "--payload", json.dumps({"text": "x" * 70_000})], 2),
        (["bus", "pending", "nobody"], 3),
        (["bus", "pending", "bad name"], 2),
        (["bus", "retire", "nobody"], 3),
        (["bus", "replay", "--group", GROUP], 2),
        (["bus", "replay", "*", "--group", "nobody"], 3),
        (["bus", "history", "--since", "yesterday"], 2),
        (["bus", "history", "--until", "2026-11-23T05:24:41"], 2),
        (["bus", "history", "--limit", "0"], 2),
        (["tail", "--pattern", "a"], 2),
        (["tail", "--bus", "--no-follow", "--pattern", "*****"], 2),
        (["bus", "history", ""], 2),
    ],
)
def test_what_is_refused(lukhas: Lukhas, bus: ContextBus, words: list[str], code: int) -> None:
    """Each refusal has its exit code, at most three lines or one JSON object on stderr, and an empty stdout."""
    bus.emit("a")
    ran = lukhas(*words)
    assert (ran.code, ran.out) == (code, ""), ran.err
    assert len(ran.err.splitlines()) <= 3
    assert lukhas(*words, "-o", "json").error["exit_code"] == code
    assert len(bus.history()) == 1


def test_a_full_bus_and_a_paused_tenant_are_exit_1(
    lukhas: Lukhas, bus: ContextBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Emitting is refused for now, and the hint says what to look at."""
    monkeypatch.setenv("LUKHAS_BUS_MAX_ENTRIES", "2")
    assert taken(bus) == []
    assert [lukhas("emit", "a").code for _ in range(3)] == [0, 0, 1]
    ran = lukhas("emit", "a", "-o", "json")
    assert (ran.error["code"], ran.error["retryable"]) == ("BUS_FULL", True)
    assert "lukhas bus status" in ran.error["hint"]
    assert lukhas("flags", "set", "mode", "paused").code == 0
    assert lukhas("emit", "a", "-o", "json").error["code"] == "PAUSED"


def test_status(lukhas: Lukhas, bus: ContextBus) -> None:
    """What is kept, delayed, emitted; per group what waits, what is in hand and whose it is."""
    empty = lukhas.json("bus", "status")
    assert (empty["groups"], empty["lengths"]["normal"]) == ([], 0)
    assert "GROUP" not in lukhas("bus", "status").out
    for priority in ("critical", "normal", "normal"):
        bus.emit("a", priority=priority)
    bus.emit("later", delay=600)
    taken(bus, 1)
    found = lukhas.json("bus", "status")
    assert found["lengths"] == found["emitted"] == {"critical": 1, "high": 0, "normal": 2, "low": 0}
    assert (found["delayed"], found["dead"], found["lost"], found["tenant"]) == (1, 0, 0, bus.store.tenant)
    (group,) = found["groups"]
    assert (group["name"], group["lag"], group["pending"], group["counts"]["delivered"]) == (GROUP, 2, 1, 1)
    assert list(group["workers"].values()) == [1]
    assert 0 <= group["idle_ms"] < 60_000
    out = lukhas("bus", "status").out
    assert "tenant        " in out
    assert out.splitlines()[-1].split()[:3] == [GROUP, "2", "1"]


def test_groups_and_pending(lukhas: Lukhas, bus: ContextBus) -> None:
    """The names of the groups; what a group has in hand, with whom, and what nobody has."""
    assert lukhas.json("bus", "groups") == []
    assert "no consumer group" in lukhas("bus", "groups").err
    assert taken(bus) == []
    assert "nothing in hand" in lukhas("bus", "pending", GROUP).err
    bus.emit("a", {"n": 1})
    bus.emit("b", {"n": 2})
    first, second = taken(bus)
    assert lukhas.json("bus", "groups") == [GROUP]
    assert lukhas("bus", "groups").out == f"GROUP\n{GROUP}\n"
    bus.retry(GROUP, second, delay=60)
    mine, waiting = lukhas.json("bus", "pending", GROUP)
    assert set(mine) == {"stream_id", "worker", "idle_ms", "deliveries", "event"}
    assert (mine["event"]["event_id"], mine["event"]["payload"], mine["deliveries"]) == (first.event_id, {"n": 1}, 1)
    assert (waiting["event"]["event"], waiting["worker"]) == ("b", "@waiting")
    rows = lukhas("bus", "pending", GROUP).out.splitlines()
    assert rows[1].split()[:3] == [first.event_id, "a", "normal"]
    assert len(lukhas.json("bus", "pending", GROUP, "--limit", "1")) == 1
    bus.ack(GROUP, first)
    assert [one["worker"] for one in lukhas.json("bus", "pending", GROUP)] == ["@waiting"]


def test_history(lukhas: Lukhas, bus: ContextBus) -> None:
    """By pattern, id, correlation, priority and time; the newest, oldest first; a fuller list is offered."""
    ids = [bus.emit(f"a.{n}", {"n": n, "raw": b"\xff"}, correlation_id=f"c{n % 2}").event_id for n in range(4)]
    time.sleep(0.002)  # of two streams, events of one millisecond have no order
    bus.emit("b", priority="low")
    found = lukhas.json("bus", "history", "a.*")
    assert [one["event_id"] for one in found] == ids
    assert found[3]["payload"] == {"n": 3, "raw": "/w=="}
    assert [one["event_id"] for one in lukhas.json("bus", "history", "--correlation", "c1")] == ids[1::2]
    assert [one["event"] for one in lukhas.json("bus", "history", "--priority", "low")] == ["b"]
    assert [one["event_id"] for one in lukhas.json("bus", "history", "--id", ids[2])] == [ids[2]]
    assert len(lukhas.json("bus", "history", "--since", "1h")) == 5
    assert lukhas.json("bus", "history", "--until", "1h") == []
    long_ago = datetime(2020, 1, 1, tzinfo=UTC).isoformat()
    assert len(lukhas.json("bus", "history", "--since", long_ago)) == 5
    assert lukhas.json("bus", "history", "--until", long_ago) == []
    ran = lukhas("bus", "history", "--limit", "2")
    assert [line.split()[2] for line in ran.out.splitlines()] == ["EVENT", "a.3", "b"]
    assert "only the newest 2" in ran.err
    assert "no event" in lukhas("bus", "history", "nothing").err


def test_history_says_when_it_looked_at_a_part_only(
    lukhas: Lukhas, bus: ContextBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not say that there is no such event when there may be one further back."""
    monkeypatch.setattr(import_module("lukhas_redis.ops.bus.history"), "LOOKED_AT", 100)
    for name in ("old", *["a"] * 100):
        bus.emit(name)
    ran = lukhas("bus", "history", "old", "-o", "json")
    assert (ran.code, ran.json) == (0, [])
    assert "events of a priority were looked at" in ran.err
    assert "no event" not in ran.err
    assert "looked at" not in lukhas("bus", "history", "a").err


def test_replay(lukhas: Lukhas, bus: ContextBus) -> None:
    """What fits is given to the group once more, oldest first, each once however often it was given before."""
    ids = [bus.emit("a" if n < 3 else "b", {"n": n}).event_id for n in range(4)]
    assert len(finished(bus)) == 4
    dry = lukhas.json("bus", "replay", "a", "--group", GROUP, "--dry-run")
    assert dry == {"group": GROUP, "matching": 3, "given": 3, "dry_run": True}
    assert taken(bus) == []
    assert lukhas.json("bus", "replay", "a", "--group", GROUP)["given"] == 3
    assert [event.event_id for event in finished(bus)] == ids[:3]
    assert lukhas("bus", "replay", "--id", ids[0], "--group", GROUP).out == f"gave 1 of 1 events to {GROUP} once more\n"
    assert [event.event_id for event in finished(bus)] == ids[:1]
    assert lukhas.json("bus", "replay", "--since", "1h", "--group", GROUP)["given"] == 4
    assert [event.event_id for event in finished(bus)] == ids
    assert lukhas.json("bus", "replay", "--until", "1h", "--group", GROUP)["matching"] == 0


def test_retire(lukhas: Lukhas, bus: ContextBus) -> None:
    """A group with unfinished events stays, exit 4, until it is forced; then it is gone, and that is exit 3."""
    bus.emit("a")
    taken(bus)
    refused = lukhas("bus", "retire", GROUP, "-o", "json")
    assert (refused.code, refused.error["code"], refused.error["fields"]) == (4, "GROUP_PENDING", {"unfinished": 1})
    assert lukhas("bus", "retire", GROUP, "--force", "--dry-run").out.startswith(f"would retire {GROUP}, 1 event")
    assert bus.groups() == [GROUP]
    done = lukhas.json("bus", "retire", GROUP, "--force")
    assert done == {"group": GROUP, "existed": True, "unfinished": 1, "dry_run": False}
    assert bus.groups() == []
    assert lukhas("bus", "retire", GROUP, "--force").code == 3


def test_trim(lukhas: Lukhas, bus: ContextBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished events older than the history are forgotten; others stay."""
    monkeypatch.setenv("LUKHAS_BUS_HISTORY_SECONDS", "0")
    bus.emit("a")
    finished(bus)
    bus.emit("b")
    assert lukhas.json("bus", "trim", "--dry-run") == {"events": 1, "workers": 0, "dry_run": True}
    assert lukhas("bus", "trim").out == "forgot 1 events and 0 workers\n"
    assert [event.event for event in bus.history()] == ["b"]


@pytest.mark.parametrize(
    "words",
    [
        ["emit", "a", "--dry-run"],
        ["emit", "a", "--key", "k", "--delay", "5", "--idempotency-key", "i", "--dry-run"],
        ["bus", "status"],
        ["bus", "groups"],
        ["bus", "pending", GROUP],
        ["bus", "history"],
        ["bus", "replay", "*", "--group", GROUP, "--dry-run"],
        ["bus", "retire", GROUP, "--force", "--dry-run"],
        ["bus", "trim", "--dry-run"],
        ["tail", "--bus", "--no-follow", "--since", "all"],
    ],
)
def test_looking_and_dry_runs_change_nothing(
    lukhas: Lukhas, bus: ContextBus, server: RunningServer, words: list[str]
) -> None:
    """What only looks, and what only says, leaves every key, group, worker and pending entry as it was."""
    # With keys the records of these requests outlast the test.
    bus.emit("a", {"n": 1}, idempotency_key="1")
    bus.emit("b", priority="low", ordering_key="k", idempotency_key="2")
    bus.emit("c", delay=600, idempotency_key="3")
    taken(bus, 1)
    with server.client() as client:
        before = dump(client, prefix=f"lukhas:{{{bus.store.tenant}")
        for more in ([], ["-o", "json"]):
            ran = lukhas(*words, *more)
            assert ran.code == 0, ran.err
        assert_same(before, dump(client, prefix=f"lukhas:{{{bus.store.tenant}"))


def test_a_tenant_in_dry_run_is_told_so(lukhas: Lukhas, bus: ContextBus) -> None:
    """Without `--dry-run`, too, the answer is marked when the tenant is in dry run."""
    bus.emit("a")
    finished(bus)
    assert lukhas("flags", "set", "mode", "dry_run").code == 0
    assert lukhas.json("emit", "b")["dry_run"] is True
    assert lukhas.json("bus", "replay", "*", "--group", GROUP)["dry_run"] is True
    assert lukhas("bus", "replay", "*", "--group", GROUP).out.startswith("would give 1 of 1 events")
    assert lukhas.json("bus", "retire", GROUP)["dry_run"] is True
    assert bus.groups() == [GROUP]


def test_tail_of_the_bus(lukhas: Lukhas, bus: ContextBus) -> None:
    """The last ten, or as told; of every priority in the order in which they came; only what fits the patterns."""
    names = [f"{'ab'[n % 2]}.{n}" for n in range(12)]
    for n, name in enumerate(names):
        bus.emit(name, {"n": n}, priority=("low", "critical", "normal")[n % 3])
        time.sleep(0.002)  # of two streams, events of one millisecond have no order
    tail = ["tail", "--bus", "--no-follow", "-o", "json"]
    found = lukhas(*tail).lines
    assert [one["event"] for one in found] == names[2:]
    assert set(found[0]) == set(lukhas.json("bus", "history")[0])
    assert [one["event"] for one in lukhas(*tail, "--since", "1h", "--pattern", "a.*").lines] == names[::2]
    assert [one["event"] for one in lukhas(*tail, "--pattern", "a.0", "--pattern", "b.1").lines] == names[:2]
    assert lukhas(*tail, "--pattern", "[ab].0").out == ""
    assert [one["event"] for one in lukhas(*tail, "--since", found[-3]["stream_id"]).lines] == names[-2:]
    assert len(lukhas(*tail, "--limit", "3").lines) == 3
    (line,) = lukhas("tail", "--bus", "--no-follow", "--limit", "1").out.splitlines()
    assert line.split()[1:] == [found[-1]["priority"], "b.11", found[-1]["event_id"]]


def test_tail_and_replay_over_shards_and_pages(
    server: RunningServer, tenant: str, lukhas: Lukhas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several shards and more than a page of each: none is missing, none comes twice."""
    monkeypatch.setattr("lukhas_redis.cli.bus_reader._PAGE", 7)
    with ContextStore.connect(server.url, tenant=tenant, settings=Settings(metrics=False, shards=3)) as store:
        bus = ContextBus(store)
        ids = [bus.emit("a", {"n": n}, session_id=f"s{n}", priority="low").event_id for n in range(60)]
        ids += [bus.emit("a", session_id=f"s{n}").event_id for n in range(40)]
        found = lukhas("tail", "--bus", "--no-follow", "--since", "all", "-o", "json").lines
        assert len(found) == 100
        assert {one["event_id"] for one in found} == set(ids)
        while finished(bus):
            pass
        assert lukhas.json("bus", "replay", "a", "--group", GROUP)["given"] == 100


@pytest.mark.faults
def test_tail_of_the_bus_follows_through_a_restart(tenant: str, fresh_server: object) -> None:
    """Events emitted while it follows are printed, also those after the server was away; it joins no group."""
    server: RunningServer = fresh_server(config={"appendonly": "yes"})  # type: ignore[operator]
    words = ["tail", "--bus", "-o", "json", "--interval", "0.05", "--url", server.url, "--tenant", tenant]
    with (
        ContextStore.connect(server.url, tenant=tenant, settings=Settings(metrics=False)) as store,
        subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process,
    ):
        assert process.stdout is not None
        bus = ContextBus(store)
        before = bus.emit("a")
        assert json.loads(process.stdout.readline())["event_id"] == before.event_id
        server.restart()
        after = bus.emit("b", priority="critical")
        assert json.loads(process.stdout.readline())["event_id"] == after.event_id
        assert bus.groups() == []
        process.terminate()


def test_the_bus_of_an_unreachable_server_is_exit_5() -> None:
    """As for every command."""
    for words in (["emit", "a"], ["bus", "status"], ["dlq", "ls"], ["tail", "--bus"]):
        ran = run_process(*words, "--url", "redis://127.0.0.1:1", "-o", "json")
        assert (ran.code, ran.out, ran.error["exit_code"]) == (5, "", 5)
