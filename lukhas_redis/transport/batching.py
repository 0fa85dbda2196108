"""Exchanges that leave together: which share a pipeline, and what of its replies belongs to which.

What belongs here: grouping and cutting, for the synchronous shell. What does not: sending.
Invariant: the commands of one exchange stay together and in order, whatever else is in its pipeline.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from lukhas_redis.transport.steps import Exchange, Lost, Node, Outcome
from lukhas_redis.transport.wire import pack

# One pipeline holds at most this much, so that no server works off a mountain for one client.
BATCH_COMMANDS = 128
BATCH_BYTES = 262_144


@dataclass(slots=True)
class Batch:
    """Exchanges for one node that leave as one pipeline; `places` are theirs in the round."""

    node: Node
    places: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0
    deadline: float = float("inf")

    def has_room(self, count: int, size: int) -> bool:
        """Whether an exchange of `count` commands and `size` bytes may join."""
        return not self.places or (sum(self.counts) + count <= BATCH_COMMANDS and self.size + size <= BATCH_BYTES)

    def share(self, outcome: Outcome) -> Iterator[tuple[int, Outcome]]:
        """For each exchange its place and its part: what came before a connection broke is still good."""
        if not isinstance(outcome, list | Lost):
            yield from ((place, outcome) for place in self.places)
            return
        came = iter(outcome if isinstance(outcome, list) else outcome.collected)
        for place, count in zip(self.places, self.counts, strict=True):
            part: list[Any] = list(islice(came, count))
            yield place, part if len(part) == count or isinstance(outcome, list) else Lost(outcome.reason)


def batches(exchanges: Sequence[Exchange]) -> list[Batch]:
    """Group exchanges by node, in their order, and cut each group to the bounds of a pipeline.

    Those that ask for a connection of their own are no exception: nobody else uses a blocking one meanwhile, and what
    was asked for later must not overtake them.
    """
    current: dict[Node, Batch] = {}
    done: list[Batch] = []
    for place, exchange in enumerate(exchanges):
        pieces = pack(exchange.commands)
        size = sum(map(len, pieces))
        batch = current.get(exchange.node)
        if batch is None or not batch.has_room(len(exchange.commands), size):
            batch = current[exchange.node] = Batch(exchange.node)
            done.append(batch)
        batch.places.append(place)
        batch.counts.append(len(exchange.commands))
        batch.pieces += pieces
        batch.size += size
        batch.deadline = min(batch.deadline, exchange.deadline)
    return done
