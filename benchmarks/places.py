"""Where things run: servers of our own, a CPU for them and another for the client, and the machine's name.

What belongs here: starting, pinning, describing. What does not: measuring.
Invariant: the client may use every CPU again after `pinned` is left; every server listens on the loopback interface
only and ends with this process.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer, ServerBinary, start_server

_PACKAGES = ("lukhas-redis", "redis", "hiredis", "msgpack", "lz4", "pydantic", "prometheus-client")
ROOT = Path(__file__).parents[1]


def bench_settings(**others: Any) -> Settings:
    """The default settings without the limits that would stop a benchmark (throughput and number of contexts)."""
    return Settings.load(max_context_throughput_mbps=0, max_memory_store_entries=100_000_000, **others)


@contextmanager
def pinned(wanted: bool) -> Generator[tuple[int, int] | None]:
    """Keep this process on one CPU and yield (its CPU, the servers'); None where that cannot be done."""
    allowed = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    if not wanted or len(allowed) < 2:
        yield None
        return
    os.sched_setaffinity(0, {allowed[1]})
    try:
        yield allowed[1], allowed[0]
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def running(binary: ServerBinary, cpus: tuple[int, int] | None) -> Generator[RunningServer]:
    """An empty server, all its threads on the second of `cpus`."""
    with start_server(binary) as server:
        if cpus is not None and sys.platform == "linux":
            for thread in Path(f"/proc/{server.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {cpus[1]})
        yield server


def facts(server: RunningServer, plan: str, command: str, cpus: tuple[int, int] | None) -> dict[str, Any]:
    """What somebody needs to know to judge or repeat the figures."""
    info = server.info("server")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "plan": plan,
        "server": server.id,
        "flavor": server.flavor,
        "allocator": server.info("memory").get("mem_allocator", ""),
        "server_os": info.get("os", ""),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: version(name) for name in _PACKAGES},
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "pinned": None if cpus is None else {"client": cpus[0], "server": cpus[1]},
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "settings": {name: value for name, (value, origin) in bench_settings().origin().items() if origin != "default"},
    }


def _cpu_model() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    """The commit that was measured, with a + when files differ from it; empty outside a checkout."""
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return answer.stdout.strip()
