"""The benchmarks: that every part runs, reports completely, and that the document says what the kept results say.

What belongs here: one run with tiny counts on every server, and the pure parts. What does not: any judgement of a time.
Invariant: nothing here writes into the checkout, and the test process keeps all its CPUs.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from benchmarks.aims import AIMS, Results, judged
from benchmarks.bodies import Body, bodies, conversation, message
from benchmarks.buses import crowding, steps
from benchmarks.buses import race as bus_race
from benchmarks.buses.child import Child
from benchmarks.buses.libraries import FastStream
from benchmarks.buses.ours import OursWithEffect
from benchmarks.buses.plain import Plain
from benchmarks.buses.side import EVENT_BYTES, BusSide, Guarantees, Handle, Payload, payload
from benchmarks.command import main, run, show
from benchmarks.contest import CASES
from benchmarks.counters import Probe
from benchmarks.duel import Lane, play, play_async, play_storm, summarise, turns
from benchmarks.heavy import Ticker
from benchmarks.keeping import DOCUMENT, RESULTS, keep, newest, update_document, with_results
from benchmarks.meters import Meter
from benchmarks.near import CASES as NEAR_CASES
from benchmarks.optional import AbsentError, needed
from benchmarks.parts import PARTS
from benchmarks.peers import race
from benchmarks.peers.runs import MIN_TURNS, Run, recorded
from benchmarks.peers.side import Message, Side
from benchmarks.places import pinned
from benchmarks.plan import FULL, GROWING, KB, MANY_CONTEXTS, SIZES, Plan
from benchmarks.tables import tables
from lukhas_redis.codec import serialize
from lukhas_redis.testing import RunningServer, ServerBinary

TINY = Plan(
    "quick",
    blocks=1,
    block=dict.fromkeys(SIZES, 2),
    memory_contexts=100,
    crowd=24,
    few=12,
    crowd_block=4,
    storm_block=8,
    tasks=4,
    old_hops=34,
    peer_runs=1,
    growth_block=2,
    heavy_preserves=1,
    heavy_calls=2,
    heavy_phases=1,
    bus_rounds=1,
    bus_events=40,
    bus_idle=3,
    bus_seconds=0.2,
    bus_behind=1_000,
    bus_shared=20,
    pin=False,
)
VARIANTS = [*((size, variant) for variant in ("none", "auto") for size in SIZES), ("1 MB", "incompressible")]
OWN = (Plain, OursWithEffect)
# The fixture measures everything.
pytestmark = pytest.mark.timeout(600)
one_worker = pytest.mark.xdist_group("benchmarks")


@pytest.fixture(scope="module")
def results(binary: ServerBinary, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A whole run with tiny counts; of recorded runs the one that is shipped, of sides those that need no package."""
    with pytest.MonkeyPatch.context() as patch:
        shipped = recorded(tmp_path_factory.mktemp("no-runs"))
        patch.setattr(race, "recorded", lambda: shipped)
        patch.setattr(race, "SIDES", (*race.SIDES[:2], _Absent))
        patch.setattr(bus_race, "OWN", OWN)
        patch.setattr(bus_race, "SIDES", (Plain, FastStream))
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
    """Few and many contexts have both operations, and many tasks at 1 kB and 10 kB, also of what is held."""
    assert (results["crowd"]["few"], results["crowd"]["many"]) == (TINY.few, TINY.crowd)
    for case in ("preserve", "restore"):
        few, many = results["crowd"][case]["few"], results["crowd"][case]["many"]
        assert few["count"] == many["count"] == TINY.blocks * TINY.crowd_block
        assert results["crowd"][case]["server_ratio"] == pytest.approx(many["server_us"] / few["server_us"], abs=0.001)
    rows = [(row["size"], row["case"]) for row in results["storm"]]
    assert rows == list(itertools.product(("1 kB", "10 kB"), ("preserve", "restore", "restore, held")))
    assert all(row["per_second"]["ours"] > 0 and row["per_second"]["raw"] > 0 for row in results["storm"])


@one_worker
def test_growth_has_every_size_on_both_shells_with_and_without_a_near_cache(results: Results) -> None:
    """An append's time, its server time and its bytes on the wire stand beside those of the smallest context."""
    rows = [(row["mode"], row["near"], row["size"]) for row in results["growth"]]
    assert sorted(rows) == sorted(itertools.product(("async", "sync"), ("off", "on"), GROWING))
    for row in results["growth"]:
        assert row["count"] == TINY.blocks * TINY.growth_block
        assert row["server_us"] > 0
        assert row["wire_bytes"] > 200
        assert row["size"] != "10 kB" or row["to_smallest"] == 1


@one_worker
def test_near_has_every_case_on_both_shells_beside_ping(results: Results) -> None:
    """Unchanged, copied, and grown at every size; each with PING measured in turns with it."""
    rows = [(row["mode"], (row["case"], row["size"])) for row in results["near"]]
    assert rows == list(itertools.product(("sync", "async"), NEAR_CASES))
    for row in results["near"]:
        assert row["count"] == TINY.blocks * TINY.growth_block
        assert row["to_ping"] == pytest.approx(row["p50_us"] / row["ping_p50_us"], abs=0.001)


@one_worker
def test_heavy_has_small_calls_alone_and_beside_large_ones(results: Results) -> None:
    """Both kinds of phase have their calls, with and without standstills of the loop; one write has its standstill."""
    heavy = results["heavy"]
    assert heavy["alone"]["count"] == 2 * TINY.heavy_phases * TINY.heavy_calls * heavy["tasks"]
    assert heavy["beside"]["count"] >= heavy["tasks"]
    for kind in ("alone", "beside"):
        assert 0 < heavy[kind]["p50_us"] <= heavy[kind]["p99_us"]
        assert heavy[kind]["p99_without_gaps_us"] <= heavy[kind]["p99_us"]
    assert 0 <= heavy["gap_ms"]["median"] <= heavy["gap_ms"]["max"]


@one_worker
def test_every_side_of_the_race_ran_or_says_why_not(results: Results) -> None:
    """Each side has a row; ours and redis-py always run, and everything they read was what had been written."""
    (raced,) = results["peers"]
    *ran, absent = raced["sides"]
    assert [row["side"] for row in ran] == ["lukhas_redis", "redis-py + json"]
    assert absent["status"] == "not here"
    for row in ran:
        assert (row["status"], row["wrong_reads"]) == ("ran", 0)
        assert row["turn"]["count"] == raced["turns"] * TINY.peer_runs
        assert min(row[name] for name in ("received_bytes", "sent_bytes", "server_us", "memory_bytes")) > 0


@one_worker
def test_the_bus_has_its_steps_each_with_the_servers_time(results: Results) -> None:
    """Emits by one task and by many beside XADD; every script by itself, with the server's part of one event."""
    bus = results["bus"]
    assert [row["tasks"] for row in bus["emits"]] == [1, TINY.tasks]
    assert all(row["per_second"][side] > 0 < row["server_us"][side] for row in bus["emits"] for side in ("ours", "raw"))
    assert [row["step"] for row in bus["scripts"]] == list(steps.STEPS)
    for row in bus["scripts"]:
        assert row["count"] == TINY.blocks * 2
        assert row["server_us_event"] == pytest.approx(row["server_us"] / row["events"], abs=0.01) != 0


@one_worker
def test_the_bus_passes_every_event_once_beside_plain_streams(results: Results) -> None:
    """Every phase of every side has its events, none of them twice, and the ratios are to the plain streams."""
    passed = results["bus"]["passed"]
    assert [(row["side"], row["status"]) for row in passed] == [(kind.name, "ran") for kind in OWN]
    for row in passed:
        assert row["twice"] == 0
        assert row["idle"]["count"] == TINY.bus_idle
        assert row["load"]["count"] > 0 < row["emitted_per_second"]
        assert row["passed_to_plain"] == pytest.approx(
            row["passed_per_second"] / passed[0]["passed_per_second"], abs=0.001
        )


@one_worker
def test_the_bus_where_it_is_tight_is_complete(results: Results) -> None:
    """Critical events came while low ones waited; eight workers shared all events, and did not all look for each."""
    behind, (singly, together) = results["bus"]["behind"], results["bus"]["herd"]
    assert behind["low"] == TINY.bus_behind > behind["low_before_last"]
    assert behind["idle"]["count"] == TINY.bus_idle >= behind["urgent"]["count"] > 0
    assert (singly["case"], together["case"]) == ("one at a time", "all at once")
    for row in (singly, together):
        assert row["events"] == TINY.bus_shared < row["scripts"] < row["herd_calls"]


@one_worker
def test_every_other_bus_ran_or_says_why_not(results: Results) -> None:
    """A library that is not here has a row with the reason, and what it promises."""
    plain, other = results["bus_peers"]["sides"]
    assert (plain["side"], plain["status"]) == (Plain.name, "ran")
    assert other["side"] == FastStream.name
    assert other["status"] in ("ran", "absent: not installed")
    assert other["recovery"] == FastStream.said.recovery


@pytest.mark.parametrize("kind", [*bus_race.SIDES, *bus_race.OWN])
def test_a_bus_says_what_it_promises(kind: type[BusSide]) -> None:
    """Names are a side's own, and each kind of promise has a word."""
    assert kind.name not in [other.name for other in (*bus_race.SIDES, *bus_race.OWN) if other is not kind]
    assert all(getattr(kind.said, name) for name in Guarantees.__slots__)


@pytest.mark.parametrize("number", [0, 99_999])
def test_an_event_has_exactly_its_size(number: int) -> None:
    """As JSON it has 200 bytes, whichever it is, with the clock of any machine that is up for some days."""
    assert len(json.dumps(payload("drain", number))) == EVENT_BYTES
    assert len(json.dumps(payload("idle", number, 10**13))) == EVENT_BYTES


def test_urgent_events_count_while_others_wait_only() -> None:
    """What came when all low events were handled does not count; where none counts there is no figure."""
    found = crowding.weighed([1_000, 3_000], [2_000, 9_000], [4, 5], many=5)
    assert (found["urgent"]["count"], found["urgent"]["p50_us"], found["low_before_last"]) == (1, 2, 4)
    assert (found["to_idle"], found["p99_to_idle"]) == (2, 0.667)
    with pytest.raises(RuntimeError, match="before the first urgent one"):
        crowding.weighed([1_000], [2_000], [5], many=5)


def test_a_row_of_a_race_is_of_all_rounds() -> None:
    """Rates are medians over rounds, latencies of all of them; a side that did not run has its reason and promises."""
    racer = bus_race.Racer(Plain, version="1", redis_py="2", twice=0)
    racer.emitted, racer.drained, racer.passed = [10, 30, 20], [5, 6, 7], [4, 4, 5]
    racer.server_us, racer.load, racer.idle_ns, racer.load_ns = [1.0, 2.0, 9.0], [2, 2, 2], [1_000] * 9, [3_000] * 9
    (row,) = bus_race.compared([racer.row(events=40)])
    rates = [row[name] for name in ("emitted_per_second", "drained_per_second", "passed_per_second", "server_cpu_us")]
    assert rates == [20, 6, 4, 2]
    assert (row["idle"]["count"], row["rounds"], row["load"]["p50_us"]) == (9, 3, 3)
    assert [row[name] for name in row if name.endswith("_to_plain")] == [1, 1, 1, 1]
    gone = bus_race.Racer(FastStream, status="absent: not installed")
    assert bus_race.compared([gone.row(events=40)])[0].keys() == {"side", "status", *Guarantees.__slots__}


def test_a_process_that_cannot_begin_says_its_last_words() -> None:
    """A side whose module is not there has failed, with the error of its process."""
    gone: type[BusSide] = type("Gone", (_Loop,), {"__module__": "no_such_module"})
    with bus_race.pair(gone, "nowhere") as (worker, _), pytest.raises(bus_race.SideFailedError, match="no_such_module"):
        worker.ask("prepare")


async def test_a_child_emits_and_handles_what_it_is_told() -> None:
    """Many at once, at a pace, and singly, where each waits for the handling of the one before."""
    read, write = os.pipe()
    try:
        _Loop.events = asyncio.Queue()
        worker, emitter = Child(_Loop("here"), write).commands, Child(_Loop("here"), read).commands
        await worker["work"]({"concurrency": 1, "signed": "idle", "other": "some"})
        await emitter["emit"]({"phase": "some", "count": 10, "tasks": 3})
        some = await worker["expect"]({"phase": "some", "count": 10, "seconds": 10, "all": True})
        assert (len(some["latency_ns"]), some["twice"]) == (10, 0)
        assert some["first_ns"] < some["done_ns"]
        assert (await emitter["singly"]({"phase": "idle", "count": 3, "seconds": 10})) == {"count": 3}
        idle = await worker["expect"]({"phase": "idle", "count": 3, "seconds": 10, "all": True})
        assert idle["others_first"] == [10, 10, 10]
        span = await emitter["paced"]({"phase": "load", "count": 5, "per_second": 100})
        assert span["ended_ns"] - span["began_ns"] >= 4 / 100 * 1e9
        await worker["expect"]({"phase": "load", "count": 5, "seconds": 10, "all": True})
        await _Loop("here").emit(payload("load", 0))
        again = await worker["expect"]({"phase": "load", "count": 5, "seconds": 10, "all": True})
        assert again["twice"] == 1
        with pytest.raises(TimeoutError):
            await worker["expect"]({"phase": "load", "count": 6, "seconds": 0.05, "all": False})
    finally:
        os.close(write)
        os.close(read)


class _Loop(BusSide):
    """A queue of this process."""

    name, package, said = "loop", "redis", Plain.said
    events: ClassVar[asyncio.Queue[Payload]]

    async def prepare(self) -> None:
        pass

    async def open(self) -> None:
        pass

    async def emit(self, payload: Payload, priority: str = "normal") -> None:
        await self.events.put(payload)

    async def work(self, handle: Handle, concurrency: int) -> None:
        while True:
            handle(await self.events.get())

    async def unfinished(self) -> int:
        return self.events.qsize()


@pytest.mark.parametrize("kind", race.SIDES)
def test_a_side_says_what_it_is(kind: type[Side]) -> None:
    """Names and key patterns of sides are their own: no side's memory is counted for another."""
    others = [other for other in race.SIDES if other is not kind]
    assert kind.name not in [other.name for other in others]
    assert not set(kind.keys) & {key for other in others for key in other.keys}
    assert all((kind.package, kind.atomic, kind.handoff, kind.keys))


def test_a_package_that_is_not_there_is_named_absent() -> None:
    """Without it a side is absent, not an error."""
    with pytest.raises(AbsentError, match="not installed"):
        needed("json", "no-such-distribution")


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
def test_an_aim_may_be_a_least_and_belongs_to_its_part(results: Results) -> None:
    """At the least it is met, under it missed; of a run of one part its aims alone are judged, and its tables made."""
    only = {name: value for name, value in _like(results).items() if name in {"machine", "storm"}}
    for figure, verdicts in ((2, {"met"}), (1, {"missed"})):
        for row in only["storm"]:
            row["to_raw"] = figure
        assert {(aim["bound"], aim["verdict"]) for aim in judged(only)} == {("at least", word) for word in verdicts}
    shown = [table.title for table in tables({**only, "aims": judged(only)})]
    assert len(shown) == 2
    assert shown[0] == "Aims"


@one_worker
def test_results_are_found_again_and_quick_ones_left_out(results: Results, tmp_path: Path) -> None:
    """The newest usual run of each server is found as it was kept; a quick one, or one of some parts, never is."""
    usual = _like(results, plan="usual", date="2026-01-02T00:00:00+00:00")
    keep(_like(results, plan="full", date="2026-01-01T00:00:00+00:00"), tmp_path)
    kept = keep(usual, tmp_path)
    quick = keep(_like(results, date="2026-01-03T00:00:00+00:00"), tmp_path)
    some = keep(_like(results, plan="usual", date="2026-01-04T00:00:00+00:00", only=["near", "storm"]), tmp_path)
    assert kept.name == f"2026-01-02-{results['machine']['server']}.json"
    assert quick.stem.endswith("-quick")
    assert some.stem.endswith("-only-near-storm")
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
    assert "\nold\n" not in text
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


def test_unknown_parts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A part that does not exist is named, and so are those that do."""
    with pytest.raises(SystemExit):
        main(["--only", "storm,weather"])
    said = capsys.readouterr().err
    assert "no part weather" in said
    assert all(name in said for name in PARTS)


def test_a_run_of_some_parts_is_kept_where_asked_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --out it is printed; with it, it is in a file that says which parts it has."""
    monkeypatch.setattr("benchmarks.command.QUICK", TINY)
    monkeypatch.setattr("benchmarks.command.RESULTS", tmp_path / "default")
    main(["--quick", "--only", "handoffs"])
    assert "Handoff" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    main(["--quick", "--only", "handoffs", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    for path in tmp_path.glob("*.json"):
        kept = json.loads(path.read_text(encoding="utf-8"))
        assert kept["machine"]["only"] == ["handoffs"]
        assert kept.keys() == {"machine", "handoffs", "aims"}
        assert f"kept in {path}" in printed
    assert "kept in" in printed


def test_a_message_has_exactly_the_asked_size() -> None:
    """Serialized it has the length that was asked for; two numbers give two messages."""
    assert all(len(serialize(message(number, length))) == length for number in range(3) for length in (512, KB, 9 * KB))
    assert message(1) != message(2)


def test_a_probe_counts_the_bytes_of_others_only(server: RunningServer) -> None:
    """Nothing between two looks leaves nothing; a PING leaves its 14 bytes and the answer's 7, and its time."""
    client, probe = server.client(), Probe(server)
    client.ping()
    first = probe.look()
    second = probe.look()
    nothing = second.since(first)
    assert (nothing.received, nothing.sent, nothing.wire) == (0, 0, 0)
    for _ in range(1_000):
        client.ping()
    spent = probe.look().since(second)
    assert (spent.received, spent.sent, spent.wire) == (14_000, 7_000, 21_000)
    assert spent.us(["ping"]) > 0
    assert spent.us(["get", "set"]) == 0
    assert spent.calls["ping"] == 1_000


def test_a_standstill_counts_for_the_part_of_a_call_it_falls_into() -> None:
    """Before, after, around, inside and across both ends of gaps."""
    ticker = Ticker(gaps=[(100, 200), (300, 400)])
    spans = {(0, 100): 0, (0, 150): 50, (120, 130): 10, (150, 350): 100, (200, 300): 0, (0, 999): 200, (400, 500): 0}
    assert {span: ticker.within(span) for span in spans} == spans


def test_recorded_runs_are_chosen_by_their_turns(tmp_path: Path) -> None:
    """Those of 28 turns and more, and all one after the other; without any, the one that is shipped."""
    for name, turns_of in (("a", MIN_TURNS - 1), ("b", MIN_TURNS)):
        run_of = {"history": [{"role": "user", "content": f"{name} {n}"} for n in range(turns_of)]}
        (tmp_path / f"{name}.json").write_text(json.dumps(run_of), encoding="utf-8")
    found = recorded(tmp_path)
    assert [(run.name, len(run.messages)) for run in found] == [("b", 28), ("all 2 runs in one session", 55)]
    (shipped,) = recorded(tmp_path / "missing")
    assert all({"role", "content"} <= message.keys() for message in shipped.messages)


async def test_a_side_that_reads_something_else_is_counted(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong reads are counted at each turn, right ones are not; a side that cannot take part says why."""
    monkeypatch.setattr(race, "SIDES", (_Honest, _Forgetful, _Absent))
    raced = await race.race(server, Run("some run", [{"n": n} for n in range(3)]), repetitions=2)
    honest, forgetful, absent = raced["sides"]
    assert (honest["wrong_reads"], forgetful["wrong_reads"]) == (0, 6)
    assert honest["turn"]["count"] == forgetful["turn"]["count"] == 6
    assert absent == {"side": "absent", "status": "not here"}


class _Honest(Side):
    name, package, keys, atomic, versions, handoff = "honest", "redis", ("honest:*",), "yes", False, "none"

    def __init__(self) -> None:
        self.runs: dict[str, list[Message]] = {}

    @classmethod
    async def open(cls, server: RunningServer) -> Self:
        return cls()

    async def pass_on(self, worker: int, run: str, turn: int, message: Message) -> None:
        assert worker == turn % 2
        self.runs.setdefault(run, []).append(message)

    async def read(self, worker: int, run: str) -> list[Message]:
        assert worker == len(self.runs[run]) % 2
        return self.runs[run]

    async def close(self) -> None:
        self.runs.clear()


class _Forgetful(_Honest):
    name = "forgetful"

    async def read(self, worker: int, run: str) -> list[Message]:
        read = await super().read(worker, run)
        return read[1:]


class _Absent(_Honest):
    name = "absent"

    @classmethod
    async def open(cls, server: RunningServer) -> Self:
        raise AbsentError("not here")


def _like(results: Results, **machine: Any) -> Results:
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
