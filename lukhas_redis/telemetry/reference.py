"""The table of `docs/metrics.md`, made from the catalog. Run with a path to bring that file up to date.

What belongs here: turning the catalog into Markdown. What does not: the prose around the table.
Invariant: the table says what is exposed, because both are made from the catalog.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from lukhas_redis.telemetry.catalog import CATALOG, Measure


def metrics_table() -> str:
    """Return the Markdown table of every metric."""
    rows = [["metric", "kind", "labels", "buckets (s)", "moved by"], ["---"] * 5, *(_row(m) for m in CATALOG)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def with_table(text: str) -> str:
    """Return the document `text` with what stands between its table marks made anew."""
    return re.sub(
        r"(<!-- metrics -->).*?(<!-- /metrics -->)",
        lambda found: f"{found[1]}\n{metrics_table()}\n{found[2]}",
        text,
        flags=re.DOTALL,
    )


def _row(measure: Measure) -> list[str]:
    labels = ", ".join(f"`{label}`" for label in measure.labels)
    buckets = " ".join(f"{bound:g}" for bound in measure.buckets)
    return [f"`{measure.name}`", measure.kind, labels, buckets, measure.moved_by]


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(with_table(document.read_text(encoding="utf-8")), encoding="utf-8")
