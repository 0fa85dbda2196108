"""Random calls and random damage for the dump-compare fuzz, all from one seed.

What belongs here: which calls and which damage there are. What does not: what must hold afterwards (`test_fuzz`), and
what is done to a context's segments (`growth_mischief`).
Invariant: the same seed makes the same calls; identifiers come from small pools so that calls meet each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from lukhas_redis.scripts import Arg, Script, load, script_names
from tests.lua.growth_mischief import LEASES, damage_growth, plant_other_type
from tests.lua.shard import MARKER, Shard, context_id, segment

IDS = tuple(context_id(number) for number in range(4))
SESSIONS = ("s1", "s1", "s1", "s{2}:*ü")
TYPES = ("conversation", "session")
REQUESTS = ("", "r1", "r2", "r3")
TOKENS = ("none", "t1")
PAYLOADS = (b"", b"x", b"stored bytes", b"y" * 100)
WEIRD: tuple[Arg, ...] = (
    *("-1", "0", "1.5", "nan", "inf", "1000000000000000", str(2**63), str(-(2**63)), "", " 1", "0x10", str(10**17)),
    *("1e3", "01", "\n", "a b", "ü", "9" * 40, b"\x00\xff", "x" * 2000, "-0", "1000000000000001"),
)
SCORES = (-1.5, 1e300, float("inf"), float("-inf"), 0.5, 1e15)
CORRUPT = (
    "0x7fffffffffff",
    "1e14",
    " 1795411438527",
    "abc",
    "",
    "-5",
    "1.5",
    str(2**63),
    str(10**17),
    "9" * 30,
    "nan",
    " 1",
    "\xff",
)
NUMERIC = {
    "ctx": (
        "version",
        "seq",
        "created_ms",
        "updated_ms",
        "expires_ms",
        "ttl_ms",
        "accessed_ms",
        "hops",
        "stored_bytes",
        "raw_bytes",
        "shape",
        "segs",
        "segs_bytes",
        "segs_raw",
        "lease",
        "chain",
        "nonce",
        "type",
    ),
    "usage": (
        "bytes",
        "entries",
        "entries:conversation",
        "preserved",
        "expired",
        "lost",
        "dropped",
        "evicted",
        "rate_at",
        "rate_left",
        "restored",
        "handed_off",
        "corrupt",
        "appended",
        "patched",
        "folded",
        "cached",
    ),
    "flags": ("mode", "max_entries", "max_bytes", "policy", "max_mbps"),
    "shard": ("shards", "marker", "fence"),
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
    "ttl_ms": (*(3_600_000, 7_200_000, 60_000) * 4, 1),
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
    "shards": (*[1] * 20, "", 2),
    "marker": (*[MARKER] * 20, "", "0ther"),
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
    "bump": (0, 0, 1),
    "max_segs": (4096, 4096, 1, 2),
    "max_raw": (10**7, 10**7, 150),
    "owner": ("ann", "bob"),
    "lease_ms": (60_000, 1),
    "lease": ("", "", "", "", 7, 8),
    "state": ("restored", "cached"),
}
# What one script takes otherwise than the rest.
OWN: Mapping[str, Mapping[str, Sequence[Arg]]] = {
    "preserve": {"event": (*["preserve"] * 6, "append", "patch"), "ttl_ms": (*CHOICES["ttl_ms"], 0)},
    "append": {"event": ("append", "append", "patch"), "ttl_ms": (*[0] * 30, *CHOICES["ttl_ms"])},
    "fold": {"level": (1, 9)},
    "renew": {"lease": (7, 8)},
    "release": {"lease": (7, 8)},
}
OFTEN_CALLED = {"preserve": 12, "append": 14, "fold": 6, "renew": 3, "release": 3}
# Most calls of these have nothing wrong with them, so that what is damaged is met where a sound call would write.
OFTEN_QUIET = ("append", "fold", "preserve")
QUIET: Mapping[str, Arg] = {
    "dry": 0,
    "mode": "live",
    "marker": MARKER,
    "shards": 1,
    "request_id": "",
    "if_version": -1,
    "lease": "",
    "staged": 0,
    "max_entries": 5000,
    "max_bytes": 0,
    "max_type": 0,
    "rate": 0,
    "max_segs": 4096,
    "max_raw": 10**7,
}
# What a stretch of calls has in common: a tenant that is always full, for one, evicts.
_FULL: dict[str, Arg] = {"max_bytes": 0, "max_type": 0, "rate": 0, "mode": "live", "dry": 0, "if_version": -1}
HABITS: tuple[Mapping[str, Arg], ...] = (
    {},
    {},
    {**_FULL, "policy": "evict_oldest", "max_entries": 2},
    {**_FULL, "policy": "evict_lru", "max_entries": 3},
    {**_FULL, "max_entries": 5000, "staged": 1},
    {**_FULL, "max_entries": 5000, "rate": 5},
    {**_FULL, "max_entries": 5000, "max_bytes": 300, "policy": "evict_lru"},
    {**_FULL, "max_entries": 5000, "max_bytes": 200, "policy": "evict_oldest"},
    {"mode": "dry_run"},
)


@dataclass(frozen=True)
class Attempt:
    """One call about to be made. `is_plain`: as a client of ours would make it."""

    script: Script
    args: Mapping[str, Arg]
    words: tuple[Arg, ...]
    is_plain: bool = False

    @property
    def keys(self) -> list[str]:
        """The keys it declares."""
        return [str(word) for word in self.words[1 : 1 + int(self.words[0])]]

    def key(self, name: str) -> str | None:
        """The key of that name in the header."""
        names = self.script.key_names
        return self.keys[names.index(name)] if name in names else None

    def __str__(self) -> str:
        return f"{self.script.name} {dict(self.args)!r} {self.words!r:.3000}"


def scripts_of_contexts() -> list[str]:
    """All scripts but those of the bus, which `bus_mischief` calls."""
    return [name for name in script_names() if not is_of_bus(load(name))]


def is_of_bus(script: Script) -> bool:
    """Whether it takes a key of the bus."""
    return any("}:bus:" in row.pattern for row in script.keys)


class Mischief:
    """Makes calls and damage for one shard. `is_clean`: nothing is damaged for a while, so accounts must add up."""

    def __init__(self, shard: Shard, seed: int) -> None:
        self.shard = shard
        self.random = Random(seed)
        self.habits: Mapping[str, Arg] = {}
        self.is_clean = False
        self.scripts = [load(name) for name in scripts_of_contexts()]
        # The writers of contexts meet everything else, so they come more often.
        self.weights = [OFTEN_CALLED.get(script.name, 2 if "id" in script.arg_names else 1) for script in self.scripts]

    def attempt(self) -> Attempt:
        """A random call, mostly plausible."""
        script = self.random.choices(self.scripts, self.weights)[0]
        payload = self.random.choices(PAYLOADS, [1, 6, 6, 6])[0]
        if script.name == "append":
            payload = segment(payload)
        choices = {**CHOICES, **OWN.get(script.name, {})}
        known: dict[str, Arg] = {name: self.random.choice(values) for name, values in choices.items()}
        if self.random.random() < 0.8:
            known["id"] = self.random.choice(self._there() or IDS)
        is_plain = self.is_clean
        if script.name in OFTEN_QUIET and self.random.random() < 0.6:
            known, is_plain = {**known, **QUIET}, True
        known |= self._seen(str(known["id"]))
        if self.is_clean and known["ttl_ms"] == 1:
            known["ttl_ms"] = 60_000  # it would be over while the accounts are read
        args: dict[str, Arg] = {"payload": payload, "bytes": len(payload), **known, **self.habits}
        if not is_plain and self.random.random() < 0.2:
            args[self.random.choice(script.arg_names or ("id",))] = self.random.choice(WEIRD)
        if script.name in ("preserve", "fold") and args["staged"] == 1:
            self._stage(payload, str(args["token"]))
            args["payload"] = payload[:4]
        more = [one for one in self._more(script) if one != args["id"] or self.random.random() < 0.05]
        aliases = {} if is_plain else self._aliases(script)
        words = list(self.shard.words(script, args, keys=aliases, more=more))
        if more and not is_plain and self.random.random() < 0.2:
            self._disturb(words, len(more))
        return Attempt(script, args, tuple(words), is_plain)

    def episode(self) -> None:
        """Start again with an undamaged shard that holds some contexts, in one of the three modes."""
        self.shard.client.delete(*[key.decode() for key in self.shard.dump()], self.shard.keys.shard)
        self.shard.open()
        for one in self.random.sample(IDS, self.random.choice((0, 1, 2, 3, 4, 4, 4))):
            sid, kind = self.random.choice(SESSIONS), self.random.choice(TYPES)
            self.shard.call("preserve", id=one, sid=sid, type=kind, payload=self.random.choice(PAYLOADS[1:]))
            for _ in range(self.random.choice((0, 0, 1, 3))):
                self.shard.call("append", id=one, payload=segment(self.random.choice(PAYLOADS)))
            if self.random.random() < 0.2:
                self.shard.lease(IDS.index(one))
            elif self.random.random() < 0.4:
                self.shard.call("handoff", id=one, request_id=self.random.choice(REQUESTS), request="d1")
        self.habits, self.is_clean = self.random.choice(HABITS), self.random.random() < 0.25
        if self.random.random() < 0.2 and (there := self._there()):
            self.shard.expire(IDS.index(self.random.choice(there)))
        mode = self.random.choice(("", "", "", "", "", "live", "dry_run", "paused"))
        if mode:
            self.shard.call("set_flag", name="mode", value=mode)

    def damage(self, attempt: Attempt) -> None:
        """Do one thing to the shard's keys that no script would do, mostly to one that the call declares."""
        if self.is_clean:
            return
        if attempt.key("segs") and self.random.random() < 0.7:
            damage_growth(self.shard, self.random, str(attempt.args["id"]))
            return
        kinds = ["type", "field", "last", "delete", "expire", "score", "growth"]
        kind = self.random.choices(kinds, [5, 6, 1, 2, 3, 1, 4])[0]
        declared = self.random.random() < 0.8
        key = self.random.choice(attempt.keys) if declared else self.any_key()
        if kind == "type":
            plant_other_type(self.shard, self.random, key)
        elif kind == "field":
            hashes = [one for one in attempt.keys if self._is(one, b"hash")]
            self._corrupt_field(self.random.choice(hashes or [self.shard.keys.usage]))
        elif kind == "last":
            self._last_id()
        elif kind == "delete":
            self.shard.client.delete(key)
        elif kind == "growth":
            damage_growth(self.shard, self.random, str(attempt.args["id"]))
        elif kind == "expire" and self._is(self.shard.keys.index, b"zset"):
            self._expire()
        elif self._is(key, b"zset"):
            self.shard.client.zadd(key, {self.random.choice(IDS): self.random.choice(SCORES)})

    def any_key(self) -> str:
        """Any key of the shard."""
        keys, one = self.shard.keys, self.random.choice(IDS)
        names: list[str] = [
            *(keys.ctx(one), keys.body(one), keys.segs(one), keys.hops(one), keys.log(one)),
            *(getattr(keys, name) for name in SHARD_KEYS),
            keys.session(self.random.choice(SESSIONS)),
            keys.request(self.random.choice(REQUESTS[1:])),
            keys.stage(self.random.choice(TOKENS)),
        ]
        return self.random.choice(names)

    def _seen(self, one: str) -> dict[str, Arg]:
        """What a client says that has read the context: mostly what is so, else what was, or nothing."""
        key = self.shard.keys.ctx(one)
        found: Any = self.shard.client.hgetall(key) if self._is(key, b"hash") else {}
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in found.items()}
        nonce, seq = fields.get("nonce", ""), fields.get("seq", "0")
        chain = fields.get("chain") or fields.get("digest", "")
        before = str(int(seq) - 1) if seq.isdigit() else seq
        stamps = [fields.get(name, "") for name in ("version", "expires_ms", "accessed_ms", "pinned", "lease")]
        held = [f"{nonce} {seq} {chain}"] * 4 + [f"{nonce} {before} {chain}", f"{nonce} 1 {'d' * 32}", ""]
        seen: dict[str, Arg] = {
            "view": self.random.choice([*[f"{nonce} {fields.get('shape', seq)}"] * 10, f"{nonce} {before}", ""]),
            "held": self.random.choice(held),
            "stamp": self.random.choice([" ".join(stamps), ""]),
        }
        if "session" in fields and self.random.random() < 0.8:
            seen["sid"] = fields["session"]
        token = fields.get("lease", "").partition(" ")[0]
        return {**seen, "lease": token} if token and self.random.random() < 0.6 else seen

    def _there(self) -> list[str]:
        """The contexts that are there."""
        return [one for one in IDS if self._is(self.shard.keys.ctx(one), b"hash")]

    def _stage(self, payload: bytes, token: str) -> None:
        found = self.random.choice([payload, payload, payload, payload[:-1], b"", b"#" * len(payload), None])
        if found is None:
            self.shard.client.delete(self.shard.keys.stage(token))
        else:
            self.shard.client.set(self.shard.keys.stage(token), found, ex=60)

    def _aliases(self, script: Script) -> dict[str, str]:
        if not script.key_names or self.random.random() > 0.05:
            return {}
        return {self.random.choice(script.key_names): self.any_key()}

    def _more(self, script: Script) -> list[str]:
        if not any(row.many for row in script.keys) or self.random.random() < 0.2:
            return []
        return self.random.sample(IDS, self.random.choice((1, 2, 3, 4, 4, 4)))

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

    def _is(self, key: str, kind: bytes) -> bool:
        return self.shard.client.type(key) == kind

    def _corrupt_field(self, key: str) -> None:
        if self._is(key, b"hash"):
            part = key.removeprefix(self.shard.keys.base).partition(":")[0]
            name = self.random.choice(NUMERIC.get(part, ("other",)))
            self.shard.client.hset(key, name, self.random.choice(LEASES if name == "lease" else CORRUPT))

    def _expire(self) -> None:
        """One context, or more than a single call purges, is past its deadline and still in the accounts."""
        self.shard.expire(self.random.randrange(len(IDS)))
        if self.random.random() < 0.5 and self._is(self.shard.keys.sizes, b"hash"):
            gone = [context_id(number) for number in range(100, 112)]
            self.shard.client.zadd(self.shard.keys.index, dict.fromkeys(gone, 1000 + self.random.random()))
            self.shard.client.hset(self.shard.keys.sizes, mapping=dict.fromkeys(gone, "1 conversation"))

    def _last_id(self) -> None:
        key = self.random.choice([self.shard.keys.events, self.shard.keys.events, self.shard.keys.audit])
        self.shard.client.delete(key)
        self.shard.client.xadd(key, {"planted": "1"}, id=f"{2**64 - 1}-{2**64 - 1}")


SHARD_KEYS = ("index", "order", "sizes", "usage", "tombs", "events", "flags", "audit", "shard")
