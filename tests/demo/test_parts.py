"""Conversations, percentiles, the screen."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from lukhas_redis.demo.board import Board
from lukhas_redis.demo.conversations import SHIPPED, find_conversations, read_conversation
from lukhas_redis.demo.report import latencies, percentile
from lukhas_redis.demo.screen import Screen
from lukhas_redis.models import Event


class Terminal(io.StringIO):
    """Text that goes to a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def test_the_shipped_conversation_is_a_real_size() -> None:
    """Without recorded runs there is one of 60 to 120 kB, dozens of turns, each call with its result."""
    (shipped,) = find_conversations(Path("/nowhere"))
    assert 60_000 < shipped.path.stat().st_size < 120_000
    assert shipped.turns > 40
    asked = [call["id"] for message in shipped.messages for call in message.get("tool_calls", ())]
    answered = [message["tool_call_id"] for message in shipped.messages if message["role"] == "tool"]
    assert asked == answered


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"history": [1, 2, 3]}', '{"history": [{}, {}]}', "\xff"])
def test_a_file_that_is_no_run_is_refused_by_name(tmp_path: Path, text: str) -> None:
    """Whatever else a file holds, the error is one that the search steps over, and the shipped run is used."""
    path = tmp_path / "odd.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r".+"):
        read_conversation(path)
    assert [run.path.parent for run in find_conversations(tmp_path)] == [SHIPPED]


def test_the_longest_run_comes_first(tmp_path: Path) -> None:
    """Recorded runs are sorted by their turns, so that the longest are the ones used twice."""
    for name, count in (("a", 4), ("b", 9)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"history": [{}] * count}), encoding="utf-8")
    assert [(run.name, run.turns) for run in find_conversations(tmp_path)] == [("b", 7), ("a", 2)]


def test_percentiles_are_by_nearest_rank() -> None:
    """Of 1..100 the median is 50 and p99 is 99; of one sample everything is that sample; of none 0."""
    hundred = [float(number) for number in range(1, 101)]
    assert (percentile(hundred, 0.5), percentile(hundred, 0.99), percentile(hundred, 1.0)) == (50, 99, 100)
    assert (percentile([7.0], 0.5), percentile([7.0], 0.99), percentile([], 0.5)) == (7, 7, 0)


def test_a_target_is_missed_when_it_is_exceeded_or_nothing_was_measured() -> None:
    """Samples of all workers count together; slow ones miss their target, and so do missing ones."""
    reports = {
        "one": {"samples": {"preserve": [1.0] * 50, "restore": [], "handoff": [1.0] * 98}},
        "two": {"samples": {"preserve": [300.0] * 50, "restore": [], "handoff": [501.0] * 2}},
    }
    found = {one.operation: one for one in latencies(reports)}
    assert (found["preserve"].count, found["preserve"].p50_ms, found["preserve"].met) == (100, 1.0, False)
    assert (found["restore"].count, found["restore"].met) == (0, False)
    assert (found["handoff"].p50_ms, found["handoff"].p99_ms, found["handoff"].met) == (1.0, 501.0, False)


def test_a_terminal_gets_a_live_line_that_is_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal progress is drawn in place and gone before the next line."""
    monkeypatch.setenv("TERM", "xterm")
    out, live = Terminal(), Terminal()
    screen = Screen(out, live)
    screen.progress(5, 10, "half")
    screen.line("next")
    assert "[##########..........] half" in live.getvalue()
    assert live.getvalue().endswith("\r\x1b[2K")
    assert out.getvalue() == "next\n"


@pytest.mark.parametrize("name, value", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_are_left_out_where_they_are_unwelcome(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """With NO_COLOR or a dumb terminal text stays as it is; otherwise it is styled."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert Screen(Terminal(), Terminal()).styled("word", "good") == "\x1b[32mword\x1b[0m"
    monkeypatch.setenv(name, value)
    assert Screen(Terminal(), Terminal()).styled("word", "good") == "word"


def test_a_board_never_goes_back() -> None:
    """An older event changes nothing, a newer one restarts the clock of its context."""
    board = Board()
    board.note([Event("1-0", "context.preserve", "a", 3)], now=10.0)
    board.note([Event("2-0", "context.handoff", "a", 2)], now=20.0)
    assert (board.version("a"), board.still_for("a", 21.0), board.after) == (3, 11.0, "2-0")
    board.note([Event("3-0", "context.handoff", "a", 4)], now=22.0)
    assert (board.version("a"), board.still_for("a", 22.5), board.version("b")) == (4, 0.5, 0)
