"""Dead letters: events that a group gave up.

What belongs here: listing, redriving and discarding them. What does not: how an event becomes one (`deliveries`).
Invariant: a redriven letter goes to the group it died in alone, with its deliveries counted anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lukhas_redis.bus_models import DeadLetter, Discarded, Redriven
from lukhas_redis.calls import Op, Read
from lukhas_redis.errors import InvalidArgument, LukhasRedisError
from lukhas_redis.keys import ShardKeys
from lukhas_redis.ops.bus.common import STREAMS, Ask, ask, bus_keys, entries, known, read_event
from lukhas_redis.ops.space import Space

_A_CALL = 100
_TRAIT = ("group", "reason", "handler", "error", "consumer")


def dead_letters(
    space: Space, *, group: str | None = None, letter_id: str | None = None, count: int = 100
) -> Op[list[DeadLetter]]:
    """Up to `count` dead letters (1..10,000), the newest first; `group`: only those of one consumer group.

    `letter_id`: only the one with this id, at the price of one look; letters of two shards may have the same.

    Raises:
        InvalidArgument: Nothing was sent; do not retry.
        Unavailable: Retry later.
    """
    checked_count(count)
    first, last = ("+", "-") if letter_id is None else (_letter_id(letter_id),) * 2
    yield from known(space)
    found: list[DeadLetter] = []
    for keys in space.all_shards():
        end, mine = first, 0
        while mine < count:
            page = yield Read(keys.tag, ("XREVRANGE", keys.bus("dead"), end, last, "COUNT", _A_CALL))
            letters = [_letter(space, one, fields, keys.tag) for one, fields in entries(page)]
            chosen = [one for one in letters if group in (None, one.group)][: count - mine]
            found += chosen
            mine += len(chosen)
            if len(page) < _A_CALL:
                break
            end = f"({page[-1][0].decode()}"
    return sorted(found, key=lambda one: one.died_ms, reverse=True)[:count]


def checked_count(count: object, most: int = 10_000) -> int:
    """A number of events from 1 to `most`.

    Raises:
        InvalidArgument: It is none; nothing was sent.
    """
    if type(count) is not int or not 1 <= count <= most:
        raise InvalidArgument(f"count {count!r:.40} is not a whole number from 1 to {most}")
    return count


def _letter(space: Space, letter_id: str, fields: Mapping[str, bytes], tag: str) -> DeadLetter:
    def word(name: str) -> str:
        return fields.get(name, b"").decode("utf-8", "replace")

    deliveries = int(fields.get("deliveries") or 0)
    where = {"priority": word("priority"), "stream_id": word("stream_id"), "shard": tag, "deliveries": deliveries}
    try:
        event = read_event(fields, space.limits, **where)
    except (LukhasRedisError, ValueError, KeyError, TypeError):
        event = None
    return DeadLetter(
        letter_id, tag, word("group"), word("reason"), word("handler"), word("error"), deliveries, word("consumer"),
        int(fields.get("died") or 0), word("id"), word("event"), word("priority"), event,
    )  # fmt: skip


def redrive(space: Space, letters: Sequence[DeadLetter | str], *, dry_run: bool | None = None) -> Op[Redriven]:
    """Give dead letters back to the groups they died in; the answer has the ids of those that were.

    `letters`: what `dead_letters` gave, or their ids (tried on every shard). They come at the end of their stream and
    of their ordering key. A letter whose group was retired stays.

    Raises:
        InvalidArgument: Nothing was sent; do not retry.
        TenantPaused, Unavailable: None, or only some, were given back; retry, which does no harm.
    """
    done: list[str] = []
    dry = bool(dry_run)
    yield from known(space)
    for keys in space.all_shards():
        ids = _on_shard(letters, keys)
        for start in range(0, len(ids), _A_CALL):
            part = ids[start : start + _A_CALL]
            asked = Ask(
                "redrive",
                lambda keys: bus_keys(keys, *STREAMS, "dead", "wake", "groups"),
                {},
                part,
                dry=dry,
                repeatable=False,
            )
            reply = yield from ask(space, lambda keys=keys: keys, asked, f"dead letters of {space.tenant}")  # type: ignore[misc]
            done += [one for one, made in zip(part, reply[2:], strict=True) if made]
            dry = dry or reply[1] == b"1"
    return Redriven(tuple(done), dry)


def discard(space: Space, letters: Sequence[DeadLetter | str], *, dry_run: bool | None = None) -> Op[Discarded]:
    """Throw dead letters away for good; how many there were.

    Raises:
        InvalidArgument: Nothing was sent; do not retry.
        Unavailable: None, or only some, are gone; retry, which does no harm.
    """
    gone, dry = 0, bool(dry_run)
    yield from known(space)
    for keys in space.all_shards():
        ids = _on_shard(letters, keys)
        for start in range(0, len(ids), _A_CALL):
            asked = Ask("discard", lambda keys: bus_keys(keys, "dead"), {}, ids[start : start + _A_CALL], dry=dry)
            reply = yield from ask(space, lambda keys=keys: keys, asked, f"dead letters of {space.tenant}")  # type: ignore[misc]
            gone, dry = gone + int(reply[2]), dry or reply[1] == b"1"
    return Discarded(gone, dry)


def _on_shard(letters: Sequence[object], keys: ShardKeys) -> list[str]:
    ids = []
    for one in letters:
        letter_id = _letter_id(one.letter_id if isinstance(one, DeadLetter) else one)
        if not isinstance(one, DeadLetter) or one.shard == keys.tag:
            ids.append(letter_id)
    return ids


def _letter_id(value: object) -> str:
    if not isinstance(value, str) or not _is_stream_id(value):
        raise InvalidArgument(f"{value!r:.60} is not the id of a dead letter such as 1795411152677-0")
    return value


def _is_stream_id(value: str) -> bool:
    ms, dash, number = value.partition("-")
    parts = (ms, number)
    return bool(dash) and all(one.isascii() and one.isdigit() and len(one) <= 20 and int(one) < 2**64 for one in parts)
