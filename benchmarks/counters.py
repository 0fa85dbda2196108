"""What one server has done so far, by its own counters: time by command, CPU, bytes in both directions, memory.

What belongs here: asking `INFO` once for all of it, and the difference of two looks. What does not: what is compared.
Invariant: the bytes of the questions and of their answers are never in the figures, to the byte.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from lukhas_redis.testing import RunningServer

_ASK = ("INFO", "stats", "commandstats", "cpu", "memory")
_REQUEST_BYTES = sum(len(f"${len(word)}\r\n{word}\r\n") for word in _ASK) + len(f"*{len(_ASK)}\r\n")


@dataclass(frozen=True, slots=True)
class Counters:
    """Sums since the server started, or between two looks; `usec` and `calls` are by command.

    A command that a script or EXEC ran is counted under its own name as well as inside of that.
    """

    usec: dict[str, int]
    calls: dict[str, int]
    cpu_us: int
    received: int
    sent: int
    memory: int

    @property
    def wire(self) -> int:
        """Bytes in both directions."""
        return self.received + self.sent

    def us(self, commands: Collection[str]) -> int:
        """Microseconds of these commands."""
        return sum(self.usec.get(name, 0) for name in commands)

    def since(self, before: Counters) -> Counters:
        """What was added after `before`."""
        return Counters(
            _added(self.usec, before.usec),
            _added(self.calls, before.calls),
            self.cpu_us - before.cpu_us,
            self.received - before.received,
            self.sent - before.sent,
            self.memory - before.memory,
        )


class Probe:
    """Looks at one server's counters over a connection of its own, which is opened at the first look."""

    def __init__(self, server: RunningServer) -> None:
        # RESP2: the length of an answer follows from its text.
        self._client = server.client(protocol=2)
        self._client.set_response_callback("INFO", lambda reply, **_: reply)
        self._own_received = self._own_sent = 0

    def look(self) -> Counters:
        """The counters as they stand, without what looking has cost so far.

        The server has counted this question when it answers, and every answer but this one.
        """
        reply: bytes = self._client.execute_command(*_ASK)  # type: ignore[no-untyped-call]
        fields = _fields(reply.decode())
        self._own_received += _REQUEST_BYTES
        commands = {name.removeprefix("cmdstat_"): _sums(text) for name, text in fields.items() if "cmdstat_" in name}
        counters = Counters(
            {name: usec for name, (_, usec) in commands.items()},
            {name: calls for name, (calls, _) in commands.items()},
            round(1e6 * (_number(fields, "used_cpu_user") + _number(fields, "used_cpu_sys"))),
            int(fields["total_net_input_bytes"]) - self._own_received,
            int(fields["total_net_output_bytes"]) - self._own_sent,
            int(fields["used_memory"]),
        )
        self._own_sent += len(f"${len(reply)}\r\n") + len(reply) + len("\r\n")
        return counters


def _fields(text: str) -> dict[str, str]:
    lines = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in lines if name}


def _sums(value: str) -> tuple[int, int]:
    """Calls and microseconds of a command."""
    parts: dict[str, Any] = dict(part.split("=", 1) for part in value.split(","))
    return int(parts["calls"]), int(parts["usec"])


def _added(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    added = {name: value - before.get(name, 0) for name, value in now.items()}
    return {name: value for name, value in added.items() if value}


def _number(fields: dict[str, str], name: str) -> float:
    """CPU seconds of the thread that serves, where the server tells them apart."""
    return float(fields.get(f"{name}_main_thread", fields[name]))
