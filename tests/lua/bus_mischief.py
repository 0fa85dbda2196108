"""Random calls of the bus and random damage to its keys, all from one seed.

What belongs here: which calls and which damage there are. What does not: what must hold afterwards (`test_bus_fuzz`).
Invariant: the same seed makes the same calls; names come from small pools so that calls meet each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from lukhas_redis.scripts import Arg, Script, load, script_names
from tests.lua.bus import PRIORITIES, Bus, event_words, packed
from tests.lua.mischief import CORRUPT, SCORES, WEIRD, Attempt, Mischief, is_of_bus
from tests.lua.shard import MARKER, Shard

GROUPS = ("g", "g", "h")
WORKERS = ("w1", "w1", "w2")
PARTS = (*PRIORITIES, "later", "due", "dead", "wake", "groups")
KEPT = ("", *[f"held:{name}" for name in PRIORITIES], "parked", "busy")
PLANTED = ("planted", "1-1", "9" * 30 + "-1", "0-0", "1-" + "9" * 20, "-", "")
BAD_EVENTS: tuple[bytes, ...] = (b"", b"\xc1", packed(7), packed([1]), packed([event_words()[:4]]))
COUNTED = ("delivered", "done", "retried", "dead", "taken_over", "skipped", "parked", "lost", "turn", "healed")
FIELDS: Mapping[str, Sequence[str]] = {
    "group": (*COUNTED, "created_ms", "seen_ms", "last:1", "last:3"),
    "flags": ("mode",),
    "shard": ("shards", "marker", "dead_taken"),
}
CHOICES: Mapping[str, Sequence[Arg]] = {
    "dry": (0, 0, 0, 0, 1),
    "mode": (*["live"] * 10, "dry_run", "paused"),
    "shards": (*[1] * 20, "", 2),
    "marker": (*[MARKER] * 20, "", "0ther"),
    "request_id": ("", "", "r1", "r2"),
    "request": ("d1", "d1", "d2"),
    "durable": (0, 0, 1),
    "event": ("a.x", "b.y"),
    "priority": (*["normal"] * 3, *PRIORITIES),
    "payload": (b"payload", b"", b"y" * 900, b"y" * 1001),
    "ordering_key": ("", "k", "k", "o"),
    "delay_ms": (0, 0, 0, 1, 60_000),
    "at_ms": (0,),
    "max_entries": (100_000, 100_000, 3, 1),
    "trimmed": (0, 1),
    "group": GROUPS,
    "consumer": WORKERS,
    "count": (1, 3, 10, 0),
    "hold_ms": (1, 60_000),
    "max_deliveries": (5, 2, 1),
    "low_every": (2, 16),
    "recover": (0, 0, 1),
    "max_dead": (100, 1),
    "start": ("all", "new"),
    "again": (0, 0, 1),
    "counted": (1, 1, 0),
    "force": (0, 1),
    "history_ms": (0, 10_000, 10**13),
    "pressure": (0, 1),
    "idle_ms": (1000, 60_000),
}
OFTEN = {"emit": 6, "claim": 8, "ack": 3, "retry": 4, "commit": 8}
OPERATIONS = ("append", "drop", "extend", "handoff", "pin", "preserve")


class Contexts(Mischief):
    """Calls that can be parts of a commit."""

    def __init__(self, shard: Shard, seed: int) -> None:
        super().__init__(shard, seed)
        self.scripts = [load(name) for name in OPERATIONS]
        self.weights = [1 for _ in OPERATIONS]


class BusMischief:
    """Makes calls and damage for the bus of one shard."""

    def __init__(self, shard: Shard, seed: int) -> None:
        self.shard = shard
        self.random = Random(seed)
        self.contexts = Contexts(shard, seed)
        self.bus = Bus(shard)
        self.scripts = [load(name) for name in bus_scripts()]
        self.weights = [OFTEN.get(script.name, 1) for script in self.scripts]

    def episode(self) -> None:
        """Start again with an undamaged shard: two groups, some events in every state, a few contexts."""
        pick = self.random
        self.contexts.episode()
        self.shard.client.hdel(self.shard.keys.flags, "mode")
        for group in ("g", "h"):
            self.bus.join(group)
        for _ in range(pick.randint(3, 12)):
            args: Any = {name: pick.choice(CHOICES[name]) for name in ("priority", "ordering_key", "delay_ms", "event")}
            self.bus.emit(**args)
        for one in self.bus.claim(pick.randint(0, 8), consumer=pick.choice(WORKERS), hold_ms=pick.choice((1, 60_000))):
            kind = pick.randrange(4)
            if kind == 0:
                self.bus.ack(one)
            elif kind == 1:
                self.bus.retry(one, max_deliveries=0)
            elif kind == 2:
                self.bus.retry(one, delay_ms=pick.choice((0, 60_000)))
        mode = pick.choice((*[""] * 8, "dry_run", "paused"))
        if mode:
            self.shard.call("set_flag", name="mode", value=mode)

    def attempt(self) -> Attempt:
        """A random call, mostly plausible."""
        pick = self.random
        script = pick.choices(self.scripts, self.weights)[0]
        args: dict[str, Arg] = {name: pick.choice(values) for name, values in CHOICES.items()}
        args |= self._delivery(str(args["group"]))
        if script.name == "retry":
            args["max_deliveries"] = pick.choice((5, 1, 0))
        if script.name == "commit":
            args["events"] = self._events()
            if pick.random() < 0.3:
                args["group"] = ""
        if pick.random() < 0.15:
            args[pick.choice(script.arg_names or ("group",))] = pick.choice(WEIRD)
        more, more_keys = self._more(script, args), list[str]()
        if script.name == "commit":
            more, more_keys = self._operations()
        if more and pick.random() < 0.1:
            more = [*more[:-1], pick.choice(WEIRD)] if pick.random() < 0.5 else more[:-1]
        words = list(self.bus.words(script, args, more, more_keys))
        if pick.random() < 0.04:
            words[pick.randint(1, len(script.key_names))] = self.any_key()
        return Attempt(script, args, tuple(words))

    def damage(self, attempt: Attempt) -> None:
        """Do one thing to the keys that no script would do, mostly to one that the call declares."""
        pick, client = self.random, self.shard.client
        key = pick.choice(attempt.keys) if pick.random() < 0.8 else self.any_key()
        kind = client.type(key)
        if pick.random() < 0.35:
            self._wrong_type(key)
        elif kind == b"hash":
            part = key.removeprefix(self.shard.keys.base).partition(":")[0]
            client.hset(key, pick.choice(FIELDS.get(part, ("other",))), pick.choice(CORRUPT))
        elif kind == b"zset":
            self._plant_members(key)
        elif kind == b"stream":
            self._disturb_stream(key)
        else:
            client.delete(key)

    def any_key(self) -> str:
        """Any key of the bus, or of the shard."""
        keys, pick = self.shard.keys, self.random
        kinds = [
            keys.bus(pick.choice(PARTS)),
            keys.group(pick.choice(GROUPS), pick.choice(KEPT)),
            self.contexts.any_key(),
        ]
        return pick.choice(kinds)

    def _delivery(self, group: str) -> dict[str, Arg]:
        """A delivery that is somebody's, or one that never was."""
        rank = self.random.choice((3, 3, 1, 2, 4))
        rows = self._rows(group, rank)
        if not rows or self.random.random() < 0.1:
            return {"rank": rank, "stream_id": self.random.choice(("1-1", "1-1", *PLANTED[:3])), "deliveries": 1}
        sid, worker, deliveries = self.random.choice(rows)
        found: dict[str, Arg] = {"rank": rank, "stream_id": sid, "deliveries": max(1, deliveries)}
        return {**found, "consumer": worker} if self.random.random() < 0.8 else found

    def _rows(self, group: str, rank: int) -> list[tuple[str, str, int]]:
        key = self.shard.keys.bus(PRIORITIES[rank - 1])
        try:
            found: Any = self.shard.client.xpending_range(key, group, "-", "+", 20)
        except Exception:  # noqa: BLE001 - damaged: then there is none
            return []
        return [(one["message_id"].decode(), one["consumer"].decode(), one["times_delivered"]) for one in found]

    def _events(self) -> bytes:
        pick = self.random
        if pick.random() < 0.1:
            return pick.choice(BAD_EVENTS)
        names = ("priority", "ordering_key", "delay_ms", "event")
        rows = [
            event_words(number, **{name: str(pick.choice(CHOICES[name])) for name in names})
            for number in range(pick.choice((0, 1, 2, 17 if pick.random() < 0.1 else 3)))
        ]
        return packed(rows)

    def _operations(self) -> tuple[list[Arg], list[str]]:
        words: list[Arg] = []
        keys: list[str] = []
        for _ in range(self.random.choice((0, 1, 1, 2, 3))):
            part = self.contexts.attempt()
            count = int(part.words[0])
            own = part.words[1 + count :]
            keys += [str(key) for key in part.words[1 : 1 + count]]
            words += [part.script.name, count, len(own), *own]
        return words, keys

    def _more(self, script: Script, args: Mapping[str, Arg]) -> list[Arg]:
        """What the header's list of further arguments may hold."""
        pick = self.random
        if script.name == "claim":
            return list(pick.choice((*[("^.*$",)] * 6, ("^a%..*$",), ("^a%..*$",), ("^x$", "%"), ())))
        if script.name in ("ack", "hold"):
            found = [self._delivery(str(args["group"])) for _ in range(pick.randint(0, 3))]
            return [one[name] for one in found for name in ("rank", "stream_id", "deliveries")]
        if script.name in ("redrive", "discard"):
            return [pick.choice([*self._ids("dead"), *PLANTED[:2]]) for _ in range(pick.randint(0, 3))]
        if script.name == "replay":
            ranks = pick.choices((1, 3, 3, 4), k=2)
            return [word for rank in ranks for word in (rank, pick.choice([*self._ids(PRIORITIES[rank - 1]), "1-1"]))]
        return []

    def _ids(self, part: str) -> list[str]:
        key = self.shard.keys.bus(part)
        return self.bus.ids(part) if self.shard.client.type(key) == b"stream" else []

    def _wrong_type(self, key: str) -> None:
        client = self.shard.client
        client.delete(key)
        plant: list[Any] = [
            lambda: client.set(key, "planted"),
            lambda: client.rpush(key, "planted"),
            lambda: client.zadd(key, {"planted": 1}),
            lambda: client.hset(key, "planted", "1"),
            lambda: client.xadd(key, {"planted": "1"}),
        ]
        self.random.choice(plant)()

    def _plant_members(self, key: str) -> None:
        pick, client = self.random, self.shard.client
        busy = self.shard.keys.group("g", "busy")
        found: Any = client.hkeys(busy) if client.type(busy) == b"hash" else []
        lanes = [one for one in found if b"/" not in one]
        members = [*PLANTED, *[lane + b":" + pick.choice(PLANTED).encode() for lane in lanes]]
        client.zadd(key, {pick.choice(members): pick.choice((*SCORES, 1, 1))})

    def _disturb_stream(self, key: str) -> None:
        """Entries that are no events, entries that vanish, groups and workers that do, and the end of all ids."""
        pick, client, kind = self.random, self.shard.client, self.random.randrange(7)
        found: Any = client.xrange(key)
        if kind == 0 and found:
            client.xdel(key, pick.choice(found)[0])
        elif kind == 1:
            client.xgroup_destroy(key, pick.choice(GROUPS))
        elif kind == 2 and self._has_group(key):
            client.xgroup_delconsumer(key, "g", pick.choice((*WORKERS, "@waiting")))
        elif kind == 3 and self._has_group(key):
            client.xgroup_setid(key, "g", pick.choice(("0", "$", f"{2**64 - 1}-{2**64 - 1}")))
        elif kind == 4:
            client.delete(key)
        else:
            last = f"{2**64 - 1}-{2**64 - 1}" if kind == 5 else "*"
            if not found or int(found[-1][0].split(b"-")[0]) < 2**60:
                client.xadd(key, pick.choice(ODD), id=last)

    def _has_group(self, key: str) -> bool:
        found: Any = self.shard.client.xinfo_groups(key)
        return any(one["name"] == b"g" for one in found)


ODD: tuple[dict[Any, Any], ...] = (
    {"planted": "1"},
    {"priority": "normal"},
    {"id": "1", "event": "a.x", "payload": "p"},
    {"group": "g", "priority": "high", "event": "a.x", "payload": "p"},
    {"event": "a.x", "key": "k"},
    {f"field{number}": "1" for number in range(300)},
)


def bus_scripts() -> list[str]:
    """The scripts that take a key of the bus."""
    return [name for name in script_names() if is_of_bus(load(name))]
