"""The sources of settings - file, environment, arguments - and how they are laid over each other.

What belongs here: reading each source, refusing keys nobody knows, remembering which source gave which value.
What does not: the ranges of the values (`model`).
Invariant: a later layer wins key by key; policies are merged field by field, so naming one keeps the others.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

from lukhas_redis.errors import InvalidArgument
from lukhas_redis.settings.policies import BUILT_IN_POLICIES, ContextPolicy
from lukhas_redis.settings.resource_limits import flatten, is_resource_limits

PREFIX = "LUKHAS_"
OLD_SWITCH = "CONTEXT_BUS_ACTIVE"
_OLD_SWITCH_MODES = {
    **dict.fromkeys(("true", "1", "yes", "on"), "live"),
    **dict.fromkeys(("false", "0", "no", "off"), "dry_run"),
}


@dataclass(frozen=True)
class Layer:
    """What one source says, and how each of its keys is named when somebody asks where a value came from."""

    values: dict[str, Any]
    origins: dict[str, str]


def argument_layer(arguments: Mapping[str, Any], known: Iterable[str]) -> Layer:
    """The layer of keyword arguments."""
    _refuse_unknown(arguments, known, "argument")
    return Layer(dict(arguments), dict.fromkeys(arguments, "argument"))


def file_layer(file: str | os.PathLike[str] | None, known: Iterable[str]) -> Layer:
    """The layer of the settings file: `file`, else what `LUKHAS_CONFIG` names, else nothing."""
    chosen = file if file is not None else os.environ.get(f"{PREFIX}CONFIG") or None
    if chosen is None:
        return Layer({}, {})
    path = Path(chosen).expanduser()
    origin = f"file {path}"
    values = _parse(path)
    if is_resource_limits(values):
        values = flatten(values, origin)
    _refuse_unknown(values, known, origin)
    return Layer(values, dict.fromkeys(values, origin))


def environment_layer(model: type[BaseSettings]) -> Layer:
    """The layer of `LUKHAS_*`; variables that name no setting are other people's, empty ones count as not set."""
    try:
        found = EnvSettingsSource(model)()
    except SettingsError as error:
        raise InvalidArgument(f"{PREFIX}POLICIES is not JSON: {error.__cause__}", field="policies") from None
    values = {name: _from_text(name, value, model.model_fields[name]) for name, value in found.items()}
    origins = {name: f"environment {PREFIX}{name.upper()}" for name in values}
    old = os.environ.get(OLD_SWITCH, "").strip().lower()
    if old and "initial_mode" not in values:
        values["initial_mode"] = _old_switch_mode(old)
        origins["initial_mode"] = f"environment {OLD_SWITCH}"
    return Layer(values, origins)


def merge(layers: Iterable[Layer]) -> Layer:
    """Lay `layers` over each other, the last one on top; policies start from the built-in ones."""
    values: dict[str, Any] = {"policies": {name: policy.model_dump() for name, policy in BUILT_IN_POLICIES.items()}}
    origins: dict[str, str] = {}
    for layer in layers:
        for name, value in layer.values.items():
            if name == "policies":
                _merge_policies(values["policies"], origins, value, layer.origins[name])
            else:
                values[name] = value
                origins[name] = layer.origins[name]
    return Layer(values, origins)


def _merge_policies(into: dict[str, Any], origins: dict[str, str], given: Any, origin: str) -> None:
    if not isinstance(given, Mapping):
        raise InvalidArgument(f"policies must be a mapping of types to policies (from {origin})", field="policies")
    for name, policy in given.items():
        if isinstance(policy, ContextPolicy):
            policy = policy.model_dump(exclude_unset=True)
        if not isinstance(policy, Mapping):
            raise InvalidArgument(f"policies.{name} must be a mapping (from {origin})", field=f"policies.{name}")
        into[name] = {**into.get(name, {}), **policy}
        origins.update({f"policies.{name}.{key}": origin for key in policy})
        origins[f"policies.{name}"] = origin


def _refuse_unknown(values: Mapping[str, Any], known: Iterable[str], origin: str) -> None:
    names = list(known)
    for key in [key for key in values if key not in names]:
        near = difflib.get_close_matches(str(key), names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidArgument(f"unknown setting {key!r} (from {origin}){hint}", field=str(key))


def _from_text(name: str, value: Any, field: FieldInfo) -> Any:
    """An environment variable is text: read it as the type of its field, which other sources must give exactly."""
    if not isinstance(value, str):
        return value
    declared: Any = field.annotation
    kind: Any = Annotated[(declared, *field.metadata)] if field.metadata else declared
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise InvalidArgument(f"{name}: {reason} (from environment {PREFIX}{name.upper()})", field=name) from None


def _old_switch_mode(text: str) -> str:
    if text not in _OLD_SWITCH_MODES:
        raise InvalidArgument(f"{OLD_SWITCH} is {text!r}; true or false is allowed", field="initial_mode")
    return _OLD_SWITCH_MODES[text]


def _parse(path: Path) -> dict[str, Any]:
    readers: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".json": _json}
    if path.suffix.lower() not in readers:
        raise InvalidArgument(f"file {path}: settings are read from .toml or .json files", field="file")
    try:
        content = readers[path.suffix.lower()](path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidArgument(f"file {path} cannot be read: {error.strerror}", field="file") from None
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"file {path} cannot be parsed: {error}", field="file") from None
    if not isinstance(content, dict):
        raise InvalidArgument(f"file {path}: the top level must be an object of settings", field="file")
    return content


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON lets a key stand twice and the last one win; TOML and we do not."""
    seen = dict(pairs)
    if len(seen) < len(pairs):
        twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"the key {twice!r} stands there twice")
    return seen
