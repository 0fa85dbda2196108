"""dlq: dead letters listed, shown, given back, thrown away."""

from __future__ import annotations

from uuid import uuid4

import pytest

from lukhas_redis import ContextStore, Settings
from lukhas_redis.bus import ContextBus
from lukhas_redis.testing import RunningServer, assert_same, dump
from tests.cli.running import Lukhas, run_process

GROUP = "reviewers"


@pytest.fixture
def bus(server: RunningServer, tenant: str) -> ContextBus:
    """The bus of the test's tenant, on which one delivery is all an event gets."""
    settings = Settings(metrics=False, bus_max_deliveries=1)
    return ContextBus(ContextStore.connect(server.url, tenant=tenant, settings=settings))


def die(bus: ContextBus, name: str, group: str = GROUP, **payload: object) -> str:
    """Have an event become a dead letter of a group; its letter's id."""
    bus.emit(name, payload, correlation_id="c1", idempotency_key=uuid4().hex)
    for event in bus.read(group, count=10):
        if event.event == name:
            returned = bus.retry(group, event, error=f"no \x1b[31m{name}")
            assert returned.letter_id is not None
            return returned.letter_id
        bus.ack(group, event)
    raise AssertionError(f"{name} was not handed out")


def names(bus: ContextBus, group: str = GROUP) -> list[str]:
    """The names of what a group is given, and has then finished."""
    events = bus.read(group, count=10)
    bus.ack(group, *events)
    return [event.event for event in events]


def test_ls(lukhas: Lukhas, bus: ContextBus) -> None:
    """The newest first, of all groups or of one; text of others does not reach the terminal as it is."""
    assert lukhas.json("dlq", "ls") == []
    assert "no dead letter" in lukhas("dlq", "ls").err
    letters = [die(bus, "a", n=1), die(bus, "b"), die(bus, "c", "indexers")]
    found = lukhas.json("dlq", "ls")
    assert [one["letter_id"] for one in found] == letters[::-1]
    assert [one["letter_id"] for one in lukhas.json("dlq", "ls", "--group", GROUP)] == letters[1::-1]
    last = found[2]
    assert (last["group"], last["name"], last["deliveries"], last["event"]["payload"]) == (GROUP, "a", 1, {"n": 1})
    ran = lukhas("dlq", "ls", "--limit", "1")
    assert "only the newest 1" in ran.err
    assert ran.out.splitlines()[1].split()[0] == letters[2]
    assert "\x1b" not in ran.out
    assert r"no \x1b[31mc" in ran.out


def test_show(lukhas: Lukhas, bus: ContextBus) -> None:
    """All that is known of one, with its payload; one that is not there is exit 3, what is no id exit 2."""
    letter = die(bus, "a", text="hello")
    die(bus, "b")
    found = lukhas.json("dlq", "show", letter)
    assert found == lukhas.json("dlq", "ls")[1]
    out = lukhas("dlq", "show", letter).out
    assert f"letter        {letter}\n" in out
    assert "correlation   c1\n" in out
    assert '"text": "hello"' in out
    assert "\x1b" not in out
    missing = lukhas("dlq", "show", "1-1", "-o", "json")
    assert (missing.code, missing.error["code"]) == (3, "LETTER_NOT_FOUND")
    assert lukhas("dlq", "show", "nonsense").code == 2


def test_show_of_one_that_cannot_be_read(lukhas: Lukhas, bus: ContextBus, server: RunningServer) -> None:
    """A letter whose payload is damaged is shown without it."""
    fields = ("id", "x", "event", "a", "group", GROUP, "payload", b"\xff", "reason", "payload")
    with server.client() as client:
        client.execute_command("XADD", f"lukhas:{{{bus.store.tenant}}}:bus:dead", "7-1", *fields)
    found = lukhas.json("dlq", "show", "7-1")
    assert (found["event"], found["reason"]) == (None, "payload")
    assert "payload     cannot be read\n" in lukhas("dlq", "show", "7-1").out


def test_show_finds_old_ones(lukhas: Lukhas, bus: ContextBus, server: RunningServer) -> None:
    """One behind many newer ones is found, without a look at those."""
    first = die(bus, "a")
    with server.client() as client, client.pipeline() as pipe:
        for _ in range(150):
            pipe.xadd(f"lukhas:{{{bus.store.tenant}}}:bus:dead", {"id": "x", "event": "b", "group": GROUP})
        pipe.execute()
        client.config_resetstat()
        assert lukhas.json("dlq", "show", first)["name"] == "a"
        stats = client.info("commandstats")
        assert isinstance(stats, dict)
        assert stats["cmdstat_xrevrange"]["calls"] == 1


def test_show_tells_of_another_shards_letter_with_the_same_id(
    server: RunningServer, tenant: str, lukhas: Lukhas
) -> None:
    """It shows the last one that died and says that there is another."""
    with ContextStore.connect(server.url, tenant=tenant, settings=Settings(metrics=False, shards=2)) as store:
        store.preserve("s", {})
        with server.client() as client:
            for shard in (0, 1):
                fields = ("id", "x", "event", f"e{shard}", "group", GROUP, "died", str(shard))
                client.execute_command("XADD", f"lukhas:{{{tenant}/{shard}}}:bus:dead", "7-1", *fields)
        ran = lukhas("dlq", "show", "7-1", "-o", "json")
        assert (ran.json["name"], "2 shards" in ran.err) == ("e1", True)


def test_retry(lukhas: Lukhas, bus: ContextBus) -> None:
    """Those named go back to their group; one that is not there is exit 3, and the others go back all the same."""
    first, second = die(bus, "a"), die(bus, "b")
    ran = lukhas("dlq", "retry", first, first, "1-1", "-o", "json")
    assert ran.code == 3
    assert ran.json == {"retried": [first], "left": ["1-1"], "dry_run": False}
    assert ran.error["fields"] == {"left": ["1-1"]}
    assert names(bus) == ["a"]
    assert lukhas("dlq", "retry", second).out == "gave 1 dead letters back\n"
    assert names(bus) == ["b"]
    assert bus.dead_letters() == []


def test_retry_all(lukhas: Lukhas, bus: ContextBus) -> None:
    """All of a group, or all; those of a retired group stay, which is said and is no failure."""
    die(bus, "a")
    die(bus, "b", "indexers")
    stays = die(bus, "c", "retired")
    bus.retire("retired", force=True)
    assert names(bus) == ["b", "c"]
    assert names(bus, "indexers") == ["c"]
    assert len(lukhas.json("dlq", "retry", "--all", "--group", GROUP)["retried"]) == 1
    assert names(bus) == ["a"]
    ran = lukhas("dlq", "retry", "--all")
    assert (ran.code, ran.out) == (0, "gave 1 dead letters back, 1 stay\n")
    assert names(bus, "indexers") == ["b"]
    assert lukhas.json("dlq", "retry", "--all") == {"retried": [], "left": [stays], "dry_run": False}
    assert lukhas("dlq", "retry", stays).code == 3
    assert lukhas("dlq", "drop", stays).code == 0
    assert lukhas.json("dlq", "retry", "--all") == {"retried": [], "left": [], "dry_run": False}


def test_drop(lukhas: Lukhas, bus: ContextBus) -> None:
    """Those named are gone; one that is not there is exit 3, and the others are gone all the same."""
    first, second = die(bus, "a"), die(bus, "b")
    assert lukhas.json("dlq", "drop", first) == {"dropped": 1, "dry_run": False}
    ran = lukhas("dlq", "drop", first, second)
    assert (ran.code, ran.out) == (3, "dropped 1 dead letters\n")
    assert "1 of the 2" in ran.err
    assert bus.dead_letters() == []


def test_drop_all_is_confirmed(lukhas: Lukhas, bus: ContextBus, server: RunningServer) -> None:
    """Without a terminal `--all` takes `--yes`; `--group` bounds it."""
    die(bus, "a")
    die(bus, "b", "indexers")
    where = ["--url", server.url, "--tenant", bus.store.tenant]
    ran = run_process("dlq", "drop", "--all", *where, "-o", "json")
    assert (ran.code, ran.out, ran.error["code"]) == (2, "", "NOT_CONFIRMED")
    assert "Drop 2 dead letters" in ran.error["message"]
    assert lukhas.json("dlq", "drop", "--all", "--group", GROUP, "--yes")["dropped"] == 1
    assert [one.group for one in bus.dead_letters()] == ["indexers"]
    assert lukhas("dlq", "drop", "--all", "-y").out == "dropped 1 dead letters\n"
    assert lukhas.json("dlq", "drop", "--all")["dropped"] == 0


@pytest.mark.parametrize(
    "words",
    [
        ["retry"],
        ["drop"],
        ["retry", "1-1", "--all"],
        ["drop", "1-1", "--all", "--yes"],
        ["retry", "1-1", "--group", GROUP],
        ["drop", "1-1", "--group", GROUP],
        ["retry", "nonsense"],
        ["drop", "nonsense"],
        ["ls", "--limit", "0"],
    ],
)
def test_usage(lukhas: Lukhas, bus: ContextBus, words: list[str]) -> None:
    """What cannot be meant is exit 2, and nothing is done."""
    die(bus, "a")
    ran = lukhas("dlq", *words)
    assert (ran.code, ran.out) == (2, ""), ran.err
    assert len(bus.dead_letters()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["ls"],
        ["show", "LETTER"],
        ["retry", "LETTER", "--dry-run"],
        ["retry", "--all", "--dry-run"],
        ["drop", "LETTER", "--dry-run"],
        ["drop", "--all", "--dry-run"],
    ],
)
def test_looking_and_dry_runs_change_nothing(
    lukhas: Lukhas, bus: ContextBus, server: RunningServer, words: list[str]
) -> None:
    """What only looks, and what only says, leaves every key as it was, and the answer is what would be done."""
    letter = die(bus, "a")
    words = ["dlq", *[letter if word == "LETTER" else word for word in words]]
    with server.client() as client:
        before = dump(client, prefix=f"lukhas:{{{bus.store.tenant}")
        assert lukhas(*words).code == 0
        found = lukhas.json(*words)
        assert_same(before, dump(client, prefix=f"lukhas:{{{bus.store.tenant}"))
    if "retry" in words:
        assert found == {"retried": [letter], "left": [], "dry_run": True}
    if "drop" in words:
        assert found == {"dropped": 1, "dry_run": True}


def test_a_tenant_in_dry_run_is_told_so(lukhas: Lukhas, bus: ContextBus) -> None:
    """Without `--dry-run`, too, the answers say that nothing was done."""
    letter = die(bus, "a")
    assert lukhas("flags", "set", "mode", "dry_run").code == 0
    assert lukhas.json("dlq", "retry", letter) == {"retried": [letter], "left": [], "dry_run": True}
    assert lukhas("dlq", "retry", "--all").out == "would give 1 dead letters back\n"
    assert lukhas.json("dlq", "drop", letter) == {"dropped": 1, "dry_run": True}
    assert lukhas("dlq", "drop", letter).out == "would drop 1 dead letters\n"
    assert len(bus.dead_letters()) == 1


def test_a_paused_tenant_gives_nothing_back(lukhas: Lukhas, bus: ContextBus) -> None:
    """Exit 1, and the letter stays."""
    letter = die(bus, "a")
    assert lukhas("flags", "set", "mode", "paused").code == 0
    ran = lukhas("dlq", "retry", letter, "-o", "json")
    assert (ran.code, ran.error["code"]) == (1, "PAUSED")
    assert lukhas("flags", "set", "mode", "live").code == 0
    assert lukhas("dlq", "retry", letter).code == 0
