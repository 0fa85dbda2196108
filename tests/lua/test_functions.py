"""The function library: every verb as an operator types it, on real servers.

What belongs here: one key, named arguments, messages, `FUNCTION LOAD REPLACE`. What does not: the text of the library
(`tests/unit/test_functions.py`), or what a verb does beyond what its script does.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
import redis

from lukhas_redis.functions import library, library_version, verbs
from lukhas_redis.testing import assert_same
from tests.lua.accounts import wrong_accounts
from tests.lua.shard import HOUR, Shard, context_id

A = context_id(1)
NAMES = [script.name for script in verbs()]
REQUIRED: dict[str, tuple[Any, ...]] = {
    "handoff": ("source", "claude", "destination", "gpt"),
    "extend": ("ttl_ms", 2 * HOUR),
    "lease": ("owner", "ann", "lease_ms", 60_000),
    "renew": ("lease_ms", 60_000, "lease", 7),
    "release": ("lease", 7),
    "set_flag": ("name", "flag.colour", "value", "blue"),
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
    """A lease where the verb needs one."""
    if name in ("renew", "release"):
        shard.lease(1)


def key(shard: Shard, name: str) -> str:
    """The one key that a verb takes."""
    script = next(script for script in verbs() if script.name == name)
    own = {"members": "index"}.get(str(script.fcall), str(script.fcall))
    return shard.keys.ctx(A) if own == "ctx" else str(getattr(shard.keys, own))


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
    args = dict(zip(words[::2], words[1::2], strict=True))
    expected = twin.call(name, **{"id": A, "sid": "s ü:{x}/%~", **args})
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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "given", ["nonsense", "lukhas:{t}:", "lukhas:t:index", "{t}:index", "audit", "body:x", "tombs"]
)
def test_another_key_is_refused_with_the_right_pattern(held: Shard, name: str, given: str) -> None:
    """A verb is about one kind of key: it never takes one account for another."""
    script = next(script for script in verbs() if script.name == name)
    pattern = next(row.pattern for row in script.keys if row.name == script.fcall)
    wrong = held.keys.base + given if given in ("audit", "body:x", "tombs") else given
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


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in ("list", "stats", "set_flag", "sweep", "recount")]
)
def test_the_reason_for_an_absence_is_given_to_operators_too(held: Shard, name: str) -> None:
    """The message is the script's own."""
    words = REQUIRED.get(name, ())
    assert message(held, name, *words, given=held.keys.ctx(context_id(9))) == "LKABSENT reason=never since=0"


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
