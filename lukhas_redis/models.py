"""What the store's methods return: frozen values, times in milliseconds of the server's clock, sizes in bytes.

What belongs here: results of operations. What does not: the JSON documents of the HTTP contract (`documents`).
Invariant: a value never changes after it was returned and never shares a mutable part with another one,
except `Context.data`, which belongs to the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

LEVEL_NAMES: Mapping[int, str] = {0: "none", 1: "light", 6: "standard", 9: "aggressive"}


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


@dataclass(frozen=True, slots=True)
class Preserved:
    """A context was stored (or would have been, when `dry_run`).

    `version` counts writes from 1; `incarnation` changes when the id is dropped or expires and is preserved
    again; `evicted` is how many other contexts made room. `raw_bytes` is the serialized size, `stored_bytes`
    what Redis holds of it.
    """

    context_id: str
    version: int
    expires_ms: int
    created_ms: int
    incarnation: str
    session_id: str
    context_type: str
    raw_bytes: int
    stored_bytes: int
    level: int
    checksum: str
    evicted: int = 0
    request_id: str = ""
    dry_run: bool = False
    serialize_ms: float = 0.0
    compress_ms: float = 0.0

    @property
    def expires_at(self) -> datetime:
        """The deadline, in UTC."""
        return _moment(self.expires_ms)

    @property
    def compression_ratio(self) -> float:
        """Stored bytes per serialized byte, at most 1."""
        return min(1.0, self.stored_bytes / self.raw_bytes) if self.raw_bytes else 1.0


@dataclass(frozen=True, slots=True)
class Appended:
    """A context was changed in part, by `append` or `patch` (or would have been, when `dry_run`).

    `sequence` counts writes of content; `evicted` is how many other contexts made room.
    """

    context_id: str
    version: int
    expires_ms: int
    incarnation: str
    sequence: int
    evicted: int = 0
    request_id: str = ""
    dry_run: bool = False

    @property
    def expires_at(self) -> datetime:
        """The deadline, in UTC."""
        return _moment(self.expires_ms)


@dataclass(frozen=True, slots=True)
class Patched(Appended):
    """A context was changed by `patch`; the fields are those of `Appended`."""


@dataclass(frozen=True, slots=True)
class Lease:
    """`owner` alone may write the context until `until_ms`, with `token`: give the lease as `lease=` to each write.

    Tokens only ever grow: whoever comes later has the larger one.
    """

    context_id: str
    owner: str
    token: int
    until_ms: int
    request_id: str = ""
    dry_run: bool = False

    @property
    def until(self) -> datetime:
        """When it ends unless it is renewed, in UTC."""
        return _moment(self.until_ms)


@dataclass(frozen=True, slots=True)
class Released:
    """A lease was ended by its holder."""

    context_id: str
    token: int
    dry_run: bool = False


@dataclass(frozen=True)
class Metadata:
    """What is known about a context without its data; `now_ms` is the server's clock at that moment.

    `raw_bytes` and `stored_bytes` count the body and the `segments` that were appended to it (a patch adds to
    `raw_bytes` what it replaces, until the segments are folded into the body); `appended_bytes` is the segments' part
    of `raw_bytes`. `level`, `checksum` and `digest` are those of the body: where there are segments,
    `ops.restore.checksum_of` tells of the whole. `chain` stands for the content: equal `incarnation`, `sequence` and
    `chain` mean equal data. `lease` is who holds the context, if somebody does.
    """

    context_id: str
    version: int
    incarnation: str
    sequence: int
    session_id: str
    context_type: str
    owner: str | None
    created_ms: int
    updated_ms: int
    expires_ms: int
    ttl_ms: int
    accessed_ms: int | None
    hop_count: int
    pinned: bool
    raw_bytes: int
    stored_bytes: int
    level: int
    checksum: str
    digest: str
    now_ms: int
    segments: int = 0
    appended_bytes: int = 0
    chain: str = ""
    lease: Lease | None = None

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Metadata:
        """The same as the constructor with every field given, in a fifth of its time: every read makes one.

        The dict becomes a part of what is made: nobody else may keep it.
        """
        made = object.__new__(cls)
        object.__setattr__(made, "__dict__", fields)
        return made

    def at(self, now_ms: int) -> Metadata:
        """The same at a later moment of the server's clock."""
        lease = self.lease if self.lease and self.lease.until_ms > now_ms else None
        return self.of({**self.__dict__, "now_ms": now_ms, "lease": lease})

    @property
    def expires_at(self) -> datetime:
        """The deadline, in UTC."""
        return _moment(self.expires_ms)

    @property
    def created_at(self) -> datetime:
        """When the context was first preserved, in UTC."""
        return _moment(self.created_ms)

    @property
    def compression(self) -> str:
        """The name of the compression level: none, light, standard or aggressive."""
        return LEVEL_NAMES.get(self.level, str(self.level))


@dataclass(frozen=True, slots=True)
class Context:
    """A restored context: `data` is equal in value and type to what was preserved, appended and patched.

    It is a private copy, or with `restore(..., shared=True)` a read-only view. `cache_hit`: the process held the data
    already, and the server confirmed that it is the newest or sent only what was added.
    """

    data: dict[str, Any]
    metadata: Metadata
    cache_hit: bool = False

    @property
    def version(self) -> int:
        """The version that was read: give it as `if_version` to write only if nobody else did."""
        return self.metadata.version


@dataclass(frozen=True, slots=True)
class Handoff:
    """A context passed to `destination`; `hop` counts all handoffs, `latency_ms` is what the caller measured."""

    context_id: str
    version: int
    hop: int
    source: str
    destination: str
    expires_ms: int
    request_id: str = ""
    dry_run: bool = False
    latency_ms: float = 0.0

    @property
    def expires_at(self) -> datetime:
        """The deadline, in UTC."""
        return _moment(self.expires_ms)


@dataclass(frozen=True, slots=True)
class Hop:
    """One handoff as it was recorded; `previous_ms`: how long the same store's handoff before it took, 0 = unknown."""

    number: int
    at_ms: int
    source: str
    destination: str
    version: int
    previous_ms: float
    metadata: Any


@dataclass(frozen=True, slots=True)
class Extended:
    """A context's deadline is now `expires_ms`, never earlier than before."""

    context_id: str
    version: int
    expires_ms: int
    dry_run: bool = False

    @property
    def expires_at(self) -> datetime:
        """The deadline, in UTC."""
        return _moment(self.expires_ms)


@dataclass(frozen=True, slots=True)
class Pinned:
    """A context is protected from eviction (`pinned`) or no longer."""

    context_id: str
    version: int
    pinned: bool
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Dropped:
    """A context was removed at `version`."""

    context_id: str
    version: int
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Swept:
    """Expired contexts taken out of the accounts, their memory given back; `remaining` are still waiting."""

    removed: int
    remaining: int
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in the accounts: `lost`, `segments` (some are missing), `unindexed`, `uncounted`, `deadline` or
    `unordered`."""

    context_id: str
    fault: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of `check` or `repair`: faults found, and how far the totals were off (None: too many to count)."""

    faults: tuple[Fault, ...]
    bytes_off: int | None
    entries_off: int | None
    repaired: bool = False
    dry_run: bool = False

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults and not self.bytes_off and not self.entries_off


@dataclass(frozen=True, slots=True)
class FlagChange:
    """A mode, limit or feature flag changed from one value to another ('' = the default)."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who changed what, when, from, to and why."""

    at_ms: int
    flag: str
    before: str
    after: str
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Event:
    """A lifecycle event of the history window; `event_id` orders events of one shard."""

    event_id: str
    event: str
    context_id: str
    version: int

    @property
    def at_ms(self) -> int:
        """When the server recorded it."""
        return int(self.event_id.split("-")[0])


@dataclass(frozen=True, slots=True)
class ShardStats:
    """One shard's use and totals; `shard` is its hash tag."""

    shard: str
    live: int
    expired: int
    ordered: int
    tombs: int
    events: int
    totals: Mapping[str, int]
    flags: Mapping[str, str]
    marker: str | None
    now_ms: int


@dataclass(frozen=True, slots=True)
class Stats:
    """A tenant's use, limits and mode, summed over its shards; `pressure` is the fuller of entries and bytes, 0..1."""

    tenant: str
    mode: str
    policy: str
    live: int
    expired: int
    bytes: int
    max_entries: int
    max_bytes: int
    pressure: float
    totals: Mapping[str, int]
    flags: Mapping[str, str]
    shards: tuple[ShardStats, ...] = field(default=())

    @property
    def alert(self) -> bool:
        """Whether the tenant is fuller than 0.85."""
        return self.pressure > 0.85
