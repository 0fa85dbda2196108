"""The results as tables, for the terminal and for Markdown.

What belongs here: choosing and formatting what is shown. What does not: computing anything.
Invariant: every figure shown stands in the results file, so a table can be made again from the file alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.aims import Results

_SIDES = ("ours", "raw", "json")


@dataclass(frozen=True, slots=True)
class Table:
    """A title, a head, rows of text; the first `left` columns are words, the others numbers."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1


def tables(results: Results) -> Iterator[Table]:
    """Everything that was measured on one server, the aims first (of a run of some parts, theirs)."""
    yield _aims(results)
    for part, make in _TABLES.items():
        if part in results:
            yield from make(results)


def heading(results: Results) -> str:
    """Which server, machine and versions the tables are of, in one paragraph."""
    machine = results["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    cpus = machine["pinned"]
    pinned = f"client on CPU {cpus['client']}, server on CPU {cpus['server']}" if cpus else "not pinned to CPUs"
    return (
        f"{machine['date']}, `{machine['command']}`, commit {machine['commit'] or 'unknown'}; {machine['cpu']}, "
        f"{machine['cpus']} CPUs, {pinned}, load {machine['load_before'][0]} before; {machine['server_os']}; "
        f"{machine['python']}, {packages}."
    )


def _aims(results: Results) -> Table:
    head = ("aim", "measured", "at most", "unit", "verdict")
    rows = [[a["aim"], f"{a['figure']:,.4g}", _limit(a), a["unit"], a["verdict"]] for a in results["aims"]]
    return Table("Aims", head, rows)


def _limit(aim: dict[str, Any]) -> str:
    least = "at least " if aim.get("bound") == "at least" else ""
    return f"{least}{aim['limit']:,g}"


def _contests(results: Results) -> Iterator[Table]:
    for mode in ("async", "sync"):
        yield _contests_of(results, mode)


def _contests_of(results: Results, mode: str) -> Table:
    times = [f"{side} {share}" for side in _SIDES for share in ("p50", "p99")]
    head = ("size", "stored as", "operation", *times, "to raw", "to json", "server", "raw server", "stored bytes")
    rows = [_contest(row) for row in results["contests"] if row["mode"] == mode]
    return Table(f"One call at a time, {mode} (microseconds)", head, rows, left=3)


def _contest(row: dict[str, Any]) -> list[str]:
    lanes = row["lanes"]
    times = [_us(lanes[side][share]) for side in _SIDES for share in ("p50_us", "p99_us")]
    ratios = [f"{row['to_raw']:.2f}", f"{row['to_json']:.2f}"]
    server = [_us(lanes["ours"]["server_us"]), _us(lanes["raw"]["server_us"])]
    return [row["size"], row["variant"], row["case"], *times, *ratios, *server, f"{row['stored_bytes']:,}"]


def _memory(results: Results) -> Iterator[Table]:
    names = ("stored_bytes", "context_bytes", "beyond_body_bytes", "request_bytes", "history_bytes_per_entry")
    head = (
        "size",
        "stored as",
        "per session",
        "stored",
        "context",
        "beyond its body",
        "request record",
        "history entry",
    )
    rows = [
        [row["size"], row["variant"], str(row["per_session"]), *(f"{row[name]:,}" for name in names)]
        for row in results["memory"]
    ]
    yield Table("Server memory per context (bytes)", head, rows, left=2)


def _storm(results: Results) -> Iterator[Table]:
    rows = [
        [
            row["size"],
            row["case"],
            *(f"{row['per_second'][side]:,}" for side in ("ours", "raw")),
            f"{row['to_raw']:.2f}",
            *(_us(row["server_us"][side]) for side in ("ours", "raw")),
        ]
        for row in results["storm"]
    ]
    head = ("size", "operation", "ours per second", "raw per second", "to raw", "server us", "raw server us")
    yield Table(f"Throughput of {results['storm'][0]['tasks']} tasks on one event loop", head, rows, left=2)


def _crowd(results: Results) -> Iterator[Table]:
    crowd = results["crowd"]
    few, many = f"{crowd['few']:,}", f"{crowd['many']:,}"
    rows = [
        [
            case,
            *(_us(crowd[case][side][figure]) for figure in ("server_us", "p50_us") for side in ("few", "many")),
            f"{crowd[case]['server_ratio']:.2f}",
        ]
        for case in ("preserve", "restore")
    ]
    head = ("operation", f"server at {few}", f"server at {many}", f"p50 at {few}", f"p50 at {many}", "server ratio")
    yield Table(f"{crowd['size']} beside few and many contexts (microseconds)", head, rows)


def _handoffs(results: Results) -> Iterator[Table]:
    rows = [
        [row["size"], f"{row['hops']:,}", _us(row["p50_us"]), _us(row["p99_us"]), _us(row["server_us"])]
        for row in results["handoffs"]
    ]
    yield Table("Handoff (microseconds)", ("size", "hops before", "p50", "p99", "server"), rows)


def _growth(results: Results) -> Iterator[Table]:
    rows = [
        [
            *(row[name] for name in ("mode", "near", "size")),
            *(_us(row[name]) for name in ("p50_us", "p99_us")),
            f"{row['to_smallest']:.2f}",
            _us(row["server_us"]),
            f"{row['wire_bytes']:,.0f}",
        ]
        for row in results["growth"]
    ]
    appended = f"{results['growth'][0]['appended_bytes']:,}"
    head = ("mode", "near cache", "onto", "p50", "p99", "to the smallest", "server", "bytes on the wire")
    yield Table(f"Append of {appended} bytes (microseconds)", head, rows, left=3)


def _near(results: Results) -> Iterator[Table]:
    names = ("p50_us", "p99_us", "ping_p50_us", "ping_p99_us")
    rows = [
        [
            *(row[name] for name in ("mode", "case", "size")),
            *(_us(row[name]) for name in names),
            f"{row['to_ping']:.2f}",
        ]
        for row in results["near"]
    ]
    head = ("mode", "what is held is", "size", "p50", "p99", "PING p50", "PING p99", "to PING")
    yield Table("Restore of what the near cache holds (microseconds)", head, rows, left=3)


def _heavy(results: Results) -> Iterator[Table]:
    heavy = results["heavy"]
    names = ("p50_us", "p99_us", "p50_without_gaps_us", "p99_without_gaps_us")
    rows = [
        [
            case,
            f"{heavy[key]['count']:,}",
            *(_us(heavy[key][name]) for name in names),
            f"{heavy[key]['longest_gap_ms']:,}",
        ]
        for case, key in (("alone", "alone"), (f"beside writes of {heavy['large']}", "beside"))
    ]
    head = ("small calls", "calls", "p50", "p99", "p50 without standstills", "p99 without", "longest standstill, ms")
    yield Table(f"Small calls of {heavy['tasks']} tasks beside large writes (microseconds)", head, rows)
    gap = [
        [heavy["large"], f"{heavy['large_preserve_ms']:,}", f"{heavy['gap_ms']['median']}", f"{heavy['gap_ms']['max']}"]
    ]
    once = ("one write of", "takes", "longest standstill, median", "at most")
    yield Table("The event loop in one large write (milliseconds)", once, gap)


def _peers(results: Results) -> Iterator[Table]:
    for run in results["peers"]:
        size = f"{run['turns']} turns, {run['json_bytes']:,} bytes of JSON at the end, {run['repetitions']} times"
        yield Table(
            f"Turns between two workers: {run['run']} ({size})", _PEERS, [_peer(row) for row in run["sides"]], left=2
        )


_PEERS = (
    *("side", "one step, version, handoff", "turn p50 us", "p99", "write p50", "read p50", "run ms", "bytes to server"),
    *("bytes from it", "server us a turn", "its CPU us", "memory", "wrong reads"),
)


def _peer(row: dict[str, Any]) -> list[str]:
    if row["status"] != "ran":
        return [row["side"], row["status"], *[""] * (len(_PEERS) - 2)]
    versions = "versions" if row["versions"] else "no versions"
    return [
        f"{row['side']} {row['version']}",
        f"{row['atomic']}; {versions}; {row['handoff']}",
        *(
            _us(value)
            for value in (row["turn"]["p50_us"], row["turn"]["p99_us"], row["write_p50_us"], row["read_p50_us"])
        ),
        f"{row['total_ms']:,.1f}",
        *(f"{row[name]:,}" for name in ("received_bytes", "sent_bytes")),
        *(_us(row[name]) for name in ("server_us", "server_cpu_us")),
        f"{row['memory_bytes']:,}",
        f"{row['wrong_reads']:,}",
    ]


def _bus(results: Results) -> Iterator[Table]:
    bus = results["bus"]
    yield _emits(bus)
    yield _steps(bus)
    yield from _passed(bus, bus["passed"], "The bus beside plain streams")
    yield _behind(bus["behind"])
    yield _herd(bus["herd"])


def _steps(bus: dict[str, Any]) -> Table:
    rows = [
        [row["step"], *(_us(row[name]) for name in ("p50_us", "p99_us", "server_us", "server_us_event"))]
        for row in bus["scripts"]
    ]
    head = ("step", "p50", "p99", "server", "server, an event")
    return Table("Steps of the bus, one call at a time (microseconds)", head, rows)


def _herd(herd: list[dict[str, Any]]) -> Table:
    rows = [
        [row["case"], *(f"{row[name]:,}" for name in ("scripts", "scripts_per_event", "herd_calls"))] for row in herd
    ]
    head = ("they come", "script calls", "per event", "if each woke all")
    return Table(f"{herd[0]['workers']} workers that share {herd[0]['events']} events", head, rows)


def _emits(bus: dict[str, Any]) -> Table:
    rows = [
        [
            f"{row['tasks']}",
            *(f"{row['per_second'][side]:,}" for side in ("ours", "raw")),
            f"{row['to_raw']:.2f}",
            *(_us(row["server_us"][side]) for side in ("ours", "raw")),
        ]
        for row in bus["emits"]
    ]
    head = ("tasks", "emits per second", "raw XADD per second", "to raw", "server us", "raw server us")
    return Table(f"Emitting events of {bus['event_bytes']} bytes", head, rows)


def _behind(behind: dict[str, Any]) -> Table:
    rows = [
        [name, f"{row['count']:,}", *(_us(row[share]) for share in ("p50_us", "p99_us", "max_us")), *ratios]
        for name, row, ratios in (
            ("on an idle bus", behind["idle"], ["", ""]),
            (
                f"behind {behind['low']:,} low ones",
                behind["urgent"],
                [f"{behind[ratio]:.2f}" for ratio in ("to_idle", "p99_to_idle")],
            ),
        )
    ]
    head = ("a critical event", "events", "p50", "p99", "max", "p50 to idle", "p99 to idle")
    return Table("Emit to handler of critical events, one slot, no prefetch (microseconds)", head, rows)


def _passed(part: dict[str, Any], sides: list[dict[str, Any]], title: str) -> Iterator[Table]:
    """Rates and latencies of a race."""
    first = next((row for row in sides if row["status"] == "ran"), {"events": 0, "rounds": 0})
    counts = f"{first['events']:,} events of {part['event_bytes']} bytes, {part['concurrency']} at once"
    yield Table(f"{title}: events per second ({counts})", _RATES, [_rates(row) for row in sides])
    where = part["where"]
    yield Table(f"{title}: emit to handler, microseconds ({where})", _LATENCIES, [_latencies(row) for row in sides])


_RATES = ("side", "emitted", "worked off", "to raw", "emitted and worked off", "to raw", "server CPU us an event")
_LATENCIES = (
    *("side", "idle p50", "p99", "events", "p50 to raw", "half load, a second", "p50", "p99", "events", "p50 to raw"),
    "looks every",
)


def _rates(row: dict[str, Any]) -> list[str]:
    if row["status"] != "ran":
        return _not_run(row, _RATES)
    return [
        _versioned(row),
        f"{row['emitted_per_second']:,}",
        f"{row['drained_per_second']:,}",
        _ratio(row, "drained_to_plain"),
        f"{row['passed_per_second']:,}",
        _ratio(row, "passed_to_plain"),
        _us(row["server_cpu_us"]),
    ]


def _latencies(row: dict[str, Any]) -> list[str]:
    if row["status"] != "ran":
        return _not_run(row, _LATENCIES)
    idle, load = row["idle"], row["load"]
    return [
        _versioned(row),
        *(_us(idle[share]) for share in ("p50_us", "p99_us")),
        f"{idle['count']:,}",
        _ratio(row, "idle_to_plain"),
        f"{row['load_per_second']:,}",
        *(_us(load[share]) for share in ("p50_us", "p99_us")),
        f"{load['count']:,}",
        _ratio(row, "load_to_plain"),
        f"{row['poll_seconds']:g} s" if row["poll_seconds"] else "is told",
    ]


def _not_run(row: dict[str, Any], head: Sequence[str]) -> list[str]:
    return [row["side"], row["status"], *[""] * (len(head) - 2)]


def _versioned(row: dict[str, Any]) -> str:
    return f"{row['side']} {row['version']}" if row["version"] not in row["side"] else str(row["side"])


def _ratio(row: dict[str, Any], name: str) -> str:
    return f"{row[name]:.2f}" if name in row else ""


def _bus_peers(results: Results) -> Iterator[Table]:
    part = results["bus_peers"]
    yield from _passed(part, part["sides"], "The bus and other libraries")
    names = ("ack", "recovery", "priorities", "ordering", "dead_letters", "effect")
    rows = [[row["side"], *(row[name] for name in names)] for row in part["sides"]]
    head = (
        *("side", "an event is done", "of a worker that died", "priorities", "order", "dead letters"),
        "a change in the same step",
    )
    yield Table("The bus and other libraries: what each promises as measured", head, rows, left=len(head))


_TABLES: dict[str, Callable[[Results], Iterator[Table]]] = {
    "contests": _contests,
    "memory": _memory,
    "storm": _storm,
    "crowd": _crowd,
    "handoffs": _handoffs,
    "growth": _growth,
    "near": _near,
    "heavy": _heavy,
    "peers": _peers,
    "bus": _bus,
    "bus_peers": _bus_peers,
}


def _us(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def markdown(table: Table) -> str:
    """A table of a Markdown document, under a heading of the fourth level."""
    rule = ["---"] * table.left + ["---:"] * (len(table.head) - table.left)
    lines = ["| " + " | ".join(cells) + " |" for cells in (table.head, rule, *table.rows)]
    return "\n".join([f"#### {table.title}", "", *lines])


def plain(table: Table) -> str:
    """A table for the terminal, its columns aligned."""
    cells = [table.head, *table.rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        sized = list(zip(row, widths, strict=True))
        words = [word.ljust(width) for word, width in sized[: table.left]]
        return "  " + "  ".join([*words, *(word.rjust(width) for word, width in sized[table.left :])]).rstrip()

    return "\n".join([table.title, line(table.head), line(["-" * width for width in widths]), *map(line, table.rows)])
