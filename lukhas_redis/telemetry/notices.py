"""Log lines that an operator should see even without metrics: damage, a lost server, contexts that do not shrink.

What belongs here: deciding that something is worth a line, and the line. What does not: metrics (`recorder`).
Invariant: no context data is logged; poor compression is said once per context type and process.
"""

from __future__ import annotations

import logging
from typing import TypeGuard

from lukhas_redis.errors import ContextCorrupted, WrongKeyType
from lukhas_redis.models import Preserved
from lukhas_redis.settings import Settings

LOG = logging.getLogger("lukhas_redis")
LARGE_BYTES = 1_048_576
_MOST_TYPES = 1000
_reported: set[str] = set()


def is_corruption(error: BaseException) -> TypeGuard[ContextCorrupted]:
    """Whether stored bytes failed verification; a key of another type is somebody else's data, not damaged data."""
    return isinstance(error, ContextCorrupted) and not isinstance(error, WrongKeyType)


def shrinks_poorly(result: Preserved, settings: Settings) -> bool:
    """Whether a context over 1 MB shrank by less than `required_compression_ratio`."""
    return result.raw_bytes > LARGE_BYTES and 1 - result.compression_ratio < settings.required_compression_ratio


def warn_of_poor_compression(result: Preserved, settings: Settings) -> None:
    """Say once per context type that its large contexts do not shrink."""
    kind = result.context_type
    if kind in _reported or len(_reported) >= _MOST_TYPES:
        return
    _reported.add(kind)
    LOG.warning(
        "a %s context of %d bytes was stored with compression ratio %.2f, over %.2f (required_compression_ratio %s); "
        "further ones of this type are counted only",
        kind,
        result.raw_bytes,
        result.compression_ratio,
        1 - settings.required_compression_ratio,
        settings.required_compression_ratio,
    )


def warn_of_corruption(operation: str, tenant: str, error: ContextCorrupted) -> None:
    """Say that stored bytes cannot be trusted."""
    LOG.warning("%s in tenant %s met damaged data, kept for inspection: %s", operation, tenant, error.message)


def warn_of_reset(tenant: str, times: int) -> None:
    """Say that the server came back without its data."""
    LOG.warning("the server came back without the data of tenant %s (%d more since the last call)", tenant, times)
