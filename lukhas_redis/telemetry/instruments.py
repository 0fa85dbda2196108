"""The metrics as objects of prometheus_client, one set per registry, with a bound on the children of each.

What belongs here: everything that touches prometheus_client. What does not: knowing what a result means (`recorder`).
Invariant: the number of children that callers can create is bounded; two stores of one process share one set.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from importlib import metadata
from platform import python_version
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import Metric, UnknownMetricFamily
from prometheus_client.registry import Collector

from lukhas_redis.settings import BUILT_IN_POLICIES
from lukhas_redis.telemetry.catalog import BOUNDED_LABELS, DEFAULT_CHILD_LIMIT, MEASURES, OTHER, UNKNOWN

M = TypeVar("M", Counter, Gauge, Histogram)
_LOG = logging.getLogger("lukhas_redis")


class Family(Generic[M]):
    """A metric with labels. Its children are bound once and kept, since binding costs more than counting."""

    def __init__(self, metric: M, name: str, reserved: set[str], overflow: Counter, limit: int) -> None:
        self.metric: M = metric
        self._bounded = [place for place, label in enumerate(MEASURES[name].labels) if label in BOUNDED_LABELS]
        self._overflow = overflow.labels(name)
        self._reserved, self._limit = reserved, limit
        self._admitted: set[tuple[str, ...]] = set()
        self._children: dict[tuple[str, ...], M] = {}
        self._lock = threading.Lock()

    def child(self, *values: str) -> M:
        """Return the child for these label values, or the one for `__other__` when there are too many."""
        return self._children.get(values) or self._bind(values)

    def _bind(self, values: tuple[str, ...]) -> M:
        with self._lock:
            if not self._admits(tuple(values[place] for place in self._bounded)):
                self._overflow.inc()
                values = tuple(OTHER if place in self._bounded else value for place, value in enumerate(values))
            child = self._children.get(values)
            if child is None:
                child = self._children[values] = self.metric.labels(*values)
            return child

    def _admits(self, bounded: tuple[str, ...]) -> bool:
        if bounded in self._admitted or self._reserved.issuperset(bounded):
            return True
        if len(self._admitted) >= self._limit:
            return False
        self._admitted.add(bounded)
        return True


class ExactName(Collector):
    """Exposes a counter as `name`: prometheus_client itself would add `_total`, and type it by that name.

    The type is exposed as untyped, because OpenMetrics allows no counter without the suffix; `rate()` works as usual.
    """

    def __init__(self, counter: Counter, name: str) -> None:
        self._counter, self._name = counter, name

    def describe(self) -> Iterable[Metric]:
        """Name the metric, so that a second one of this name is refused."""
        return [self._empty()]

    def collect(self) -> Iterable[Metric]:
        """Return the counter's samples under the exact name."""
        exposed = self._empty()
        for metric in self._counter.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    exposed.add_metric([sample.labels[label] for label in MEASURES[self._name].labels], sample.value)
        return [exposed]

    def _empty(self) -> UnknownMetricFamily:
        measure = MEASURES[self._name]
        return UnknownMetricFamily(measure.name, measure.text, labels=measure.labels)


class Instruments:
    """All metrics of the store. `limit`: how many combinations of callers' label values a metric gets."""

    def __init__(self, limit: int = DEFAULT_CHILD_LIMIT) -> None:
        # They would double the number of series and say nothing. (The function has no types.)
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.reserved = {*BUILT_IN_POLICIES, UNKNOWN}
        self._limit = limit
        self.collectors: list[Collector] = []
        self.overflow = self._shown(_counter("lukhas_metrics_overflow_total"))
        self._contexts()
        self._durations()
        self._own()

    def _contexts(self) -> None:
        self.preserved = self._counters("lukhas_context_preserve_total")
        name = "lukhas_context_checksum_verification_failures"
        self.corrupted = self._family(_counter(name), name)
        self.collectors.append(ExactName(self.corrupted.metric, name))
        self.evictions = self._counters("lukhas_context_cache_evictions_total")
        for reason in ("ttl_expired", "lru_eviction", "memory_pressure"):
            self.evictions.child(reason)
        self.expired_removed = self._shown(_counter("context_expired_immediately_removed_total"))
        ratio = "lukhas_context_compression_ratio"
        self.ratio = self._family(self._shown(_gauge(ratio)), ratio)
        self.usage = self._shown(_gauge("lukhas_context_memory_store_usage"))

    def _durations(self) -> None:
        self.preserve_seconds = self._histograms("lukhas_context_preserve_duration_seconds")
        self.restore_seconds = self._histograms("lukhas_context_restore_duration_seconds")
        self.restore_seconds.child("false")
        self.handoff_seconds = self._histograms("lukhas_context_handoff_duration_seconds")

    def _own(self) -> None:
        self.errors = self._counters("lukhas_store_errors_total")
        self.resets = self._shown(_counter("lukhas_store_resets_total"))
        self.slow = self._counters("lukhas_context_slow_codec_total")
        for step in ("serialization", "compression"):
            self.slow.child(step)
        self.poor = self._counters("lukhas_context_poor_compression_total")
        versions = _version("lukhas-redis"), python_version(), _version("redis")
        self._shown(_gauge("lukhas_build_info")).labels(*versions).set(1)

    def _counters(self, name: str) -> Family[Counter]:
        return self._family(self._shown(_counter(name)), name)

    def _histograms(self, name: str) -> Family[Histogram]:
        measure = MEASURES[name]
        histogram = Histogram(name, measure.text, measure.labels, registry=None, buckets=measure.buckets)
        return self._family(self._shown(histogram), name)

    def _family(self, metric: M, name: str) -> Family[M]:
        return Family(metric, name, self.reserved, self.overflow, self._limit)

    def _shown(self, metric: M) -> M:
        self.collectors.append(metric)
        return metric


def _counter(name: str) -> Counter:
    return Counter(name, MEASURES[name].text, MEASURES[name].labels, registry=None)


def _gauge(name: str) -> Gauge:
    return Gauge(name, MEASURES[name].text, MEASURES[name].labels, registry=None, multiprocess_mode="mostrecent")


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:  # run from a source tree that was never installed
        return UNKNOWN


_sets: WeakKeyDictionary[CollectorRegistry, Instruments] = WeakKeyDictionary()
_sets_lock = threading.Lock()


def instruments_for(registry: CollectorRegistry | None, limit: int = DEFAULT_CHILD_LIMIT) -> Instruments:
    """Return the metrics of a registry (None: prometheus_client's own), made and registered on first use.

    A name that another collector already has is logged and left to it; the store works on without showing that metric.
    """
    place = registry if registry is not None else REGISTRY
    with _sets_lock:
        found = _sets.get(place)
        if found is None:
            found = _sets[place] = Instruments(limit)
            _register(found, place)
        return found


def _register(instruments: Instruments, registry: CollectorRegistry) -> None:
    for collector in instruments.collectors:
        try:
            registry.register(collector)
        except ValueError as error:
            _LOG.warning("a metric is not exposed, its name is taken: %s", error)
