"""Results as files, and `docs/performance.md` made from them.

What belongs here: naming, writing, finding and reading results; the part of the document between its marks. What does
not: the prose around it. Invariant: no figure in the document was typed by hand, and none comes from a quick run or
from one of some parts: all figures of a server are of one run.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.aims import Results
from benchmarks.places import ROOT
from benchmarks.tables import heading, markdown, tables

RESULTS = ROOT / "benchmarks" / "results"
DOCUMENT = ROOT / "docs" / "performance.md"
_MARKS = re.compile(r"(<!-- results -->).*?(<!-- /results -->)", flags=re.DOTALL)
_NOTHING = "No results are kept yet."


def keep(results: Results, folder: Path) -> Path:
    """Write the results of one server to `<date>-<server>.json` in `folder`.

    A quick run's name ends in `-quick`, before that stands `-only-` with the parts of a run of some parts.
    """
    machine = results["machine"]
    quick = "-quick" if machine["plan"] == "quick" else ""
    some = "-only-" + "-".join(machine["only"]) if machine.get("only") else ""
    path = folder / f"{machine['date'][:10]}-{machine['server']}{some}{quick}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return path


def newest(folder: Path) -> list[Results]:
    """The latest results of each server that are no quick look and of all parts, in the order of the servers' names."""
    found: dict[str, Results] = {}
    for path in sorted(folder.glob("*.json")):
        results: Results = json.loads(path.read_text(encoding="utf-8"))
        machine = results["machine"]
        known = found.get(machine["server"])
        complete = machine["plan"] != "quick" and not machine.get("only")
        if complete and (known is None or known["machine"]["date"] < machine["date"]):
            found[machine["server"]] = results
    return [found[server] for server in sorted(found)]


def with_results(text: str, kept: list[Results]) -> str:
    """The document `text` with what stands between its marks made anew from `kept`."""
    parts = [_section(results) for results in kept] or [_NOTHING]
    return _MARKS.sub(lambda found: "\n\n".join([found[1], *parts, found[2]]), text)


def update_document(folder: Path, document: Path = DOCUMENT) -> None:
    """Bring the document up to date with the results in `folder`."""
    text = document.read_text(encoding="utf-8")
    document.write_text(with_results(text, newest(folder)), encoding="utf-8")


def _section(results: Results) -> str:
    title = f"### {results['machine']['server']}"
    return "\n\n".join([title, heading(results), *(markdown(table) for table in tables(results))])
