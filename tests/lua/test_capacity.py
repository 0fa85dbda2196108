"""Limits: entries, bytes, shares; purging before anything is called full; eviction.

What belongs here: what preserve does at a limit. What does not: sequences of calls (`test_accounts`), throughput.
"""

from __future__ import annotations

from typing import Any

import pytest

from lukhas_redis.calls import Refused
from lukhas_redis.scripts import load
from lukhas_redis.testing import assert_same
from tests.lua.accounts import wrong_accounts
from tests.lua.shard import HOUR, PARTS, Shard, context_id, segment, told

EVICTING = pytest.mark.parametrize("policy", ["evict_oldest", "evict_lru"])


def ids(*numbers: int) -> list[str]:
    """The ids of these contexts."""
    return [context_id(number) for number in numbers]


def refused(shard: Shard, number: int, **args: Any) -> Refused:
    """The refusal of a preserve that must change nothing."""
    before = shard.dump()
    with pytest.raises(Refused) as caught:
        shard.preserve(number, **args)
    assert_same(before, shard.dump())
    return caught.value


def unchanged(shard: Shard, number: int, **args: Any) -> list[bytes]:
    """The answer of a preserve that asks for another call, and must change nothing."""
    before = shard.dump()
    reply = shard.preserve(number, **args)
    assert_same(before, shard.dump())
    return reply


def order(shard: Shard) -> set[str]:
    """Which contexts may be evicted."""
    return set(shard.scores(shard.keys.order))


@pytest.mark.parametrize(
    "limit, facts",
    [
        ({"max_entries": 2}, {"scope": "entries", "limit": "2"}),
        ({"max_bytes": 24}, {"scope": "bytes", "limit": "24"}),
        ({"max_type": 2}, {"scope": "type", "limit": "2"}),
    ],
)
def test_each_limit_is_exact_and_named(shard: Shard, limit: dict[str, int], facts: dict[str, str]) -> None:
    """What fits exactly is stored; one more is refused with the scope and the limit; a replacement still fits."""
    shard.preserve(1, **limit)
    shard.preserve(2, **limit)
    error = refused(shard, 3, **limit)
    assert (error.word, error.facts) == ("LKFULL", facts)
    assert shard.preserve(2, **limit)[2] == b"2"


def test_a_context_larger_than_the_limit_is_refused_whatever_the_policy(shard: Shard) -> None:
    """Nothing is evicted for what could never fit."""
    shard.preserve(1, payload=b"x")
    assert refused(shard, 2, max_bytes=11, policy="evict_oldest").facts == {"scope": "bytes", "limit": "11"}


def test_a_lowered_limit_refuses_growth_only(shard: Shard) -> None:
    """Over a limit that was lowered since, a replacement that is no larger goes through, a larger one does not."""
    for number in (1, 2, 3):
        shard.preserve(number)
    assert shard.preserve(1, max_bytes=13, max_entries=1)[0] == b"OK"
    assert shard.preserve(1, max_bytes=13, max_entries=1, payload=b"less")[0] == b"OK"
    assert refused(shard, 1, max_bytes=13, max_entries=1, payload=b"12 bytes ok!").word == "LKFULL"


@pytest.mark.parametrize(
    "name, value, scope",
    [("max_entries", "1", "entries"), ("max_bytes", "12", "bytes"), ("max_bytes", "1", "bytes")],
)
def test_a_flag_outranks_the_caller(shard: Shard, name: str, value: str, scope: str) -> None:
    """The tenant's own limit counts, whatever limit the caller's settings have."""
    shard.preserve(1)
    shard.call("set_flag", name=name, value=value)
    assert refused(shard, 2, max_entries=99, max_bytes=99).facts == {"scope": scope, "limit": value}


@pytest.mark.parametrize(
    "name, value, part", [("max_entries", "5", "2"), ("max_bytes", "25", "12"), ("max_bytes", "1", "1")]
)
def test_a_flag_is_the_tenants_limit_and_a_shard_has_its_part(shard: Shard, name: str, value: str, part: str) -> None:
    """The part is rounded down, so the parts never exceed the whole; a limit in bytes never becomes `no limit`."""
    shard.client.hset(shard.keys.shard, "shards", "2")
    for number in (1, 2):
        shard.preserve(number, shards=2, payload=b"x" * 6)
    shard.call("set_flag", name=name, value=value)
    assert refused(shard, 3, shards=2, payload=b"x").facts["limit"] == part


def test_expired_contexts_are_purged_before_anything_is_called_full(shard: Shard) -> None:
    """A few go with the call itself; more of them are asked for, however many they are, and nothing is done yet."""
    for number in range(20):
        shard.preserve(number)
    for number in range(12):
        shard.expire(number)
    assert unchanged(shard, 30, max_entries=9) == [b"PURGE"]
    shard.call("sweep", most=6)
    reply = shard.preserve(30, max_entries=9)
    assert reply[0] == b"OK"
    assert shard.usage()["entries"] == 9
    assert shard.usage()["expired"] == 12
    assert not wrong_accounts(shard)


def test_eight_expired_contexts_go_with_every_preserve(shard: Shard) -> None:
    """Also far from any limit a preserve takes up to eight expired contexts out of the accounts, with their events."""
    for number in range(10):
        shard.preserve(number)
    for number in range(10):
        shard.expire(number)
    shard.preserve(20)
    assert shard.usage()["entries"] == 3
    assert [event for event, _, _ in shard.events()][-9:] == ["context.expire"] * 8 + ["context.preserve"]


def test_a_dry_run_counts_what_is_expired_as_gone(shard: Shard) -> None:
    """It may not purge, so it subtracts, and answers as the live call would after purging."""
    for number in range(20):
        shard.preserve(number)
    for number in range(20):
        shard.expire(number)
    assert unchanged(shard, 30, max_entries=1, dry=1)[0] == b"OK"
    assert unchanged(shard, 30, max_entries=1) == [b"PURGE"]


@EVICTING
def test_victims_are_named_declared_and_evicted(shard: Shard, policy: str) -> None:
    """The oldest are named first; the same call with them declared evicts them and stores the new one."""
    shard.preserve(1, policy=policy)
    shard.append(1, policy=policy)
    for number in (2, 3):
        shard.preserve(number, policy=policy)
    shard.call("handoff", id=context_id(1))
    shard.call("touch", id=context_id(1), policy="evict_oldest")
    limits: dict[str, Any] = {"max_entries": 2, "policy": policy}
    victims = [one.decode() for one in unchanged(shard, 4, **limits)[1:]]
    assert victims == ids(1, 2)
    before = shard.dump()
    reply = shard.preserve(4, more=victims, **limits)
    assert told("preserve", reply)["evicted"] == "2"
    gone = {f"{part}:{context_id(1)}": "-" for part in PARTS}
    gone |= {f"{part}:{context_id(2)}": "-" for part in ("ctx", "body")}
    new = {f"{part}:{context_id(4)}": "+" for part in ("ctx", "body")}
    changed = dict.fromkeys(("index", "order", "sizes", "usage", "events", "session:session-1"), "~")
    assert shard.changes(before) == {**gone, **new, **changed, "tombs": "+"}
    assert [event for event, _, _ in shard.events()][-3:] == ["context.evict", "context.evict", "context.preserve"]
    assert shard.usage()["evicted"] == 2
    assert not wrong_accounts(shard)


def test_bytes_are_evicted_until_they_fit(shard: Shard) -> None:
    """As many of the oldest go as the new bytes need, and no more."""
    for number in (1, 2, 3):
        shard.preserve(number, payload=b"x" * 10)
    limits: dict[str, Any] = {"max_bytes": 30, "policy": "evict_oldest", "payload": b"y" * 15}
    assert unchanged(shard, 4, **limits)[1:] == [one.encode() for one in ids(1, 2)]
    shard.preserve(4, more=ids(1, 2), **limits)
    assert shard.usage()["bytes"] == 25


def test_under_lru_a_read_saves_a_context(shard: Shard) -> None:
    """A touched context is evicted after those that were not read since; under evict_oldest it is not saved."""
    for number in (1, 2):
        shard.preserve(number)
        shard.client.zadd(shard.keys.order, {context_id(number): number})
    shard.call("touch", id=context_id(1), policy="evict_oldest", interval_ms=0)
    assert unchanged(shard, 3, max_entries=2, policy="evict_oldest") == [b"VICTIMS", context_id(1).encode()]
    shard.call("touch", id=context_id(1), policy="evict_lru", interval_ms=0)
    assert unchanged(shard, 3, max_entries=2, policy="evict_lru") == [b"VICTIMS", context_id(2).encode()]


@EVICTING
def test_pinned_contexts_are_never_evicted(shard: Shard, policy: str) -> None:
    """Pinned ones are passed over; where all are pinned the tenant is full; unpinned they may go again."""
    shard.preserve(1)
    shard.preserve(2)
    shard.call("pin", id=context_id(1))
    limits: dict[str, Any] = {"max_entries": 2, "policy": policy}
    assert unchanged(shard, 3, **limits) == [b"VICTIMS", context_id(2).encode()]
    shard.call("pin", id=context_id(2))
    assert refused(shard, 3, **limits).word == "LKFULL"
    assert shard.preserve(1)[0] == b"OK"
    assert order(shard) == set()
    shard.call("pin", id=context_id(1), pinned=0)
    assert unchanged(shard, 3, **limits) == [b"VICTIMS", context_id(1).encode()]


@EVICTING
def test_a_context_is_never_its_own_victim(shard: Shard, policy: str) -> None:
    """A replacement that grows evicts others, though it is the oldest itself."""
    for number in (1, 2, 3):
        shard.preserve(number, payload=b"x" * 10)
    grown: dict[str, Any] = {"payload": b"x" * 20, "max_bytes": 30, "policy": policy}
    assert unchanged(shard, 1, **grown) == [b"VICTIMS", context_id(2).encode()]


def test_what_must_go_is_decided_again_when_the_call_is_repeated(shard: Shard) -> None:
    """A declared victim that was read since is spared, and the one that took its place must be declared."""
    for number in (1, 2):
        shard.preserve(number)
    limits: dict[str, Any] = {"max_entries": 2, "policy": "evict_lru"}
    assert unchanged(shard, 3, **limits)[1:] == [context_id(1).encode()]
    shard.client.zadd(shard.keys.order, {context_id(1): shard.now_ms() + 1000})
    assert unchanged(shard, 3, more=ids(1), **limits)[1:] == [context_id(2).encode()]
    assert told("preserve", shard.preserve(3, more=ids(2, 1), **limits))["evicted"] == "1"
    assert set(shard.scores(shard.keys.index)) == set(ids(1, 3))


def test_more_than_a_hundred_victims_take_several_calls(shard: Shard) -> None:
    """A hundred are evicted a call; until it is enough the answer is AGAIN, and nothing of the new one is stored."""
    for number in range(150):
        shard.preserve(number, payload=b"x")
    limits: dict[str, Any] = {"payload": b"y" * 120, "max_bytes": 150, "policy": "evict_oldest"}
    named = [one.decode() for one in unchanged(shard, 200, **limits)[1:]]
    assert named == ids(*range(100))
    assert shard.preserve(200, more=named, **limits) == [b"AGAIN"]
    assert shard.usage()["bytes"] == shard.usage()["entries"] == 50
    assert shard.usage()["preserved"] == 150
    assert not shard.client.exists(shard.keys.ctx(context_id(200)))
    assert not wrong_accounts(shard)
    rest = [one.decode() for one in unchanged(shard, 200, **limits)[1:]]
    assert rest == ids(*range(100, 120))
    assert told("preserve", shard.preserve(200, more=rest, **limits))["evicted"] == "20"
    assert shard.usage()["bytes"] == 150
    assert not wrong_accounts(shard)


def test_again_leaves_the_old_version_as_it_was(shard: Shard) -> None:
    """While room is being made for a replacement, what is stored under the id stays readable and counted."""
    shard.preserve(200, payload=b"old")
    shard.client.zadd(shard.keys.order, {context_id(200): 1})
    for number in range(150):
        shard.preserve(number, payload=b"x")
    limits: dict[str, Any] = {"payload": b"y" * 130, "max_bytes": 150, "policy": "evict_oldest"}
    named = [one.decode() for one in shard.preserve(200, **limits)[1:]]
    assert shard.preserve(200, more=named, **limits) == [b"AGAIN"]
    assert shard.client.get(shard.keys.body(context_id(200))) == b"old"
    assert not wrong_accounts(shard)


@pytest.mark.parametrize("wrong", ["no keys", "a key too few", "an id too many", "too many"])
def test_victims_and_their_keys_must_match(shard: Shard, wrong: str) -> None:
    """Lists that do not belong together are refused before anything is written."""
    for number in (1, 2):
        shard.preserve(number)
    script = load("preserve")
    args: dict[str, Any] = {"id": context_id(3), "max_entries": 2, "policy": "evict_oldest"}
    many = ids(*range(10, 111)) if wrong == "too many" else ids(1)
    words: list[Any] = list(shard.words(script, args, keys={}, more=many))
    if wrong == "no keys":
        del words[words[0] - 4 : words[0] + 1]
        words[0] -= 5
    elif wrong == "a key too few":
        del words[words[0]]
        words[0] -= 1
    elif wrong == "an id too many":
        words.append(context_id(2))
    before = shard.dump()
    with pytest.raises(Refused) as caught:
        shard.send(script, words)
    assert caught.value.facts == {"name": "victim"}
    assert_same(before, shard.dump())


def test_an_unknown_policy_evicts_nothing(shard: Shard) -> None:
    """A policy written by hand that does not exist is refused, not taken for one that throws contexts away."""
    shard.preserve(1)
    shard.client.hset(shard.keys.flags, "policy", "noeviction")
    assert refused(shard, 2, max_entries=1).facts == {"name": "policy"}


# -- append: the same limits, for what is added ---------------------------------------------------------------------


def refused_append(shard: Shard, number: int, text: bytes, **args: Any) -> Refused:
    """The refusal of an append that must change nothing."""
    before = shard.dump()
    with pytest.raises(Refused) as caught:
        shard.append(number, text, **args)
    assert_same(before, shard.dump())
    return caught.value


def asked(shard: Shard, number: int, text: bytes, **args: Any) -> list[bytes]:
    """The answer of an append that asks for something first, and must change nothing."""
    before = shard.dump()
    reply = shard.append(number, text, **args)
    assert_same(before, shard.dump())
    return reply


@pytest.mark.parametrize("policy", ["reject", "evict_oldest", "evict_lru"])
def test_an_append_fits_exactly_or_is_refused(shard: Shard, policy: str) -> None:
    """The limit counts body and segments; a context never makes room for itself, whatever the policy."""
    shard.preserve(1)
    limits: dict[str, Any] = {"max_bytes": 12 + 2 * len(segment(b"abc")), "policy": policy}
    for _ in range(2):
        shard.append(1, b"abc", **limits)
    assert shard.usage()["bytes"] == limits["max_bytes"]
    assert refused_append(shard, 1, b"", **limits).facts == {"scope": "bytes", "limit": str(limits["max_bytes"])}
    assert not wrong_accounts(shard)


@EVICTING
def test_an_append_evicts_others(shard: Shard, policy: str) -> None:
    """The oldest others are named and, once declared, evicted with all their keys; entries are never the reason."""
    for number in (1, 2, 3):
        shard.preserve(number, payload=b"x" * 60)
        shard.client.zadd(shard.keys.order, {context_id(number): number})
    shard.append(2)
    shard.client.zadd(shard.keys.order, {context_id(2): 2})
    limits: dict[str, Any] = {"max_bytes": 240, "max_entries": 1, "policy": policy}
    assert asked(shard, 1, b"", **limits) == [b"VICTIMS", context_id(2).encode()]
    before = shard.dump()
    reply = shard.append(1, b"", more=ids(2), **limits)
    assert told("append", reply)["evicted"] == "1"
    changed = shard.changes(before)
    assert {key for key, sign in changed.items() if sign == "-"} == {
        f"{part}:{context_id(2)}" for part in PARTS if part != "hops"
    }
    assert [event for event, _, _ in shard.events()][-2:] == ["context.evict", "context.append"]
    assert shard.usage()["evicted"] == 1
    assert shard.usage()["bytes"] == 60 + 60 + 48
    assert shard.scores(shard.keys.tombs).keys() == {f"evicted:{context_id(2)}"}
    assert not wrong_accounts(shard)


@EVICTING
def test_an_append_with_a_new_deadline_evicts_too(shard: Shard, policy: str) -> None:
    """The keys of the moved deadline and those of the victims do not get in each other's way."""
    for number in (1, 2):
        shard.preserve(number)
        shard.client.zadd(shard.keys.order, {context_id(number): number})
    reply = shard.append(1, b"", more=ids(2), ttl_ms=2 * HOUR, max_bytes=60, policy=policy)
    assert set(shard.deadlines(1).values()) == {int(told("append", reply)["expires_ms"]), -2}
    assert shard.deadlines(2) == dict.fromkeys(PARTS, -2)
    assert not wrong_accounts(shard)


def test_an_append_spares_what_is_pinned(shard: Shard) -> None:
    """Pinned contexts make no room, and a pinned one that grows stays out of the order."""
    for number in (1, 2):
        shard.preserve(number)
        shard.call("pin", id=context_id(number))
    assert refused_append(shard, 1, b"", max_bytes=30, policy="evict_oldest").word == "LKFULL"
    shard.append(1, b"")
    assert order(shard) == set()


def test_an_append_wants_what_is_expired_swept_first(shard: Shard) -> None:
    """Expired contexts are not called room that is taken; a dry run counts them as gone."""
    for number in (1, 2):
        shard.preserve(number)
    shard.expire(2)
    limits: dict[str, Any] = {"max_bytes": 60, "policy": "evict_oldest"}
    assert asked(shard, 1, b"", **limits) == [b"PURGE"]
    assert asked(shard, 1, b"", dry=1, **limits)[:2] == [b"OK", b"1"]
    shard.call("sweep")
    assert shard.append(1, b"", **limits)[0] == b"OK"


@pytest.mark.parametrize("wrong", ["no keys", "a key too few", "an id too many", "no ttl"])
def test_an_appends_keys_must_match(shard: Shard, wrong: str) -> None:
    """Lists that do not belong together are refused before anything is written."""
    for number in (1, 2):
        shard.preserve(number)
    args: dict[str, Any] = {"id": context_id(1), "max_bytes": 60, "policy": "evict_oldest"}
    script = load("append")
    words: list[Any] = list(
        shard.words(script, {**args, "ttl_ms": HOUR if wrong == "no ttl" else 0}, keys={}, more=ids(2))
    )
    if wrong == "no keys":
        del words[words[0] - 4 : words[0] + 1]
        words[0] -= 5
    elif wrong == "an id too many":
        words.append(context_id(3))
    elif wrong == "a key too few":
        del words[words[0]]
        words[0] -= 1
    else:
        del words[13:16]
        words[0] -= 3
    before = shard.dump()
    with pytest.raises(Refused) as caught:
        shard.send(script, words)
    assert caught.value.facts == {"name": "victim"}
    assert_same(before, shard.dump())


def test_appends_pay_for_what_they_send(shard: Shard) -> None:
    """The bucket counts the segment alone, one may overdraw it, and the debt holds up appends and preserves alike."""
    shard.preserve(1, payload=b"x" * 1000)
    shard.append(1, b"y" * 100, rate=10)
    assert shard.usage()["rate_left"] == 10 - 148
    error = refused_append(shard, 1, b"", rate=10)
    assert error.word == "LKTHROTTLED"
    assert 13_000 < error.number("retry_after_ms") <= 14_000
    assert refused(shard, 2, rate=10).word == "LKTHROTTLED"
    shard.client.hincrby(shard.keys.usage, "rate_at", -error.number("retry_after_ms"))
    assert shard.append(1, b"", rate=10)[0] == b"OK"
