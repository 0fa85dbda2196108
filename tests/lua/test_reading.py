"""restore, touch, metadata, lifecycle, list, stats, report: reading, and what reading leaves behind.

What belongs here: answers, and that readers change nothing. What does not: absences (`test_sweep`).
"""

from __future__ import annotations

from typing import Any

import pytest
import redis

from lukhas_redis.calls import Refused
from lukhas_redis.scripts import load, script_names
from lukhas_redis.testing import RunningServer, assert_same
from tests.lua.shard import HOUR, Shard, chained, context_id, segment, told

A = context_id(1)


def log(shard: Shard) -> list[str]:
    """The transitions, oldest first, without their times."""
    found: Any = shard.client.lrange(shard.keys.log(A), 0, -1)
    return [one.decode().split(" ", 1)[1] for one in found]


def test_readers_change_nothing(shard: Shard) -> None:
    """No script with `flags=no-writes` moves a key, a deadline or a counter."""
    shard.preserve(1)
    shard.call("handoff", id=A)
    before = shard.dump()
    for name in script_names():
        if load(name).reads_only:
            shard.call(name, id=A, more=[A] if name == "check" else [])
    assert_same(before, shard.dump())


def fields_in(reply: Any) -> dict[str, str]:
    """The fields in an answer of restore."""
    return {name.decode(): value.decode() for name, value in zip(reply[2][::2], reply[2][1::2], strict=True)}


def test_restore_answers_metadata_and_a_small_body(shard: Shard) -> None:
    """The server's time, every field of the hash, and the body last."""
    shard.preserve(1, raw_bytes=99)
    shard.call("handoff", id=A)
    reply = shard.call("restore", id=A)
    fields = shard.fields(1)
    assert reply[0] == b"FULL"
    assert int(fields["created_ms"]) <= int(reply[1]) <= shard.now_ms()
    assert fields_in(reply) == fields
    assert reply[3:] == [b"stored bytes"]


@pytest.mark.parametrize("inline, body", [(11, b""), (12, b"stored bytes"), (0, b"")])
def test_restore_leaves_a_large_body_to_get(shard: Shard, inline: int, body: bytes) -> None:
    """Bodies up to `inline` bytes come along; for larger ones the answer is empty and never null."""
    shard.preserve(1)
    assert shard.call("restore", id=A, inline=inline)[3:] == [body]


@pytest.mark.parametrize("inline", [0, 100])
def test_restore_without_a_body_is_lost(shard: Shard, inline: int) -> None:
    """Metadata alone is no context."""
    shard.preserve(1)
    shard.client.unlink(shard.keys.body(A))
    with pytest.raises(Refused) as caught:
        shard.call("restore", id=A, inline=inline)
    assert caught.value.facts["reason"] == "lost"


def known(shard: Shard) -> dict[str, Any]:
    """What a reader sends who has read context 1 just now."""
    return {"held": shard.identity(1), "stamp": shard.stamp(1)}


def test_nothing_is_sent_again_that_the_reader_holds(shard: Shard) -> None:
    """With the content and the metadata of now the answer is the server's time and nothing else, segments or not."""
    shard.preserve(1)
    for _ in range(3):
        word, now = shard.call("restore", id=A, **known(shard))
        assert word == b"SAME"
        assert int(now) <= shard.now_ms()
        shard.append(1)


@pytest.mark.parametrize(
    "name, args",
    [
        ("handoff", {}),
        ("extend", {"ttl_ms": 2 * HOUR}),
        ("pin", {}),
        ("touch", {}),
        ("lease", {}),
        ("renew", {"lease": 7}),
    ],
)
def test_metadata_alone_is_sent_when_only_that_has_changed(shard: Shard, name: str, args: Any) -> None:
    """Each write that leaves the data alone shows in the stamp, and costs the reader the fields only."""
    shard.preserve(1)
    shard.append(1)
    if name == "renew":
        shard.lease(1)
    held = known(shard)
    shard.call(name, id=A, **args)
    reply = shard.call("restore", id=A, **held)
    assert (reply[0], fields_in(reply), len(reply)) == (b"META", shard.fields(1), 3)
    assert shard.call("restore", id=A, **known(shard))[0] == b"SAME"


def test_a_stamp_alone_is_not_enough(shard: Shard) -> None:
    """Without the identity of the content everything is sent, whatever the stamp says."""
    shard.preserve(1)
    assert shard.call("restore", id=A, held="", stamp=shard.stamp(1))[0] == b"FULL"


def test_what_was_appended_is_sent_and_no_more(shard: Shard) -> None:
    """A reader gets the segments since its own sequence number, in order, and could check them against the chain."""
    shard.preserve(1)
    texts = [b"one", b"two", b"three", b"four"]
    seen = [known(shard)]
    for text in texts:
        shard.append(1, text)
        seen.append(known(shard))
    for number, held in enumerate(seen[:-1]):
        reply = shard.call("restore", id=A, **held)
        assert (reply[0], reply[3:]) == (b"GREW", [segment(text) for text in texts[number:]])
        assert chained(held["held"].split()[2], *reply[3:]) == fields_in(reply)["chain"]
    assert shard.call("restore", id=A)[3:] == [b"stored bytes", *map(segment, texts)]


def test_a_reader_grows_over_a_handoff(shard: Shard) -> None:
    """Versions count every write, sequence numbers those of the data, so a handoff between does not matter."""
    shard.preserve(1)
    held = known(shard)
    shard.append(1, b"one")
    shard.call("handoff", id=A)
    shard.append(1, b"two")
    assert shard.call("restore", id=A, **held)[3:] == [segment(b"one"), segment(b"two")]


def fold(shard: Shard, **args: Any) -> list[bytes]:
    """Fold context 1 as it is now."""
    return list(shard.call("fold", id=A, **{"held": shard.identity(1), "payload": b"folded", **args}))


def test_a_reader_sees_nothing_of_a_fold(shard: Shard) -> None:
    """Who holds the newest state still does, and is told of the new layout, so as not to fold it himself.

    Who is behind it reads all; what is appended later is sent alone.
    """
    shard.preserve(1)
    behind = known(shard)
    shard.append(1, b"one")
    held = known(shard)
    assert fold(shard) == [b"OK", b"0", b"1"]
    assert shard.call("restore", id=A, **held)[0] == b"META"
    assert shard.call("restore", id=A, **{**held, "stamp": shard.stamp(1)})[0] == b"SAME"
    assert shard.call("restore", id=A, **behind)[3:] == [b"folded"]
    shard.append(1, b"two")
    assert shard.call("restore", id=A, **held)[3:] == [segment(b"two")]
    assert shard.call("restore", id=A, **behind)[3:] == [b"folded", segment(b"two")]


def test_another_incarnation_with_the_same_numbers_is_read_anew(shard: Shard) -> None:
    """Dropped and made again, with the same version and sequence: the nonce tells, and all is sent."""
    shard.preserve(1)
    shard.append(1, b"one")
    held = known(shard)
    shard.call("drop", id=A)
    shard.preserve(1, nonce="0123456789abcdef", payload=b"other bytes")
    shard.append(1, b"one")
    assert shard.identity(1).split()[1] == held["held"].split()[1]
    assert shard.call("restore", id=A, **held)[3:] == [b"other bytes", segment(b"one")]


def test_another_history_is_never_taken_for_the_readers_own(shard: Shard) -> None:
    """After a failover that lost the last append, another took its number: never SAME or META, and the chain tells."""
    shard.preserve(1)
    shard.append(1, b"one")
    nonce, seq, chain = shard.identity(1).split()
    held: dict[str, Any] = {"held": f"{nonce} {seq} {chained('d' * 32, segment(b'lost'))}", "stamp": shard.stamp(1)}
    assert shard.call("restore", id=A, **held)[0] == b"FULL"
    shard.append(1, b"two")
    reply = shard.call("restore", id=A, **held)
    assert reply[0] == b"GREW"
    assert chained(held["held"].split()[2], *reply[3:]) != fields_in(reply)["chain"]
    ahead: dict[str, Any] = {"held": f"{nonce} {int(seq) + 5} {chain}", "stamp": shard.stamp(1)}
    assert shard.call("restore", id=A, **ahead)[0] == b"FULL"


@pytest.mark.parametrize("held", ["x", "abcdef0123456789", "abcdef0123456789 1", "abcdef0123456789 x d", "1 2 3 4"])
def test_what_is_no_identity_is_read_anew(shard: Shard, held: str) -> None:
    """Whatever a reader claims to hold, unless it is this very content, all is sent."""
    shard.preserve(1)
    shard.append(1)
    assert shard.call("restore", id=A, held=held, stamp=shard.stamp(1))[0] == b"FULL"


def test_many_small_segments_come_in_one_answer(shard: Shard) -> None:
    """Lua cannot unpack ten thousand values; a reader may be that far behind."""
    shard.preserve(1)
    shard.append(1)
    held = known(shard)
    count = 9_000
    shard.client.rpush(shard.keys.segs(A), *[segment(b"")] * count)
    fields: dict[Any, Any] = {"seq": 2 + count, "segs": 1 + count, "segs_bytes": (1 + count) * 48}
    shard.client.hset(shard.keys.ctx(A), mapping=fields)
    assert len(shard.call("restore", id=A, inline=10**6, **held)) == 3 + count
    assert len(shard.call("restore", id=A, inline=10**6)) == 4 + 1 + count


def test_long_segments_are_left_to_be_fetched(shard: Shard) -> None:
    """Segments over `inline` bytes are left out of an answer, and a reader that is too far behind reads all."""
    shard.preserve(1)
    held = known(shard)
    shard.append(1, b"x" * 1000)
    shard.append(1, b"x")
    assert shard.call("restore", id=A, inline=500)[3:] == [b"stored bytes"]
    reply = shard.call("restore", id=A, inline=500, **held)
    assert (reply[0], reply[3:]) == (b"FULL", [b"stored bytes"])


def test_touch_notes_a_first_read(shard: Shard) -> None:
    """Time of access, total and one transition; the log gets the context's deadline, which does not move."""
    expires = int(told("preserve", shard.preserve(1))["expires_ms"])
    before = shard.dump()
    assert shard.call("touch", id=A) == [b"OK", b"1"]
    assert shard.changes(before) == {f"ctx:{A}": "~", f"log:{A}": "+", "usage": "~"}
    assert shard.deadlines(1) == {"ctx": expires, "body": expires, "segs": -2, "hops": -2, "log": expires}
    assert log(shard) == ["preserved restored"]
    assert shard.usage()["restored"] == 1


def test_touch_tells_a_read_from_a_cache(shard: Shard) -> None:
    """Who held the context already is counted apart, and another word is refused."""
    shard.preserve(1)
    assert shard.call("touch", id=A, state="cached") == [b"OK", b"1"]
    assert log(shard) == ["preserved cached"]
    assert (shard.usage()["cached"], shard.usage().get("restored")) == (1, None)
    with pytest.raises(Refused, match="state"):
        shard.call("touch", id=A, state="seen")


def test_touch_notes_a_read_once_an_interval(shard: Shard) -> None:
    """A second read within the interval changes nothing; after it, only the time of access and the total."""
    shard.preserve(1)
    shard.call("touch", id=A)
    before = shard.dump()
    assert shard.call("touch", id=A) == [b"OK", b"0"]
    assert_same(before, shard.dump())
    shard.client.hincrby(shard.keys.ctx(A), "accessed_ms", -60_000)
    shard.client.hincrby(shard.keys.ctx(A), "updated_ms", -60_000)
    assert shard.call("touch", id=A) == [b"OK", b"1"]
    assert log(shard) == ["preserved restored"]
    assert shard.usage()["restored"] == 2


def test_a_write_makes_the_next_read_a_first_read_again(shard: Shard) -> None:
    """preserved, restored, preserved, restored: each is one transition."""
    for _ in range(2):
        shard.preserve(1)
        shard.client.hincrby(shard.keys.ctx(A), "updated_ms", -5)
        shard.client.hset(shard.keys.ctx(A), "accessed_ms", "0")
        shard.call("touch", id=A)
    assert log(shard) == ["preserved restored", "restored preserved", "preserved restored"]


def test_the_log_keeps_the_last_fifteen_transitions(shard: Shard) -> None:
    """However often a context is written, the log is bounded and holds the latest."""
    for _ in range(30):
        shard.preserve(1)
    shard.call("touch", id=A)
    assert log(shard) == ["preserved preserved"] * 14 + ["preserved restored"]


@pytest.mark.parametrize("mode", ["dry_run", "paused"])
@pytest.mark.parametrize("how", ["flag", "first mode"])
def test_touch_and_report_write_in_a_live_tenant_only(shard: Shard, mode: str, how: str) -> None:
    """In another mode, set or first, they answer that nothing was noted, and nothing was."""
    shard.preserve(1)
    if how == "flag":
        shard.call("set_flag", name="mode", value=mode)
    before = shard.dump()
    for name in ("touch", "report"):
        assert shard.call(name, id=A, mode="live" if how == "flag" else mode) == [b"OK", b"0"]
    assert_same(before, shard.dump())


@pytest.mark.parametrize("number", [2, 3])
def test_touch_of_what_is_gone_changes_nothing(shard: Shard, number: int) -> None:
    """A context that never existed, or whose deadline has passed, does not come back as a hash without a deadline."""
    shard.preserve(3)
    shard.client.hset(shard.keys.ctx(context_id(3)), "expires_ms", str(shard.now_ms() - 1))
    before = shard.dump()
    assert shard.call("touch", id=context_id(number)) == [b"OK", b"0"]
    assert_same(before, shard.dump())


def test_touch_refuses_keys_given_twice_and_foreign_fields(shard: Shard) -> None:
    """The same key twice, or a deadline that is no number, is refused before the first write."""
    shard.preserve(1)
    for keys, field in ({"log": shard.keys.order}, "1"), ({}, "soon"):
        shard.client.hset(shard.keys.ctx(A), "ttl_ms" if keys else "expires_ms", field)
        before = shard.dump()
        with pytest.raises(Refused, match="LKARGUMENT" if keys else "LKCORRUPT"):
            shard.call("touch", id=A, keys=keys, policy="evict_lru")
        assert_same(before, shard.dump())


def test_metadata_is_every_field(shard: Shard) -> None:
    """The hash as it is, after the server's time."""
    shard.preserve(1)
    flat = [one.decode() for one in shard.call("metadata", id=A)]
    assert flat[0] == "now_ms"
    assert int(flat[1]) <= shard.now_ms()
    assert dict(zip(flat[2::2], flat[3::2], strict=True)) == shard.fields(1)


def test_lifecycle_is_everything_but_the_data(shard: Shard) -> None:
    """Body length, both deadlines, the fields, the transitions and the hops."""
    expires = int(told("preserve", shard.preserve(1))["expires_ms"])
    shard.call("handoff", id=A)
    shard.call("touch", id=A)
    now, length, segments, ctx_ends, body_ends, fields, transitions, hops = shard.call("lifecycle", id=A)
    assert int(now) <= shard.now_ms()
    assert (length, segments, ctx_ends, body_ends) == (12, 0, expires, expires)
    assert len(fields) == 2 * len(shard.fields(1))
    assert [one.split(b" ", 1)[1] for one in transitions] == [b"preserved restored"]
    assert len(hops) == 1


def test_list_pages_live_contexts_by_deadline(shard: Shard) -> None:
    """Soonest deadline first, expired ones left out; pages follow each other without gap or repeat."""
    for number in range(7):
        shard.preserve(number, ttl_ms=HOUR + 1000 * number)
    shard.expire(0)
    seen: list[str] = []
    after, after_ms = "", 0
    while page := shard.call("list", after=after, after_ms=after_ms, count=2):
        seen += [one.decode() for one in page[::2]]
        after, after_ms = page[-2].decode(), int(page[-1])
    assert seen == [context_id(number) for number in range(1, 7)]
    shard.call("drop", id=context_id(3))
    rest = shard.call("list", after=context_id(3), after_ms=int(shard.scores(shard.keys.index)[context_id(4)]) - 500)
    assert [one.decode() for one in rest[::2]] == [context_id(number) for number in (4, 5, 6)]


@pytest.mark.parametrize("args", [{"count": 0}, {"count": 1001}, {"count": "x"}, {"after_ms": -1}, {"after_ms": "nan"}])
def test_list_is_bounded(shard: Shard, args: Any) -> None:
    """1 to 1000 a page."""
    with pytest.raises(Refused, match=next(iter(args))):
        shard.call("list", **args)


def test_stats_are_one_moment(shard: Shard) -> None:
    """Live, expired, ordered, tombs and events, then the totals, flags and record as they are."""
    for number in (1, 2, 3):
        shard.preserve(number)
    shard.call("drop", id=A)
    shard.call("pin", id=context_id(2))
    shard.expire(3)
    shard.call("set_flag", name="max_entries", value="9")
    reply = shard.call("stats")
    assert reply[1:6] == [1, 1, 1, 1, 5]
    assert reply[7] == [b"max_entries", b"9"]
    assert dict(zip(reply[6][::2], reply[6][1::2], strict=True))[b"entries"] == b"2"
    assert b"marker" in reply[8]


def test_report_counts_and_tells_damage(shard: Shard) -> None:
    """One event and one total; the context itself is not touched."""
    shard.preserve(1)
    before = shard.dump()
    assert shard.call("report", id=A) == [b"OK", b"1"]
    assert shard.changes(before) == {"usage": "~", "events": "~"}
    assert shard.events()[-1] == ("context.corrupt", A, "0")
    assert shard.usage()["corrupt"] == 1


def test_the_server_itself_forbids_readers_to_write(server: RunningServer, tenant: str) -> None:
    """`flags=no-writes` is enforced: with a write in it a reader fails and writes nothing."""
    text = load("metadata").text.replace("local now = now_ms()\n", "redis.call('SET', ctx, 'x')\n", 1)
    key = f"lukhas:{{{tenant}}}:ctx:{A}"
    with pytest.raises(redis.ResponseError, match=r"[Ww]rite commands are not allowed"):
        server.admin.eval(text, 4, key, "i", "t", "s", A, "")
    assert not server.admin.exists(key)


@pytest.mark.parametrize("fate", ["stays", "goes", "moves"])
def test_list_goes_on_among_equal_deadlines(shard: Shard, fate: str) -> None:
    """A page starts after the last context's place of then, whether that one stayed, went or moved since."""
    deadline = shard.now_ms() + HOUR
    shard.client.zadd(shard.keys.index, {context_id(n): deadline + (n > 6) for n in range(1, 10)})
    for last in range(1, 10):
        if fate == "goes":
            shard.client.zrem(shard.keys.index, context_id(last))
        elif fate == "moves":
            shard.client.zadd(shard.keys.index, {context_id(last): deadline + HOUR})
        page = shard.call("list", after=context_id(last), after_ms=deadline + (last > 6), count=9)
        following = [context_id(n) for n in range(last + 1, 10)]
        assert [one.decode() for one in page[::2]][: len(following)] == following
