"""What moves which metric, and what moves none.

What belongs here: telemetry fed with results and errors. What does not: bounds and sharing
(`test_telemetry_bounds`), names (`contract/test_metric_names`), a store on a server (`store/test_metrics`).
Invariant: every test has a registry of its own.
"""

from __future__ import annotations

import asyncio
import dataclasses
from uuid import uuid4

import pytest

from lukhas_redis.errors import (
    ContextCorrupted,
    ContextExpired,
    LukhasRedisError,
    OutcomeUnknown,
    Unavailable,
    WrongKeyType,
)
from lukhas_redis.models import Appended, Extended, FlagChange, Patched, Swept
from tests.fix_telemetry import HANDED_OFF, MB, METADATA, PRESERVED, RESTORED, STATS, Bench, preserved


@pytest.fixture
def bench() -> Bench:
    """The default settings."""
    return Bench()


# -- each metric and the event that moves it ---------------------------------------------------------------


def test_preserve(bench: Bench) -> None:
    """A preserve counts once under its session's bucket, type and level, with its duration and ratio."""
    of = "compression_level=6,context_type=conversation"
    assert bench.moved_by("preserve", PRESERVED) == {
        f"lukhas_context_preserve_total[{of},session_id=bucket-14]": 1,
        f"lukhas_context_preserve_duration_seconds_count[{of}]": 1,
        f"lukhas_context_preserve_duration_seconds_sum[{of}]": 0.02,
        "lukhas_context_compression_ratio[context_type=conversation]": 0.4,
    }


def test_preserve_many(bench: Bench) -> None:
    """Each context and each error of a batch counts; no duration does, since none is a single call's."""
    of = "compression_level=6,context_type=conversation"
    assert bench.moved_by("preserve_many", [PRESERVED, Unavailable("no"), PRESERVED]) == {
        f"lukhas_context_preserve_total[{of},session_id=bucket-14]": 2,
        "lukhas_context_compression_ratio[context_type=conversation]": 0.4,
        "lukhas_store_errors_total[code=INTERNAL_ERROR,operation=preserve_many]": 1,
    }


def test_restore(bench: Bench) -> None:
    """A restore's duration counts as one that was read from the server."""
    assert bench.moved_by("restore", RESTORED, seconds=0.004) == {
        "lukhas_context_restore_duration_seconds_count[cache_hit=false]": 1,
        "lukhas_context_restore_duration_seconds_sum[cache_hit=false]": 0.004,
    }


def test_restore_many(bench: Bench) -> None:
    """Of a batch of reads its errors count, a failed verification also as such."""
    damaged = ContextCorrupted("bytes", reason="digest")
    assert bench.moved_by("restore_many", [RESTORED, damaged, ContextExpired("gone")]) == {
        "lukhas_context_checksum_verification_failures[context_type=unknown,failure_reason=digest]": 1,
        "lukhas_store_errors_total[code=INTERNAL_ERROR,operation=restore_many]": 1,
        "lukhas_store_errors_total[code=CONTEXT_EXPIRED,operation=restore_many]": 1,
    }


def test_handoff(bench: Bench) -> None:
    """A handoff's duration counts under both providers."""
    of = "destination_provider=gpt,source_provider=claude"
    assert bench.moved_by("handoff", HANDED_OFF) == {
        f"lukhas_context_handoff_duration_seconds_count[{of}]": 1,
        f"lukhas_context_handoff_duration_seconds_sum[{of}]": 0.02,
    }


def test_sweep(bench: Bench) -> None:
    """What a sweep removes counts as expired, under both names."""
    assert bench.moved_by("sweep", Swept(7, 2)) == {
        "lukhas_context_cache_evictions_total[reason=ttl_expired]": 7,
        "context_expired_immediately_removed_total": 7,
    }


def test_stats(bench: Bench) -> None:
    """Stats set the gauge of how full the tenant is."""
    assert bench.moved_by("stats", STATS) == {"lukhas_context_memory_store_usage": 0.5}


@pytest.mark.parametrize("policy, reason", [("evict_lru", "lru_eviction"), ("evict_oldest", "memory_pressure")])
def test_evictions(policy: str, reason: str) -> None:
    """Contexts that made room count under the policy that chose them."""
    moved = Bench(eviction_policy=policy).moved_by("preserve", preserved(evicted=3))
    assert {name: by for name, by in moved.items() if "evictions" in name} == {
        f"lukhas_context_cache_evictions_total[reason={reason}]": 3
    }


@pytest.mark.parametrize("result", [Appended, Patched])
def test_evictions_by_a_part(result: type[Appended]) -> None:
    """A change of a part that made room counts as a preserve does; one that did not moves nothing."""
    bench, made = Bench(eviction_policy="evict_lru"), result(METADATA.context_id, 2, 1, "n", 2)
    assert bench.moved_by(result.__name__, made) == {}
    moved = bench.moved_by(result.__name__, dataclasses.replace(made, evicted=2))
    assert moved == {"lukhas_context_cache_evictions_total[reason=lru_eviction]": 2}
    assert bench.moved_by(result.__name__, dataclasses.replace(made, evicted=2, dry_run=True)) == {}


@pytest.mark.parametrize(
    "seen", [("stats", STATS), ("set_flag", FlagChange("policy", "", "evict_lru"))], ids=["stats", "flag"]
)
def test_evictions_under_the_policy_of_the_tenant(seen: tuple[str, object]) -> None:
    """A policy that was set for the tenant at run time goes before that of the settings."""
    bench = Bench(eviction_policy="evict_oldest")
    bench.moved_by(*seen)
    assert bench.moved_by("preserve", preserved(evicted=1))["lukhas_context_cache_evictions_total[reason=lru_eviction]"]


def test_policy_flag_taken_back() -> None:
    """When the tenant's policy is taken back, that of the settings counts again."""
    bench = Bench(eviction_policy="evict_oldest")
    bench.moved_by("stats", STATS)
    bench.moved_by("set_flag", FlagChange("policy", "evict_lru", ""))
    moved = bench.moved_by("preserve", preserved(evicted=1))
    assert moved["lukhas_context_cache_evictions_total[reason=memory_pressure]"] == 1


@pytest.mark.parametrize(
    "error, code",
    [
        (ContextExpired("gone"), "CONTEXT_EXPIRED"),
        (OutcomeUnknown("maybe"), "INTERNAL_ERROR"),
        (ValueError("a defect"), "UNEXPECTED"),
        (asyncio.CancelledError(), "CANCELLED"),
        (KeyboardInterrupt(), "CANCELLED"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_errors(bench: Bench, error: BaseException, code: str) -> None:
    """An error counts once under its operation and code, and nothing else moves."""
    assert bench.moved_by("handoff", error) == {f"lukhas_store_errors_total[code={code},operation=handoff]": 1}


@pytest.mark.parametrize(
    "error, labels",
    [
        (ContextCorrupted("x", reason="checksum"), "context_type=unknown,failure_reason=checksum"),
        (ContextCorrupted("x", reason="size", context_type="s"), "context_type=s,failure_reason=size"),
        (ContextCorrupted("a field cannot be read"), "context_type=unknown,failure_reason=metadata"),
    ],
    ids=["reason", "type", "neither"],
)
def test_checksum_failures(
    bench: Bench, caplog: pytest.LogCaptureFixture, error: LukhasRedisError, labels: str
) -> None:
    """A failed verification counts under its reason, and under its type where known, and is warned of."""
    moved = bench.moved_by("restore", error)
    assert moved[f"lukhas_context_checksum_verification_failures[{labels}]"] == 1
    assert [(r.name, r.levelname) for r in caplog.records] == [("lukhas_redis", "WARNING")]


def test_a_foreign_key_is_no_checksum_failure(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A key of another type is an error, but not damaged data."""
    assert bench.moved_by("restore", WrongKeyType("a list")) == {
        "lukhas_store_errors_total[code=INTERNAL_ERROR,operation=restore]": 1
    }
    assert not caplog.records


@pytest.mark.parametrize("result", [Extended("id", 1, 0), Unavailable("gone")], ids=["success", "failure"])
def test_resets(bench: Bench, caplog: pytest.LogCaptureFixture, result: object) -> None:
    """Each reset of the server counts and is warned of once, however many calls end after it."""
    bench.space.resets = 2
    assert bench.moved_by("extend", result)["lukhas_store_resets_total"] == 2
    assert "lukhas_store_resets_total" not in bench.moved_by("extend", result)
    assert len([record for record in caplog.records if "without the data of tenant t" in record.message]) == 1


@pytest.mark.parametrize("field, step", [("serialize_ms", "serialization"), ("compress_ms", "compression")])
def test_slow_codec(field: str, step: str) -> None:
    """An encoding step counts as slow when it took longer than its limit, not when it just took that long."""
    bench = Bench(max_serialization_time_ms=20, max_compression_time_ms=20)
    sample = f"lukhas_context_slow_codec_total[step={step}]"
    assert sample not in bench.moved_by("preserve", preserved(**{field: 20.0}))
    moved = bench.moved_by("preserve", preserved(**{field: 20.1}))
    assert {name: by for name, by in moved.items() if "slow" in name} == {sample: 1}


@pytest.mark.parametrize(
    "raw, stored, counts",
    [(10 * MB, 2 * MB, True), (10 * MB, MB, False), (MB, MB, False), (MB + 1, MB + 1, True)],
    ids=["shrank by 80 %", "by exactly 90 %", "not over 1 MB", "just over 1 MB"],
)
def test_poor_compression(bench: Bench, raw: int, stored: int, counts: bool) -> None:
    """A context over 1 MB that did not shrink by 90 % counts; a smaller one, or one that did, does not."""
    moved = bench.moved_by("preserve", preserved(raw_bytes=raw, stored_bytes=stored))
    assert moved.get("lukhas_context_poor_compression_total[context_type=conversation]", 0) == counts


def test_poor_compression_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """The warning names the type and the ratio, once per type in the process, also without metrics."""
    kind, other = f"a-{uuid4().hex}", f"b-{uuid4().hex}"
    stores = [Bench(), Bench(metrics=False)]
    for name in (kind, other, kind):
        for bench in stores:
            bench.moved_by("preserve", preserved(context_type=name, raw_bytes=4 * MB, stored_bytes=3 * MB))
    lines = [record.getMessage() for record in caplog.records]
    assert [kind in line or other in line for line in lines] == [True, True]
    assert all("ratio 0.75" in line for line in lines)


# -- what moves nothing ------------------------------------------------------------------------------------

Ended = tuple[str, object]
DRY: list[Ended] = [
    ("preserve", preserved(dry_run=True, evicted=2, raw_bytes=4 * MB, stored_bytes=4 * MB, serialize_ms=1e6)),
    ("preserve_many", [preserved(dry_run=True)]),
    ("handoff", dataclasses.replace(HANDED_OFF, dry_run=True)),
    ("sweep", Swept(7, 0, dry_run=True)),
]
READS: list[Ended] = [("restore", RESTORED), ("restore_many", [RESTORED, Unavailable("no")]), ("stats", STATS)]
ERRORS: list[Ended] = [("preserve", Unavailable("no")), ("restore", ContextCorrupted("x", reason="digest"))]


@pytest.mark.parametrize("operation, result", DRY, ids=[operation for operation, _ in DRY])
def test_a_dry_run_moves_nothing(bench: Bench, operation: str, result: object) -> None:
    """A result that is marked as a dry run changes no sample and adds none."""
    before = bench.samples()
    bench.moved_by(operation, result)
    assert bench.samples() == before


@pytest.mark.parametrize(
    "operation, result", [*DRY, ("preserve", Unavailable("no"))], ids=lambda value: str(value)[:16]
)
def test_writes_in_a_tenant_in_dry_run_move_nothing(bench: Bench, operation: str, result: object) -> None:
    """While the tenant is in dry run no write changes a sample or adds one, nor does a refused write."""
    bench.space.seen_dry = True
    before = bench.samples()
    bench.moved_by(operation, result)
    assert bench.samples() == before


@pytest.mark.parametrize("operation, result", READS + ERRORS[1:], ids=lambda value: str(value)[:16])
def test_reads_count_in_a_tenant_in_dry_run(bench: Bench, operation: str, result: object) -> None:
    """Reading is the same in every mode, and so is damage that a reader meets."""
    bench.space.seen_dry = True
    assert bench.moved_by(operation, result)


def test_a_failed_dry_run_moves_nothing(bench: Bench) -> None:
    """An error of a call that asked for a dry run changes no sample and adds none."""
    before = bench.samples()
    bench.moved_by("preserve", Unavailable("no"), dry_run=True)
    assert bench.samples() == before


def test_a_live_write_counts_although_the_tenant_was_in_dry_run(bench: Bench) -> None:
    """A result that says it was live is believed over what was last seen of the tenant."""
    bench.space.seen_dry = True
    assert bench.moved_by("handoff", HANDED_OFF)


@pytest.mark.parametrize(
    "result", [Extended("id", 1, 0), [METADATA], None, object()], ids=("extended", "list", "none", "object")
)
def test_other_results_move_nothing(bench: Bench, result: object) -> None:
    """An operation without a metric of its own changes no sample."""
    assert bench.moved_by("other", result) == {}


def test_damage_is_warned_of_in_a_dry_run(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Damaged data is logged even where nothing is counted, with the message and without the data."""
    bench.space.seen_dry = True
    bench.moved_by("restore", ContextCorrupted("context 1: the digest does not match", reason="digest"))
    assert "restore in tenant t" in caplog.text
    assert "the digest does not match" in caplog.text
