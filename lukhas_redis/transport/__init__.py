"""Between operations and servers: what is sent where, retried until when, and what a failure means.

What belongs here: the pure half (`outcome`, `units`, `routes`, `inspection`, `engine`, `conduct`), which yields steps,
and the two shells (`sync`, `aio`), which carry them out on connections that redis-py opens. What does not: scripts and
their arguments (`ops`), or the meaning of a refusal.
Invariant: nothing decides in a shell; both shells therefore do the same.
"""

from lukhas_redis.transport.aio import AsyncTransport
from lukhas_redis.transport.sync import SyncTransport
from lukhas_redis.transport.world import ServerInfo

__all__ = ["AsyncTransport", "ServerInfo", "SyncTransport"]
