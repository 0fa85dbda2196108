"""Writing to a terminal, or to whatever stands in its place.

What belongs here: colours, the live line, plain lines where nobody watches. What does not: what is said.
Invariant: without a terminal no control character is written, and with NO_COLOR no colour.
"""

from __future__ import annotations

import os
import shutil
from typing import TextIO

_STYLES = {"bold": "1", "dim": "2", "good": "32", "bad": "31"}
_PLAIN_STEPS = 4


class Screen:
    """Results go to `out`; the live line goes to `live`, as plain lines when that is no terminal."""

    def __init__(self, out: TextIO, live: TextIO, *, quiet: bool = False) -> None:
        self.out = out
        self.live = live
        self.quiet = quiet
        dumb = os.environ.get("TERM") == "dumb"
        self.moving = live.isatty() and not dumb
        self.coloured = out.isatty() and not dumb and not os.environ.get("NO_COLOR")
        self._shown = (0, 0)
        self._drawn = ""

    def styled(self, text: str, style: str) -> str:
        """`text` in a style (bold, dim, good, bad), where colours are welcome."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self.coloured and text else text

    def line(self, text: str = "") -> None:
        """One line of the story; not when only the result is wanted."""
        if not self.quiet:
            self.result(text)

    def result(self, text: str) -> None:
        """One line of the result."""
        self._wipe()
        self.out.write(text + "\n")
        self.out.flush()

    def progress(self, done: int, total: int, text: str) -> None:
        """Show how far it is: in place on a terminal, else a line for every quarter."""
        if self.moving:
            width = max(20, shutil.get_terminal_size().columns) - 1
            filled = round(20 * done / total) if total else 0
            drawn = f"  [{'#' * filled}{'.' * (20 - filled)}] {text}"[:width]
            if drawn != self._drawn:
                self._drawn = drawn
                self.live.write(f"\r\x1b[2K{drawn}")
                self.live.flush()
        elif not self.quiet:
            reached = _PLAIN_STEPS * done // total if total else 0
            if reached and (total, reached) != self._shown:
                self._shown = (total, reached)
                self.live.write(f"  {text}\n")
                self.live.flush()

    def _wipe(self) -> None:
        if self._drawn:
            self._drawn = ""
            self.live.write("\r\x1b[2K")
            self.live.flush()
