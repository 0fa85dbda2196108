"""The names, labels and buckets of the metrics as others rely on them: dashboards, alerts, older programs.

What belongs here: the given names, written out a second time. What does not: what moves them.
Invariant: nothing here is read from the catalog that it checks.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import disable_created_metrics, enable_created_metrics, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from lukhas_redis.errors import ContextCorrupted
from lukhas_redis.models import Swept
from lukhas_redis.telemetry.catalog import CATALOG
from lukhas_redis.telemetry.reference import with_table
from tests.fix_telemetry import HANDED_OFF, MB, RESTORED, STATS, Bench, preserved

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"

# Sample name: the names of its labels.
GIVEN: dict[str, set[str]] = {
    "lukhas_context_preserve_total": {"session_id", "context_type", "compression_level"},
    "lukhas_context_checksum_verification_failures": {"context_type", "failure_reason"},
    "lukhas_context_cache_evictions_total": {"reason"},
    "context_expired_immediately_removed_total": set(),
    "lukhas_context_preserve_duration_seconds_bucket": {"context_type", "compression_level", "le"},
    "lukhas_context_restore_duration_seconds_bucket": {"cache_hit", "le"},
    "lukhas_context_handoff_duration_seconds_bucket": {"source_provider", "destination_provider", "le"},
    "lukhas_context_compression_ratio": {"context_type"},
    "lukhas_context_memory_store_usage": set(),
}
OWN: dict[str, set[str]] = {
    "lukhas_store_errors_total": {"operation", "code"},
    "lukhas_store_resets_total": set(),
    "lukhas_context_slow_codec_total": {"step"},
    "lukhas_context_poor_compression_total": {"context_type"},
    "lukhas_build_info": {"version", "python", "redis_py"},
    "lukhas_metrics_overflow_total": {"metric"},
}
BUCKETS = {
    "lukhas_context_preserve_duration_seconds": [0.01, 0.05, 0.1, 0.25, 0.5, 1],
    "lukhas_context_restore_duration_seconds": [0.001, 0.01, 0.05, 0.1, 0.5],
    # Not given; they must tell the SLA's 100 ms and 500 ms.
    "lukhas_context_handoff_duration_seconds": [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1],
}
REASONS = {"ttl_expired", "lru_eviction", "memory_pressure"}


@pytest.fixture
def bench() -> Bench:
    """A telemetry in which everything has happened once."""
    bench = Bench()
    bench.moved_by("preserve", preserved(raw_bytes=4 * MB, stored_bytes=4 * MB))
    for operation, result in (("restore", RESTORED), ("handoff", HANDED_OFF), ("sweep", Swept(1, 0)), ("stats", STATS)):
        bench.moved_by(operation, result)
    bench.moved_by("restore", ContextCorrupted("damaged", reason="digest"))
    return bench


@pytest.fixture
def text(bench: Bench) -> str:
    """What Prometheus scrapes."""
    return generate_latest(bench.registry).decode()


def exposed(text: str) -> dict[str, set[str]]:
    """The names of the samples in a text, with the names of their labels."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if sample := re.match(r"(\w+)(?:\{(.*)\})? ", line):
            labels = set(re.findall(r"(\w+)=\"", sample[2] or ""))
            assert found.setdefault(sample[1], labels) == labels, line
    return found


def test_given_names_and_labels(text: str) -> None:
    """Each given name is exposed exactly so, with exactly the given labels."""
    found = exposed(text)
    assert {name: found.get(name) for name in GIVEN} == GIVEN


def test_nothing_else_is_exposed(text: str) -> None:
    """Besides the given names there are only our own additions, and no `_created` series."""
    parts = {re.sub("_bucket$", end, name) for name in GIVEN if name.endswith("_bucket") for end in ("_sum", "_count")}
    assert set(exposed(text)) == {*GIVEN, *OWN, *parts}
    assert {name: exposed(text)[name] for name in OWN} == OWN


@pytest.mark.parametrize("name", BUCKETS)
def test_buckets(text: str, name: str) -> None:
    """Each histogram has exactly its buckets."""
    bounds = {float(bound) for bound in re.findall(rf'{name}_bucket\{{[^}}]*le="([^"]+)"', text)}
    assert sorted(bounds) == [*BUCKETS[name], float("inf")]


def test_eviction_reasons_are_there_from_the_start(text: str) -> None:
    """The three reasons are exposed at zero before anything was evicted, so that a rate has a beginning."""
    assert set(re.findall(r'lukhas_context_cache_evictions_total\{reason="(\w+)"\}', text)) == REASONS


def test_failures_have_no_suffix_in_openmetrics(bench: Bench) -> None:
    """The verification failures keep their exact name in the OpenMetrics text too, which is well formed."""
    text: bytes = generate_openmetrics(bench.registry)  # type: ignore[no-untyped-call]  # it has no types
    lines = text.decode().splitlines()
    assert "# TYPE lukhas_context_checksum_verification_failures unknown" in lines
    assert 'lukhas_context_checksum_verification_failures{context_type="unknown",failure_reason="digest"} 1.0' in lines
    assert lines[-1] == "# EOF"


def test_failures_have_one_sample_each(bench: Bench) -> None:
    """A program that switches the `_created` series on again gets no times among the verification failures."""
    enable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types
    try:
        lines = generate_latest(bench.registry).decode().splitlines()
    finally:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types
    found = [line for line in lines if line.startswith("lukhas_context_checksum_verification_failures{")]
    assert [line.rpartition(" ")[2] for line in found] == ["1.0"]


def test_catalog_is_what_is_exposed(bench: Bench) -> None:
    """The catalog lists each metric of the registry with its kind and help, and no other."""
    shown = {metric.name: (metric.type, metric.documentation) for metric in bench.registry.collect()}
    exact = "lukhas_context_checksum_verification_failures"
    assert shown == {
        m.name if m.name == exact else m.name.removesuffix("_total"): ("unknown" if m.name == exact else m.kind, m.text)
        for m in CATALOG
    }
    assert {m.name for m in CATALOG if m.given} == {name.removesuffix("_bucket") for name in GIVEN}


def test_document_is_in_step() -> None:
    """The table of `docs/metrics.md` is the one the catalog makes, and it names every metric."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert with_table(text) == text
    assert all(f"| `{name.removesuffix('_bucket')}` |" in text for name in (*GIVEN, *OWN))


def test_promtool_accepts_the_text(text: str) -> None:
    """Prometheus' own linter has nothing to say about our metrics."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool (part of Prometheus) on PATH")
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
