"""The contract documents: what other programs read from us and send to us, field by field.

What belongs here: their models and the numbers of the service-level targets. What does not: making them from what
is stored (the store does), HTTP (its package does).
Invariant: what these models accept and print is the contract, no more and no less; an optional field that has no
value is left out, never printed as null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, StrictInt

from lukhas_redis.errors import LukhasRedisError

_HEX = "[0-9a-fA-F]"
Uuid = Annotated[str, Field(pattern=rf"^{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}$")]
UuidV4 = Annotated[str, Field(pattern=rf"^{_HEX}{{8}}-{_HEX}{{4}}-4{_HEX}{{3}}-[89abAB]{_HEX}{{3}}-{_HEX}{{12}}$")]
Sha256 = Annotated[str, Field(pattern=rf"^{_HEX}{{64}}$")]
Number = StrictInt | FiniteFloat  # JSON's `number`: an integer stays one
Count = Annotated[int, Field(ge=0)]
Ratio = Annotated[float, Field(ge=0, le=1)]
TtlSeconds = Annotated[int, Field(ge=60, le=86_400)]


def _exact_int(value: object) -> object:
    """A literal compares by value: `True` and 1.0 would pass for 1."""
    if type(value) is not int:
        raise ValueError("Input should be an integer")
    return value


CompressionLevel = Annotated[Literal[0, 1, 6, 9], BeforeValidator(_exact_int)]
LifecycleState = Literal["created", "preserved", "cached", "restored", "expired", "cleaned"]
ErrorCode = Literal[
    # the contract's own
    "CONTEXT_NOT_FOUND",
    "CONTEXT_EXPIRED",
    "INVALID_CONTEXT",
    "SERIALIZATION_ERROR",
    "INTERNAL_ERROR",
    # additions: one for each further code in the tree of errors
    "CONTEXT_TOO_LARGE",
    "CONTEXT_DROPPED",
    "CONTEXT_EVICTED",
    "CONTEXT_LOST",
    "CONTEXT_CONFLICT",
    "OWNER_CONFLICT",
    "LEASE_HELD",
    "LEASE_LOST",
    "REQUEST_REUSED",
    "CONTEXT_STORE_FULL",
    "RATE_LIMITED",
    "PAUSED",
    "PAYLOAD_TOO_LARGE",
    "BUS_FULL",
    "GROUP_NOT_FOUND",
    "GROUP_PENDING",
    "DELIVERY_LOST",
]


def _absent() -> Any:
    """Default of an optional field: None in Python, left out in the document."""
    return Field(default=None, exclude_if=lambda value: value is None, json_schema_extra=_without_null)


def _without_null(schema: dict[str, Any]) -> None:
    """The contract knows fields that are absent, not fields that are null."""
    del schema["default"]
    kinds = [kind for kind in schema.pop("anyOf") if kind != {"type": "null"}]
    schema.update(kinds[0] if len(kinds) == 1 else {"anyOf": kinds})


class Document(BaseModel):
    """Base of the contract documents: exact types, no further fields, frozen."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the document as plain data, without the optional fields that have no value."""
        return self.model_dump()


# -- lifecycle ---------------------------------------------------------------------------------------------


class Transition(Document):
    """One step in the life of a context. `timestamp` is in seconds since 1970, `duration_ms` in milliseconds."""

    timestamp: Number
    from_state: LifecycleState
    to_state: LifecycleState
    event: LifecycleState
    duration_ms: Number | None = _absent()


class LifecycleMetadata(Document):
    """What the lifecycle document says of the context itself. `created_at` is in seconds since 1970."""

    created_at: Number
    ttl_seconds: TtlSeconds
    compression_level: CompressionLevel | None = _absent()
    checksum: Sha256 | None = _absent()


class Invariants(Document):
    """What was checked, and whether it held."""

    unique_context_id: bool
    ttl_respected: bool
    checksum_valid: bool
    single_store_source: bool


class LifecycleDocument(Document):
    """State and history of one context."""

    context_id: UuidV4
    lifecycle_state: LifecycleState
    state_transitions: list[Transition] | None = _absent()
    metadata: LifecycleMetadata
    invariants: Invariants | None = _absent()


# -- GET /context/{context_id} -----------------------------------------------------------------------------


class PreservedContextMetadata(Document):
    """Times are in whole seconds since 1970, `size_bytes` is the size of the serialized data."""

    created_at: int
    last_accessed: int | None = _absent()
    ttl_seconds: TtlSeconds
    hop_count: Count | None = _absent()
    size_bytes: Count | None = _absent()


class PreservedContextDocument(Document):
    """A context as it is answered to a program that is not ours. `checksum` is the SHA-256 of the whole data."""

    context_id: Uuid
    data: dict[str, Any]
    compressed: bool
    compression_ratio: Ratio
    checksum: Sha256
    metadata: PreservedContextMetadata


class ErrorDocument(Document):
    """A failure. `timestamp` is in whole seconds since 1970."""

    code: ErrorCode
    message: str
    timestamp: int | None = _absent()


def error_document(error: LukhasRedisError, timestamp: int | None = None) -> ErrorDocument:
    """Return the document of `error`; `timestamp` in whole seconds since 1970, left out when None."""
    return ErrorDocument.model_validate({"code": error.code, "message": error.message, "timestamp": timestamp})


# -- resource limits ---------------------------------------------------------------------------------------


class MemoryLimits(Document):
    """Sizes and numbers of contexts."""

    max_context_size_bytes: Annotated[int, Field(ge=1, le=268_435_456)] = 10_485_760
    max_cache_size_entries: Annotated[int, Field(ge=0, le=10_000_000)] = 1000
    max_memory_store_entries: Annotated[int, Field(ge=1, le=100_000_000)] = 5000
    cleanup_interval_seconds: Annotated[int, Field(ge=1, le=86_400)] = 300


class CpuLimits(Document):
    """Time that work may take."""

    max_serialization_time_ms: Annotated[int, Field(ge=1, le=600_000)] = 100
    max_compression_time_ms: Annotated[int, Field(ge=1, le=600_000)] = 500
    consensus_timeout_ms: Annotated[int, Field(ge=1, le=3_600_000)] = 30_000


class BandwidthLimits(Document):
    """Throughput in megabits per second (0 = no limit), and how much large contexts should shrink."""

    max_context_throughput_mbps: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    required_compression_ratio: Ratio = 0.9


class ResourceLimitsDocument(Document):
    """The limits of one installation; a group may leave limits to their defaults, but no group may be missing."""

    memory: MemoryLimits
    cpu: CpuLimits
    bandwidth: BandwidthLimits


# -- service-level targets ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class SlaTargets:
    """What the service promises, and what the program measures of itself."""

    preserve_ms_max: float = 250
    restore_ms_max: float = 50
    handoff_ms_p50: float = 100
    handoff_ms_p99: float = 500
    violations_share_max: float = 0.001
    http_ms_p50: float = 50
    http_ms_p99: float = 250
    http_availability_percent: float = 99.9
    availability_window_seconds: int = 3600


SLA_TARGETS: Final = SlaTargets()
