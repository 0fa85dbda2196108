"""The function library: every verb as an operator types it, on real servers.

What belongs here: one key, named arguments, messages, `FUNCTION LOAD REPLACE`. What does not: the text of the library
(`tests/unit/test_functions.py`), or what a verb does beyond what its script does.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
import redis

from lukhas_redis import Settings
from lukhas_redis.functions import library, library_version, verbs
from lukhas_redis.scripts import load
from lukhas_redis.testing import assert_same
from tests.lua.accounts import wrong_accounts
from tests.lua.bus import Bus
from tests.lua.fuzzing import memory
from tests.lua.shard import HOUR, Shard, context_id

A = context_id(1)
NAMES = [script.name for script in verbs()]
OF_THE_BUS = ("status", "retire", "redrive", "discard", "trim")
LETTER = "1-1"
REQUIRED: dict[str, tuple[Any, ...]] = {
    "handoff": ("source", "claude", "destination", "gpt"),
    "extend": ("ttl_ms", 2 * HOUR),
    "lease": ("owner", "ann", "lease_ms", 60_000),
    "renew": ("lease_ms", 60_000, "lease", 7),
    "release": ("lease", 7),
    "set_flag": ("name", "flag.colour", "value", "blue"),
    "retire": ("group", "g"),
    "redrive": ("letter", LETTER),
    "discard": ("letter", LETTER),
}


@pytest.fixture
def held(shard: Shard) -> Generator[Shard]:
    """A shard with the library loaded, one sound and one expired context, in a session with an awkward name."""
    shard.client.function_load(library(), replace=True)
    shard.preserve(1, sid="s ü:{x}/%~")
    shard.preserve(2)
    shard.expire(2)
    yield shard
    shard.client.function_delete("lukhas")


def prepare(shard: Shard, name: str) -> None:
    """A lease where the verb needs one; a bus with a group and a dead letter where it is about that."""
    if name in ("renew", "release"):
        shard.lease(1)
    if name in OF_THE_BUS:
        letter = {"group": "g", "priority": "high", "id": "1", "event": "task.made", "payload": "p"}
        shard.client.xadd(shard.keys.bus("dead"), letter, id=LETTER)  # type: ignore[arg-type]
        with_history(shard)


def with_history(shard: Shard) -> Bus:
    """The bus of a shard: two events from long ago that its group has finished, and a worker's name."""
    bus = Bus(shard)
    for sid in ("1-1", "2-1"):
        fields = {"id": "1", "event": "task.made", "only": "", "payload": "p"}
        shard.client.xadd(shard.keys.bus("low"), fields, id=sid)  # type: ignore[arg-type]
    bus.join()
    bus.ack(*bus.claim())
    return bus


def key(shard: Shard, name: str) -> str:
    """The one key that a verb takes."""
    script = next(script for script in verbs() if script.name == name)
    own = {"members": "index"}.get(str(script.fcall), str(script.fcall))
    if name in OF_THE_BUS:
        return shard.keys.bus(own)
    return shard.keys.ctx(A) if own == "ctx" else str(getattr(shard.keys, own))


def called(shard: Shard, name: str, words: tuple[Any, ...]) -> Any:
    """What the script itself answers to what a verb was given."""
    args = dict(zip(words[::2], words[1::2], strict=True))
    if name not in OF_THE_BUS:
        return shard.call(name, **{"id": A, "sid": "s ü:{x}/%~", **args})
    rows = load(name).args
    defaults = {row.name: row.default for row in rows if row.default is not None}
    more = [args.pop(row.name) for row in rows if row.many]
    return Bus(shard).call(name, *more, **{**defaults, **args})


def fcall(shard: Shard, name: str, *words: Any, given: str | None = None) -> Any:
    """Call a verb on its key."""
    words = tuple(str(word) for word in words)
    return shard.client.fcall(f"lukhas_{name}", 1, given or key(shard, name), *words)


def message(shard: Shard, name: str, *words: Any, **options: Any) -> str:
    """What a refused verb says; it must have changed nothing."""
    before = shard.dump()
    with pytest.raises(redis.ResponseError) as caught:
        fcall(shard, name, *words, **options)
    assert_same(before, shard.dump())
    return str(caught.value).partition(" script: ")[0]


def test_the_verbs_are_those_an_operator_needs() -> None:
    """Neither preserve nor anything else that needs an envelope; every verb has its row in the header."""
    wanted = {
        "handoff",
        "extend",
        "pin",
        "drop",
        "lease",
        "renew",
        "release",
        "metadata",
        "lifecycle",
        "list",
        "set_flag",
        "sweep",
        "stats",
        "recount",
        "status",
        "retire",
        "redrive",
        "discard",
        "trim",
    }
    assert set(NAMES) == wanted


@pytest.mark.parametrize("name", NAMES)
def test_every_verb_does_what_its_script_does(held: Shard, name: str) -> None:
    """The verb answers as the script and changes the same keys; nothing but its one key was named."""
    words = REQUIRED.get(name, ())
    prepare(held, name)
    before = held.dump()
    reply = fcall(held, name, *words)
    changed = held.changes(before)
    twin = Shard(held.client, held.tenant + "-twin")
    twin.open()
    twin.preserve(1, sid="s ü:{x}/%~")
    twin.preserve(2)
    twin.expire(2)
    prepare(twin, name)
    before = twin.dump()
    expected = called(twin, name, words)
    assert twin.changes(before) == changed
    assert (type(reply), len(reply)) == (type(expected), len(expected))
    assert not wrong_accounts(held)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_name_is_refused_and_the_known_ones_are_listed(held: Shard, name: str) -> None:
    """A typing mistake is answered with what the verb takes."""
    script = next(script for script in verbs() if script.name == name)
    takes = ",".join(row.name for row in script.args if row.name not in ("id", "sid"))
    assert message(held, name, "tll_ms", 5) == f"LKARGUMENT name=unknown takes={takes}"


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_a_missing_argument_is_named(held: Shard, name: str) -> None:
    """What has no default must be given."""
    assert message(held, name).startswith(f"LKARGUMENT name={REQUIRED[name][0]}")


def test_a_name_without_a_value_is_refused(held: Shard) -> None:
    """An odd number of words leaves a name without a value, and the message says which."""
    assert message(held, "extend", "ttl_ms").startswith("LKARGUMENT name=ttl_ms takes=")


def test_a_name_given_twice_is_refused(held: Shard) -> None:
    """Of two values neither is taken: of two letters one would stay, and nobody would be told."""
    assert message(held, "discard", "letter", "1-1", "letter", "1-2") == "LKARGUMENT name=letter takes=" + ",".join(
        row.name for row in load("discard").args
    )
    assert message(held, "extend", "ttl_ms", HOUR, "dry", 0, "dry", 1).startswith("LKARGUMENT name=dry takes=")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "given", ["nonsense", "lukhas:{t}:", "lukhas:t:index", "{t}:index", "audit", "body:x", "tombs", "bus:later", "dead"]
)
def test_another_key_is_refused_with_the_right_pattern(held: Shard, name: str, given: str) -> None:
    """A verb is about one kind of key: it never takes one account for another."""
    script = next(script for script in verbs() if script.name == name)
    pattern = next(row.pattern for row in script.keys if row.name == script.fcall)
    wrong = held.keys.base + given if given in ("audit", "body:x", "tombs", "bus:later", "dead") else given
    assert message(held, name, *REQUIRED.get(name, ()), given=wrong) == f"LKARGUMENT name=key takes={pattern}"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [0, 2])
def test_exactly_one_key_is_taken(held: Shard, name: str, count: int) -> None:
    """None or two keys are refused."""
    before = held.dump()
    with pytest.raises(redis.ResponseError, match="LKARGUMENT name=keys takes=1"):
        held.client.fcall(f"lukhas_{name}", count, *[key(held, name)] * count)
    assert_same(before, held.dump())


@pytest.mark.parametrize("name", NAMES)
def test_reading_verbs_work_by_fcall_ro_and_writing_ones_do_not(held: Shard, name: str) -> None:
    """Who may only read can use every verb that only reads."""
    script = next(script for script in verbs() if script.name == name)
    before = held.dump()
    if script.reads_only:
        assert held.client.fcall_ro(f"lukhas_{name}", 1, key(held, name))
    else:
        with pytest.raises(redis.ResponseError, match="write flag"):
            held.client.fcall_ro(f"lukhas_{name}", 1, key(held, name))
    assert_same(before, held.dump())


def test_named_arguments_come_in_any_order_with_defaults(held: Shard) -> None:
    """Order does not matter, and `dry 1` works for an operator as for a client."""
    before = held.dump()
    assert fcall(held, "handoff", "destination", "gpt", "dry", 1, "source", "claude")[:2] == [b"OK", b"1"]
    assert_same(before, held.dump())


def test_the_sessions_list_is_found_by_itself(held: Shard) -> None:
    """A verb that moves a deadline moves it in the session's list, whatever the session is called."""
    expires = int(fcall(held, "extend", "ttl_ms", 2 * HOUR)[4])
    assert held.scores(held.keys.session("s ü:{x}/%~")) == {A: expires}


def test_a_session_can_be_listed(held: Shard) -> None:
    """`list` takes the index, or the list of one session."""
    assert fcall(held, "list", given=held.keys.session("s ü:{x}/%~"))[0] == A.encode()


def test_an_operator_ends_a_lease_with_its_token(held: Shard) -> None:
    """While somebody holds a context the verbs are refused, too; with the token the operator writes or releases."""
    token = fcall(held, "lease", "owner", "ann", "lease_ms", 60_000)[3]
    assert message(held, "extend", "ttl_ms", 2 * HOUR).startswith("LKLEASED owner=ann until=")
    assert message(held, "release", "lease", 1) == "LKFENCED token=1"
    assert fcall(held, "extend", "ttl_ms", 2 * HOUR, "lease", token.decode())[0] == b"OK"
    assert fcall(held, "release", "lease", token.decode())[0] == b"OK"
    assert fcall(held, "extend", "ttl_ms", 3 * HOUR)[0] == b"OK"


def test_a_request_id_makes_a_verb_repeatable(held: Shard) -> None:
    """An operator may give one, and the second call is the first one's answer."""
    first = fcall(held, "handoff", "source", "claude", "destination", "gpt", "request_id", "op-1")
    before = held.dump()
    assert fcall(held, "handoff", "source", "claude", "destination", "gpt", "request_id", "op-1") == first
    assert_same(before, held.dump())


@pytest.mark.parametrize("name", [script.name for script in verbs() if script.fcall == "ctx"])
def test_the_reason_for_an_absence_is_given_to_operators_too(held: Shard, name: str) -> None:
    """The message is the script's own."""
    words = REQUIRED.get(name, ())
    assert message(held, name, *words, given=held.keys.ctx(context_id(9))) == "LKABSENT reason=never since=0"


def kill(bus: Bus, **args: Any) -> str:
    """Have an event become a dead letter of the group; its letter's id."""
    bus.emit(**args)
    (one,) = bus.claim()
    bus.retry(one, max_deliveries=0)
    return bus.ids("dead")[-1]


def test_an_operator_gives_a_letter_back_and_throws_one_away(held: Shard) -> None:
    """One a call, by its id; what is no letter, or no id, is told apart."""
    bus = with_history(held)
    first, second = kill(bus), kill(bus)
    assert fcall(held, "redrive", "letter", first, "dry", 1) == [b"OK", b"1", first.encode()]
    assert fcall(held, "redrive", "letter", first)[2] == bus.ids("normal")[-1].encode()
    assert fcall(held, "redrive", "letter", first) == [b"OK", b"0", b""]
    assert [one.deliveries for one in bus.claim()] == [1]
    assert fcall(held, "discard", "letter", second) == [b"OK", b"0", b"1"]
    assert bus.ids("dead") == []
    assert message(held, "discard", "letter", "all") == "LKARGUMENT name=letter"
    assert message(held, "redrive", "letter", "all") == "LKARGUMENT name=letter"


def test_an_operator_ends_a_group(held: Shard) -> None:
    """With `force` when it has not finished everything, and nothing of it is left; the others stay."""
    bus = with_history(held)
    bus.join("other")
    bus.emit(ordering_key="k")
    bus.claim()
    assert message(held, "retire", "group", "g") == "LKPENDING unfinished=1"
    assert fcall(held, "retire", "group", "g", "force", 1) == [b"OK", b"0", b"1", b"1"]
    assert not [key for key in held.dump() if b":group:g" in key]
    assert held.client.hkeys(held.keys.bus("groups")) == [b"other"]
    assert fcall(held, "retire", "group", "g") == [b"OK", b"0", b"0", b"0"]


@pytest.mark.parametrize("group", ["", "a b", "g:held:low", "{other}", "<id>", "g\n"])
def test_a_group_that_is_no_name_is_refused(held: Shard, group: str) -> None:
    """It would stand for keys that are not a group's."""
    with_history(held)
    assert message(held, "retire", "group", group, "force", 1) == "LKARGUMENT name=group"


def test_an_operator_trims_with_the_defaults_of_the_settings(held: Shard) -> None:
    """What the settings of a worker are without configuration: finished events stay an hour."""
    bus = with_history(held)
    bus.emit()
    bus.ack(*bus.claim())
    assert fcall(held, "trim", "dry", 1) == [b"OK", b"1", b"2", b"0"]
    assert fcall(held, "trim") == [b"OK", b"0", b"2", b"0"]
    assert fcall(held, "trim", "history_ms", 0)[2] == b"1"
    defaults, settings = {row.name: row.default for row in load("trim").args}, Settings()
    assert defaults["history_ms"] == str(settings.bus_history_seconds * 1000)
    assert defaults["max_entries"] == str(settings.bus_max_entries)
    assert defaults["idle_ms"] == str(settings.bus_worker_idle_seconds * 1000)


def test_a_paused_tenant_can_be_tidied_up(held: Shard) -> None:
    """Ending a group, trimming and throwing letters away work; giving letters back waits."""
    bus = with_history(held)
    letter = kill(bus)
    fcall(held, "set_flag", "name", "mode", "value", "paused")
    assert message(held, "redrive", "letter", letter) == "LKPAUSED"
    assert fcall(held, "discard", "letter", letter)[2] == b"1"
    assert fcall(held, "trim")[2] == b"2"
    assert fcall(held, "retire", "group", "g")[0] == b"OK"


def test_what_gives_memory_back_works_when_it_is_full(held: Shard) -> None:
    """Trimming, throwing letters away, ending a group; what needs some is refused by the server before it begins."""
    bus = with_history(held)
    letter = kill(bus)
    with memory(held, is_full=True):
        assert fcall(held, "discard", "letter", letter)[2] == b"1"
        assert fcall(held, "trim")[2] == b"2"
        assert "used memory" in message(held, "redrive", *REQUIRED["redrive"])
        assert fcall(held, "retire", "group", "g")[2] == b"1"


def test_loading_twice_replaces(held: Shard) -> None:
    """The same text can be loaded again, and the server then says which release it has."""
    assert held.client.function_load(library(), replace=True) in ("lukhas", b"lukhas")
    assert held.client.fcall("lukhas_version", 0) == library_version().encode()
    assert held.client.fcall_ro("lukhas_version", 0) == library_version().encode()


def test_every_function_is_described(held: Shard) -> None:
    """`FUNCTION LIST` shows an operator what there is, each with the first sentence of its header."""
    (entry,) = held.client.execute_command("FUNCTION", "LIST", "LIBRARYNAME", "lukhas")  # type: ignore[no-untyped-call]
    facts = entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))
    rows = facts[b"functions"]
    found = [row if isinstance(row, dict) else dict(zip(row[::2], row[1::2], strict=True)) for row in rows]
    described = {row[b"name"].decode(): row[b"description"].decode() for row in found}
    assert described.keys() == {f"lukhas_{name}" for name in [*NAMES, "version"]}
    assert {f"lukhas_{script.name}": script.summary for script in verbs()}.items() <= described.items()
