"""Random calls and random damage for the dump-compare fuzz, all from one seed.

What belongs here: which calls and which damage there are. What does not: what must hold afterwards (`test_fuzz`).
Invariant: the same seed makes the same calls; identifiers come from small pools so that calls meet each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from lukhas_redis.scripts import Arg, Script, load, script_names
from tests.lua.shard import MARKER, Shard, context_id

IDS = tuple(context_id(number) for number in range(4))
SESSIONS = ("s1", "s1", "s1", "s{2}:*ü")
TYPES = ("conversation", "session")
REQUESTS = ("", "r1", "r2", "r3")
TOKENS = ("none", "t1")
PAYLOADS = (b"x", b"stored bytes", b"y" * 100)
WEIRD: tuple[Arg, ...] = (
    *("-1", "0", "1.5", "nan", "inf", "1000000000000000", str(2**63), str(-(2**63)), "", " 1", "0x10", str(10**17)),
    *("1e3", "01", "\n", "a b", "ü", "9" * 40, b"\x00\xff", "x" * 2000, "-0", "1000000000000001"),
)
CORRUPT = ("abc", "", "-5", "1.5", str(2**63), str(10**17), "9" * 30, "nan", " 1", "\xff")
NUMERIC = {
    "ctx": ("version", "seq", "created_ms", "updated_ms", "expires_ms", "ttl_ms", "accessed_ms", "hops", "stored_bytes"),
    "usage": ("bytes", "entries", "entries:conversation", "preserved", "expired", "lost", "dropped", "evicted", "rate_at",
              "rate_left", "restored", "handed_off", "corrupt"),
    "flags": ("mode", "max_entries", "max_bytes", "policy", "max_mbps"),
    "shard": ("shards", "marker"),
    "sizes": IDS,
}
CHOICES: Mapping[str, Sequence[Arg]] = {
    "id": IDS,
    "sid": SESSIONS,
    "type": TYPES,
    "token": TOKENS,
    "request_id": ("", "", *REQUESTS),
    "request": ("d1", "d1", "d1", "d2"),
    "durable": (0, 0, 1),
    "dry": (0, 0, 0, 0, 1),
    "mode": (*["live"] * 10, "dry_run", "paused"),
    "ttl_ms": (3_600_000, 7_200_000, 60_000, 1),
    "if_version": (*[-1] * 6, 0, 1, 2),
    "policy": ("reject", "evict_oldest", "evict_lru", "evict_lru"),
    "max_entries": (5000, 5000, 5000, 3, 2, 0),
    "max_bytes": (0, 0, 0, 120, 10),
    "max_type": (0, 0, 0, 2),
    "rate": (0, 0, 0, 50, 1_000_000),
    "window": (1000, 3),
    "grace_ms": (3_600_000, 1),
    "max_tombs": (10_000, 2),
    "source": ("claude", "gpt"),
    "destination": ("claude", "gpt"),
    "note": ("", '{"a":1}'),
    "previous_us": (0, 1500),
    "pinned": (0, 1),
    "inline": (0, 32_768),
    "interval_ms": (0, 60_000),
    "most": (1, 100),
    "after": ("", IDS[0]),
    "after_ms": (0,),
    "count": (1, 100),
    "shards": (*[1] * 10, "", 2),
    "marker": (*[MARKER] * 10, "", "0ther"),
    "staged": (0, 0, 1, 2),
    "level": (0, 9),
    "name": ("mode", "max_entries", "max_bytes", "policy", "max_mbps", "flag.colour"),
    "value": ("", "live", "dry_run", "3", "0", "evict_lru", "blue"),
    "by": ("me",),
    "reason": ("",),
    "raw_bytes": (100,),
    "checksum": ("c" * 64,),
    "digest": ("d" * 32,),
    "nonce": ("abcdef0123456789", "0123456789abcdef"),
}


@dataclass(frozen=True)
class Attempt:
    """One call about to be made."""

    script: Script
    args: Mapping[str, Arg]
    words: tuple[Arg, ...]

    def __str__(self) -> str:
        return f"{self.script.name} {dict(self.args)!r} {self.words!r:.3000}"


class Mischief:
    """Makes calls and damage for one shard."""

    def __init__(self, shard: Shard, seed: int) -> None:
        self.shard = shard
        self.random = Random(seed)
        self.scripts = [load(name) for name in script_names()]
        # The writers of contexts meet everything else, so they come more often.
        self.weights = [6 if script.name == "preserve" else 2 if "id" in script.arg_names else 1 for script in self.scripts]

    def attempt(self) -> Attempt:
        """A random call, mostly plausible."""
        script = self.random.choices(self.scripts, self.weights)[0]
        payload = self.random.choice(PAYLOADS)
        known: dict[str, Arg] = {name: self.random.choice(values) for name, values in CHOICES.items()}
        args = {"payload": payload, "bytes": len(payload), **known}
        if self.random.random() < 0.2:
            args[self.random.choice(script.arg_names or ("id",))] = self.random.choice(WEIRD)
        if script.name == "preserve" and args["staged"] == 1:
            self._stage(payload, str(args["token"]))
            args["payload"] = payload[:4]
        more = [one for one in self._more(script) if one != args["id"] or self.random.random() < 0.05]
        words = list(self.shard.words(script, args, keys=self._aliases(script), more=more))
        if more and self.random.random() < 0.2:
            self._disturb(words, len(more))
        return Attempt(script, args, tuple(words))

    def episode(self) -> None:
        """Start again with an undamaged shard that holds some contexts, in one of the three modes."""
        self.shard.client.delete(*[key.decode() for key in self.shard.dump()], self.shard.keys.shard)
        self.shard.open()
        self.shard.client.hset(self.shard.keys.shard, "marker", MARKER)
        for one in self.random.sample(IDS, self.random.randint(0, len(IDS))):
            sid, kind = self.random.choice(SESSIONS), self.random.choice(TYPES)
            self.shard.call("preserve", id=one, sid=sid, type=kind, payload=self.random.choice(PAYLOADS))
            if self.random.random() < 0.4:
                self.shard.call("handoff", id=one, request_id=self.random.choice(REQUESTS), request=f"d-{one}")
        mode = self.random.choice(("", "", "", "", "", "live", "dry_run", "paused"))
        if mode:
            self.shard.call("set_flag", name="mode", value=mode)

    def damage(self) -> None:
        """Do one thing to the shard's keys that no script would do."""
        kinds = [self._wrong_type, self._corrupt_field, self._last_id, self._delete, self._expire, self._score]
        self.random.choices(kinds, [5, 5, 1, 2, 3, 1])[0]()

    def key(self) -> str:
        """Any key of the shard."""
        keys, one = self.shard.keys, self.random.choice(IDS)
        return self.random.choice(
            [
                *(keys.ctx(one), keys.body(one), keys.hops(one), keys.log(one)),
                *(getattr(keys, name) for name in SHARD_KEYS),
                keys.session(self.random.choice(SESSIONS)),
                keys.request(self.random.choice(REQUESTS[1:])),
                keys.stage(self.random.choice(TOKENS)),
            ]
        )

    def _stage(self, payload: bytes, token: str) -> None:
        found = self.random.choice([payload, payload, payload, payload[:-1], b"", b"#" * len(payload), None])
        if found is None:
            self.shard.client.delete(self.shard.keys.stage(token))
        else:
            self.shard.client.set(self.shard.keys.stage(token), found, ex=60)

    def _aliases(self, script: Script) -> dict[str, str]:
        if not script.key_names or self.random.random() > 0.05:
            return {}
        return {self.random.choice(script.key_names): self.key()}

    def _more(self, script: Script) -> list[str]:
        if not any(row.many for row in script.keys) or self.random.random() < 0.3:
            return []
        return self.random.sample(IDS, self.random.randint(1, 4))

    def _disturb(self, words: list[Any], count: int) -> None:
        """Make the trailing lists disagree: keys that are missing, ids that are, ids in another order."""
        kind = self.random.randrange(4)
        if kind == 0:
            del words[words[0]]
            words[0] -= 1
        elif kind == 1:
            words.pop()
        elif kind == 2:
            words.append(self.random.choice(IDS))
        else:
            words[-count:] = reversed(words[-count:])

    def _wrong_type(self) -> None:
        key, client = self.key(), self.shard.client
        client.delete(key)
        plant: list[Any] = [
            lambda: client.set(key, "planted"),
            lambda: client.rpush(key, "planted"),
            lambda: client.zadd(key, {"planted": 1}),
            lambda: client.hset(key, "planted", "1"),
            lambda: client.xadd(key, {"planted": "1"}),
            lambda: client.sadd(key, "planted"),
        ]
        self.random.choice(plant)()

    def _corrupt_field(self) -> None:
        part = self.random.choice(list(NUMERIC))
        key = self.shard.keys.ctx(self.random.choice(IDS)) if part == "ctx" else getattr(self.shard.keys, part)
        if self.shard.client.type(key) == b"hash":
            self.shard.client.hset(key, self.random.choice(NUMERIC[part]), self.random.choice(CORRUPT))

    def _last_id(self) -> None:
        key = self.random.choice([self.shard.keys.events, self.shard.keys.audit])
        self.shard.client.delete(key)
        self.shard.client.xadd(key, {"planted": "1"}, id=f"{2**64 - 1}-{2**64 - 1}")

    def _delete(self) -> None:
        self.shard.client.delete(self.key())

    def _expire(self) -> None:
        if self.shard.client.type(self.shard.keys.index) == b"zset":
            self.shard.expire(self.random.randrange(len(IDS)))

    def _score(self) -> None:
        key = self.random.choice([self.shard.keys.index, self.shard.keys.order, self.shard.keys.tombs])
        if self.shard.client.type(key) == b"zset":
            self.shard.client.zadd(key, {self.random.choice(IDS): self.random.choice([-1.5, 1e300, float("inf"), 0.5])})


SHARD_KEYS = ("index", "order", "sizes", "usage", "tombs", "events", "flags", "audit", "shard")
