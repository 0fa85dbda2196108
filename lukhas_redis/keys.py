"""Every Redis key name, the hash tag it carries, and the rules for the ids inside it.

What belongs here: the only place that formats a key, validation of ids, the shard of a context, slots.
What does not: what the keys hold (see `lua/` and DESIGN section 2).
Invariant: two different (tenant, id) pairs never share a key, and all keys of one shard share one hash tag.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
import uuid
from dataclasses import dataclass
from functools import cached_property, lru_cache
from urllib.parse import quote

from lukhas_redis.errors import InvalidId

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
MAX_SESSION_BYTES = 256
MAX_SHARDS = 1024


def valid_name(value: object, what: str) -> str:
    """Return `value` when it is a name (`[A-Za-z0-9_.-]{1,64}`), as tenants, groups, providers and types are.

    Raises:
        InvalidId: It is not; nothing was sent. A retry cannot help.
    """
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise InvalidId(f"{what} {value!r:.80} is not a name: 1 to 64 of A-Z a-z 0-9 _ . -", what=what)


def valid_tenant(value: object) -> str:
    """Return `value` when it is a tenant name.

    Raises:
        InvalidId: It is not; nothing was sent. A retry cannot help.
    """
    return valid_name(value, "tenant")


@lru_cache(maxsize=4096)
def _known_context_id(value: str) -> bool:
    return bool(_UUID4.fullmatch(value))


def valid_context_id(value: object) -> str:
    """Return `value` as the canonical text of a UUID v4; `uuid.UUID` and upper case are accepted.

    Version 4 because the first 16 bits choose the shard: the time in a UUID v1 or v7 would fill one shard.

    Raises:
        InvalidId: It is no UUID v4; nothing was sent. A retry cannot help.
    """
    text = str(value).lower() if isinstance(value, str | uuid.UUID) else ""
    if _known_context_id(text):
        return text
    raise InvalidId(f"context_id {value!r:.80} is not a UUID v4 such as 1b4e28ba-2fa1-4d2b-883f-0016d3cca427")


def valid_session(value: object) -> str:
    """Return `value` when it is a session id: 1 to 256 bytes of UTF-8 in NFC, without control characters.

    Raises:
        InvalidId: It is not; nothing was sent. A retry cannot help.
    """
    if not isinstance(value, str):
        raise InvalidId(f"session_id {value!r:.80} is not text")
    return _checked_session(value)


@lru_cache(maxsize=4096)
def _checked_session(value: str) -> str:
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidId(f"session_id {value!r:.80} holds a lone surrogate") from None
    if not 1 <= size <= MAX_SESSION_BYTES:
        raise InvalidId(f"session_id has {size} bytes of UTF-8; 1 to {MAX_SESSION_BYTES} are allowed")
    if any(unicodedata.category(c) == "Cc" for c in value):
        raise InvalidId(f"session_id {value!r:.80} holds a control character")
    if not unicodedata.is_normalized("NFC", value):
        raise InvalidId(f"session_id {value!r:.80} is not in Unicode normal form C")
    return value


def valid_request_id(value: object) -> str:
    """Return `value` when it can name a request (a name as `valid_name` says).

    Raises:
        InvalidId: It is not; nothing was sent. A retry cannot help.
    """
    return valid_name(value, "request_id")


@lru_cache(maxsize=4096)
def session_bits(session_id: str) -> str:
    """The four hex digits that every id minted for a session starts with, so that they share a shard."""
    return hashlib.sha256(session_id.encode("utf-8")).hexdigest()[:4]


def mint_context_id(session_id: str, random_hex: str) -> str:
    """A UUID v4 whose first 16 bits come from the session; `random_hex` is 32 hex digits of randomness."""
    text = session_bits(session_id) + random_hex[4:]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{'89ab'[int(text[16], 16) & 3]}{text[17:20]}-{text[20:]}"


def shard_of(context_id: str, shards: int) -> int:
    """The shard a context lives on: the first 16 bits of its id, modulo the tenant's number of shards."""
    return int(context_id[:4], 16) % shards if shards > 1 else 0


@dataclass(frozen=True)
class ShardKeys:
    """The keys of one shard of one tenant. `base` is everything up to the name of the key."""

    base: str

    @cached_property
    def tag(self) -> str:
        """The hash tag without braces: what Redis Cluster hashes."""
        return self.base[self.base.index("{") + 1 : self.base.index("}")]

    def __getattr__(self, name: str) -> str:
        """Keys of the shard as a whole are built once, on first use."""
        if name not in SHARD_KEYS:
            raise AttributeError(name)
        key = self.base + name
        self.__dict__[name] = key
        return key

    def ctx(self, context_id: str) -> str:
        """Hash: the metadata of a context."""
        return f"{self.base}ctx:{context_id}"

    def body(self, context_id: str) -> str:
        """String: the stored bytes of a context."""
        return f"{self.base}body:{context_id}"

    def segs(self, context_id: str) -> str:
        """List: what was appended to a context since its body was written."""
        return f"{self.base}segs:{context_id}"

    def hops(self, context_id: str) -> str:
        """List: the last 32 handoffs of a context."""
        return f"{self.base}hops:{context_id}"

    def log(self, context_id: str) -> str:
        """List: the last lifecycle transitions of a context."""
        return f"{self.base}log:{context_id}"

    def session(self, session_id: str) -> str:
        """Sorted set: the contexts of a session by deadline; percent-encoding keeps it injective."""
        return f"{self.base}session:{quote(session_id, safe='')}"

    def request(self, request_id: str) -> str:
        """String: the first answer given to a request id."""
        return f"{self.base}req:{request_id}"

    def stage(self, token: str) -> str:
        """String: a large payload on its way in; `token` is random per call."""
        return f"{self.base}stage:{token}"

    def bus(self, part: str) -> str:
        """One part of the bus: the stream of a priority, `later`, `due`, `dead`, `wake` or `groups`."""
        return f"{self.base}bus:{part}"

    def group(self, group: str, part: str = "") -> str:
        """What a consumer group keeps: its hash, or with `part` what it holds, parks or is busy with."""
        return f"{self.base}group:{group}:{part}" if part else f"{self.base}group:{group}"


SHARD_KEYS = frozenset({"index", "order", "sizes", "usage", "tombs", "events", "flags", "audit", "shard"})


@dataclass(frozen=True)
class KeySpace:
    """The keys of one tenant under one prefix."""

    prefix: str
    tenant: str

    def __post_init__(self) -> None:
        valid_name(self.prefix, "prefix")
        valid_tenant(self.tenant)

    @cached_property
    def root(self) -> ShardKeys:
        """The shard that always exists: it records how many shards the tenant has."""
        return ShardKeys(f"{self.prefix}:{{{self.tenant}}}:")

    @cached_property
    def help(self) -> str:
        """String: explains the keys to whoever opens redis-cli."""
        return f"{self.prefix}:help"

    def shards(self, count: int) -> tuple[ShardKeys, ...]:
        """The shards that hold contexts; a tenant with one shard keeps everything on its root."""
        return self._many[count] if count in self._many else self._build(count)

    @cached_property
    def _many(self) -> dict[int, tuple[ShardKeys, ...]]:
        return {1: (self.root,)}

    def _build(self, count: int) -> tuple[ShardKeys, ...]:
        made = tuple(ShardKeys(f"{self.prefix}:{{{self.tenant}/{k}}}:") for k in range(count))
        self._many[count] = made
        return made
