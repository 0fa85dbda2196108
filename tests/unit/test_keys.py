"""Key names, hash tags, ids and shards.

What belongs here: what is valid, and that different things never share a key. What does not: what keys hold.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from lukhas_redis import keys
from lukhas_redis.bus_models import PRIORITIES
from lukhas_redis.errors import InvalidId
from lukhas_redis.keys import SHARD_KEYS, KeySpace, ShardKeys, mint_context_id, session_bits, shard_of
from lukhas_redis.scripts import load, script_names

ID = "1b4e28ba-2fa1-4d2b-883f-0016d3cca427"
BAD_NAMES: list[Any] = [
    "", "a" * 65, "a b", "{a}", "a}", "a:b", "a/b", "a*", "a?", "[a]", "a\n", "\na", "a\r", "a\0", "ä", "a\ud800", "é",
    None, 5, b"a", ["a"], True,
]  # fmt: skip
BAD_SESSIONS: list[Any] = [
    "",
    "a" * 257,
    "ä" * 129,
    "a\n",
    "\x00",
    "a\x7f",
    "a\ud800",
    "e\u0301",
    None,
    5,
    b"a",
    "\x85",
]
NAMES = st.text("abcXYZ019_.-", min_size=1, max_size=64)
SESSIONS = st.text(min_size=1, max_size=60).filter(lambda text: accepted(keys.valid_session, text))


def accepted(check: Callable[[object], str], value: object) -> bool:
    """Whether a check lets a value through."""
    try:
        return check(value) == value
    except InvalidId:
        return False


@pytest.mark.parametrize("value", ["a", "A-b_c.9", "a" * 64, "...", "-"])
def test_names_are_up_to_64_plain_characters(value: str) -> None:
    """Tenants, groups, providers, types, prefixes and request ids are such names and come back as they are."""
    for check in (keys.valid_tenant, keys.valid_request_id):
        assert check(value) == value
    assert keys.valid_name(value, "provider") == value


@pytest.mark.parametrize("value", BAD_NAMES, ids=repr)
def test_other_names_are_refused_by_what_they_were_for(value: Any) -> None:
    """The message says what the value was to be, shows it shortened, and nothing slips into a key."""
    with pytest.raises(InvalidId, match=r"provider .* is not a name") as caught:
        keys.valid_name(value, "provider")
    assert len(str(caught.value)) < 250
    for check in (keys.valid_tenant, keys.valid_request_id):
        assert not accepted(check, value)
    with pytest.raises(InvalidId):
        KeySpace("lukhas", value)
    with pytest.raises(InvalidId):
        KeySpace(value, "tenant")


@pytest.mark.parametrize("value", [ID, ID.upper(), uuid.UUID(ID)])
def test_context_ids_are_uuids_of_version_4_in_one_form(value: object) -> None:
    """Upper case and UUID objects are accepted and become the canonical text, so one context has one key."""
    assert keys.valid_context_id(value) == ID


@pytest.mark.parametrize(
    "value",
    ["", "x", ID[:-1], ID + "0", ID.replace("-", ""), "{" + ID + "}", "urn:uuid:" + ID, ID.replace("4d2b", "1d2b"),
     ID.replace("4d2b", "7d2b"), ID.replace("883f", "083f"), ID + "\n", " " + ID, ID.replace("1b", "*b"),
     ID.replace("1b", "1\u0660"), uuid.UUID(ID).bytes, uuid.UUID("3572d0f0-e702-11f1-accb-02fc00000001"), None, 5],
    ids=repr,
)  # fmt: skip
def test_other_context_ids_are_refused(value: Any) -> None:
    """Other versions, forms and types are no context ids."""
    with pytest.raises(InvalidId, match="is not a UUID v4"):
        keys.valid_context_id(value)


@pytest.mark.parametrize("value", ["s", "a" * 256, "ä" * 128, "user:{1}/*?[x] y%", "😀", "\u00e9"])
def test_session_ids_are_up_to_256_bytes_of_text(value: str) -> None:
    """Anything printable, counted in bytes of UTF-8."""
    assert keys.valid_session(value) == value


@pytest.mark.parametrize("value", BAD_SESSIONS, ids=repr)
def test_other_session_ids_are_refused(value: Any) -> None:
    """Empty, too long, control characters, lone surrogates, not normalized, or no text."""
    with pytest.raises(InvalidId, match="session_id"):
        keys.valid_session(value)


@given(SESSIONS, SESSIONS)
def test_two_sessions_never_share_a_key(one: str, other: str) -> None:
    """The name of a session's key tells which session it is."""
    shard = KeySpace("lukhas", "t").root
    assert (shard.session(one) == shard.session(other)) == (one == other)


@given(SESSIONS)
def test_a_session_cannot_leave_its_tag_or_its_place(session: str) -> None:
    """Whatever the session is called, its key has one pair of braces and no colon, blank or glob of its own."""
    shard = KeySpace("lukhas", "t").root
    name = shard.session(session).removeprefix(shard.base + "session:")
    assert not set(name) & set("{}:*?[] \n\\/")
    assert key_slot(shard.session(session).encode()) == key_slot(b"{t}")


@given(NAMES, NAMES, st.integers(1, 8))
def test_every_key_of_a_shard_has_its_hash_tag(prefix: str, tenant: str, count: int) -> None:
    """All keys of a shard are on one slot, and no key of another tenant or shard is the same."""
    space = KeySpace(prefix, tenant)
    tags = set()
    for shard in (space.root, *space.shards(count)):
        names = [*(getattr(shard, name) for name in SHARD_KEYS), shard.ctx(ID), shard.body(ID), shard.segs(ID)]
        names += [shard.hops(ID), shard.log(ID), shard.session("s"), shard.request("r"), shard.stage("x")]
        assert len(set(names)) == len(names)
        assert {key_slot(name.encode()) for name in names} == {key_slot(f"{{{shard.tag}}}".encode())}
        tags.add(shard.tag)
    assert len(tags) == (1 if count == 1 else count + 1)


def test_the_keys_are_those_of_the_headers() -> None:
    """Every pattern in a script's header is a key that this module can build."""
    shard = ShardKeys("lukhas:{t}:")
    built = {getattr(shard, name) for name in SHARD_KEYS}
    built |= {shard.ctx("<id>"), shard.body("<id>"), shard.segs("<id>"), shard.hops("<id>"), shard.log("<id>")}
    built |= {shard.request("<request_id>"), shard.stage("<token>"), "lukhas:{t}:session:<session>"}
    built |= {shard.bus(part) for part in (*PRIORITIES, "later", "due", "dead", "wake", "groups")}
    kept = ("", *(f"held:{name}" for name in PRIORITIES), "parked", "busy")
    built |= {shard.group("<group>", part) for part in kept}
    patterns = {row.pattern for name in script_names() for row in load(name).keys if not row.many}
    assert patterns == built


def test_a_tenant_with_one_shard_lives_on_its_root() -> None:
    """One shard needs no number; more have theirs after a slash, which no tenant's name can hold."""
    space = KeySpace("lukhas", "acme")
    assert space.shards(1) == (space.root,)
    assert [shard.base for shard in space.shards(2)] == ["lukhas:{acme/0}:", "lukhas:{acme/1}:"]
    assert space.root.base == "lukhas:{acme}:"
    assert space.help == "lukhas:help"
    assert space.shards(2) is space.shards(2)


def test_a_shard_has_no_other_keys() -> None:
    """A name that is no key is an error, not a key nobody knows."""
    with pytest.raises(AttributeError, match="sises"):
        _ = KeySpace("lukhas", "t").root.sises
    assert KeySpace("lukhas", "t").root.sizes == "lukhas:{t}:sizes"


@given(SESSIONS, st.uuids(), st.integers(1, 1024))
def test_a_minted_id_is_valid_and_lives_with_its_session(session: str, random: uuid.UUID, shards: int) -> None:
    """All ids minted for a session are UUIDs of version 4 on one shard, and keep the randomness they were given."""
    one = mint_context_id(session, random.hex)
    assert keys.valid_context_id(one) == one
    assert one.startswith(session_bits(session))
    assert shard_of(one, shards) == int(session_bits(session), 16) % shards
    assert one[-12:] == random.hex[-12:]


@pytest.mark.parametrize("start, shards, shard", [("0000", 4, 0), ("0005", 4, 1), ("ffff", 1024, 1023), ("ffff", 1, 0)])
def test_the_shard_is_the_first_16_bits_modulo_their_number(start: str, shards: int, shard: int) -> None:
    """Fixed for ever: data would not be found again if this changed."""
    assert shard_of(start + ID[4:], shards) == shard


def test_shards_fill_evenly() -> None:
    """Random ids spread over shards within a fifth of the mean."""
    counts = [0] * 8
    for number in range(8_000):
        counts[shard_of(mint_context_id(f"session-{number}", "0" * 32), 8)] += 1
    assert 800 < min(counts) <= max(counts) < 1_200
