"""The worker processes: started, killed, waited for.

What belongs here: processes and their logs. What does not: what they do (see `worker`).
Invariant: after `end` none of them runs.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from time import monotonic

from lukhas_redis.demo.plan import Plan


class Crew:
    """Workers by provider; their output goes to files in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def pids(self) -> Mapping[str, int]:
        """Process ids by provider."""
        return {provider: process.pid for provider, process in self.processes.items()}

    def start(self, plan: Plan) -> None:
        """Start one worker in a fresh interpreter."""
        with self._log(plan.provider).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "lukhas_redis.demo.worker"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the parent, which ends them in order
            )
        self.processes[plan.provider] = process
        try:
            if process.stdin is not None:
                with process.stdin as pipe:
                    pipe.write(plan.to_json().encode())
        except BrokenPipeError:
            process.wait()  # it could not even start; its exit code and log tell

    def kill(self, provider: str) -> None:
        """`kill -9`, and wait until it is gone."""
        self.processes[provider].send_signal(signal.SIGKILL)
        self.processes[provider].wait()

    def exit_codes(self) -> dict[str, int]:
        """Of those that have ended: the exit code, or minus the signal that ended it."""
        codes = {provider: process.poll() for provider, process in self.processes.items()}
        return {provider: code for provider, code in codes.items() if code is not None}

    def wait(self, seconds: float) -> dict[str, int]:
        """Give all of them `seconds` to end by themselves; the exit codes of those that did."""
        deadline = monotonic() + seconds
        for process in self.processes.values():
            try:
                process.wait(max(0.0, deadline - monotonic()))
            except subprocess.TimeoutExpired:
                continue
        return self.exit_codes()

    def end(self) -> None:
        """Kill whoever still runs."""
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()

    def log(self, provider: str, lines: int = 12) -> str:
        """The end of what a worker has said."""
        text = self._log(provider).read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _log(self, provider: str) -> Path:
        return self.directory / f"worker-{provider}.log"
