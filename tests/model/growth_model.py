"""What growing contexts should be: a dict of data, versions, owners and leases, without a server.

What belongs here: the rules of append, patch, handoff and leases in plain Python. What does not: sending anything.
Invariant: a method answers with the errors that may be said, or changes the model and answers what the store would; so
what shall change nothing is asked of a copy.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from lukhas_redis.errors import (
    ContextNotFound,
    InvalidPath,
    LeaseHeld,
    LeaseLost,
    LukhasRedisError,
    OwnerConflict,
    TenantPaused,
    VersionConflict,
)

Errors = frozenset[type[LukhasRedisError]]
Outcome = Errors | int


@dataclass
class Growing:
    """One context; `nonce`: its incarnation as the store called it; `lease`: the live fencing token, or None."""

    data: dict[str, Any]
    version: int = 1
    nonce: str = ""
    owner: str | None = None
    lease: int | None = None


@dataclass
class GrowthModel:
    """Contexts by id, why others are gone, and the last token that was given."""

    mode: str = "live"
    contexts: dict[str, Growing] = field(default_factory=dict)
    gone: dict[str, type[ContextNotFound]] = field(default_factory=dict)
    newest_token: int = 0

    def absence(self, cid: str) -> type[ContextNotFound] | None:
        """Why a context cannot be read, or None when it can."""
        return None if cid in self.contexts else self.gone.get(cid, ContextNotFound)

    def live(self, cid: str) -> int | None:
        """The token of the lease that holds a context, or None."""
        found = self.contexts.get(cid)
        return found.lease if found else None

    # -- writes -----------------------------------------------------------------------------------------------

    def preserve(self, cid: str, data: dict[str, Any], token: int | None, if_version: int | None) -> Outcome:
        """The version after a preserve, or the error."""
        refused = _first(self._paused(), self._fenced(cid, token), self._conflict(cid, if_version))
        if refused:
            return refused
        found = self.contexts.get(cid)
        if found is None:
            self.contexts[cid] = Growing(deepcopy(data))
            self.gone.pop(cid, None)
            return 1
        found.data = deepcopy(data)
        return self._next(cid)

    def append(self, cid: str, path: tuple[Any, ...], items: list[Any], token: int | None, seen: int | None) -> Outcome:
        """The version after an append, or what may be said: a client that has to look says what it saw first."""
        place = self._list_at(cid, path)
        wrong = self._refusals(cid, token, seen) | (_none if place is not None or self.absence(cid) else _invalid)
        if wrong or place is None:
            return wrong
        place.extend(deepcopy(items))
        return self._next(cid)

    def patch(self, cid: str, merge: dict[str, Any], token: int | None, if_version: int | None) -> Outcome:
        """The version after a merge patch, or what may be said: a client reads first where the patch is large."""
        wrong = self._refusals(cid, token, if_version)
        if wrong:
            return wrong
        found = self.contexts[cid]
        found.data = merged(found.data, merge)
        return self._next(cid)

    def handoff(self, cid: str, source: str, destination: str, token: int | None, seen: int | None) -> Outcome:
        """The version after a handoff, or the error."""
        found = self.contexts.get(cid)
        is_others = found is not None and found.owner not in (None, source)
        conflict = self._conflict(cid, seen) or (OwnerConflict if is_others else None)
        refused = _first(self._paused(), self.absence(cid), self._fenced(cid, token), conflict)
        if refused or found is None:
            return refused
        found.owner = destination
        return self._next(cid)

    def drop(self, cid: str, token: int | None, why: type[ContextNotFound]) -> Outcome:
        """The version that was dropped, or the error; a paused tenant lets it."""
        refused = _first(self.absence(cid), self._fenced(cid, token))
        return refused or self.ended(cid, why)

    def ended(self, cid: str, why: type[ContextNotFound]) -> int:
        """A context is gone, at the version that is answered."""
        self.gone[cid] = why
        return self.contexts.pop(cid).version

    # -- leases -----------------------------------------------------------------------------------------------

    def lease(self, cid: str) -> Outcome:
        """0 where a lease may be had, and `leased` is to follow, or the error."""
        return _first(self._paused(), self.absence(cid), LeaseHeld if self.live(cid) else None) or 0

    def leased(self, cid: str, token: int) -> None:
        """A lease was given."""
        assert token > self.newest_token
        self.newest_token = self.contexts[cid].lease = token

    def renew(self, cid: str, token: int) -> Outcome:
        """The token, or the error; a paused tenant lets it."""
        return _first(self.absence(cid), self._fenced(cid, token)) or token

    def release(self, cid: str, token: int) -> Outcome:
        """The token, or the error; a paused tenant lets it."""
        refused = _first(self.absence(cid), self._fenced(cid, token))
        if not refused:
            self.contexts[cid].lease = None
        return refused or token

    # -- what is wrong ----------------------------------------------------------------------------------------

    def _paused(self) -> type[LukhasRedisError] | None:
        return TenantPaused if self.mode == "paused" else None

    def _fenced(self, cid: str, token: int | None) -> type[LukhasRedisError] | None:
        live = self.live(cid)
        if token == live:
            return None
        return LeaseHeld if token is None else LeaseLost

    def _conflict(self, cid: str, if_version: int | None) -> type[LukhasRedisError] | None:
        found = self.contexts.get(cid)
        return VersionConflict if if_version not in (None, found.version if found else 0) else None

    def _refusals(self, cid: str, token: int | None, if_version: int | None) -> Errors:
        """Everything that keeps a part from being changed."""
        if absent := self.absence(cid):
            return frozenset(filter(None, (absent, self._paused())))
        return frozenset(filter(None, (self._paused(), self._fenced(cid, token), self._conflict(cid, if_version))))

    def _next(self, cid: str) -> int:
        self.contexts[cid].version += 1
        return self.contexts[cid].version

    def _list_at(self, cid: str, path: tuple[Any, ...]) -> list[Any] | None:
        found = self.contexts.get(cid)
        place: Any = found.data if found else None
        for step in path:
            try:
                place = place[step]
            except (KeyError, IndexError, TypeError):
                return None
        return place if isinstance(place, list) else None


_none: Errors = frozenset()
_invalid: Errors = frozenset({InvalidPath})


def _first(*errors: type[LukhasRedisError] | None) -> Errors:
    """The one that is said where several are wrong at once."""
    return frozenset(next(([one] for one in errors if one is not None), ()))


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    made = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            made.pop(name, None)
        else:
            made[name] = merged(made.get(name), value)
    return made
