"""Every metric of the store: its name, kind, labels, buckets, and what moves it.

What belongs here: facts about metrics. What does not: prometheus_client (`instruments`), counting (`recorder`).
Invariant: what is exposed, what `docs/metrics.md` says and what stands here are the same (two tests compare them).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

UNKNOWN = "unknown"
OTHER = "__other__"

# Labels whose values come from callers. Each combination of them in one metric counts against its child limit.
BOUNDED_LABELS = frozenset(
    {"context_type", "source_provider", "destination_provider", "failure_reason", "operation", "code"}
)
DEFAULT_CHILD_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric; `moved_by` says in `docs/metrics.md` what changes it; `given`: the name is part of the contract."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    text: str
    moved_by: str
    buckets: tuple[float, ...] = ()
    given: bool = True


CATALOG: tuple[Measure, ...] = (
    Measure(
        "lukhas_context_preserve_total",
        "counter",
        ("session_id", "context_type", "compression_level"),
        "Contexts preserved.",
        "each context that `preserve` or `preserve_many` stored; the level is 0, 1, 6 or 9",
    ),
    Measure(
        "lukhas_context_checksum_verification_failures",
        "counter",
        ("context_type", "failure_reason"),
        "Stored contexts that failed verification.",
        "each `ContextCorrupted`; the reason is the error's, `metadata` where it has none",
    ),
    Measure(
        "lukhas_context_cache_evictions_total",
        "counter",
        ("reason",),
        "Contexts removed from the store to give back room.",
        "`ttl_expired`: `sweep`; `lru_eviction` (policy `evict_lru`) and `memory_pressure` (`evict_oldest`): a "
        "`preserve`, `append` or `patch` that had to make room",
    ),
    Measure(
        "context_expired_immediately_removed_total",
        "counter",
        (),
        "Expired contexts removed by a sweep.",
        "each context that `sweep` removed",
    ),
    Measure(
        "lukhas_context_preserve_duration_seconds",
        "histogram",
        ("context_type", "compression_level"),
        "Time of one preserve, as its caller waits for it.",
        "`preserve` that stored a context",
        (0.01, 0.05, 0.1, 0.25, 0.5, 1.0),
    ),
    Measure(
        "lukhas_context_restore_duration_seconds",
        "histogram",
        ("cache_hit",),
        "Time of one restore, as its caller waits for it.",
        "`restore` that returned a context; `cache_hit` is `true` where the near cache held it and "
        "the server had to send nothing or only what was added, `false` where it was read whole",
        (0.001, 0.01, 0.05, 0.1, 0.5),
    ),
    Measure(
        "lukhas_context_handoff_duration_seconds",
        "histogram",
        ("source_provider", "destination_provider"),
        "Time of one handoff, as its caller waits for it.",
        "`handoff` that changed the owner",
        (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0),
    ),
    Measure(
        "lukhas_context_compression_ratio",
        "gauge",
        ("context_type",),
        "Stored bytes per serialized byte of the context preserved last, 0 to 1.",
        "each context that `preserve` or `preserve_many` stored",
    ),
    Measure(
        "lukhas_context_memory_store_usage",
        "gauge",
        (),
        "How full the tenant was when last asked, 0 to 1.",
        "`stats`: its `pressure`, the fuller of entries and bytes; several tenants in one process: the last one asked",
    ),
    Measure(
        "lukhas_store_errors_total",
        "counter",
        ("operation", "code"),
        "Calls that ended in an error.",
        "each error, also those within a `preserve_many` or `restore_many`; `CANCELLED`: given up by the caller, "
        "`UNEXPECTED`: not an error of this package",
        given=False,
    ),
    Measure(
        "lukhas_store_resets_total",
        "counter",
        (),
        "How often the server came back without its data.",
        "the store noticed that the server lost or replaced its data",
        given=False,
    ),
    Measure(
        "lukhas_context_slow_codec_total",
        "counter",
        ("step",),
        "Contexts whose encoding took longer than its limit.",
        "`serialization` over `max_serialization_time_ms`, `compression` over `max_compression_time_ms`",
        given=False,
    ),
    Measure(
        "lukhas_context_poor_compression_total",
        "counter",
        ("context_type",),
        "Contexts over 1 MB that shrank by less than required.",
        "a context over 1,048,576 bytes that shrank by less than `required_compression_ratio`",
        given=False,
    ),
    Measure(
        "lukhas_build_info",
        "gauge",
        ("version", "python", "redis_py"),
        "Versions of this process; always 1.",
        "the first store of the process",
        given=False,
    ),
    Measure(
        "lukhas_metrics_overflow_total",
        "counter",
        ("metric",),
        "Observations counted under __other__ because a metric has its full number of label values.",
        "each observation with a new label value beyond the child limit",
        given=False,
    ),
)
MEASURES = {measure.name: measure for measure in CATALOG}
