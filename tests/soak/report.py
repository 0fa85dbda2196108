"""The report of a soak: versions, parameters, verdicts, samples.

What belongs here: the form of the report. What does not: any judgement.
Invariant: whoever reads it can run the same soak again.
"""

from __future__ import annotations

import csv
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from lukhas_redis.testing import ServerBinary
from tests.soak.plan import Load
from tests.soak.sampling import Sample
from tests.soak.verdicts import Verdict

_ROWS = 30
_MEMORY = ("used_memory", "veteran_rss", "largest_rss")


def write(
    folder: Path,
    binary: ServerBinary,
    load: Load,
    samples: Sequence[Sample],
    verdicts: Sequence[Verdict],
    *,
    holds: int,
) -> Path:
    """Write the report and all samples; the report's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"soak-{binary.id}.md"
    path.write_text("\n".join(_lines(binary, load, samples, verdicts, holds)) + "\n", encoding="utf-8")
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([one.name for one in fields(Sample)])
        writer.writerows(asdict(sample).values() for sample in samples)
    return path


def summary(verdicts: Sequence[Verdict]) -> str:
    """One line for each verdict."""
    width = max(len(one.name) for one in verdicts)
    return "\n".join(f"{'ok  ' if one.holds else 'FAIL'} {one.name:{width}}  {one.found}" for one in verdicts)


def _lines(
    binary: ServerBinary, load: Load, samples: Sequence[Sample], verdicts: Sequence[Verdict], holds: int
) -> Iterator[str]:
    failed = [one.name for one in verdicts if not one.holds]
    yield f"# Soak on {binary.id}: {'failed: ' + ', '.join(failed) if failed else 'passed'}\n"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("lukhas-redis", "redis", "hiredis"))
    python, now = platform.python_version(), datetime.now(UTC)
    yield f"{now:%Y-%m-%d %H:%M} UTC, Python {python}, {libraries}, {platform.platform()}\n"
    yield from _figures(load, samples, holds)
    yield "\n## Verdicts\n\n| verdict | holds | found |\n|---|---|---|"
    for one in verdicts:
        yield f"| {one.name} | {'yes' if one.holds else '**no**'} | {one.found.replace('|', '/')} |"
    yield "\n## Parameters\n"
    yield from (f"- {name}: {value}" for name, value in {**load.model_dump(), **load.settings}.items())
    yield f"\n## Samples ({len(samples)} taken, thinned)\n"
    yield from _table(samples)


def _figures(load: Load, samples: Sequence[Sample], holds: int) -> Iterator[str]:
    if not samples:
        return
    last, oldest = samples[-1], max(one.oldest_ms for one in samples) / 1000
    yield (
        f"{last.emitted} events on the streams and {last.done} done in {last.at:.0f} s "
        f"({last.done / max(last.at, 1):.0f} a second), {last.kills} kills, {last.replies_lost} replies lost, "
        f"oldest unfinished event {oldest:.1f} s, producers held back {holds} times. Seed {load.seed}."
    )


def _table(samples: Sequence[Sample]) -> Iterator[str]:
    names = [one.name for one in fields(Sample)]
    yield "| " + " | ".join(f"{name} MB" if name in _MEMORY else name for name in names) + " |"
    yield "|" + "---|" * len(names)
    step = max(1, -(-len(samples) // _ROWS))
    for sample in samples[::step]:
        row = asdict(sample)
        yield (
            "| "
            + " | ".join(f"{row[name] / 1_048_576:.2f}" if name in _MEMORY else str(row[name]) for name in names)
            + " |"
        )
