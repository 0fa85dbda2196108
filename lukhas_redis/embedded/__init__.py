"""A server without installing one: the `embedded` extra's Valkey, started on demand and shared by a user's processes.

What belongs here: `ensure`, `stop`, `status`. What does not: connecting to it as a store. Invariant: at most one server
per user, state directory and name.
"""

from lukhas_redis.embedded.service import EmbeddedServer, ensure, ensure_async, status, stop

__all__ = ["EmbeddedServer", "ensure", "ensure_async", "status", "stop"]
