"""What a handler wants to change: collected while it runs, committed with the end of its delivery.

What belongs here: collecting. What does not: committing (`ops.bus.transaction`), reading (use the store).
Invariant: until the handler has returned nothing of it is anywhere but here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from lukhas_redis import ops
from lukhas_redis.bus_models import BusEvent, NewEvent
from lukhas_redis.calls import Op
from lukhas_redis.errors import InvalidArgument
from lukhas_redis.keys import mint_context_id, valid_context_id, valid_session
from lukhas_redis.ops.bus.transaction import MAX_OPERATIONS
from lukhas_redis.ops.space import Space


class Transaction:
    """Up to 16 changes of contexts and 16 events that are committed with a handler's event, all or nothing.

    Methods have the arguments of the store's. All contexts must be on the event's shard (a tenant with one shard has
    only one): emit the event with their `session_id` or `context_id`. Items and patches must be small (32 kB); paths
    are looked for in the data as it was before the transaction.
    """

    def __init__(self, space: Space, event: BusEvent) -> None:
        self._space = space
        self._event = event
        self._makers: list[Callable[[], Op[Any]]] = []
        self._events: list[NewEvent] = []
        self._reshaped: set[str] = set()
        self._closed = False
        self.results: tuple[Any, ...] = ()

    @property
    def event(self) -> BusEvent:
        """The event that is handled."""
        return self._event

    def append(self, context_id: str, path: str | Sequence[Any], items: Sequence[Any], **options: Any) -> None:
        """Add items to a list of a context, see `AsyncContextStore.append`.

        Raises:
            InvalidArgument: Too many changes, or the context is patched or preserved before in this transaction.
        """
        self._unshaped(context_id, "append")
        self._add(lambda: ops.append(self._space, context_id, path, items, **options), options)

    def patch(self, context_id: str, merge_patch: Mapping[Any, Any], **options: Any) -> None:
        """Merge a patch into a context, see `AsyncContextStore.patch`.

        Raises:
            InvalidArgument: Too many changes, or the context is preserved before in this transaction.
        """
        self._unshaped(context_id, "patch")
        self._add(lambda: ops.patch(self._space, context_id, merge_patch, **options), options)
        self._reshaped.add(valid_context_id(context_id))

    def preserve(
        self, session_id: str, data: Mapping[Any, Any], *, context_id: str | None = None, **options: Any
    ) -> str:
        """Store a context whole (up to 32 kB stored), see `AsyncContextStore.preserve`; returns its id.

        Raises:
            InvalidArgument, InvalidId: Nothing was added.
        """
        chosen = context_id or mint_context_id(valid_session(session_id), self._space.mint())
        self._add(lambda: ops.preserve(self._space, session_id, data, context_id=chosen, **options), options)
        self._reshaped.add(valid_context_id(chosen))
        return chosen

    def handoff(self, context_id: str, source_provider: str, destination_provider: str, **options: Any) -> None:
        """Pass a context on, see `AsyncContextStore.handoff`."""
        self._add(
            lambda: ops.handoff(self._space, context_id, source_provider, destination_provider, **options), options
        )

    def extend(self, context_id: str, ttl: int | timedelta, **options: Any) -> None:
        """Give a context more time, see `AsyncContextStore.extend`."""
        self._add(lambda: ops.extend(self._space, context_id, ttl, **options), options)

    def drop(self, context_id: str, **options: Any) -> None:
        """Remove a context, see `AsyncContextStore.drop`."""
        self._add(lambda: ops.drop(self._space, context_id, **options), options)

    def emit(
        self,
        event: str | NewEvent,
        payload: Any = None,
        *,
        priority: str = "normal",
        source: str = "",
        ordering_key: str = "",
        delay: float | timedelta | None = None,
        at: datetime | None = None,
    ) -> None:
        """Emit a further event; what caused it, what it belongs to and its trace are taken from the event handled.

        Raises:
            InvalidArgument: Too many events.
        """
        self._open()
        if len(self._events) >= MAX_OPERATIONS:
            raise InvalidArgument(f"more than {MAX_OPERATIONS} events in one transaction")
        new = event if isinstance(event, NewEvent) else NewEvent(
            event, {} if payload is None else payload, priority, source, ordering_key=ordering_key, delay=delay, at=at
        )  # fmt: skip
        cause = self._event
        self._events.append(
            replace(
                new,
                correlation_id=new.correlation_id or cause.correlation_id or cause.event_id,
                causation_id=new.causation_id or cause.event_id,
                traceparent=new.traceparent or cause.traceparent,
            )
        )

    def close(self) -> tuple[list[Op[Any]], list[NewEvent]]:
        """End the collecting: fresh operations, and the events; may be asked again for another attempt."""
        self._closed = True
        return [make() for make in self._makers], list(self._events)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit but the end of the delivery."""
        return not self._makers and not self._events

    def _unshaped(self, context_id: str, what: str) -> None:
        if valid_context_id(context_id) in self._reshaped:
            raise InvalidArgument(
                f"{what} of context {context_id} after a patch or preserve of it in the same transaction: its "
                "structure is not known yet; put it before, or into the patch"
            )

    def _add(self, make: Callable[[], Op[Any]], options: Mapping[str, Any]) -> None:
        self._open()
        for name in ("emit", "dry_run"):
            if options.get(name):
                raise InvalidArgument(
                    f"{name} is not for one change of a transaction: it emits, and is tried, as a whole"
                )
        if len(self._makers) >= MAX_OPERATIONS:
            raise InvalidArgument(f"more than {MAX_OPERATIONS} changes in one transaction")
        self._makers.append(make)

    def _open(self) -> None:
        if self._closed:
            raise InvalidArgument("the transaction is closed: its handler has returned")
