"""The demo's keys: what `redis-cli` shows of them, and removing them.

What belongs here: plain commands on the keys of the demo's tenant. What does not: reading contexts (the store does).
Invariant: every key that the demo can have written is known by name; no server is searched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lukhas_redis.bus_models import PRIORITIES
from lukhas_redis.calls import Op, Read
from lukhas_redis.demo.agent import STAGES
from lukhas_redis.demo.pipeline import SESSION, draft_ids
from lukhas_redis.demo.plan import MAX_REPORTS, report_request_id
from lukhas_redis.demo.sessions import PROVIDERS, Session
from lukhas_redis.keys import SHARD_KEYS, KeySpace, ShardKeys
from lukhas_redis.ops.bus.emission import request_id_of
from lukhas_redis.store import ContextStore

_AT_ONCE = 500


@dataclass(frozen=True)
class KeyFacts:
    """One key: its name, its type, and its time to live in milliseconds (-1: none)."""

    name: str
    kind: str
    ttl_ms: int


@dataclass(frozen=True)
class Sight:
    """What redis-cli shows: the fields of one context's hash, and the keys of that context and of the tenant."""

    key: str
    fields: Mapping[str, str]
    keys: Sequence[KeyFacts]


def look(store: ContextStore, session: Session) -> Sight:
    """Ask the server for one context's hash and for the type and deadline of the keys around it."""
    return store.run(_look(_keys(store), session))


def forget(store: ContextStore, sessions: Sequence[Session], reports: Sequence[str]) -> None:
    """Remove every key of the demo's tenant.

    Raises:
        Unavailable: The server is gone; some keys may be left until they expire.
    """
    store.run(_forget(_keys(store), list(_all_keys(_keys(store), sessions, reports))))


def _keys(store: ContextStore) -> ShardKeys:
    return KeySpace(store.settings.prefix, store.tenant).root


def _look(keys: ShardKeys, session: Session) -> Op[Sight]:
    ctx = keys.ctx(session.context_id)
    names = [*_context_keys(keys, session), *_tenant_keys(keys)]
    flat = yield Read(keys.tag, ("HGETALL", ctx))
    kinds = yield tuple(Read(keys.tag, ("TYPE", name)) for name in names)
    ttls = yield tuple(Read(keys.tag, ("PTTL", name)) for name in names)
    facts = [KeyFacts(name, _text(kind), int(ttl)) for name, kind, ttl in zip(names, kinds, ttls, strict=True)]
    return Sight(ctx, _fields(flat), [one for one in facts if one.kind != "none"])


def _forget(keys: ShardKeys, names: list[str]) -> Op[None]:
    for start in range(0, len(names), _AT_ONCE):
        yield Read(keys.tag, ("UNLINK", *names[start : start + _AT_ONCE]))


def _all_keys(keys: ShardKeys, sessions: Sequence[Session], reports: Sequence[str]) -> Iterator[str]:
    yield from _tenant_keys(keys)
    yield keys.session("reports")
    yield from _pipeline_keys(keys)
    for session in sessions:
        yield keys.session(session.session_id)
        yield from _context_keys(keys, session)
        for turn in range(session.turns + 1):
            yield from (keys.request(session.request_id(turn, step)) for step in ("preserve", "handoff"))
    for report in reports:
        yield from (part(report) for part in (keys.ctx, keys.body, keys.hops, keys.log))
    for provider in PROVIDERS:
        yield from (keys.request(report_request_id(provider, number)) for number in range(1, MAX_REPORTS + 1))


def _pipeline_keys(keys: ShardKeys) -> Iterator[str]:
    yield keys.session(SESSION)
    yield from (keys.bus(part) for part in (*PRIORITIES, "later", "due", "dead", "wake", "groups"))
    for stage in STAGES:
        held = (f"held:{priority}" for priority in PRIORITIES)
        yield from (keys.group(stage, part) for part in ("", "parked", "busy", *held))
    for number, draft in enumerate(draft_ids()):
        yield from (part(draft) for part in (keys.ctx, keys.body, keys.segs, keys.hops, keys.log))
        yield keys.request(f"draft.{number}")
        yield keys.request(request_id_of(f"draft {number}"))


def _context_keys(keys: ShardKeys, session: Session) -> list[str]:
    return [part(session.context_id) for part in (keys.ctx, keys.body, keys.hops, keys.log)]


def _tenant_keys(keys: ShardKeys) -> list[str]:
    return [getattr(keys, name) for name in sorted(SHARD_KEYS)]


def _fields(flat: Any) -> dict[str, str]:
    items = flat.items() if isinstance(flat, Mapping) else zip(flat[::2], flat[1::2], strict=True)
    return {_text(name): _text(value) for name, value in items}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
