"""Every error a caller can meet, as one tree, and the one table that says how each is treated.

What belongs here: exception classes, their stable `code`, whether a retry may help, and the HTTP status and
CLI exit code each maps to. What does not: deciding which error a failure is (see `transport.outcome`).
Invariant: the message of every error names what was refused, where, and the limit or the next step.
"""

from __future__ import annotations

from typing import Any, ClassVar


class LukhasRedisError(Exception):
    """Base of all errors raised by this package.

    `code` is stable and safe to match on; `retryable` says whether the same call may succeed later;
    `fields` holds the structured facts that the message was made from.
    """

    code: ClassVar[str] = "INTERNAL_ERROR"
    retryable: ClassVar[bool] = False
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fields: dict[str, Any] = fields

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the fields when the error crosses a process boundary."""
        return (_rebuild, (type(self), self.message, self.fields))


def _rebuild(cls: type[LukhasRedisError], message: str, fields: dict[str, Any]) -> LukhasRedisError:
    return cls(message, **fields)


# -- the caller's mistakes: nothing was sent ---------------------------------------------------------------


class InvalidArgument(LukhasRedisError):
    """An argument has a wrong type or lies outside its range; nothing was sent."""

    code = "INVALID_CONTEXT"
    http_status = 400
    exit_code = 2


class InvalidId(InvalidArgument):
    """An id, tenant, session or provider name is malformed; nothing was sent."""


class InvalidPath(InvalidArgument):
    """The path leads to no list in the data, or is no path; nothing was changed; `fields["path"]` is its pointer."""


class SerializationError(LukhasRedisError):
    """The data cannot be stored as it is; `fields["path"]` says where inside it; nothing was sent."""

    code = "SERIALIZATION_ERROR"
    http_status = 400
    exit_code = 2


class ContextTooLarge(LukhasRedisError):
    """The serialized data is over the size limit; nothing was sent."""

    code = "CONTEXT_TOO_LARGE"
    http_status = 413
    exit_code = 2


class PayloadTooLarge(ContextTooLarge):
    """An event's serialized payload is over the limit; nothing was changed. Preserve a context and emit its id."""

    code = "PAYLOAD_TOO_LARGE"


# -- absence, with its reason ------------------------------------------------------------------------------


class ContextNotFound(LukhasRedisError):
    """No context has this id, and nothing is remembered of one."""

    code = "CONTEXT_NOT_FOUND"
    http_status = 404
    exit_code = 3


class ContextExpired(ContextNotFound):
    """The context reached its deadline."""

    code = "CONTEXT_EXPIRED"


class GroupNotFound(LukhasRedisError):
    """The bus has no consumer group of this name; nothing was changed."""

    code = "GROUP_NOT_FOUND"
    http_status = 404
    exit_code = 3


class ContextDropped(ContextNotFound):
    """The context was removed by `drop`."""

    code = "CONTEXT_DROPPED"


class ContextEvicted(ContextNotFound):
    """The context was removed to make room in a full tenant."""

    code = "CONTEXT_EVICTED"


class ContextLost(ContextNotFound):
    """The context should still be there and is not: deleted by hand, or the server lost data."""

    code = "CONTEXT_LOST"


# -- somebody else was first -------------------------------------------------------------------------------


class VersionConflict(LukhasRedisError):
    """`if_version` (or the expected owner) does not match; nothing was changed."""

    code = "CONTEXT_CONFLICT"
    http_status = 412
    exit_code = 4


class OwnerConflict(VersionConflict):
    """The context belongs to another provider than the one that handed it off; nothing was changed."""

    code = "OWNER_CONFLICT"
    http_status = 409


class SessionConflict(VersionConflict):
    """A context with this id exists in another session; nothing was changed."""

    code = "CONTEXT_CONFLICT"
    http_status = 409


class LeaseHeld(VersionConflict):
    """Somebody holds the context: `fields` has `owner` and `until_ms`; nothing was changed. Retry after that."""

    code = "LEASE_HELD"
    http_status = 409


class LeaseLost(VersionConflict):
    """The fencing token is not, or no longer, the live one; nothing was changed. Lease again and read again."""

    code = "LEASE_LOST"
    http_status = 409


class DeliveryLost(LukhasRedisError):
    """The event was taken over by another worker, or finished; nothing that belonged to this delivery was written."""

    code = "DELIVERY_LOST"
    http_status = 409
    exit_code = 4


class GroupPending(LukhasRedisError):
    """The consumer group has not finished everything: `fields["unfinished"]`; nothing was changed."""

    code = "GROUP_PENDING"
    http_status = 409
    exit_code = 4


class RequestReused(LukhasRedisError):
    """The request id was used before with other arguments; nothing was changed."""

    code = "REQUEST_REUSED"
    http_status = 422
    exit_code = 4


# -- refused for now ---------------------------------------------------------------------------------------


class StoreFull(LukhasRedisError):
    """The tenant is at its limit and its policy is to refuse (or nothing can be evicted); nothing was changed."""

    code = "CONTEXT_STORE_FULL"
    retryable = True
    http_status = 507


class Backlog(StoreFull):
    """A stream of the bus is full of events that not every group has finished; nothing was changed. Emit later."""

    code = "BUS_FULL"


class Throttled(LukhasRedisError):
    """The tenant's throughput limit is reached; `fields["retry_after_ms"]` says when to try again."""

    code = "RATE_LIMITED"
    retryable = True
    http_status = 429


class TenantPaused(LukhasRedisError):
    """The tenant is paused: writes are refused, reads and drop work."""

    code = "PAUSED"
    retryable = True
    http_status = 503


# -- stored bytes that cannot be trusted -------------------------------------------------------------------


class ContextCorrupted(LukhasRedisError):
    """What is stored fails a checksum or cannot be decoded; it was kept for inspection."""


class WrongKeyType(ContextCorrupted):
    """One of our keys holds another Redis type than ours; nothing was changed."""


class UnsupportedFormat(LukhasRedisError):
    """The data was written by a newer release in a format this one does not know; it was left alone."""


# -- the server --------------------------------------------------------------------------------------------


class Unavailable(LukhasRedisError):
    """The server could not take the call; it was surely not applied."""

    retryable = True
    http_status = 503
    exit_code = 5


class OutOfMemory(Unavailable):
    """The server is at `maxmemory` and refuses writes; nothing was changed. Reads, drop and sweep still work."""


class OutcomeUnknown(LukhasRedisError):
    """The call may or may not have been applied; repeating it with `fields["request_id"]` is safe."""

    retryable = True
    http_status = 503
    exit_code = 5


class DurabilityUnknown(OutcomeUnknown):
    """The write was applied, but the durability asked for was not confirmed in time."""


class AccessDenied(LukhasRedisError):
    """The server refused the credentials, or they lack a right this call needs."""

    exit_code = 6


class ServerUnsuitable(LukhasRedisError):
    """The server's version or configuration cannot keep this store's promises; the message names the setting."""

    exit_code = 6
