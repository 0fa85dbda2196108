"""A process of a soak: a worker, a producer, or the store's traffic. Started by `crew`.

What belongs here: its start. What does not: what it does (`handling`, `producing`, `traffic`).
Invariant: it leaves a note that it has ended only when it has done what it was for.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

from pydantic import BaseModel

from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.settings import Settings
from tests.faults.bus_worker import Notes
from tests.soak.handling import work
from tests.soak.plan import Load
from tests.soak.producing import Producer
from tests.soak.traffic import traffic


class Task(BaseModel):
    """What a process is told. `number`: which of its role it is; `home`: where notes are left."""

    role: str
    number: int
    url: str
    tenant: str
    home: str
    load: Load


def ended(pid: int) -> str:
    """The note that a process has done what it was for."""
    return f"ended-{pid}"


async def main(task: Task) -> None:
    """Do the task."""
    home, settings = Path(task.home), Settings.load(**task.load.settings)
    async with AsyncContextStore.connect(task.url, tenant=task.tenant, settings=settings) as store:
        if task.role == "work":
            await work(task.load, home, store)
        elif task.role == "produce":
            await Producer(task.load, task.number, home, store).run()
        else:
            await traffic(task.load, task.number, home, store)
    Notes(home).leave(ended(os.getpid()))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(name)s %(levelname)s %(message)s")
    asyncio.run(main(Task.model_validate_json(sys.argv[1])))
