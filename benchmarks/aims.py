"""The aims of the project beside what was measured.

What belongs here: which figure each aim is about, and its limit. What does not: measuring.
Invariant: an aim that names a server or a count is judged on that server and at that count only; elsewhere its figure
is shown and its verdict is `open`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from benchmarks.plan import MANY_CONTEXTS

Results: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One aim, judged: `verdict` is met, missed, or `open` with the reason."""

    aim: str
    figure: float
    limit: float
    unit: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Aim:
    """`figure` finds the number in the results of a server; `server` is the start of the id it is meant for."""

    text: str
    figure: Callable[[Results], float]
    limit: float
    unit: str
    server: str = ""


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


_REDIS_7 = "redis-7.0"
AIMS = (
    Aim("async preserve 1 kB, new id, to raw SET", _ratio("1 kB", "preserve, new id"), 1.7, "x", _REDIS_7),
    Aim("async preserve 1 kB, same id, to raw SET", _ratio("1 kB", "preserve, same id"), 1.7, "x", _REDIS_7),
    Aim("async restore 1 kB, to raw GET", _ratio("1 kB", "restore"), 1.5, "x", _REDIS_7),
    Aim("server time of preserve 1 kB, new id", _server_us("1 kB", "preserve, new id"), 45, "us"),
    Aim("server time of preserve 1 kB, same id", _server_us("1 kB", "preserve, same id"), 45, "us"),
    Aim("server time of preserve 1 MB, new id", _server_us("1 MB", "preserve, new id"), 170, "us", _REDIS_7),
    Aim("server time of restore 1 MB, with its GET", _server_us("1 MB", "restore"), 140, "us", _REDIS_7),
    Aim("memory per 1 kB context beyond its body, 10 a session", _beyond_body(10), 1_600, "bytes", _REDIS_7),
    Aim("memory per 1 kB context beyond its body, 1 a session", _beyond_body(1), 1_600, "bytes", _REDIS_7),
)


def judged(results: Results) -> list[dict[str, Any]]:
    """Every aim with its figure and verdict, in one fixed order."""
    return [asdict(verdict) for verdict in _verdicts(results)]


def _verdicts(results: Results) -> Iterator[Verdict]:
    server = str(results["machine"]["server"])
    for aim in AIMS:
        figure = aim.figure(results)
        said = _said(figure, aim.limit) if server.startswith(aim.server) else f"open: the aim is for {aim.server}"
        yield Verdict(aim.text, figure, aim.limit, aim.unit, said)
    crowd = results["crowd"]
    figure, many = float(crowd["preserve"]["server_ratio"]), int(crowd["many"])
    said = _said(figure, 1.3) if many >= MANY_CONTEXTS else f"open: the aim is for {MANY_CONTEXTS:,} (--full)"
    yield Verdict(f"server time of preserve at {many:,} contexts, to that at {crowd['few']:,}", figure, 1.3, "x", said)


def _said(figure: float, limit: float) -> str:
    return "met" if figure <= limit else "missed"
