"""What growing contexts should be: a dict of data, versions, owners and leases, without a server.

What belongs here: the rules of append, patch, handoff and leases in plain Python. What does not: sending anything.
Invariant: a method answers the outcome first; the data changes only where the store's would.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from lukhas_redis.errors import (
    ContextDropped,
    ContextExpired,
    ContextNotFound,
    InvalidPath,
    LeaseHeld,
    LeaseLost,
    LukhasRedisError,
    OwnerConflict,
    VersionConflict,
)

Outcome = type[LukhasRedisError] | int


@dataclass
class Growing:
    """One context; `lease`: the live fencing token, or None."""

    data: dict[str, Any]
    version: int = 1
    owner: str | None = None
    lease: int | None = None


@dataclass
class GrowthModel:
    """Contexts by id, why others are gone, and the last token that was given."""

    contexts: dict[str, Growing] = field(default_factory=dict)
    gone: dict[str, type[ContextNotFound]] = field(default_factory=dict)
    newest_token: int = 0

    def absence(self, cid: str) -> type[ContextNotFound] | None:
        """Why a context cannot be read, or None when it can."""
        return None if cid in self.contexts else self.gone.get(cid, ContextNotFound)

    def refusal(self, cid: str, token: int | None, if_version: int | None) -> type[LukhasRedisError] | None:
        """What keeps a write from being made, in the order in which it is said."""
        found = self.contexts.get(cid)
        live = found.lease if found else None
        if token is not None and token != live:
            return LeaseLost
        if token is None and live is not None:
            return LeaseHeld
        if if_version is not None and if_version != (found.version if found else 0):
            return VersionConflict
        return None

    def preserve(self, cid: str, data: dict[str, Any], token: int | None, if_version: int | None) -> Outcome:
        """The version after a preserve, or the error."""
        if refused := self.refusal(cid, token, if_version):
            return refused
        found = self.contexts.get(cid)
        if found is None:
            self.contexts[cid] = Growing(deepcopy(data))
            self.gone.pop(cid, None)
            return 1
        found.data = deepcopy(data)
        return self._next(found)

    def append(self, cid: str, path: tuple[Any, ...], items: list[Any], token: int | None, seen: int | None) -> Outcome:
        """The version after an append, or the error; the path is looked at before anything else is."""
        if absent := self.absence(cid):
            return absent
        place = self._list_at(cid, path)
        refused = self.refusal(cid, token, seen)
        if place is None:
            # Which of two errors is said depends on whether the client has to look first; both change nothing.
            return InvalidPath
        if refused:
            return refused
        place.extend(deepcopy(items))
        return self._next(self.contexts[cid])

    def patch(self, cid: str, merge: dict[str, Any], token: int | None, if_version: int | None) -> Outcome:
        """The version after a merge patch, or the error."""
        if absent := self.absence(cid):
            return absent
        if refused := self.refusal(cid, token, if_version):
            return refused
        found = self.contexts[cid]
        found.data = merged(found.data, merge)
        return self._next(found)

    def handoff(self, cid: str, source: str, destination: str, token: int | None) -> Outcome:
        """The version after a handoff, or the error."""
        if absent := self.absence(cid):
            return absent
        found = self.contexts[cid]
        if refused := self.refusal(cid, token, None):
            return refused
        if found.owner not in (None, source):
            return OwnerConflict
        found.owner = destination
        return self._next(found)

    def end(self, cid: str, why: type[ContextNotFound]) -> None:
        """A context is dropped, or its deadline passed."""
        del self.contexts[cid]
        self.gone[cid] = why

    def _next(self, found: Growing) -> int:
        found.version += 1
        return found.version

    def _list_at(self, cid: str, path: tuple[Any, ...]) -> list[Any] | None:
        place: Any = self.contexts[cid].data
        for step in path:
            try:
                place = place[step]
            except (KeyError, IndexError, TypeError):
                return None
        return place if isinstance(place, list) else None


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


DROPPED, EXPIRED = ContextDropped, ContextExpired
