"""How results look: JSON, tables for people, plain tables for pipes.

What belongs here: printing. What does not: what is printed.
Invariant: text that others wrote (session names, reasons) cannot move the cursor or colour the screen; `rich` is
imported only when stdout is a terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import click

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
_UNITS = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"))


def print_json(document: Any) -> None:
    """One JSON document, indented."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def print_json_line(document: Any) -> None:
    """One JSON document on one line, passed on at once: somebody may be following."""
    click.echo(json.dumps(document, ensure_ascii=False, default=str))
    sys.stdout.flush()


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table; on a terminal fitted to its width, else in columns with every cell whole."""
    cells = [[clean(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty() and _print_rich(head, cells):
        return
    widths = [max(len(line[place]) for line in [head, *cells]) for place in range(len(head))]
    for line in [head, *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Names and values, one a line."""
    pairs = [(name, clean(str(value))) for name, value in facts]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        click.echo(f"{name.ljust(width)}  {value}".rstrip())


def _print_rich(head: Sequence[str], cells: Sequence[Sequence[str]]) -> bool:
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ModuleNotFoundError:
        click.echo("plain tables, because the package rich is missing: pip install 'lukhas_redis[cli]'", err=True)
        return False
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in head:
        # An id that is cut short cannot be copied.
        table.add_column(name, no_wrap=name == "ID", overflow="fold")
    for row in cells:
        table.add_row(*[Text(cell, style=_STYLES.get(cell, "")) for cell in row])
    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    Console(file=sys.stdout, highlight=False, color_system=colours).print(table)
    return True


def clean(text: str) -> str:
    """`text` with everything that is no visible character (escape sequences, line ends) written out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def size(count: int) -> str:
    """Bytes for people: 512 B, 1.5 kB, 10.0 MB."""
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def span(ms: float) -> str:
    """A length of time for people: 12s, 3m 20s, 2h 05m, 3d 04h."""
    seconds = max(0, int(ms / 1000))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m {seconds % 60:02}s"
    if seconds < 86_400:
        return f"{seconds // 3600}h {seconds % 3600 // 60:02}m"
    return f"{seconds // 86_400}d {seconds % 86_400 // 3600:02}h"


def moment(ms: int) -> str:
    """A time of the server's clock in UTC, as in 2026-11-23T05:24:41.123Z."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03}Z"
