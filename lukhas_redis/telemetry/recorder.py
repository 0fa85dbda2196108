"""What each result and error does to the metrics.

What belongs here: one small method per kind of result. What does not: dry runs, which never come here (`Telemetry`).
Invariant: a call's cost here does not depend on how many contexts, sessions or types there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from zlib import crc32

from lukhas_redis.errors import LukhasRedisError
from lukhas_redis.models import Appended, Context, FlagChange, Handoff, Patched, Preserved, Stats, Swept
from lukhas_redis.settings import Settings
from lukhas_redis.telemetry.catalog import UNKNOWN
from lukhas_redis.telemetry.instruments import Instruments
from lukhas_redis.telemetry.notices import is_corruption, shrinks_poorly


class Recorder:
    """Moves the metrics of one store; many recorders may share the instruments."""

    def __init__(self, instruments: Instruments, settings: Settings) -> None:
        self._to = instruments
        self._settings = settings
        self._buckets = [f"bucket-{number}" for number in range(settings.session_buckets)]
        self._raw_sessions = settings.session_label == "raw"
        self._policy: str = settings.eviction_policy
        instruments.reserved.update(settings.policies)
        self._kinds: dict[type, Callable[[Any, float | None], None]] = {
            Preserved: self._preserved,
            Appended: self._appended,
            Patched: self._appended,
            Context: self._restored,
            Handoff: self._handed_off,
            Swept: self._swept,
            Stats: self._surveyed,
            FlagChange: self._flag_changed,
        }

    def finished(self, result: object, seconds: float | None) -> None:
        """Record a result; `seconds` None: it was one of many, whose common duration is no single call's."""
        record = self._kinds.get(type(result))
        if record is not None:
            record(result, seconds)

    def met(self, operation: str, error: BaseException) -> None:
        """Record an error."""
        self._to.errors.child(operation, code_of(error)).inc()
        if is_corruption(error):
            kind, reason = error.fields.get("context_type", UNKNOWN), error.fields.get("reason", "metadata")
            self._to.corrupted.child(str(kind), str(reason)).inc()

    def reset(self, times: int) -> None:
        """Record that the server came back without its data."""
        self._to.resets.inc(times)

    def session_label(self, session_id: str) -> str:
        """A bucket that is the same in every process, or the session itself when the operator asked for that."""
        if self._raw_sessions:
            return session_id
        return self._buckets[crc32(session_id.encode("utf-8", "replace")) % len(self._buckets)]

    def _preserved(self, result: Preserved, seconds: float | None) -> None:
        to, kind, level = self._to, result.context_type, str(result.level)
        to.preserved.child(self.session_label(result.session_id), kind, level).inc()
        to.ratio.child(kind).set(result.compression_ratio)
        if seconds is not None:
            to.preserve_seconds.child(kind, level).observe(seconds)
        self._evicted(result.evicted)
        if result.serialize_ms > self._settings.max_serialization_time_ms:
            to.slow.child("serialization").inc()
        if result.compress_ms > self._settings.max_compression_time_ms:
            to.slow.child("compression").inc()
        if shrinks_poorly(result, self._settings):
            to.poor.child(kind).inc()

    def _appended(self, result: Appended, _: float | None) -> None:
        self._evicted(result.evicted)

    def _evicted(self, count: int) -> None:
        if count:
            reason = "lru_eviction" if self._policy == "evict_lru" else "memory_pressure"
            self._to.evictions.child(reason).inc(count)

    def _restored(self, result: Context, seconds: float | None) -> None:
        if seconds is not None:
            self._to.restore_seconds.child("true" if result.cache_hit else "false").observe(seconds)

    def _handed_off(self, result: Handoff, seconds: float | None) -> None:
        if seconds is not None:
            self._to.handoff_seconds.child(result.source, result.destination).observe(seconds)

    def _swept(self, result: Swept, _: float | None) -> None:
        self._to.evictions.child("ttl_expired").inc(result.removed)
        self._to.expired_removed.inc(result.removed)

    def _surveyed(self, result: Stats, _: float | None) -> None:
        self._to.usage.set(result.pressure)
        self._obey(result.policy)

    def _flag_changed(self, result: FlagChange, _: float | None) -> None:
        if result.name == "policy":
            self._obey(result.after)

    def _obey(self, policy: str) -> None:
        """The tenant's policy is a flag that may differ from the settings; '' gives it back to them."""
        self._policy = policy if policy in ("reject", "evict_oldest", "evict_lru") else self._settings.eviction_policy


def code_of(error: BaseException) -> str:
    """The error's stable code; CANCELLED when the caller gave up, UNEXPECTED for errors that are not ours."""
    if isinstance(error, LukhasRedisError):
        return error.code
    return "UNEXPECTED" if isinstance(error, Exception) else "CANCELLED"
