"""What bounds the metrics' labels, who shares them, and what happens when measuring is off or broken.

What belongs here: cardinality, threads, the registry. What does not: what moves which metric (`test_telemetry`).
Invariant: every test has a registry of its own, unless it is about the shared one.
"""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter

from lukhas_redis.errors import Unavailable
from lukhas_redis.models import Swept
from lukhas_redis.ops.space import Space
from lukhas_redis.settings import Settings
from lukhas_redis.telemetry import Telemetry
from lukhas_redis.telemetry.catalog import DEFAULT_CHILD_LIMIT
from tests.fix_telemetry import HANDED_OFF, PRESERVED, RESTORED, Bench, preserved, series


@pytest.fixture
def bench() -> Bench:
    """The default settings."""
    return Bench()


# -- labels that callers fill ------------------------------------------------------------------------------


def test_sessions_are_buckets(bench: Bench) -> None:
    """Ten thousand sessions are 32 series, and a session has the same one in every process."""
    for number in range(10_000):
        bench.telemetry.succeeded("preserve", bench.space, preserved(session_id=f"s{number}"), 0.0)
    found = series(bench, "lukhas_context_preserve_total")
    assert {name.partition("session_id=")[2] for name in found} == {f"bucket-{number}]" for number in range(32)}


def test_raw_sessions() -> None:
    """With `session_label` raw the label is the session."""
    moved = Bench(session_label="raw").moved_by("preserve", PRESERVED)
    assert any("session_id=session-1]" in name for name in moved)


def test_context_types_are_bounded(bench: Bench) -> None:
    """Beyond 200 types a new one counts as `__other__`, and the overflow is counted; no observation is lost."""
    for number in range(DEFAULT_CHILD_LIMIT + 50):
        bench.telemetry.succeeded("preserve", bench.space, preserved(context_type=f"t{number}"), 0.0)
    found = bench.samples()
    of = "compression_level=6,context_type=__other__"
    assert len(series(bench, "lukhas_context_preserve_total")) == DEFAULT_CHILD_LIMIT + 1
    assert found[f"lukhas_context_preserve_total[{of},session_id=bucket-14]"] == 50
    assert found[f"lukhas_context_preserve_duration_seconds_count[{of}]"] == 50
    assert found["lukhas_metrics_overflow_total[metric=lukhas_context_preserve_total]"] == 50


def test_known_types_keep_their_label() -> None:
    """A flood of types takes the label neither of a built-in type, nor of one with a policy, nor of an earlier one."""
    bench = Bench(policies={"mine": {"compression": "light"}})
    for number in range(DEFAULT_CHILD_LIMIT + 50):
        bench.telemetry.succeeded("preserve", bench.space, preserved(context_type=f"t{number}"), 0.0)
    for kind in ("system_state", "mine", "t0"):
        moved = bench.moved_by("preserve", preserved(context_type=kind, level=9))
        assert moved[f"lukhas_context_preserve_total[compression_level=9,context_type={kind},session_id=bucket-14]"]


def test_provider_pairs_are_bounded(bench: Bench) -> None:
    """Pairs of providers are bounded together, not each by itself: 30 x 30 pairs are 201 children."""
    for number in range(900):
        pair = dataclasses.replace(HANDED_OFF, source=f"a{number // 30}", destination=f"b{number % 30}")
        bench.telemetry.succeeded("handoff", bench.space, pair, 0.0)
    counts = series(bench, "lukhas_context_handoff_duration_seconds_count")
    assert len(counts) == DEFAULT_CHILD_LIMIT + 1
    assert sum(bench.samples()[name] for name in counts) == 900


# -- sharing, absence, defects -----------------------------------------------------------------------------


def test_two_stores_share_one_set() -> None:
    """Two stores of a process, with different settings, add up in the same metrics of the default registry."""
    settings = Settings(), Settings(session_buckets=1)
    name = "context_expired_immediately_removed_total"
    before = REGISTRY.get_sample_value(name) or 0
    for each in settings:
        Telemetry.of(each).succeeded("sweep", Space(each, lambda: "", "t"), Swept(3, 0), 0.1)
    assert REGISTRY.get_sample_value(name) == before + 6


def test_threads_lose_nothing(bench: Bench) -> None:
    """Calls that end on eight threads at once all count, new labels among them, and a reset counts once."""
    bench.space.resets = 1

    def work(thread: int) -> None:
        for number in range(250):
            kind = f"t{(number + thread) % 50}"
            bench.telemetry.succeeded("preserve", bench.space, preserved(context_type=kind), 0.0)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    found = bench.samples()
    assert sum(found[name] for name in series(bench, "lukhas_context_preserve_total")) == 2000
    assert found["lukhas_store_resets_total"] == 1


def test_a_taken_name_stays_with_its_owner(caplog: pytest.LogCaptureFixture) -> None:
    """A metric of the same name in the program is left alone, a warning says so, and all others are exposed."""
    registry = CollectorRegistry()
    Counter("lukhas_context_preserve_total", "Another program's.", registry=registry)
    telemetry, space = Telemetry.of(Settings(), registry), Space(Settings(), lambda: "", "t")
    telemetry.succeeded("preserve", space, PRESERVED, 0.1)
    assert registry.get_sample_value("lukhas_context_preserve_total") == 0
    assert registry.get_sample_value("lukhas_context_compression_ratio", {"context_type": "conversation"}) == 0.4
    assert "its name is taken" in caplog.text


def test_a_defect_never_reaches_the_caller(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A result that cannot be measured raises nothing, is said once, and the next call is measured again."""
    broken: Any = preserved(session_id=None)
    for _ in range(3):
        bench.telemetry.succeeded("preserve", bench.space, broken, 0.1)
    bench.telemetry.failed("preserve", bench.space, Unavailable("no"), None)  # type: ignore[arg-type]
    assert [record.levelno for record in caplog.records].count(logging.WARNING) == 1
    assert bench.moved_by("restore", RESTORED)


def test_without_metrics_nothing_is_imported() -> None:
    """With `metrics` off a call is not measured and prometheus_client is not imported; with it on, it is."""
    program = """
import sys
from lukhas_redis.models import Swept
from lukhas_redis.models import Swept
from lukhas_redis.ops.space import Space
from lukhas_redis.settings import Settings
from lukhas_redis.telemetry import Telemetry
for metrics in (False, True):
    settings = Settings(metrics=metrics)
    space = Space(settings, str, "t")
    Telemetry.of(settings).succeeded("sweep", space, Swept(1, 0), 0.1)
    Telemetry.of(settings).failed("sweep", space, ValueError(), 0.1)
    print("prometheus_client" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"], done.stderr
