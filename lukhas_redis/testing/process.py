"""One server process: started, watched, signalled, ended.

What belongs here: operating-system facts (pid, signals, directory, log). What does not: anything of the Redis
protocol (see `servers`). Invariant: a running process is registered with the guard, an ended one is not.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from lukhas_redis.testing.guard import Guard


class ServerProcess:
    """A server program with its directory and log; may be started again after it ended."""

    def __init__(self, command: list[str], directory: Path) -> None:
        self.command = command
        self.directory = directory
        self.log_path = directory / "server.log"
        self.paused = False
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; of the last run when it has ended.

        Raises:
            RuntimeError: it was never started.
        """
        if self._process is None:
            raise RuntimeError(f"{self.command[0]} was never started")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs (a paused one does)."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; does not wait until it serves."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.paused = False
        Guard.current().watch_process(self._process.pid)

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens when it has ended."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def pause(self) -> None:
        """Freeze it: connections stay open, nothing is answered."""
        self.signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        """Let a frozen one go on."""
        self.signal(signal.SIGCONT)
        self.paused = False

    def end(self, number: int, timeout: float = 15.0) -> None:
        """Send `number` and wait until it is gone; after `timeout` seconds it is killed."""
        if self._process is None:
            return
        self.signal(number)
        if self.paused:
            self.resume()  # a frozen process takes no signal but KILL
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        Guard.current().forget_process(self._process.pid)

    def log(self) -> str:
        """Everything it has written so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""


def temporary_directory() -> Path:
    """Make a directory that is removed at the latest when this process is gone."""
    path = Path(tempfile.mkdtemp(prefix="lukhas-"))
    Guard.current().watch_directory(path)
    return path


def remove_directory(path: Path) -> None:
    """Remove what `temporary_directory` made."""
    shutil.rmtree(path, ignore_errors=True)
    Guard.current().forget_directory(path)
