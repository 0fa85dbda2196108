"""`build_context`: who is calling (session, tenant), what they would like (hints) and in which mode.

What belongs here: turning a caller's mapping into a checked `BuiltContext`. What does not: storing anything, and a
tenant's own mode, which lives in Redis and wins when it is stricter.
Invariant: two results share nothing that can be changed, neither with each other nor with the input.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from lukhas_redis.errors import InvalidArgument, InvalidId
from lukhas_redis.keys import valid_session, valid_tenant

Mode = Literal["live", "dry_run", "paused"]


class SessionRef(BaseModel):
    """A session by its id: 1 to 256 bytes of UTF-8 in NFC, without control characters."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: str = "local"

    @field_validator("id")
    @classmethod
    def _valid_id(cls, value: str) -> str:
        return _checked("session.id", valid_session, value)


class BuiltContext(BaseModel):
    """Who is calling and how: made by `build_context`, or directly with the same checks."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    session: SessionRef = Field(default_factory=SessionRef)
    tenant: str = "default"
    policy_hints: dict[str, Any] = Field(default_factory=dict)
    mode: Mode = "live"

    @field_validator("tenant")
    @classmethod
    def _valid_tenant(cls, value: str) -> str:
        return _checked("tenant", valid_tenant, value)


def build_context(ctx_in: Mapping[str, Any] | BuiltContext | None, *, mode: Mode | None = None) -> BuiltContext:
    """Check `ctx_in` and return it as a `BuiltContext` with the defaults filled in.

    `ctx_in` holds `session` ({"id": ...}, default "local"), `tenant` (default "default"), `policy_hints` (default
    {}) and `mode` (default "live"); None stands for all defaults. `mode` wins over the one in `ctx_in`.
    The result is a deep copy: the input and other results do not change with it.

    Raises:
        InvalidArgument: A key is unknown or a value has a wrong type; the message names the field.
            A retry cannot help.
        InvalidId: `tenant` or `session.id` is malformed. A retry cannot help.
    """
    given = _as_dict(ctx_in)
    if mode is not None:
        given["mode"] = mode
    try:
        return BuiltContext.model_validate(given)
    except ValidationError as error:
        raise _refusal(error) from None


def _as_dict(ctx_in: Mapping[str, Any] | BuiltContext | None) -> dict[str, Any]:
    if ctx_in is None:
        return {}
    if isinstance(ctx_in, BuiltContext):
        ctx_in = dict(ctx_in)
    if not isinstance(ctx_in, Mapping):
        raise InvalidArgument(f"ctx_in must be a mapping, a BuiltContext or None, not {type(ctx_in).__name__}")
    return {key: _own(key, value) for key, value in ctx_in.items()}


def _own(key: str, value: Any) -> Any:
    """A copy that shares nothing with the caller; any mapping will do where we keep a dict."""
    try:
        copied = copy.deepcopy(dict(value) if isinstance(value, Mapping) else value)
    except Exception as error:  # noqa: BLE001 - whatever a foreign object raises, its copy cannot be taken
        raise InvalidArgument(f"{key} cannot be copied: {type(error).__name__}: {error}", field=str(key)) from None
    return copied


def _checked(field: str, check: Callable[[object], str], value: str) -> str:
    try:
        return check(value)
    except InvalidId as error:
        raise InvalidId(f"{field}: {error.message}", **{**error.fields, "field": field}) from None


def _refusal(error: ValidationError) -> InvalidArgument:
    detail = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in detail["loc"] if part != "[key]")
    reason = "unknown key" if detail["type"] == "extra_forbidden" else detail["msg"]
    return InvalidArgument(f"{field}: {reason}", field=field)
