"""The bus of one shard, driven by its scripts alone, as `shard` does it for contexts.

What belongs here: calling a script of the bus with plausible defaults, and reading what it answers. What does not: the
operations of the package, and what must hold (the tests).
Invariant: what a test does not name has the value in `PLAUSIBLE`; a commit's operations are words of `Shard`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from lukhas_redis.scripts import Arg, Script, load
from lukhas_redis.testing import Dump
from tests.lua.shard import MARKER, Shard


def packed(rows: Any) -> bytes:
    """Events as a commit takes them."""
    return bytes(msgpack.packb(rows))  # type: ignore[arg-type,unused-ignore]  # None only with a Packer of one's own


PRIORITIES = ("critical", "high", "normal", "low")
ANY = ("^.*$",)
PLAUSIBLE: Mapping[str, Arg] = {
    "dry": 0,
    "mode": "live",
    "shards": 1,
    "marker": MARKER,
    "request_id": "",
    "request": "digest",
    "durable": 0,
    "retention_ms": 600_000,
    "event": "task.made",
    "priority": "normal",
    "payload": b"payload",
    "source": "",
    "correlation": "",
    "causation": "",
    "ordering_key": "",
    "trace": "",
    "delay_ms": 0,
    "at_ms": 0,
    "max_entries": 100_000,
    "max_payload": 1000,
    "trimmed": 0,
    "group": "g",
    "consumer": "w1",
    "count": 10,
    "hold_ms": 600_000,
    "max_deliveries": 5,
    "low_every": 16,
    "recover": 0,
    "max_dead": 100,
    "waking": "@w",
    "start": "all",
    "again": 0,
    "rank": 3,
    "stream_id": "0-0",
    "deliveries": 1,
    "counted": 1,
    "reason": "error",
    "handler": "module:handler",
    "message": "it failed",
    "force": 0,
    "history_ms": 0,
    "pressure": 0,
    "idle_ms": 60_000,
    "events": packed([]),
}


@dataclass(frozen=True, slots=True)
class Taken:
    """One event of a claim's answer."""

    rank: int
    sid: str
    deliveries: int
    fields: Mapping[str, bytes]

    @property
    def name(self) -> str:
        """The event's name."""
        return self.fields["event"].decode()

    @property
    def words(self) -> tuple[Arg, ...]:
        """As ack and hold take it."""
        return self.rank, self.sid, self.deliveries

    @property
    def args(self) -> dict[str, Arg]:
        """As retry and commit take it."""
        return {"rank": self.rank, "stream_id": self.sid, "deliveries": self.deliveries}


@dataclass(frozen=True, slots=True)
class Operation:
    """A part of a commit: its keys and its words."""

    keys: tuple[str, ...]
    words: tuple[Arg, ...]


class Bus:
    """The bus of `shard`, whose consumer group `g` is not there until `join`."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.emitted = 0

    # -- calling

    def key(self, pattern: str, args: Mapping[str, Arg]) -> str:
        """The key a header's pattern stands for."""
        name = pattern.split("}:", 1)[1]
        return self.shard.keys.base + re.sub(r"<(\w+)>", lambda found: str(args[found[1]]), name)

    def words(
        self, script: Script, args: Mapping[str, Arg], more: Sequence[Arg] = (), more_keys: Sequence[str] = ()
    ) -> tuple[Arg, ...]:
        """What EVALSHA takes."""
        known = {**PLAUSIBLE, "id": f"{self.emitted:08x}", **args}
        keys = {row.name: self.key(row.pattern, known) for row in script.keys if not row.many}
        wanted = {row.name: known[row.name] for row in script.args if not row.many}
        return script.pack(keys, wanted, more_keys, more)

    def call(self, name: str, *more: Arg, **args: Arg) -> Any:
        """Run a script and return its answer; `more` is the header's list of further arguments.

        Raises:
            Refused: The script refused.
        """
        script = load(name)
        return self.shard.send(script, self.words(script, args, more))

    def outcome(self, name: str, *more: Arg, **args: Arg) -> Any:
        """As `call`, but a refusal or an error is the result."""
        script = load(name)
        return self.shard.tried(script, self.words(script, args, more))

    def join(self, group: str = "g", **args: Arg) -> None:
        """Make a consumer group."""
        self.call("join", group=group, **args)

    def emit(self, event: str = "task.made", **args: Arg) -> str:
        """Put an event on the bus; its stream id."""
        self.emitted += 1
        reply = self.call("emit", event=event, **args)
        return str(reply[3].decode())

    def emit_many(self, count: int, **args: Arg) -> list[str]:
        """Events `e0`, `e1` and so on, in one round trip; their names."""
        script, names = load("emit"), [f"e{number}" for number in range(count)]
        self.shard.client.script_load(script.text)
        pipe = self.shard.client.pipeline(transaction=False)
        for name in names:
            self.emitted += 1
            pipe.execute_command("EVALSHA", script.sha, *self.words(script, {"event": name, **args}))  # type: ignore[no-untyped-call]
        pipe.execute()
        return names

    def claim(self, count: int = 10, *, patterns: Sequence[str] = ANY, **args: Arg) -> list[Taken]:
        """Take events."""
        reply = self.call("claim", *patterns, count=count, **args)
        assert reply[0] == b"OK", reply
        return [_taken(one) for one in reply[3:]]

    def next_ms(self, **args: Arg) -> int:
        """How long a claim that takes nothing says that nothing is due."""
        return int(self.call("claim", *ANY, **{"count": 0, **args})[1])

    def ack(self, *taken: Taken, **args: Arg) -> list[str]:
        """Finish deliveries; what became of each."""
        reply = self.call("ack", *[word for one in taken for word in one.words], **args)
        return [word.decode() for word in reply[2:]]

    def hold(self, *taken: Taken, **args: Arg) -> list[str]:
        """Show a sign of life for deliveries."""
        reply = self.call("hold", *[word for one in taken for word in one.words], **args)
        return [word.decode() for word in reply[2:]]

    def retry(self, taken: Taken, **args: Arg) -> str:
        """Give a delivery back; what became of it."""
        return str(self.call("retry", **{**taken.args, **args})[0].decode())

    def commit(self, taken: Taken | None, *parts: Operation, events: Sequence[Sequence[str]] = (), **args: Arg) -> Any:
        """Finish a delivery with operations and events; without one, only those."""
        script = load("commit")
        return self.shard.send(script, self.commit_words(taken, *parts, events=events, **args))

    def commit_words(
        self, taken: Taken | None, *parts: Operation, events: Sequence[Sequence[str]] = (), **args: Arg
    ) -> tuple[Arg, ...]:
        """What EVALSHA takes of a commit."""
        known = {**(taken.args if taken else {"group": ""}), "events": packed(list(events)), **args}
        more = [word for part in parts for word in part.words]
        return self.words(load("commit"), known, more, [key for part in parts for key in part.keys])

    def operation(self, name: str, **args: Any) -> Operation:
        """A script of a context as a part of a commit, as the package sends it: the commit looks at the tenant."""
        script = load(name)
        words = self.shard.words(script, {**args, "marker": "", "shards": ""}, keys={})
        count = int(words[0])
        given = words[1 + count :]
        return Operation(tuple(map(str, words[1 : 1 + count])), (name, count, len(given), *given))

    # -- looking

    def stream(self, part: str) -> list[dict[str, bytes]]:
        """The entries of a stream of the bus, oldest first."""
        found: Any = self.shard.client.xrange(self.shard.keys.bus(part))
        return [{name.decode(): value for name, value in fields.items()} for _, fields in found]

    def ids(self, part: str) -> list[str]:
        """Their stream ids."""
        found: Any = self.shard.client.xrange(self.shard.keys.bus(part))
        return [sid.decode() for sid, _ in found]

    def length(self, part: str) -> int:
        """How many there are."""
        return int(self.shard.client.xlen(self.shard.keys.bus(part)))

    def counts(self, group: str = "g") -> dict[str, int]:
        """What a group has counted."""
        found: Any = self.shard.client.hgetall(self.shard.keys.group(group))
        return {name.decode(): int(value) for name, value in found.items() if value.isdigit()}

    def pending(self, group: str = "g", priority: str = "normal") -> dict[str, tuple[str, int]]:
        """Pending events of a group by stream id: worker and deliveries."""
        found: Any = self.shard.client.xpending_range(self.shard.keys.bus(priority), group, "-", "+", 1000)
        return {one["message_id"].decode(): (one["consumer"].decode(), one["times_delivered"]) for one in found}

    def lapse(self, *taken: Taken, group: str = "g") -> None:
        """Let the holds of deliveries be over."""
        for one in taken:
            self.shard.client.zadd(self.shard.keys.group(group, f"held:{PRIORITIES[one.rank - 1]}"), {one.sid: 1})

    def finished(self, group: str = "g") -> bool:
        """Whether a group keeps nothing of any event: nothing pending, held, parked, or busy."""
        parts = [f"held:{name}" for name in PRIORITIES] + ["parked", "busy"]
        left = self.shard.client.exists(*[self.shard.keys.group(group, part) for part in parts])
        return not left and not any(self.pending(group, name) for name in PRIORITIES)

    def dump(self) -> Dump:
        """Everything under the shard's keys."""
        return self.shard.dump()


def _taken(one: Sequence[Any]) -> Taken:
    pairs = one[3]
    fields = {pairs[i].decode(): pairs[i + 1] for i in range(0, len(pairs), 2)}
    return Taken(int(one[0]), one[1].decode(), int(one[2]), fields)


def event_words(number: int = 0, **changes: str) -> list[str]:
    """An event as a commit takes it."""
    names = ("id", "event", "priority", "payload", "source", "correlation", "causation", "ordering_key", "trace",
             "delay_ms", "at_ms")  # fmt: skip
    known = {name: str(PLAUSIBLE[name]) for name in names if name not in ("id", "payload")}
    return [{**known, "id": f"{number:08x}", "payload": "p", **changes}[name] for name in names]


def names_of(taken: Sequence[Taken]) -> list[str]:
    """The events' names."""
    return [one.name for one in taken]
