"""The settings themselves: every field with its type, range, unit and default.

What belongs here: fields, the rules between fields, looking values up. What does not: reading the sources (`layers`).
Invariant: a `Settings` is valid as a whole and does not change; its secrets do not appear in its `repr`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from lukhas_redis.errors import InvalidArgument
from lukhas_redis.settings.layers import PREFIX, argument_layer, environment_layer, file_layer, merge
from lukhas_redis.settings.masking import mask_url
from lukhas_redis.settings.policies import ContextPolicy, TypeName
from lukhas_redis.settings.resource_limits import flatten, group_limits

YEAR_SECONDS = 31_536_000
_DEFAULT_POLICY = ContextPolicy()


def _in(low: float, high: float, description: str) -> Any:
    """A number from `low` to `high`, both included."""
    return Field(ge=low, le=high, description=description)


def _over_zero(high: float, description: str) -> Any:
    return Field(gt=0, le=high, allow_inf_nan=False, description=description)


def _name(description: str) -> Any:
    return Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description=description)


def _text(description: str) -> Any:
    return Field(description=description)


class Settings(BaseSettings):
    """The settings of one process, from defaults < file < environment `LUKHAS_*` < arguments.

    `Settings(...)` and `Settings.load(...)` do the same. The object is frozen and valid as a whole.
    """

    model_config = SettingsConfigDict(
        frozen=True, strict=True, extra="forbid", env_prefix=PREFIX, env_ignore_empty=True, validate_default=False
    )
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    # -- where -------------------------------------------------------------------------------------------------
    url: Annotated[str | None, _text("Server to use; without one an embedded server is started or joined.")] = None
    prefix: Annotated[str, _name("First part of every key.")] = "lukhas"
    tenant: Annotated[str, _name("Unit of isolation and quota.")] = "default"
    shards: Annotated[int, _in(1, 1024, "Parts a tenant is spread over; fixed when the tenant is created.")] = 1

    # -- room --------------------------------------------------------------------------------------------------
    max_context_size_bytes: Annotated[int, _in(1, 268_435_456, "Largest context, serialized.")] = 10_485_760
    max_cache_size_entries: Annotated[
        int, _in(0, 10_000_000, "Contexts in the near cache of a store; 0 = no near cache.")
    ] = 1000
    max_cache_size_bytes: Annotated[int, _in(0, 2**40, "Memory the near cache of a store may use (estimated).")] = (
        134_217_728
    )
    near_cache: Annotated[
        Literal["off", "by_type", "on"],
        _text("Whether restored contexts are held: never, as the policy of their type says, or always."),
    ] = "by_type"
    max_memory_store_entries: Annotated[int, _in(1, 100_000_000, "Contexts a tenant may hold.")] = 5000
    max_tenant_bytes: Annotated[int, _in(0, 2**50, "Stored bytes a tenant may hold; 0 = no limit.")] = 0
    cleanup_interval_seconds: Annotated[
        int, _in(1, 86_400, "Time between two sweeps; nothing sweeps by itself yet, see `lukhas sweep`.")
    ] = 300
    eviction_policy: Annotated[
        Literal["reject", "evict_oldest", "evict_lru"], _text("What a full tenant does with a new context.")
    ] = "reject"

    # -- lifetime ----------------------------------------------------------------------------------------------
    default_ttl_seconds: Annotated[int, _in(1, YEAR_SECONDS, "Lifetime of a context when nobody says.")] = 3600
    min_ttl_seconds: Annotated[int, _in(1, YEAR_SECONDS, "Shortest lifetime that is accepted.")] = 60
    max_ttl_seconds: Annotated[int, _in(1, YEAR_SECONDS, "Longest lifetime that is accepted.")] = 86_400

    # -- work --------------------------------------------------------------------------------------------------
    max_depth: Annotated[int, _in(1, 200, "Deepest nesting of containers in the data.")] = 50
    max_serialization_time_ms: Annotated[int, _in(1, 600_000, "Time to serialize a context before it is slow.")] = 100
    max_compression_time_ms: Annotated[int, _in(1, 600_000, "Time to compress a context before it is slow.")] = 500
    slow_codec: Annotated[Literal["observe", "refuse"], _text("Count slow encoding, or refuse the write.")] = "observe"
    consensus_timeout_ms: Annotated[int, _in(1, 3_600_000, "Time budget of one consensus; no part reads it yet.")] = (
        30_000
    )
    max_context_throughput_mbps: Annotated[
        int, _in(0, 1_000_000, "Megabits of stored bytes a tenant writes per second; 0 = no limit.")
    ] = 100
    required_compression_ratio: Annotated[
        float, _in(0, 1, "Part by which a context over 1 MB should shrink; less is reported, not refused.")
    ] = 0.9

    # -- memory of what happened -------------------------------------------------------------------------------
    request_retention_seconds: Annotated[int, _in(1, 604_800, "How long a repeat gets the first answer.")] = 600
    tombstone_grace_seconds: Annotated[int, _in(1, YEAR_SECONDS, "How long the reason of an absence is kept.")] = 3600
    max_tombstones: Annotated[int, _in(1, 10_000_000, "Absences whose reason is kept, per tenant.")] = 10_000
    event_window_entries: Annotated[int, _in(1, 10_000_000, "Lifecycle events kept as history.")] = 1000
    audit_window_entries: Annotated[int, _in(1, 10_000_000, "Mode and flag changes kept.")] = 10_000
    touch_interval_seconds: Annotated[int, _in(0, 86_400, "Shortest time between two records of a read.")] = 60
    inline_body_bytes: Annotated[
        int, _in(0, 1_048_576, "Payloads up to this travel inside the script call, larger ones are staged.")
    ] = 32_768

    max_segments: Annotated[
        int, _in(2, 100_000, "Appended parts a context may have before they are folded into its body.")
    ] = 4096

    # -- bus ---------------------------------------------------------------------------------------------------
    bus_max_entries: Annotated[int, _in(1, 100_000_000, "Events a priority of the bus may hold, per shard.")] = 100_000
    bus_max_payload_bytes: Annotated[int, _in(0, 1_048_576, "Largest payload of an event, serialized.")] = 65_536
    bus_history_seconds: Annotated[int, _in(0, YEAR_SECONDS, "How long finished events stay readable.")] = 3600
    bus_hold_seconds: Annotated[
        float, _over_zero(3600, "How long an event stays with a worker that gives no sign of life.")
    ] = 30.0
    bus_max_deliveries: Annotated[int, _in(1, 1_000_000, "Deliveries of an event before it is a dead letter.")] = 5
    bus_low_every: Annotated[int, _in(2, 1_000_000, "One of so many events is taken from lower priorities first.")] = 16
    bus_first_backoff_seconds: Annotated[float, _over_zero(3600, "Wait before the first retry of an event.")] = 1.0
    bus_longest_backoff_seconds: Annotated[float, _over_zero(3600, "Longest wait between two retries.")] = 60.0
    bus_max_dead_letters: Annotated[int, _in(1, 10_000_000, "Dead letters kept, per shard (about).")] = 10_000
    bus_worker_idle_seconds: Annotated[
        int, _in(1, YEAR_SECONDS, "When a worker with nothing pending is taken off the books.")
    ] = 3600
    max_history: Annotated[int, _in(1, 10_000, "Events that `history` returns when nobody says how many.")] = 100

    # -- calls and connections ---------------------------------------------------------------------------------
    call_timeout_seconds: Annotated[float, _over_zero(3600, "Deadline of one call, with its retries.")] = 5.0
    connect_timeout_seconds: Annotated[float, _over_zero(3600, "Deadline of opening a connection.")] = 2.0
    socket_timeout_seconds: Annotated[float, _over_zero(3600, "Longest wait for one reply.")] = 5.0
    max_connections: Annotated[int, _in(1, 65_535, "Connections of one store.")] = 32
    client_name: Annotated[
        str | None, Field(pattern=r"^[!-~]{1,64}$", description="Name the server lists our connections by.")
    ] = None

    # -- what the server must give -----------------------------------------------------------------------------
    durability: Annotated[Literal["memory", "local", "replicated"], _text("What an acknowledged write survives.")] = (
        "memory"
    )
    replicas_to_wait: Annotated[int, _in(1, 16, "Replicas that must confirm at level replicated.")] = 1
    wait_timeout_ms: Annotated[int, _in(1, 600_000, "How long they may take.")] = 1000
    server_appendfsync: Annotated[
        Literal["always"] | None, _text("What the operator vouches for where CONFIG GET is denied.")
    ] = None
    require_noeviction: Annotated[bool, _text("Refuse a server that would evict our keys by itself.")] = True
    check_interval_seconds: Annotated[int, _in(1, 86_400, "Time between two looks at the server's settings.")] = 30

    # -- behaviour ---------------------------------------------------------------------------------------------
    initial_mode: Annotated[
        Literal["live", "dry_run", "paused"],
        _text(
            "Mode of a tenant whose mode was never set; `CONTEXT_BUS_ACTIVE` false (true) stands for dry_run (live)."
        ),
    ] = "live"
    metrics: Annotated[bool, _text("Keep Prometheus metrics.")] = True
    session_label: Annotated[Literal["bucket", "raw"], _text("Sessions as metric labels; raw is unbounded.")] = "bucket"
    session_buckets: Annotated[int, _in(1, 4096, "Number of session buckets.")] = 32
    policies: Annotated[
        dict[TypeName, ContextPolicy], _text("Policies per context type, laid over the built-in ones.")
    ] = Field(default_factory=dict)

    def __init__(self, file: str | os.PathLike[str] | None = None, **arguments: Any) -> None:
        """Read the settings; see `load`."""
        fields = type(self).model_fields
        merged = merge([file_layer(file, fields), environment_layer(type(self)), argument_layer(arguments, fields)])
        try:
            super().__init__(**merged.values)
        except ValidationError as error:
            raise _refusal(error, merged.origins) from None
        self._origins = merged.origins

    @classmethod
    def load(cls, file: str | os.PathLike[str] | None = None, **arguments: Any) -> Self:
        """Read the settings: defaults < file < environment `LUKHAS_*` < arguments.

        `file` is a TOML or JSON path, else `LUKHAS_CONFIG` names one, else there is none. An argument that is
        None counts as given. Returns settings that are valid as a whole.

        Raises:
            InvalidArgument: A value, a key or the file is wrong; the message names the field and its source.
                A retry cannot help.
        """
        return cls(file, **arguments)

    @classmethod
    def from_resource_limits(cls, document: Mapping[str, Any], **arguments: Any) -> Self:
        """Read the settings with the limits of a resource-limits document in the place of arguments.

        Raises:
            InvalidArgument: A group is missing, a key unknown or a value out of range. A retry cannot help.
        """
        return cls(None, **{**flatten(document, "argument"), **arguments})

    @classmethod
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `__init__` passes: it merged the layers itself, to know where each value came from."""
        return (sources["init_settings"],)

    def policy(self, context_type: str) -> ContextPolicy:
        """Return the policy of a context type; a type nobody described gets the default policy."""
        return self.policies.get(context_type, _DEFAULT_POLICY)

    def resource_limits(self) -> dict[str, dict[str, Any]]:
        """Return the resource-limits document that these settings amount to."""
        return group_limits(dict(self))

    def origin(self) -> dict[str, tuple[Any, str]]:
        """Return each value with its source: default, file <path>, environment <NAME> or argument.

        Policies appear field by field as `policies.<type>.<field>`; passwords are masked.
        """
        values = {name: _shown(name, value) for name, value in self if name != "policies"}
        for kind, policy in self.policies.items():
            values.update({f"policies.{kind}.{name}": value for name, value in policy})
        return {name: (value, self._origins.get(name, "default")) for name, value in values.items()}

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        return [(name, _shown(name, value)) for name, value in self]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Rules between fields."""
        bounds = f"min_ttl_seconds {self.min_ttl_seconds} .. max_ttl_seconds {self.max_ttl_seconds}"
        if self.min_ttl_seconds > self.max_ttl_seconds:
            raise InvalidArgument(f"{bounds}: the minimum is over the maximum", field="min_ttl_seconds")
        lifetimes = {f"policies.{kind}.ttl_seconds": policy.ttl_seconds for kind, policy in self.policies.items()}
        for name, ttl in {"default_ttl_seconds": self.default_ttl_seconds, **lifetimes}.items():
            if ttl is not None and not self.min_ttl_seconds <= ttl <= self.max_ttl_seconds:
                raise InvalidArgument(f"{name} {ttl} lies outside {bounds}", field=name)
        _at_least(self, "max_memory_store_entries", "shards", "every shard must hold one context")
        _at_least(self, "request_retention_seconds", "call_timeout_seconds", "a retry must meet its first answer")
        return self


def _at_least(settings: Settings, name: str, other: str, reason: str) -> None:
    value, low = getattr(settings, name), getattr(settings, other)
    if value < low:
        raise InvalidArgument(f"{name} {value} is under {other} {low}: {reason}", field=name)


def _shown(name: str, value: Any) -> Any:
    return mask_url(value) if name == "url" and isinstance(value, str) else value


def _refusal(error: ValidationError, origins: Mapping[str, str]) -> InvalidArgument:
    """One error with every wrong field and its source; values are left out, as one of them may be a secret."""
    lines, fields = [], []
    for detail in error.errors(include_url=False, include_input=False, include_context=False):
        parts = [str(part) for part in detail["loc"] if part != "[key]"]
        name = ".".join(parts)
        origin = origins.get(name) or origins.get(".".join(parts[:2])) or origins.get(parts[0], "default")
        reason = "unknown key" if detail["type"] == "extra_forbidden" else detail["msg"]
        lines.append(f"{name}: {reason} (from {origin})")
        fields.append(name)
    return InvalidArgument("; ".join(lines), field=fields[0], wrong=fields)
