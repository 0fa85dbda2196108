"""The aims of the project beside what was measured.

What belongs here: which figure each aim is about, and its limit. What does not: measuring.
Invariant: an aim that names a server or a count is judged on that server and at that count only; elsewhere its figure
is shown and its verdict is `open`. Of a run of some parts, the aims of these parts are judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from benchmarks.plan import GROWING, KB, MANY_CONTEXTS

Results: TypeAlias = dict[str, Any]
# For 1 kB appended: keys, arguments and what is answered, beside the kilobyte and half as much again.
MOST_WIRE = 1.5 * KB + 600


@dataclass(frozen=True, slots=True)
class Verdict:
    """One aim, judged: `verdict` is met, missed, or `open` with the reason; `bound` is `at most` or `at least`."""

    aim: str
    figure: float
    limit: float
    unit: str
    verdict: str
    bound: str = "at most"


@dataclass(frozen=True, slots=True)
class Aim:
    """`figure` finds the number in the results of a `part`; `server` is the start of the id it is meant for."""

    text: str
    figure: Callable[[Results], float]
    limit: float
    unit: str
    server: str = ""
    part: str = "contests"
    bound: str = "at most"


def cell(results: Results, mode: str, size: str, case: str) -> dict[str, Any]:
    """The row of one contest, uncompressed.

    Raises:
        LookupError: It was not measured.
    """
    for row in results["contests"]:
        if (row["mode"], row["size"], row["variant"], row["case"]) == (mode, size, "none", case):
            return dict(row)
    raise LookupError(f"no contest {mode}, {size}, {case}")


def _ratio(size: str, case: str) -> Callable[[Results], float]:
    return lambda results: float(cell(results, "async", size, case)["to_raw"])


def _server_us(size: str, case: str) -> Callable[[Results], float]:
    return lambda results: float(cell(results, "async", size, case)["lanes"]["ours"]["server_us"])


def _beyond_body(per_session: int) -> Callable[[Results], float]:
    def figure(results: Results) -> float:
        rows = [r for r in results["memory"] if (r["size"], r["variant"]) == ("1 kB", "none")]
        return float(next(r for r in rows if r["per_session"] == per_session)["beyond_body_bytes"])

    return figure


def _storm(case: str) -> Callable[[Results], float]:
    def figure(results: Results) -> float:
        return float(next(r for r in results["storm"] if (r["size"], r["case"]) == ("1 kB", case))["to_raw"])

    return figure


def _most(part: str, figure: str, **which: str) -> Callable[[Results], float]:
    """The worst of the rows of a part that are like `which`."""

    def worst(results: Results) -> float:
        return max(float(r[figure]) for r in results[part] if all(r[name] == value for name, value in which.items()))

    return worst


def _server_growth(results: Results) -> float:
    """Server time of an append to the largest context, to that of the smallest, at the worst."""
    rows = {(r["mode"], r["near"], r["size"]): float(r["server_us"]) for r in results["growth"]}
    first, *_, last = GROWING
    return max(rows[mode, near, last] / us for (mode, near, size), us in rows.items() if size == first)


def _heavy(*path: str) -> Callable[[Results], float]:
    def figure(results: Results) -> float:
        found: Any = results["heavy"]
        for name in path:
            found = found[name]
        return float(found)

    return figure


def _bus(part: str, figure: str, **which: str) -> Callable[[Results], float]:
    """Of a list of rows of the bus's results, the first that is like `which`."""

    def found(results: Results) -> float:
        rows = results["bus"][part]
        return float(next(r[figure] for r in rows if all(r[name] == value for name, value in which.items())))

    return found


_REDIS_7 = "redis-7.0"
AIMS = (
    Aim("async preserve 1 kB, new id, to raw SET", _ratio("1 kB", "preserve, new id"), 1.7, "x", _REDIS_7),
    Aim("async preserve 1 kB, same id, to raw SET", _ratio("1 kB", "preserve, same id"), 1.7, "x", _REDIS_7),
    Aim("async restore 1 kB, to raw GET", _ratio("1 kB", "restore"), 1.5, "x", _REDIS_7),
    Aim("server time of preserve 1 kB, new id", _server_us("1 kB", "preserve, new id"), 45, "us"),
    Aim("server time of preserve 1 kB, same id", _server_us("1 kB", "preserve, same id"), 45, "us"),
    Aim("server time of preserve 1 MB, new id", _server_us("1 MB", "preserve, new id"), 170, "us", _REDIS_7),
    Aim("server time of restore 1 MB, with its GET", _server_us("1 MB", "restore"), 140, "us", _REDIS_7),
    Aim("memory per 1 kB context beyond its body, 10 a session", _beyond_body(10), 1_600, "bytes", _REDIS_7, "memory"),
    Aim("memory per 1 kB context beyond its body, 1 a session", _beyond_body(1), 1_600, "bytes", _REDIS_7, "memory"),
    Aim("restores of 1 kB a second, 32 tasks, to raw GET", _storm("restore"), 2, "x", "", "storm", "at least"),
    Aim("preserves of 1 kB a second, 32 tasks, to raw SET", _storm("preserve"), 1.1, "x", "", "storm", "at least"),
    Aim(
        "append to 9 MB, to that to 10 kB, at worst",
        _most("growth", "to_smallest", size="9 MB"),
        1.3,
        "x",
        "",
        "growth",
    ),
    Aim("server time of that", _server_growth, 1.3, "x", "", "growth"),
    Aim(
        "bytes on the wire of appending 1 kB, at worst", _most("growth", "wire_bytes"), MOST_WIRE, "bytes", "", "growth"
    ),
    Aim("unchanged 1 MB from the near cache, to PING", _most("near", "to_ping", case="same"), 1.6, "x", "", "near"),
    Aim("10 kB to 9 MB grown by 1 kB, to PING, at worst", _most("near", "to_ping", case="grew"), 2.5, "x", "", "near"),
    Aim("standstill of the event loop in one write of 9 MB", _heavy("gap_ms", "max"), 25, "ms", "", "heavy"),
    Aim("p99 of small calls beside writes of 9 MB, to alone", _heavy("p99_ratio"), 2, "x", "", "heavy"),
    Aim("the same without the standstills", _heavy("p99_ratio_without_gaps"), 2, "x", "", "heavy"),
    Aim(
        "script calls of 8 workers for 200 events", _bus("herd", "scripts", case="one at a time"), 1_000, "", "", "bus"
    ),
    Aim(
        "start of a critical event behind low ones, to idle, p50",
        lambda results: float(results["bus"]["behind"]["to_idle"]),
        2,
        "x",
        "",
        "bus",
    ),
)


def judged(results: Results) -> list[dict[str, Any]]:
    """Every aim with its figure and verdict, in one fixed order."""
    return [asdict(verdict) for verdict in _verdicts(results)]


def _verdicts(results: Results) -> Iterator[Verdict]:
    server = str(results["machine"]["server"])
    for aim in AIMS:
        if aim.part not in results:
            continue
        figure = aim.figure(results)
        said = _said(figure, aim.limit, aim.bound)
        said = said if server.startswith(aim.server) else f"open: the aim is for {aim.server}"
        yield Verdict(aim.text, figure, aim.limit, aim.unit, said, aim.bound)
    if "crowd" in results:
        yield _crowded(results["crowd"])


def _crowded(crowd: dict[str, Any]) -> Verdict:
    figure, many = float(crowd["preserve"]["server_ratio"]), int(crowd["many"])
    said = _said(figure, 1.3) if many >= MANY_CONTEXTS else f"open: the aim is for {MANY_CONTEXTS:,} (--full)"
    return Verdict(f"server time of preserve at {many:,} contexts, to that at {crowd['few']:,}", figure, 1.3, "x", said)


def _said(figure: float, limit: float, bound: str = "at most") -> str:
    return "met" if (figure >= limit if bound == "at least" else figure <= limit) else "missed"
