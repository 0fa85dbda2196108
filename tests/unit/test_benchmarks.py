"""The benchmarks: that every part runs, reports completely, and that the document says what the kept results say.

What belongs here: one run with tiny counts on every server, and the pure parts. What does not: any judgement of a time.
Invariant: nothing here writes into the checkout, and the test process keeps all its CPUs.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.aims import AIMS, Results, judged
from benchmarks.bodies import Body, bodies, conversation
from benchmarks.command import main, run, show
from benchmarks.contest import CASES
from benchmarks.duel import Lane, play, play_async, play_storm, summarise, turns
from benchmarks.keeping import DOCUMENT, RESULTS, keep, newest, update_document, with_results
from benchmarks.meters import Meter
from benchmarks.places import pinned
from benchmarks.plan import FULL, MANY_CONTEXTS, SIZES, Plan
from benchmarks.tables import tables
from lukhas_redis.codec import serialize
from lukhas_redis.testing import RunningServer, ServerBinary

TINY = Plan(
    "quick",
    blocks=2,
    block=dict.fromkeys(SIZES, 2),
    memory_contexts=100,
    crowd=24,
    few=12,
    crowd_block=4,
    storm_block=8,
    tasks=4,
    old_hops=34,
    pin=False,
)
VARIANTS = [*((size, variant) for variant in ("none", "auto") for size in SIZES), ("1 MB", "incompressible")]
one_worker = pytest.mark.xdist_group("benchmarks")


@pytest.fixture(scope="module")
def results(binary: ServerBinary) -> Results:
    """A whole run with tiny counts."""
    return run(binary, TINY, command="python -m benchmarks --tiny")


@one_worker
def test_every_body_is_measured_in_every_case_on_both_shells(results: Results) -> None:
    """The contests have one row for each mode, body and case, and no other."""
    rows = [(r["mode"], (r["size"], r["variant"]), r["case"]) for r in results["contests"]]
    assert sorted(rows) == sorted(itertools.product(("async", "sync"), VARIANTS, CASES))


@one_worker
def test_every_row_has_three_sides_with_all_their_samples(results: Results) -> None:
    """Ours, raw and json have a sample for every counted call, ordered percentiles and the server's time."""
    for row in results["contests"]:
        assert set(row["lanes"]) == {"ours", "raw", "json"}
        for lane in row["lanes"].values():
            assert lane["count"] == TINY.blocks * TINY.block[row["size"]]
            assert 0 < lane["min_us"] <= lane["p50_us"] <= lane["p90_us"] <= lane["p99_us"] <= lane["max_us"]
            assert lane["server_us"] <= lane["server_us_max"]
        assert row["lanes"]["ours"]["server_us"] > 0
        assert row["to_raw"] == pytest.approx(row["lanes"]["ours"]["p50_us"] / row["lanes"]["raw"]["p50_us"], abs=0.001)


@one_worker
def test_each_handoff_tells_its_size_and_the_hops_before_it(results: Results) -> None:
    """Handoffs are measured on contexts of every size, and on small ones with a full list of hops behind them."""
    rows = [(row["size"], row["hops"]) for row in results["handoffs"]]
    assert rows == [*((size, 0) for size in SIZES), ("1 kB", 32), ("1 kB", TINY.old_hops)]
    assert all(row["count"] == TINY.blocks * TINY.block["1 MB"] and row["server_us"] > 0 for row in results["handoffs"])


@one_worker
def test_memory_is_taken_apart_into_body_request_and_history(results: Results) -> None:
    """Each case says what a context, its request record and its entry in the history take, all of them something."""
    rows = [(row["size"], row["variant"], row["per_session"]) for row in results["memory"]]
    assert rows[:2] == [("1 kB", "none", 10), ("1 kB", "none", 1)]
    assert len(rows) == len(set(rows)) == 5
    for row in results["memory"]:
        assert row["contexts"] == TINY.memory_contexts
        assert row["beyond_body_bytes"] == row["context_bytes"] - row["stored_bytes"] > 0
        assert row["request_bytes"] > 0
        assert row["history_bytes_per_entry"] > 0


@one_worker
def test_the_crowd_and_the_storm_are_complete(results: Results) -> None:
    """Few and many contexts have both operations, and so have many tasks at 1 kB and 10 kB."""
    assert (results["crowd"]["few"], results["crowd"]["many"]) == (TINY.few, TINY.crowd)
    for case in ("preserve", "restore"):
        few, many = results["crowd"][case]["few"], results["crowd"][case]["many"]
        assert few["count"] == many["count"] == TINY.blocks * TINY.crowd_block
        assert results["crowd"][case]["server_ratio"] == pytest.approx(many["server_us"] / few["server_us"], abs=0.001)
    rows = [(row["size"], row["case"]) for row in results["storm"]]
    assert rows == list(itertools.product(("1 kB", "10 kB"), ("preserve", "restore")))
    assert all(row["per_second"]["ours"] > 0 and row["per_second"]["raw"] > 0 for row in results["storm"])


@one_worker
def test_the_machine_is_described_well_enough_to_repeat_the_run(results: Results, binary: ServerBinary) -> None:
    """Date, command, server, CPU, Python and packages stand in the results, and settings that are no defaults."""
    machine = results["machine"]
    assert machine["server"] == binary.id
    assert machine["command"] == "python -m benchmarks --tiny"
    assert all(machine[name] for name in ("date", "python", "cpu", "cpus", "server_os", "allocator"))
    assert {"redis", "hiredis"} <= machine["packages"].keys()
    assert machine["settings"]["max_context_throughput_mbps"] == 0


@one_worker
def test_every_aim_is_beside_its_figure(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed names every aim with a verdict, and says that a quick run proves nothing."""
    show(results)
    printed = capsys.readouterr().out
    assert [aim["aim"] for aim in results["aims"]][: len(AIMS)] == [aim.text for aim in AIMS]
    assert all(aim["aim"] in printed and aim["verdict"] in printed for aim in results["aims"])
    assert "not for conclusions" in printed
    assert all(table.title in printed for table in tables(results))


@one_worker
def test_an_aim_is_judged_where_it_is_meant_only(results: Results) -> None:
    """Over the limit is missed, at the limit met; another server or fewer contexts leave an aim open."""
    text = next(aim.text for aim in AIMS if aim.server)
    there = _like(results, server="redis-7.0.15", plan="usual")
    for figure, verdict in ((1.7, "met"), (1.71, "missed")):
        for row in there["contests"]:
            row["to_raw"] = figure
        assert next(aim for aim in judged(there) if aim["aim"] == text)["verdict"] == verdict
    elsewhere = judged(_like(results, server="valkey-9.1.2", plan="usual"))
    assert next(aim for aim in elsewhere if aim["aim"] == text)["verdict"].startswith("open")
    assert judged(there)[-1]["verdict"].startswith("open")
    there["crowd"]["many"], there["crowd"]["preserve"]["server_ratio"] = MANY_CONTEXTS, 1.31
    assert judged(there)[-1]["verdict"] == "missed"


@one_worker
def test_results_are_found_again_and_quick_ones_left_out(results: Results, tmp_path: Path) -> None:
    """The newest usual run of each server is found in its file as it was kept; a quick one never is."""
    usual = _like(results, plan="usual", date="2026-01-02T00:00:00+00:00")
    keep(_like(results, plan="full", date="2026-01-01T00:00:00+00:00"), tmp_path)
    kept = keep(usual, tmp_path)
    quick = keep(_like(results, date="2026-01-03T00:00:00+00:00"), tmp_path)
    assert kept.name == f"2026-01-02-{results['machine']['server']}.json"
    assert quick.stem.endswith("-quick")
    assert newest(tmp_path) == [json.loads(kept.read_text(encoding="utf-8"))] == [usual]


@one_worker
def test_the_document_is_made_of_the_kept_results(results: Results, tmp_path: Path) -> None:
    """Between the marks stand the figures of the kept results, around them the prose; twice changes nothing."""
    keep(_like(results, plan="usual"), tmp_path)
    document = tmp_path / "performance.md"
    document.write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter\n", encoding="utf-8")
    update_document(tmp_path, document)
    text = document.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert all(f"| {aim['aim']} | {aim['figure']:,.4g} |" in text for aim in results["aims"])
    update_document(tmp_path, document)
    assert document.read_text(encoding="utf-8") == text


def test_the_document_of_the_checkout_is_up_to_date() -> None:
    """`docs/performance.md` says what the newest kept results say: `make bench ARGS=--update-docs` changes nothing."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert with_results(text, newest(RESULTS)) == text
    assert text.count("<!-- results -->") == text.count("<!-- /results -->") == 1


@pytest.mark.parametrize("length", [*SIZES.values(), 1_000, 5_000, 2_000_003])
def test_a_conversation_has_exactly_the_asked_size(length: int) -> None:
    """Serialized it has the length that was asked for, it is JSON, and it is the same every time."""
    data = conversation(length)
    assert len(serialize(data)) == length
    assert json.loads(json.dumps(data)) == data == conversation(length)


def test_conversations_compress_as_recorded_ones_do() -> None:
    """A little at 1 kB, to half at 10 kB, to a third or less from 100 kB; an embedded image not at all."""
    kept = {(body.size, body.variant): _kept(body) for body in bodies()}
    assert 0.6 < kept["1 kB", "auto"] < 0.9
    assert 0.4 < kept["10 kB", "auto"] < 0.6
    assert 0.1 < kept["1 MB", "auto"] < kept["100 kB", "auto"] < 0.35
    assert kept["1 MB", "incompressible"] == pytest.approx(1, abs=0.001)
    assert kept["1 kB", "none"] == (1_024 + 48) / 1_024


async def test_sides_take_turns_and_the_first_is_not_counted(server: RunningServer) -> None:
    """A B, B A, A B; every number comes once; the calls of the warm-up turn leave no sample, for all three players."""
    for kind in ("sync", "async", "storm"):
        calls: list[tuple[str, int]] = []
        noted: list[Any] = []
        lanes = [_recorder(name, calls, noted, server, is_async=kind != "sync") for name in ("a", "b")]
        schedule = turns(lanes, blocks=2, block=3)
        if kind == "sync":
            play(schedule)
        elif kind == "async":
            await play_async(schedule)
        else:
            await play_storm(schedule, tasks=2)
        assert [name for name, _ in calls] == [*"aaabbb", *"bbbaaa", *"aaabbb"]
        assert [number for name, number in calls if name == "a"] == list(range(9))
        assert noted == calls
        assert [len(lane.took_ns) for lane in lanes] == [2, 2] if kind == "storm" else [6, 6]


def test_percentiles_are_by_nearest_rank() -> None:
    """Of 1 to 200 microseconds, p50 is the 100th and p99 the 198th sample."""
    summary = summarise([1_000 * us for us in range(200, 0, -1)])
    assert (summary.count, summary.min_us, summary.p50_us, summary.p99_us, summary.max_us) == (200, 1, 100, 198, 200)
    assert summary.mean_us == 100.5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process choose its CPUs")
def test_the_process_has_all_its_cpus_again_after_a_run() -> None:
    """Inside it is on one CPU, another than the servers'; after it, also after an error, on all of before."""
    before = os.sched_getaffinity(0)
    stack = contextlib.ExitStack()
    cpus = stack.enter_context(pinned(True))
    assert cpus is None or (os.sched_getaffinity(0) == {cpus[0]} and cpus[0] != cpus[1])
    assert not stack.__exit__(KeyError, KeyError(), None)
    assert os.sched_getaffinity(0) == before


def test_the_options_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """A run is quick or full, not both; the full one reaches the million the aim is about."""
    with pytest.raises(SystemExit):
        main(["--quick", "--full"])
    assert "not allowed with" in capsys.readouterr().err
    assert FULL.crowd == MANY_CONTEXTS


def _like(results: Results, **machine: str) -> Results:
    """The results as if measured elsewhere or otherwise."""
    other = copy.deepcopy(results)
    other["machine"].update(machine)
    return other


def _kept(body: Body) -> float:
    return len(body.stored) / body.raw_bytes


def _recorder(
    name: str, calls: list[tuple[str, int]], noted: list[Any], server: RunningServer, *, is_async: bool
) -> Lane:
    def call(number: int) -> tuple[str, int]:
        calls.append((name, number))
        return name, number

    async def call_async(number: int) -> tuple[str, int]:
        return call(number)

    return Lane(name, call_async if is_async else call, Meter(server), ("get",), note=noted.append)
