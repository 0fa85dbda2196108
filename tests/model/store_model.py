"""What the store should do, as a dict: one tenant on one shard, without a server.

What belongs here: the rules of SPEC S1 in plain Python. What does not: sending anything (see the machine).
Invariant: every method answers the outcome first and changes the model only when the store would change.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from lukhas_redis.errors import (
    ContextDropped,
    ContextEvicted,
    ContextExpired,
    ContextLost,
    ContextNotFound,
    LukhasRedisError,
    OwnerConflict,
    SessionConflict,
    StoreFull,
    TenantPaused,
    VersionConflict,
)

Outcome = type[LukhasRedisError] | tuple[Any, ...]


@dataclass(frozen=True)
class Entry:
    """One context that is in the accounts; `parts`: appended since it was whole; `lost`: a hand deleted its keys."""

    data: dict[str, Any]
    session: str
    size: int
    version: int = 1
    parts: int = 0
    owner: str | None = None
    hops: int = 0
    pinned: bool = False
    written_ms: int = 0
    order_ms: int = 0
    lost: bool = False


@dataclass
class StoreModel:
    """Entries by id, and why the others are gone."""

    max_entries: int
    max_bytes: int
    policy: str
    mode: str = "live"
    entries: dict[str, Entry] = field(default_factory=dict)
    expired: dict[str, int] = field(default_factory=dict)
    graves: dict[str, type[ContextNotFound]] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)

    def absence(self, context_id: str) -> type[ContextNotFound] | None:
        """Why a context cannot be read, or None when it can."""
        entry = self.entries.get(context_id)
        if entry is not None:
            return ContextLost if entry.lost else None
        return ContextExpired if context_id in self.expired else self.graves.get(context_id, ContextNotFound)

    @property
    def bytes(self) -> int:
        """Stored bytes in the accounts, those of expired contexts that nobody swept included."""
        return sum(entry.size for entry in self.entries.values()) + sum(self.expired.values())

    def count(self, name: str, by: int = 1) -> None:
        """Add to a total."""
        self.totals[name] = self.totals.get(name, 0) + by

    def blocked(self) -> type[LukhasRedisError] | None:
        """What a paused tenant answers to a write."""
        return TenantPaused if self.mode == "paused" else None

    # -- preserve ---------------------------------------------------------------------------------------------

    def preserve(self, context_id: str, session: str, size: int, if_version: int | None) -> Outcome:
        """(version, victims) or the error; see `stored` for the change."""
        if blocked := self.blocked():
            return blocked
        old = self._live(context_id)
        if if_version is not None and if_version != (old.version if old else 0):
            return VersionConflict
        if old and old.session != session:
            return SessionConflict
        victims = self._victims(context_id, size, old)
        return StoreFull if victims is None else ((old.version if old else 0) + 1, victims)

    def _live(self, context_id: str) -> Entry | None:
        entry = self.entries.get(context_id)
        return entry if entry and not entry.lost else None

    def _victims(self, context_id: str, size: int, old: Entry | None) -> list[str] | None:
        if self.max_bytes and size > self.max_bytes:
            return None
        others = {cid: entry for cid, entry in self.entries.items() if cid != context_id}
        entries = len(others) + 1 - self.max_entries if old is None else 0
        used = sum(entry.size for entry in others.values()) + size
        excess = used - self.max_bytes if self.max_bytes and size > (old.size if old else 0) else 0
        if entries <= 0 and excess <= 0:
            return []
        return self._chosen(others, entries, excess) if self.policy != "reject" else None

    def _chosen(self, others: dict[str, Entry], entries: int, excess: int) -> list[str] | None:
        victims: list[str] = []
        for _, cid in sorted((entry.order_ms, cid) for cid, entry in others.items() if not entry.pinned):
            victims.append(cid)
            entries, excess = entries - 1, excess - others[cid].size
            if entries <= 0 and excess <= 0:
                return victims
        return None

    def stored(self, context_id: str, entry: Entry, victims: list[str]) -> None:
        """The effect of a preserve that was done."""
        self.evicted(victims)
        old = self._live(context_id)
        if old is not None:
            entry = replace(entry, version=old.version + 1, owner=old.owner, hops=old.hops, pinned=old.pinned)
        self.expired.pop(context_id, None)
        self.graves.pop(context_id, None)
        self.entries[context_id] = entry
        self.count("preserved")

    def evicted(self, victims: list[str]) -> None:
        """The effect of a write on those that made room."""
        for victim in victims:
            del self.entries[victim]
            self.graves[victim] = ContextEvicted
            self.count("evicted")

    # -- growing ----------------------------------------------------------------------------------------------

    def grow(self, context_id: str, added: int, if_version: int | None) -> Outcome:
        """(version, victims) of an append or a patch that adds so many stored bytes, or the error."""
        if refused := self.blocked() or self.absence(context_id):
            return refused
        old = self.entries[context_id]
        if if_version is not None and if_version != old.version:
            return VersionConflict
        victims = self._victims(context_id, old.size + added, old)
        return StoreFull if victims is None else (old.version + 1, victims)

    def crowded(self, context_id: str, added: int) -> bool:
        """Whether growing meets a limit that expired contexts count for: they are swept, even if it is refused."""
        size = self.entries[context_id].size + added
        return size <= self.max_bytes < self.bytes + added and bool(self.expired)

    def grown(self, context_id: str, added: int, data: dict[str, Any], at_ms: int) -> None:
        """The effect of an append or a patch; see `evicted` for that on others."""
        old = self.entries[context_id]
        new = replace(old, data=data, size=old.size + added, version=old.version + 1, parts=old.parts + 1)
        self.entries[context_id] = replace(new, written_ms=at_ms, order_ms=at_ms)

    def folded(self, context_id: str, size: int) -> None:
        """The effect of a fold: the same context in one piece."""
        self.entries[context_id] = replace(self.entries[context_id], size=size, parts=0)
        self.count("folded")

    # -- the others -------------------------------------------------------------------------------------------

    def handoff(self, context_id: str, source: str, if_version: int | None) -> Outcome:
        """(version, hop) or the error."""
        if blocked := self.blocked():
            return blocked
        if reason := self.absence(context_id):
            return reason
        entry = self.entries[context_id]
        if if_version is not None and if_version != entry.version:
            return VersionConflict
        if entry.owner and entry.owner != source:
            return OwnerConflict
        return (entry.version + 1, entry.hops + 1)

    def handed(self, context_id: str, destination: str) -> None:
        """The effect of a handoff that was done."""
        old = self.entries[context_id]
        self.entries[context_id] = replace(old, version=old.version + 1, owner=destination, hops=old.hops + 1)
        self.count("handed_off")

    def pinned(self, context_id: str, pinned: bool) -> None:
        """The effect of a pin; unpinning puts a context where its last write stands in the order."""
        old = self.entries[context_id]
        self.entries[context_id] = replace(old, pinned=pinned, order_ms=old.order_ms if pinned else old.written_ms)

    def dropped(self, context_id: str) -> None:
        """The effect of a drop."""
        del self.entries[context_id]
        self.graves[context_id] = ContextDropped
        self.count("dropped")

    def died(self, context_id: str) -> None:
        """A deadline passed; the accounts still hold the bytes until somebody sweeps."""
        self.expired[context_id] = self.entries.pop(context_id).size

    def lost(self, context_id: str) -> None:
        """A hand deleted the keys."""
        self.entries[context_id] = replace(self.entries[context_id], lost=True)

    def swept(self) -> None:
        """The accounts forget what expired."""
        self.count("expired", len(self.expired))
        self.graves.update(dict.fromkeys(self.expired, ContextExpired))
        self.expired.clear()

    def repaired(self) -> None:
        """What is lost is buried."""
        for context_id in [cid for cid, entry in self.entries.items() if entry.lost]:
            del self.entries[context_id]
            self.graves[context_id] = ContextLost
