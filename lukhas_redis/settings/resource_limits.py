"""The resource-limits document (three groups of limits) as settings, and back.

What belongs here: which limit stands in which group. What does not: the ranges (`model`), the document's own
schema (`lukhas_redis.documents`).
Invariant: a limit has the same name in the document and in the settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lukhas_redis.errors import InvalidArgument

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "memory": (
        "max_context_size_bytes",
        "max_cache_size_entries",
        "max_memory_store_entries",
        "cleanup_interval_seconds",
    ),
    "cpu": ("max_serialization_time_ms", "max_compression_time_ms", "consensus_timeout_ms"),
    "bandwidth": ("max_context_throughput_mbps", "required_compression_ratio"),
}


def is_resource_limits(document: Mapping[str, Any]) -> bool:
    """Whether a mapping is meant as a resource-limits document: it has one of the groups at its top level."""
    return any(group in document for group in GROUPS)


def flatten(document: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the limits of a document by the names that the settings have; `source` is named in errors.

    Raises:
        InvalidArgument: A group is missing, unknown or no mapping, or a key is unknown. A retry cannot help.
    """
    if not isinstance(document, Mapping):
        raise InvalidArgument(f"resource limits ({source}) must be a mapping, not {type(document).__name__}")
    for name in [group for group in GROUPS if group not in document]:
        raise InvalidArgument(f"resource limits ({source}) lack the required group {name!r}", field=name)
    for name in [key for key in document if key not in GROUPS]:
        raise InvalidArgument(f"unknown key {name!r} in the resource limits ({source})", field=str(name))
    return {key: value for group in GROUPS for key, value in _limits(group, document[group], source)}


def _limits(group: str, limits: Any, source: str) -> list[tuple[str, Any]]:
    if not isinstance(limits, Mapping):
        raise InvalidArgument(f"{group} ({source}) must be a mapping, not {type(limits).__name__}", field=group)
    for key in [key for key in limits if key not in GROUPS[group]]:
        raise InvalidArgument(f"unknown key '{group}.{key}' in the resource limits ({source})", field=f"{group}.{key}")
    return list(limits.items())


def group_limits(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the resource-limits document that holds the limits among `values`."""
    return {group: {name: values[name] for name in names} for group, names in GROUPS.items()}
