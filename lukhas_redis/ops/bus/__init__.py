"""The operations of the bus, one module a subject.

What belongs here: what a client or worker of the bus asks of Redis. What does not: when it asks (`bus`), any rule
(`lua`). Invariant: as for all of `ops`, no I/O.
"""

from lukhas_redis.ops.bus.deliveries import ack, claim, give_back, hold
from lukhas_redis.ops.bus.emission import emit
from lukhas_redis.ops.bus.groups import groups, join, leave, listen, pass_on, retire, trim
from lukhas_redis.ops.bus.history import history, peek, pending, positions, replay
from lukhas_redis.ops.bus.letters import dead_letters, discard, redrive
from lukhas_redis.ops.bus.status import status
from lukhas_redis.ops.bus.transaction import commit, outbox

__all__ = [
    "ack",
    "claim",
    "commit",
    "dead_letters",
    "discard",
    "emit",
    "give_back",
    "groups",
    "history",
    "hold",
    "join",
    "leave",
    "listen",
    "outbox",
    "pass_on",
    "peek",
    "pending",
    "positions",
    "redrive",
    "replay",
    "retire",
    "status",
    "trim",
]
