"""Free loopback ports for servers.

What belongs here: choosing port numbers. What does not: retrying when one was taken after all (see `servers`).
Invariant: no port is handed out twice by one process. Ports come from below the range that systems use for outgoing
connections, so a server that is down for a moment finds its port free when it is restarted.
"""

from __future__ import annotations

import random
import socket
import threading

HOST = "127.0.0.1"

_LOWEST, _HIGHEST = 10_240, 32_000
_handed_out: set[int] = set()
_lock = threading.Lock()
_random = random.SystemRandom()  # not the seeded generator: parallel test processes would all choose the same


def free_port() -> int:
    """A port on which nothing listened a moment ago and which this process has not used before."""
    with _lock:
        while True:
            port = _random.randrange(_LOWEST, _HIGHEST)
            if port not in _handed_out and _is_free(port):
                _handed_out.add(port)
                return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do; closed connections linger
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
