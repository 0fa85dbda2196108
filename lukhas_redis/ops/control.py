"""Modes, limits and feature flags: what changes for every worker on its next call.

What belongs here: changing and reading flags and their audit. What does not: obeying them (`lua/includes/tenant`).
Invariant: every change is in the audit stream before it takes effect.
"""

from __future__ import annotations

from lukhas_redis.calls import Call, Op, Read, Refused
from lukhas_redis.errors import InvalidArgument
from lukhas_redis.models import AuditEntry, FlagChange
from lukhas_redis.ops.describe import pairs
from lukhas_redis.ops.refusals import explain
from lukhas_redis.ops.space import Space, discover
from lukhas_redis.ops.writing import shard_keys
from lukhas_redis.scripts import Arg, load

MODES = ("live", "dry_run", "paused")
LIMITS = ("max_entries", "max_bytes", "policy", "max_mbps")


def set_mode(space: Space, mode: str, *, by: str = "", reason: str = "") -> Op[FlagChange]:
    """Switch the tenant to `mode` (live, dry_run or paused) for every worker's next call; audited.

    Raises:
        InvalidArgument: No such mode; nothing was sent.
        Unavailable: Nothing (or, with several shards, only some of them) changed; repeat it.
    """
    if mode not in MODES:
        raise InvalidArgument(f"mode {mode!r:.40} is not one of {', '.join(MODES)}")
    return (yield from set_flag(space, "mode", mode, by=by, reason=reason))


def set_flag(space: Space, name: str, value: str, *, by: str = "", reason: str = "") -> Op[FlagChange]:
    """Set `mode`, a limit (max_entries, max_bytes, policy, max_mbps) or a feature flag; '' restores the default.

    A feature flag is a name of letters, digits and `_ . -`; it is stored as `flag.<name>`. `by` and `reason`
    (up to 256 bytes each) go to the audit stream with the time and the old and new value.

    Raises:
        InvalidArgument: Name, value, `by` or `reason` is malformed; nothing was changed.
        Unavailable: Nothing (or, with several shards, only some of them) changed; repeat it.
    """
    for text in (name, value, by, reason):
        _encodable(text)
    stored = name if name in ("mode", *LIMITS) or str(name).startswith("flag.") else f"flag.{name}"
    yield from discover(space)
    places = dict.fromkeys((space.keys.root, *space.all_shards()))
    script = load("set_flag")
    args: dict[str, Arg] = {
        "name": stored,
        "value": str(value),
        "by": by or space.settings.client_name or "unnamed",
        "reason": reason,
        "window": space.settings.audit_window_entries,
    }
    changes = []
    for keys in places:
        try:
            reply = yield Call(script, keys.tag, script.pack(shard_keys(keys, "flags", "audit"), args))
        except Refused as refused:
            raise explain(refused, f"flag {name} of tenant {space.tenant}") from None
        changes.append(FlagChange(stored, reply[1].decode("utf-8", "replace"), reply[2].decode("utf-8", "replace")))
    return changes[0]


def _encodable(text: object) -> None:
    try:
        str(text).encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{text!r:.80} holds a lone surrogate") from None


def flags(space: Space) -> Op[dict[str, str]]:
    """Return what is set for the tenant: mode, limits and feature flags; what is missing has its default.

    Raises:
        Unavailable: Retry later.
    """
    root = space.keys.root
    found = yield Read(root.tag, ("HGETALL", root.flags))
    return {name: value.decode("utf-8", "replace") for name, value in pairs(found).items()}


def audit(space: Space, *, count: int = 100) -> Op[list[AuditEntry]]:
    """Return the last `count` changes of modes, limits and flags, newest first.

    Raises:
        InvalidArgument: `count` is not a whole number from 1 to 1000; nothing was sent.
        Unavailable: Retry later.
    """
    if type(count) is not int or not 1 <= count <= 1000:
        raise InvalidArgument(f"count {count!r:.40} is not a whole number from 1 to 1000")
    root = space.keys.root
    entries = yield Read(root.tag, ("XREVRANGE", root.audit, "+", "-", "COUNT", count))
    return [_entry(entry_id, {k: v.decode("utf-8", "replace") for k, v in pairs(f).items()}) for entry_id, f in entries]


def _entry(entry_id: bytes, fields: dict[str, str]) -> AuditEntry:
    at_ms = int(entry_id.split(b"-")[0])
    return AuditEntry(at_ms, fields["flag"], fields["from"], fields["to"], fields["by"], fields["why"])
