"""One agent of the pipeline: a process that handles the events of its stage.

What belongs here: what an agent does with an event. What does not: starting and killing agents (`pipeline`).
Invariant: an agent's message, the handoff to the next one and the event for it are committed with the end of its own
event, so that an agent killed in the middle has done nothing, and whoever takes over does it once.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from lukhas_redis.bus import AsyncContextBus, BusEvent, Transaction
from lukhas_redis.demo.plan import demo_settings

STAGES = ("planner", "researcher", "writer")
HOLD_SECONDS = 0.5
_WATCH_SECONDS = 0.2


@dataclass(frozen=True)
class AgentPlan:
    """An agent's orders: its stage, and the file it writes when it begins the event it is to be killed in (or "")."""

    url: str
    tenant: str
    stage: str
    stuck_at: str
    parent: int

    def to_json(self) -> str:
        """The plan as text; it goes through standard input, as its URL may hold a password."""
        return json.dumps(asdict(self))


class Agent:
    """The handler of one stage."""

    def __init__(self, plan: AgentPlan) -> None:
        self.plan = plan

    async def handle(self, event: BusEvent, tx: Transaction) -> None:
        """Add this stage's message, hand the context on, tell the next stage."""
        cid, stage = event.payload["context_id"], self.plan.stage
        following = STAGES[STAGES.index(stage) + 1 :]
        tx.append(
            cid, "/messages", [{"role": stage, "content": f"{stage} for {event.payload['task']}", "by": os.getpid()}]
        )
        tx.handoff(cid, stage, following[0] if following else "reader")
        tx.emit(f"draft.{following[0]}" if following else "draft.done", event.payload)
        if self.plan.stuck_at:
            await asyncio.to_thread(Path(self.plan.stuck_at).write_text, event.event_id, encoding="utf-8")
            await asyncio.sleep(3600)  # the kill -9 comes here


async def work(plan: AgentPlan) -> None:
    """Handle events until told to end, or until the demo is gone."""
    settings = demo_settings(plan.url, plan.tenant)
    async with AsyncContextBus.connect(settings.url, tenant=plan.tenant, settings=settings) as bus:
        bus.subscribe(
            f"draft.{plan.stage}", Agent(plan).handle, group=plan.stage, concurrency=1, hold_seconds=HOLD_SECONDS
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, bus.stop)
        watch = asyncio.create_task(_watch(plan.parent, bus))
        await bus.run(grace_seconds=1.0)
        watch.cancel()


async def _watch(parent: int, bus: AsyncContextBus) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110 - nobody tells a process that its parent is gone
        await asyncio.sleep(_WATCH_SECONDS)
    bus.stop()


if __name__ == "__main__":
    asyncio.run(work(AgentPlan(**json.loads(sys.stdin.read()))))
