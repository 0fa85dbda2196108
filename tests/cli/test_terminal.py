"""On a terminal: tables, colours, questions."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys

import pytest

from lukhas_redis import ContextStore
from lukhas_redis.testing import RunningServer
from tests.cli.running import COMMAND


def on_terminal(program: list[str], answer: str = "", **environment: str) -> tuple[int, str]:
    """Run a program on a terminal; when it asks, type `answer`, ^C as the signal. Its exit code and its screen."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200", **environment}
    process = subprocess.Popen(program, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    try:
        shown = _answered(process, ours, answer)
        return process.wait(timeout=30), shown.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _answered(process: subprocess.Popen[bytes], terminal: int, answer: str) -> bytes:
    """Everything on the screen until the program ends, after answering its question."""
    shown, asked = b"", False
    while True:
        silent = not select.select([terminal], [], [], 2)[0]
        if not silent:
            try:
                shown += os.read(terminal, 65_536)
            except OSError:  # how Linux says that the last one closed it
                return shown
        if b"[y/N]" not in shown or (asked and not silent):
            continue
        if answer == "^C":
            # The terminal is not the program's controlling one, so ^C typed there would be a mere character. A signal
            # between the question and the read is noticed only with the next one.
            process.send_signal(signal.SIGINT)
        elif not asked:
            os.write(terminal, answer.encode())
        asked = True


@pytest.mark.parametrize("colourless", [False, True])
def test_tables_on_a_terminal(server: RunningServer, store: ContextStore, colourless: bool) -> None:
    """On a terminal a table keeps ids whole; `doctor` is coloured unless NO_COLOR is set."""
    kept = store.preserve("s1", {})
    env = {"NO_COLOR": "1"} if colourless else {}
    where = ["--url", server.url, "--tenant", store.tenant]
    _, shown = on_terminal([*COMMAND, "ls", *where], **env)
    assert kept.context_id in shown
    code, shown = on_terminal([*COMMAND, "doctor", *where], **env)
    assert code == 0
    assert ("\x1b[" in shown) is not colourless


def test_without_rich_tables_are_plain(server: RunningServer, store: ContextStore) -> None:
    """On a terminal without rich the table is plain and one line says which package is missing."""
    kept = store.preserve("s1", {})
    words = ["ls", "--url", server.url, "--tenant", store.tenant]
    program = f"import sys; sys.modules['rich'] = None; from lukhas_redis.cli import main; sys.exit(main({words!r}))"
    code, shown = on_terminal([sys.executable, "-c", program])
    assert code == 0
    assert kept.context_id in shown
    assert shown.count("lukhas_redis[cli]") == 1


@pytest.mark.parametrize("answer, code", [("y\n", 0), ("n\n", 2), ("^C", 130)])
def test_rm_asks_on_a_terminal(server: RunningServer, store: ContextStore, answer: str, code: int) -> None:
    """On a terminal `rm` asks: yes drops, no keeps and exits 2, Ctrl-C keeps and exits 130."""
    kept = store.preserve("s1", {})
    words = ["rm", kept.context_id, "--url", server.url, "--tenant", store.tenant]
    found, shown = on_terminal([*COMMAND, *words], answer)
    assert found == code, shown
    assert "Traceback" not in shown
    assert len(list(store.list())) == (0 if code == 0 else 1)
