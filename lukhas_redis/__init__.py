"""Atomic shared contexts for AI-agent workers, on Redis or Valkey.

What belongs here: the public names, each imported on first use so that `lukhas --help` stays fast.
What does not: code.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lukhas_redis.aio import AsyncContextStore as AsyncContextStore
    from lukhas_redis.build import build_context as build_context
    from lukhas_redis.errors import LukhasRedisError as LukhasRedisError
    from lukhas_redis.models import Context as Context
    from lukhas_redis.models import Handoff as Handoff
    from lukhas_redis.models import Metadata as Metadata
    from lukhas_redis.models import Preserved as Preserved
    from lukhas_redis.settings import ContextPolicy as ContextPolicy
    from lukhas_redis.settings import Settings as Settings
    from lukhas_redis.store import ContextStore as ContextStore

__version__ = "0.1.0"

_HOME = {
    "AsyncContextStore": "aio",
    "Context": "models",
    "ContextPolicy": "settings",
    "ContextStore": "store",
    "Handoff": "models",
    "LukhasRedisError": "errors",
    "Metadata": "models",
    "Preserved": "models",
    "Settings": "settings",
    "build_context": "build",
}
__all__ = [
    "AsyncContextStore",
    "Context",
    "ContextPolicy",
    "ContextStore",
    "Handoff",
    "LukhasRedisError",
    "Metadata",
    "Preserved",
    "Settings",
    "build_context",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lukhas_redis' has no attribute {name!r}")
    return getattr(import_module(f"lukhas_redis.{_HOME[name]}"), name)
