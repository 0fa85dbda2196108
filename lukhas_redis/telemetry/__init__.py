"""Measuring a store: what its calls did, as Prometheus metrics and log lines.

What belongs here: handing a finished call to the metrics (`recorder`, on `instruments`, listed in `catalog`) and to
the log (`notices`). What does not: reading the server to find numbers; deciding what a failure is.
Invariant: measuring never raises into the caller, a dry run moves no metric, and without metrics prometheus_client is
not imported.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from lukhas_redis.models import Preserved
from lukhas_redis.ops.space import Space
from lukhas_redis.settings import Settings
from lukhas_redis.telemetry import notices

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from lukhas_redis.telemetry.recorder import Recorder

_BATCHES = frozenset({"preserve_many", "restore_many"})


class Telemetry:
    """What one store tells of each call it finished; safe to share between threads."""

    def __init__(self, settings: Settings, recorder: Recorder | None) -> None:
        self._settings = settings
        self._recorder = recorder
        self._resets: dict[str, int] = {}
        self._lock = threading.Lock()
        self._broken = False

    @classmethod
    def of(cls, settings: Settings, registry: CollectorRegistry | None = None) -> Telemetry:
        """The telemetry of a store with these settings, on `registry`, else on prometheus_client's own.

        All stores of a process share one set of metrics per registry. With `metrics` off only log lines remain.
        """
        if not settings.metrics:
            return cls(settings, None)
        from lukhas_redis.telemetry.instruments import instruments_for
        from lukhas_redis.telemetry.recorder import Recorder

        return cls(settings, Recorder(instruments_for(registry), settings))

    def succeeded(self, operation: str, space: Space, result: object, seconds: float) -> None:
        """Measure a call that returned `result` after `seconds`; never raises."""
        try:
            self._see_resets(space)
            if operation in _BATCHES and isinstance(result, list):
                for item in result:
                    self._see(operation, space, item, None)
            else:
                self._see(operation, space, result, seconds)
        except Exception:  # noqa: BLE001 - measuring must not fail what it measures
            self._give_up()

    def one_of_many(self, operation: str, space: Space, outcome: object) -> None:
        """Measure one result of a batch, or the error it met; its duration is no single call's. Never raises."""
        try:
            self._see(operation, space, outcome, None)
        except Exception:  # noqa: BLE001 - measuring must not fail what it measures
            self._give_up()

    def failed(
        self, operation: str, space: Space, error: BaseException, seconds: float, *, dry_run: bool = False
    ) -> None:
        """Measure a call that raised `error` after `seconds`; `dry_run`: the caller had asked for one. Never raises."""
        try:
            notices.LOG.debug("%s failed after %.1f ms: %s", operation, seconds * 1000, type(error).__name__)
            self._see_resets(space)
            self._see_error(operation, error, space, dry=dry_run or _was_dry(operation, space))
        except Exception:  # noqa: BLE001 - measuring must not fail what it measures
            self._give_up()

    def _see(self, operation: str, space: Space, result: object, seconds: float | None) -> None:
        if isinstance(result, BaseException):
            self._see_error(operation, result, space, dry=_was_dry(operation, space))
            return
        if getattr(result, "dry_run", False):
            return
        if isinstance(result, Preserved) and notices.shrinks_poorly(result, self._settings):
            notices.warn_of_poor_compression(result, self._settings)
        if self._recorder is not None:
            self._recorder.finished(result, seconds)

    def _see_error(self, operation: str, error: BaseException, space: Space, *, dry: bool) -> None:
        if notices.is_corruption(error):
            notices.warn_of_corruption(operation, space.tenant, error)
        if self._recorder is not None and not dry:
            self._recorder.met(operation, error)

    def _see_resets(self, space: Space) -> None:
        if not space.resets:
            return
        with self._lock:
            times = space.resets - self._resets.get(space.tenant, 0)
            self._resets[space.tenant] = space.resets
        if times > 0:
            notices.warn_of_reset(space.tenant, times)
            if self._recorder is not None:
                self._recorder.reset(times)

    def _give_up(self) -> None:
        """A defect of the measuring itself: said once, since the next call may well meet it too."""
        if not self._broken:
            self._broken = True
            notices.LOG.warning("a call could not be measured; further ones are not reported", exc_info=True)


_READS = frozenset(
    {"restore", "restore_many", "metadata", "lifecycle", "hops", "list", "stats", "events", "flags", "audit", "check"}
)


def _was_dry(operation: str, space: Space) -> bool:
    """A refused write does not say whether it was dry: the tenant's mode counts, as last seen. Reads are never dry."""
    return space.seen_dry and operation not in _READS
