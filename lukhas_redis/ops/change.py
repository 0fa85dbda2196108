"""append and patch: change a part of a context, at the price of the part.

What belongs here: checking a change against the structure of the data, and the steps of `lua/append.lua`'s protocol.
What does not: what a change does to data (`codec.changes`), any rule of the store (`lua/append.lua`).
Invariant: a change that was accepted fits the data it meets, so that no reader ever stumbles over it: it carries the
structure it was checked against, and the script refuses it when that is no longer the one stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from lukhas_redis.calls import Call, Op, Read, Refused
from lukhas_redis.codec import (
    Append,
    Patch,
    Path,
    Segment,
    apply,
    chained,
    changes_shape,
    checked_path,
    list_at,
    pack_change,
    resolve,
    seal_segment,
    unpack_change,
)
from lukhas_redis.errors import ContextTooLarge, LukhasRedisError, SessionConflict, StoreFull, VersionConflict
from lukhas_redis.keys import ShardKeys, valid_context_id
from lukhas_redis.models import Appended, Lease, Patched
from lukhas_redis.ops.bus.transaction import Outbox, with_events
from lukhas_redis.ops.folding import fold
from lukhas_redis.ops.frame import ANY_ID, OPEN, Frame
from lukhas_redis.ops.preserve import limit_args, rewrite, ttl_milliseconds, version_argument
from lukhas_redis.ops.refusals import explain
from lukhas_redis.ops.restore import found_in, refusal
from lukhas_redis.ops.space import Space, aside, settle
from lukhas_redis.ops.sweep import sweep_around
from lukhas_redis.ops.writing import (
    ACCOUNT_KEYS,
    Write,
    begin,
    common_args,
    context_keys,
    lease_argument,
    place_of,
    shard_keys,
    write_call,
)
from lukhas_redis.scripts import Arg, load

_MOST_STEPS = 200
_MOST_FOLDS = 3
_OPEN_ARGS = ("request_id", "request", "lease", "event", "if_version", "view", "bump", "ttl_ms", "sid", "raw_bytes")


@dataclass(slots=True)
class _Wanted:
    """One change with its arguments checked; what the server asks for on the way is noted in it.

    `path`: of an append, as the caller gave it; None for a patch. `look`: the structure it was checked against.
    `whole`: it is not made as a segment but by writing all of the context.
    """

    event: str
    cid: str
    path: str | Path | None
    content: Append | Patch
    if_version: int
    ttl_ms: int
    lease: str
    write: Write
    named: bool
    raw: bytes
    segment: Segment | None = None
    look: str = ""
    bump: bool = False
    sid: str = ""
    victims: list[str] = field(default_factory=list)
    folds: int = 0
    whole: bool = False


def append(
    space: Space,
    context_id: str,
    path: str | Sequence[Any],
    items: Sequence[Any],
    *,
    if_version: int | None = None,
    ttl: int | timedelta | None = None,
    lease: Lease | int | None = None,
    durability: str | None = None,
    dry_run: bool | None = None,
    request_id: str | None = None,
    emit: Outbox = (),
) -> Op[Appended]:
    """Add `items` to the end of a list inside a context; what is there already is not sent again.

    `path`: where the list is, a tuple of keys and indexes such as `("messages",)` or a JSON pointer (RFC 6901) such as
    `"/messages"`. `items`: at least one. `ttl`: whole seconds for a new deadline; None keeps it. `lease`: what `lease`
    gave, while one is live. `emit`: a `NewEvent`, or up to 16, put on the bus in the same step. The
    other options are those of `preserve`. The first append of a process to a path it has
    not seen reads the context once, to see that a list is there; the cost of the others follows the items alone. Items
    over 32 kB (`inline_body_bytes`) cost a read and a write of the whole.

    After success every reader sees the items, in the order of the appends; after a failure nothing was changed, except
    after `OutcomeUnknown`, where repeating with `fields["request_id"]` is safe.

    Raises:
        InvalidArgument, InvalidId, SerializationError: Nothing was sent; do not retry.
        InvalidPath: No list is there; nothing was changed. Read again and decide.
        ContextTooLarge: The context would be over the size limit; nothing was changed.
        VersionConflict, LeaseHeld, LeaseLost, RequestReused: Nothing was changed; read again and decide.
        ContextNotFound and its kin: It is not there.
        StoreFull, Throttled, TenantPaused, Unavailable: Nothing was changed; retry later.
        OutcomeUnknown, DurabilityUnknown: May be done; repeat with the same request id.
    """
    cid, where = valid_context_id(context_id), checked_path(path, space.limits)
    content = Append(where if isinstance(where, tuple) else ("",), items)  # type: ignore[arg-type]
    raw = pack_change(content, space.limits)
    # As the caller gave it: a place may have to be looked up, and a repeat must be known.
    asked = ("append", cid, where, hashlib.sha256(raw).hexdigest(), if_version, str(ttl))
    write = begin(space, asked, request_id, durability, dry_run)
    wanted = _Wanted(
        "append", cid, where, content, *_options(space, if_version, ttl, lease), write, request_id is not None, raw
    )
    reply = yield from with_events(space, _changed(space, wanted), emit)
    return Appended(*_answer(wanted, reply))


def patch(
    space: Space,
    context_id: str,
    merge_patch: Mapping[Any, Any],
    *,
    if_version: int | None = None,
    ttl: int | timedelta | None = None,
    lease: Lease | int | None = None,
    durability: str | None = None,
    dry_run: bool | None = None,
    request_id: str | None = None,
    emit: Outbox = (),
) -> Op[Patched]:
    """Merge `merge_patch` into a context (RFC 7396): None deletes a key, dicts are merged, all else is replaced whole.

    A patch needs no look at the data. The options are those of `append`, and so is what is guaranteed.

    Raises:
        InvalidArgument, InvalidId, SerializationError: Nothing was sent; do not retry.
        ContextTooLarge: The context would be over the size limit; nothing was changed.
        VersionConflict, LeaseHeld, LeaseLost, RequestReused: Nothing was changed; read again and decide.
        ContextNotFound and its kin: It is not there.
        StoreFull, Throttled, TenantPaused, Unavailable: Nothing was changed; retry later.
        OutcomeUnknown, DurabilityUnknown: May be done; repeat with the same request id.
    """
    cid = valid_context_id(context_id)
    content = Patch(merge_patch)  # type: ignore[arg-type]
    raw = pack_change(content, space.limits)
    asked = ("patch", cid, hashlib.sha256(raw).hexdigest(), if_version, str(ttl))
    write = begin(space, asked, request_id, durability, dry_run)
    wanted = _Wanted(
        "patch", cid, None, content, *_options(space, if_version, ttl, lease), write, request_id is not None, raw
    )
    reply = yield from with_events(space, _changed(space, wanted), emit)
    return Patched(*_answer(wanted, reply))


def _options(
    space: Space, if_version: int | None, ttl: int | timedelta | None, lease: Lease | int | None
) -> tuple[int, int, str]:
    ttl_ms = 0 if ttl is None else ttl_milliseconds(space, ttl)
    return version_argument(if_version), ttl_ms, lease_argument(lease)


def _answer(wanted: _Wanted, reply: Sequence[bytes]) -> tuple[str, int, int, str, int, int, str, bool]:
    """The fields of `Appended` from an answer of `append.lua`, or of `preserve.lua` where the whole was written."""
    _, dry, version, expires_ms, nonce, sequence, evicted = (part.decode() for part in reply[:7])
    was_dry = wanted.write.dry or dry == "1"
    request_id = wanted.write.request_id
    return wanted.cid, int(version), int(expires_ms), nonce, int(sequence), int(evicted), request_id, was_dry


# -- the steps ---------------------------------------------------------------------------------------------------


def _changed(space: Space, wanted: _Wanted) -> Op[Sequence[bytes]]:
    try:
        for _ in range(_MOST_STEPS):
            yield from _check(space, wanted)
            if wanted.whole or len(wanted.raw) > space.settings.inline_body_bytes:
                return (yield from _rewritten(space, wanted))
            if wanted.segment is None:
                wanted.segment = seal_segment(wanted.raw, wanted.cid, limits=space.limits)
            reply = yield from settle(space, wanted.cid, lambda keys: _call(space, wanted, keys))
            if reply[0] == b"OK":
                _remember(space, wanted, reply)
                return reply
            yield from _prepare(space, wanted, reply)
    except _DoneError as done:
        return done.answer
    except Refused as refused:
        space.seen.forget(wanted.cid)
        raise (yield from refusal(space, wanted.cid, refused, tells=not wanted.write.dry)) from None
    raise StoreFull(
        f"{_subject(space, wanted)}: others change it, or fill the tenant, faster than this change can be made"
    )


def _check(space: Space, wanted: _Wanted) -> Op[None]:
    """See to it that the change fits the data, looking at that only when its structure is not known."""
    if isinstance(wanted.content, Patch):
        _check_patch(space, wanted, wanted.content)
        return
    seen = space.seen.get(wanted.cid)
    where = wanted.path if wanted.path is not None else ()
    resolved = seen.lists.get(where) if seen else None
    if seen is None or resolved is None:
        try:
            found = yield from found_in(space, wanted.cid)
            holds = space.holds(found.metadata.context_type)
            data = found.held.shared(space.limits) if holds else found.held.copy(space.limits)
            resolved = resolve(data, where)
            list_at(data, resolved)
        except LukhasRedisError as error:
            raise (yield from _unless_done(space, wanted, error)) from None
        seen = space.seen.note(wanted.cid, found.held.look, data)
        seen.lists[where] = resolved
    wanted.look = seen.look
    # Not `==`: True and 1 are equal and lead to different places.
    if repr(wanted.content.path) != repr(resolved):
        wanted.content = Append(resolved, wanted.content.items)
        wanted.raw, wanted.segment = pack_change(wanted.content, space.limits), None


def _check_patch(space: Space, wanted: _Wanted, content: Patch) -> None:
    """Where the data is not held, a patch is taken to change its structure: others then look again, that is all."""
    held = space.near.get(wanted.cid)
    view = held.view if held else None
    wanted.bump = held is None or view is None or changes_shape(view, content.merge)
    wanted.look = held.look if held and not wanted.bump else ""


def _unless_done(space: Space, wanted: _Wanted, error: LukhasRedisError) -> Op[LukhasRedisError]:
    """A repeat of a request that was answered must get that answer, whatever the data has become since."""
    if not wanted.named:
        return error
    keys = space.shard_for(wanted.cid)
    record = yield Read(keys.tag, ("GET", keys.request(wanted.write.request_id)))
    digest, *answer = record.split(b"\n")[:-1] if record else (b"",)
    if digest.decode() != wanted.write.digest:
        return error
    raise _DoneError(answer)


class _DoneError(Exception):
    """The request was answered before."""

    def __init__(self, answer: list[bytes]) -> None:
        super().__init__()
        self.answer = answer


def _prepare(space: Space, wanted: _Wanted, reply: Sequence[bytes]) -> Op[None]:
    """Do what the script asks for before the change can be made."""
    word, *rest = reply
    if word == b"LOOK":
        space.seen.forget(wanted.cid)
        if isinstance(wanted.content, Patch):
            space.near.forget(wanted.cid)
    elif word == b"FOLD":
        yield from _fold(space, wanted)
    elif word == b"SESSION":
        wanted.sid = rest[0].decode()
    elif word == b"PURGE":
        yield from sweep_around(space, wanted.cid)
    else:
        wanted.victims = [victim.decode() for victim in rest]


def _fold(space: Space, wanted: _Wanted) -> Op[None]:
    """Too many segments, or too many bytes by a count that takes what was replaced for still there.

    Where folding is not possible (a dry run changes nothing, a body may not grow) the whole is written instead.
    """
    wanted.whole = wanted.write.dry or wanted.folds >= _MOST_FOLDS
    if wanted.whole:
        return
    wanted.folds += 1
    found = yield from found_in(space, wanted.cid)
    limit = space.limits.max_context_size_bytes
    size = found.metadata.raw_bytes + len(wanted.raw)
    if not found.metadata.segments and size > limit:
        raise ContextTooLarge(
            f"context {wanted.cid} would have {size} bytes, the limit is max_context_size_bytes={limit}",
            size_bytes=size,
            limit_bytes=limit,
        )
    yield from aside(fold(space, wanted.cid, found.held, found.metadata))


def _call(space: Space, wanted: _Wanted, keys: ShardKeys) -> Call:
    write, cid = wanted.write, wanted.cid
    values: dict[str, Arg] = {
        "req": keys.request(write.request_id),
        "request_id": write.request_id,
        "request": write.digest,
        "lease": wanted.lease,
        "event": wanted.event,
        "if_version": wanted.if_version,
        "view": wanted.look,
        "bump": int(wanted.bump),
        "ttl_ms": wanted.ttl_ms,
        "sid": wanted.sid,
        "raw_bytes": len(wanted.raw),
    }
    filled = _frame(space, keys, write).fill(cid, values, wanted.segment.stored if wanted.segment else b"")
    call = write_call(filled, keys, write)
    if wanted.ttl_ms or wanted.victims:
        more = [keys.body(cid), keys.hops(cid), keys.session(wanted.sid)] if wanted.ttl_ms else []
        more += [key for victim in wanted.victims for key in context_keys(keys, victim).values()]
        call.words, call.packed = filled.with_more(more, wanted.victims), None
    return call


def _frame(space: Space, keys: ShardKeys, write: Write) -> Frame:
    """What changes on one shard have in common."""
    known = "append", *place_of(space, keys), write.dry, write.durability
    found = space.frames.get(known)
    if found is not None:
        return found
    args: dict[str, Arg] = {
        **common_args(space, keys, write),
        **limit_args(space, ""),
        **dict.fromkeys(_OPEN_ARGS, OPEN),
        "max_segs": space.settings.max_segments,
        "max_raw": space.limits.max_context_size_bytes,
        "payload": b"",
    }
    names = {"ctx": keys.ctx(ANY_ID), "segs": keys.segs(ANY_ID), "log": keys.log(ANY_ID), "req": OPEN}
    return space.framed(known, Frame(load("append"), {**names, **shard_keys(keys, *ACCOUNT_KEYS)}, args))


def _remember(space: Space, wanted: _Wanted, reply: Sequence[bytes]) -> None:
    """What is held grows by our own change, when nobody else's came between."""
    if wanted.write.dry or reply[1] == b"1":
        return
    if wanted.bump:
        space.seen.forget(wanted.cid)
    held, segment = space.near.get(wanted.cid), wanted.segment
    if held is None or segment is None:
        return
    nonce, sequence, chain = reply[4].decode(), int(reply[5]), reply[7].decode()
    if (held.nonce, held.sequence + 1) == (nonce, sequence) and chained(held.chain, segment.digest) == chain:
        shape = sequence if wanted.bump else held.shape
        space.near.put(wanted.cid, held.grown((wanted.raw,), sequence, chain, shape, space.limits))


# -- changes too large for a segment -------------------------------------------------------------------------------


def _rewritten(space: Space, wanted: _Wanted) -> Op[Sequence[bytes]]:
    """Read all, change it, and write it whole if nobody else wrote meanwhile."""
    for _ in range(_MOST_STEPS):
        try:
            found = yield from found_in(space, wanted.cid)
            data = found.held.copy(space.limits)
            raw = wanted.raw
            if isinstance(wanted.content, Append) and wanted.path is not None:
                where = resolve(data, wanted.path)
                list_at(data, where)
                raw = pack_change(Append(where, wanted.content.items), space.limits)
        except LukhasRedisError as error:
            raise (yield from _unless_done(space, wanted, error)) from None
        apply(data, unpack_change(raw, space.limits))
        version = found.metadata.version
        if wanted.if_version not in (-1, version):
            conflict = explain(Refused("LKCONFLICT", {"actual": str(version)}), _subject(space, wanted))
            raise (yield from _unless_done(space, wanted, conflict))
        options = (wanted.event, version, wanted.ttl_ms, wanted.lease, wanted.write)
        try:
            return (yield from rewrite(space, found.metadata, data, *options))
        except VersionConflict as error:
            if wanted.if_version >= 0 or type(error) not in (VersionConflict, SessionConflict):
                raise
            space.seen.forget(wanted.cid)
    raise StoreFull(f"{_subject(space, wanted)}: others write it faster than this change can be made")


def _subject(space: Space, wanted: _Wanted) -> str:
    return f"context {wanted.cid} of tenant {space.tenant}"
