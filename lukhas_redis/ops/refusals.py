"""From a script's code word to the error a caller sees.

What belongs here: the words of `lua/` and the sentence each becomes. What does not: server errors (`transport`).
Invariant: every word a script's header lists has its error here (a contract test compares both).
"""

from __future__ import annotations

from collections.abc import Callable

from lukhas_redis.calls import Refused
from lukhas_redis.errors import (
    Backlog,
    ContextCorrupted,
    ContextDropped,
    ContextEvicted,
    ContextExpired,
    ContextLost,
    ContextNotFound,
    GroupNotFound,
    GroupPending,
    InvalidArgument,
    LeaseHeld,
    LeaseLost,
    LukhasRedisError,
    OwnerConflict,
    PayloadTooLarge,
    RequestReused,
    SessionConflict,
    StoreFull,
    TenantPaused,
    Throttled,
    Unavailable,
    VersionConflict,
)

_ABSENCES: dict[str, tuple[type[ContextNotFound], str]] = {
    "never": (ContextNotFound, "does not exist, and nothing is remembered of it"),
    "expired": (ContextExpired, "expired"),
    "dropped": (ContextDropped, "was dropped"),
    "evicted": (ContextEvicted, "was evicted to make room"),
    "lost": (ContextLost, "should still be there and is not: its keys were deleted, or the server lost data"),
}


def explain(refused: Refused, subject: str, *, reset: bool = False) -> LukhasRedisError:
    """The error for a refusal; `subject` says of what; `reset`: the server is known to have come back empty."""
    if refused.word == "LKABSENT":
        return _absence(refused, subject, reset=reset)
    make = _WORDS.get(refused.word)
    if make is None:
        return LukhasRedisError(f"{subject}: the server refused with {refused.word} {refused.facts}", **refused.facts)
    return make(subject, refused)


def _absence(refused: Refused, subject: str, *, reset: bool) -> ContextNotFound:
    reason, since = refused.facts.get("reason", "never"), refused.number("since")
    if reason == "never" and reset:
        text = "is not there; the server came back without its data, so it may have been lost"
        return ContextLost(f"{subject} {text}", reason="reset")
    cls, text = _ABSENCES.get(reason, _ABSENCES["never"])
    when = f" (at {since} ms)" if since else ""
    return cls(f"{subject} {text}{when}", reason=reason, since_ms=since)


def _conflict(subject: str, r: Refused) -> LukhasRedisError:
    actual = r.number("actual")
    text = f"{subject} is at version {actual}" if actual else f"{subject} does not exist"
    return VersionConflict(f"{text}, not at the version given as if_version; read it again", actual=actual)


def _owner(subject: str, r: Refused) -> LukhasRedisError:
    owner = r.facts.get("owner", "?")
    return OwnerConflict(f"{subject} belongs to provider {owner}; only its owner can hand it off", owner=owner)


def _full(subject: str, r: Refused) -> LukhasRedisError:
    scope, limit = r.facts.get("scope", "entries"), r.number("limit")
    advice = "drop or sweep contexts, raise the limit, or choose an eviction policy"
    return StoreFull(f"{subject}: the tenant's limit of {limit} {scope} is reached; {advice}", scope=scope, limit=limit)


def _throttled(subject: str, r: Refused) -> LukhasRedisError:
    wait = r.number("retry_after_ms")
    return Throttled(f"{subject}: max_context_throughput_mbps is used up; retry in {wait} ms", retry_after_ms=wait)


def _argument(subject: str, r: Refused) -> LukhasRedisError:
    return InvalidArgument(f"{subject}: the script refused the argument {r.facts.get('name', '?')}", **r.facts)


def _corrupt(subject: str, r: Refused) -> LukhasRedisError:
    return ContextCorrupted(f"{subject}: {r.facts.get('key', '?')} holds a value that is not ours", **r.facts)


def _leased(subject: str, r: Refused) -> LukhasRedisError:
    owner, until = r.facts.get("owner", "?"), r.number("until")
    text = f"{subject} is leased by {owner} until {until} ms: write with its token, or wait"
    return LeaseHeld(text, owner=owner, until_ms=until)


def _fenced(subject: str, r: Refused) -> LukhasRedisError:
    token = r.facts.get("token", "?")
    return LeaseLost(f"{subject}: fencing token {token} is not, or no longer, the live one", token=token)


def _payload(subject: str, r: Refused) -> LukhasRedisError:
    size, limit = r.number("bytes"), r.number("limit")
    text = f"{subject}: its payload has {size} bytes, bus_max_payload_bytes is {limit}; preserve it and emit its id"
    return PayloadTooLarge(text, size_bytes=size, limit_bytes=limit)


def _backlog(subject: str, r: Refused) -> LukhasRedisError:
    priority, limit = r.facts.get("priority", "?"), r.number("limit")
    text = f"{subject}: the {priority} stream holds bus_max_entries={limit} events that not every group has finished"
    return Backlog(f"{text}; add workers, retire abandoned groups, or emit later", priority=priority, limit=limit)


def _pending(subject: str, r: Refused) -> LukhasRedisError:
    left = r.number("unfinished")
    return GroupPending(f"{subject} has not finished {left} events; force gives them up", unfinished=left)


_WORDS: dict[str, Callable[[str, Refused], LukhasRedisError]] = {
    "LKCONFLICT": _conflict,
    "LKOWNER": _owner,
    "LKFULL": _full,
    "LKTHROTTLED": _throttled,
    "LKLEASED": _leased,
    "LKFENCED": _fenced,
    "LKARGUMENT": _argument,
    "LKCORRUPT": _corrupt,
    "LKPAYLOAD": _payload,
    "LKBACKLOG": _backlog,
    "LKPENDING": _pending,
    "LKGROUP": lambda subject, _: GroupNotFound(f"{subject}: there is no such consumer group"),
    "LKSESSION": lambda subject, _: SessionConflict(f"{subject} belongs to another session; choose another id"),
    "LKREUSED": lambda subject, _: RequestReused(f"{subject}: the request id was used with other arguments"),
    "LKPAUSED": lambda subject, _: TenantPaused(f"{subject}: the tenant is paused; reads and drop still work"),
    "LKSTAGE": lambda subject, _: Unavailable(f"{subject}: the staged payload vanished; nothing was written"),
    "LKCLOSED": lambda subject, _: Unavailable(f"{subject}: the tenant's record keeps vanishing"),
    "LKRESET": lambda subject, _: Unavailable(f"{subject}: the server keeps losing its data"),
    "LKSHARDS": lambda subject, _: Unavailable(f"{subject}: the tenant's number of shards keeps changing"),
    "LKLARGE": lambda subject, _: InvalidArgument(f"{subject}: too many contexts to count in one call"),
}
WORDS = frozenset({"LKABSENT", *_WORDS})
