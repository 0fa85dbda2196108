"""The contract documents: what they accept, what they refuse, and that they print what they read."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from lukhas_redis import errors
from lukhas_redis.documents import (
    SLA_TARGETS,
    Document,
    ErrorCode,
    ErrorDocument,
    LifecycleDocument,
    PreservedContextDocument,
    ResourceLimitsDocument,
    error_document,
)
from lukhas_redis.settings import Settings

SHA = "0123456789abcdef" * 4
LIFECYCLE: dict[str, Any] = {
    "context_id": "1b4e28ba-2fa1-4d2b-883f-0016d3cca427",
    "lifecycle_state": "restored",
    "state_transitions": [
        {"timestamp": 1.5, "from_state": "created", "to_state": "preserved", "event": "preserved", "duration_ms": 3},
        {"timestamp": 2, "from_state": "preserved", "to_state": "restored", "event": "restored"},
    ],
    "metadata": {"created_at": 1, "ttl_seconds": 3600, "compression_level": 6, "checksum": SHA},
    "invariants": {
        "unique_context_id": True,
        "ttl_respected": True,
        "checksum_valid": False,
        "single_store_source": True,
    },
}
PRESERVED: dict[str, Any] = {
    "context_id": "1b4e28ba-2fa1-1d2b-083f-0016d3cca427",
    "data": {"a": None, "b": [1, {"c": 2.5}]},
    "compressed": True,
    "compression_ratio": 0.25,
    "checksum": SHA,
    "metadata": {"created_at": 1, "last_accessed": 2, "ttl_seconds": 60, "hop_count": 0, "size_bytes": 0},
}
ERROR: dict[str, Any] = {"code": "CONTEXT_NOT_FOUND", "message": "no context", "timestamp": 5}
LIMITS: dict[str, Any] = {
    "memory": {
        "max_context_size_bytes": 10_485_760,
        "max_cache_size_entries": 1000,
        "max_memory_store_entries": 5000,
        "cleanup_interval_seconds": 300,
    },
    "cpu": {"max_serialization_time_ms": 100, "max_compression_time_ms": 500, "consensus_timeout_ms": 30_000},
    "bandwidth": {"max_context_throughput_mbps": 100, "required_compression_ratio": 0.9},
}
DOCUMENTS: list[tuple[type[Document], dict[str, Any]]] = [
    (LifecycleDocument, LIFECYCLE),
    (PreservedContextDocument, PRESERVED),
    (ErrorDocument, ERROR),
    (ResourceLimitsDocument, LIMITS),
]
REQUIRED = {
    LifecycleDocument: {
        "context_id",
        "lifecycle_state",
        "metadata",
        "metadata.created_at",
        "metadata.ttl_seconds",
        *(f"state_transitions.{i}.{name}" for i in (0, 1) for name in ("timestamp", "from_state", "to_state", "event")),
        *(f"invariants.{name}" for name in LIFECYCLE["invariants"]),
    },
    PreservedContextDocument: {*PRESERVED, "metadata.created_at", "metadata.ttl_seconds"},
    ErrorDocument: {"code", "message"},
    ResourceLimitsDocument: set(LIMITS),
}


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every field in a document, `data` not entered."""
    if path == ("data",):
        return
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if isinstance(value, dict):
            yield (*path, key)
        yield from places(inner, (*path, key))


def changed(document: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """A copy of `document` with `value` at `path`; `...` removes what is there."""
    result = copy.deepcopy(document)
    inner: Any = result
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return result


def errors_of(model: type[Document], document: dict[str, Any]) -> list[tuple[str, tuple[str | int, ...]]]:
    """Kind and place of everything that `model` refuses in `document`."""
    try:
        model.model_validate(document)
    except ValidationError as error:
        return [(detail["type"], detail["loc"]) for detail in error.errors()]
    return []


@pytest.mark.parametrize("model, document", DOCUMENTS)
def test_round_trip(model: type[Document], document: dict[str, Any]) -> None:
    """A document is printed as it was read, from Python data and from JSON, None inside `data` included."""
    assert model.model_validate(document).to_dict() == document
    assert json.loads(model.model_validate_json(json.dumps(document)).model_dump_json()) == document


@pytest.mark.parametrize("model, document", DOCUMENTS)
def test_required_and_optional_fields(model: type[Document], document: dict[str, Any]) -> None:
    """Exactly the required fields are missed when they are absent; optional ones are then left out of the print."""
    missed = set()
    for path in places(document):
        without = changed(document, path, ...)
        found = errors_of(model, without)
        if found:
            assert found == [("missing", path)]
            missed.add(".".join(map(str, path)))
        else:
            printed = model.model_validate(without).to_dict()
            assert printed == (document if model is ResourceLimitsDocument else without)
    assert missed == REQUIRED[model]


@pytest.mark.parametrize("model, document", DOCUMENTS)
def test_unknown_fields(model: type[Document], document: dict[str, Any]) -> None:
    """A field that the contract does not have is refused at every level."""
    levels = {path[:-1] for path in places(document)}
    for level in levels:
        with pytest.raises(ValidationError, match="extra_forbidden"):
            model.model_validate(changed(document, (*level, "more"), 1))


@pytest.mark.parametrize(
    "path, values",
    [
        (["context_id"], ["", "1b4e28ba-2fa1-1d2b-883f-0016d3cca427", "1b4e28ba-2fa1-4d2b-083f-0016d3cca427", 5]),
        (["lifecycle_state"], ["lost", "", None, "Created"]),
        (["state_transitions"], [{}, (), "created"]),
        (["state_transitions", 0, "timestamp"], ["1", True, float("nan"), float("inf"), None]),
        (["state_transitions", 0, "from_state"], ["none", None]),
        (["state_transitions", 0, "to_state"], ["none", None]),
        (["state_transitions", 0, "event"], ["handoff", None]),
        (["state_transitions", 0, "duration_ms"], ["1", True]),
        (["metadata", "created_at"], ["1", True, None]),
        (["metadata", "ttl_seconds"], [59, 86_401, 60.5, "60", True, None]),
        (["metadata", "compression_level"], [2, 10, -1, 1.0, "1", True, False]),
        (["metadata", "checksum"], ["", SHA[1:], SHA + "0", "g" + SHA[1:], SHA + "\n"]),
        (["invariants", "ttl_respected"], [1, "true", None]),
    ],
)
def test_bad_lifecycle(path: list[str | int], values: list[Any]) -> None:
    """A lifecycle document with a value outside the contract is refused at that field alone."""
    for value in values:
        found = errors_of(LifecycleDocument, changed(LIFECYCLE, tuple(path), value))
        assert {place[: len(path)] for _, place in found} == {tuple(path)}, value


@pytest.mark.parametrize(
    "path, values",
    [
        (["context_id"], ["1b4e28ba2fa11d2b883f0016d3cca427", "x", None]),
        (["data"], [[], "x", None, {1: 2}]),
        (["compressed"], [1, "yes"]),
        (["compression_ratio"], [-0.01, 1.01, float("nan"), "0.5", True]),
        (["checksum"], ["0" * 63, "z" * 64, None]),
        (["metadata", "created_at"], [1.5, "1", True]),
        (["metadata", "last_accessed"], [1.5, "1"]),
        (["metadata", "ttl_seconds"], [59, 86_401]),
        (["metadata", "hop_count"], [-1, 0.5]),
        (["metadata", "size_bytes"], [-1, 0.5]),
    ],
)
def test_bad_preserved_context(path: list[str | int], values: list[Any]) -> None:
    """An answered context with a value outside the contract is refused at that field alone."""
    for value in values:
        found = errors_of(PreservedContextDocument, changed(PRESERVED, tuple(path), value))
        assert {place[: len(path)] for _, place in found} == {tuple(path)}, value


def test_allowed_ends() -> None:
    """The ends of each range of the contract are allowed."""
    for ttl in (60, 86_400):
        assert errors_of(LifecycleDocument, changed(LIFECYCLE, ("metadata", "ttl_seconds"), ttl)) == []
    for level in (0, 1, 6, 9):
        assert errors_of(LifecycleDocument, changed(LIFECYCLE, ("metadata", "compression_level"), level)) == []
    for ratio in (0, 1):
        assert errors_of(PreservedContextDocument, changed(PRESERVED, ("compression_ratio",), ratio)) == []


def subclasses(cls: type[errors.LukhasRedisError]) -> Iterator[type[errors.LukhasRedisError]]:
    """`cls` and every error below it."""
    yield cls
    for below in cls.__subclasses__():
        yield from subclasses(below)


def test_every_error_has_its_document() -> None:
    """Every error of the package becomes a valid error document, and the contract lists no code without an error."""
    ours = [cls for cls in subclasses(errors.LukhasRedisError) if cls.__module__ == errors.__name__]
    for cls in ours:
        document = error_document(cls("what happened"), 7)
        assert document.to_dict() == {"code": cls.code, "message": "what happened", "timestamp": 7}
    assert {cls.code for cls in ours} == set(get_args(ErrorCode))


def test_error_without_a_time() -> None:
    """Without a timestamp the document has no such field, rather than a null."""
    assert error_document(errors.Throttled("slow down")).model_dump_json() == (
        '{"code":"RATE_LIMITED","message":"slow down"}'
    )


def test_resource_limits_are_those_of_the_settings() -> None:
    """The document has the defaults of the contract, and the same names, defaults and ranges as the settings."""
    empty = ResourceLimitsDocument.model_validate({"memory": {}, "cpu": {}, "bandwidth": {}}).to_dict()
    assert empty == LIMITS == Settings().resource_limits()
    schema, settings = ResourceLimitsDocument.model_json_schema(), Settings.model_json_schema()["properties"]
    for group in schema["$defs"].values():
        for name, spec in group["properties"].items():
            ends = ("type", "minimum", "maximum", "default")
            assert [spec[end] for end in ends] == [settings[name][end] for end in ends], name


def test_schema_says_what_is_enforced() -> None:
    """The JSON schema made from a document allows no null and no further fields, as the document does."""
    for model, _ in DOCUMENTS:
        schema = json.dumps(model.model_json_schema())
        assert '"null"' not in schema
        assert '"additionalProperties": false' in schema


def test_targets() -> None:
    """The service-level targets are those of the contract."""
    assert (SLA_TARGETS.preserve_ms_max, SLA_TARGETS.restore_ms_max) == (250, 50)
    assert (SLA_TARGETS.handoff_ms_p50, SLA_TARGETS.handoff_ms_p99) == (100, 500)
    assert (SLA_TARGETS.http_ms_p50, SLA_TARGETS.http_ms_p99) == (50, 250)
    assert (SLA_TARGETS.violations_share_max, SLA_TARGETS.http_availability_percent) == (0.001, 99.9)
    assert SLA_TARGETS.availability_window_seconds == 3600
