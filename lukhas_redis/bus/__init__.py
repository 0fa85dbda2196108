"""The bus for workers: subscribing, running handlers, committing what they did.

What belongs here: when what is asked of Redis, and the life of a worker. What does not: any rule of the bus (`lua`),
what a call looks like (`ops.bus`).
Invariant: an event leaves a worker in one of four ways: committed, given back, dead, or taken over by another.
"""

from lukhas_redis.bus.aio import AsyncContextBus
from lukhas_redis.bus.handlers import Reject, Retry
from lukhas_redis.bus.sync import ContextBus
from lukhas_redis.bus.transactions import Transaction
from lukhas_redis.bus_models import BusEvent, DeadLetter, NewEvent

__all__ = ["AsyncContextBus", "BusEvent", "ContextBus", "DeadLetter", "NewEvent", "Reject", "Retry", "Transaction"]
