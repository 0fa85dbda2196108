"""One shard of one tenant, driven by its scripts alone: keys from the header's patterns, arguments by name.

What belongs here: calling a script with plausible defaults, and looking at what it left behind. What does not: the
operations of the package (`lukhas_redis.ops`): these tests hold the scripts to their headers without them.
Invariant: what a test does not name has the header's default, or the one in `PLAUSIBLE` or `KNOWN`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import redis
from redis.exceptions import NoScriptError

from lukhas_redis.calls import Refused
from lukhas_redis.keys import KeySpace, ShardKeys
from lukhas_redis.scripts import Arg, KeyRow, Script, load
from lukhas_redis.testing import Dump, dump

HOUR = 3_600_000
MARKER = "5eed"

# What a client that has met the tenant always sends.
KNOWN: Mapping[str, Arg] = {"marker": MARKER, "shards": 1, "sid": "session-1", "request": "digest-of-arguments"}
PLAUSIBLE: Mapping[str, Arg] = {
    "mode": "live",
    "max_entries": 5000,
    "max_bytes": 0,
    "max_type": 0,
    "policy": "reject",
    "rate": 0,
    "type": "conversation",
    "ttl_ms": HOUR,
    "if_version": -1,
    "level": 1,
    "checksum": "c" * 64,
    "digest": "d" * 32,
    "nonce": "abcdef0123456789",
    "staged": 0,
    "payload": b"stored bytes",
    "inline": 32_768,
    "source": "claude",
    "destination": "gpt",
    "pinned": 1,
    "name": "flag.colour",
    "token": "none",
    "event": "preserve",
    "view": "",
    "bump": 1,
    "max_segs": 4096,
    "max_raw": 10_485_760,
    "held": "",
    "owner": "worker-1",
    "lease_ms": 60_000,
}
PARTS = ("ctx", "body", "segs", "hops", "log")
# What stands for each context in a header's trailing list of keys.
TRAILING: Mapping[str, tuple[str, ...]] = {"part": ("ctx", "body", "segs")}


def context_id(number: int) -> str:
    """An id for the context a test calls `number`."""
    return f"{number:08x}-0000-4000-8000-000000000000"


def segment(text: bytes) -> bytes:
    """What append takes: 16 bytes of header, 32 of digest, the change."""
    return b"LKSG".ljust(16, b".") + hashlib.sha256(text).hexdigest()[:32].encode() + text


def chained(chain: str, *segments: bytes) -> str:
    """The chain after some segments."""
    for one in segments:
        chain = hashlib.sha1(chain.encode() + one[16:48], usedforsecurity=False).hexdigest()
    return chain


# What only fits one script.
OWN: Mapping[str, Mapping[str, Arg]] = {"append": {"event": "append", "payload": segment(b"item"), "ttl_ms": 0}}


def answer_names(name: str) -> list[str]:
    """What a script's header calls the words of its answer `OK ...`."""
    rows = [found[1] for found in re.finditer(r"^-- OK +(OK .*)$", load(name).text, re.MULTILINE)]
    return rows[0].partition("   ")[0].split()


def told(name: str, reply: Sequence[bytes]) -> dict[str, str]:
    """An answer `OK ...` by those names."""
    return {one: word.decode() for one, word in zip(answer_names(name), reply, strict=True)}


def refusal(error: redis.ResponseError) -> Refused | None:
    """The refusal a server error stands for, or None when the script failed in a way no header names."""
    text = str(error).partition(" script: ")[0]
    word, *facts = text.split(" ")
    if not re.fullmatch(r"LK[A-Z]+", word):
        return None
    return Refused(word, {name: value for name, _, value in (fact.partition("=") for fact in facts)})


@dataclass
class Shard:
    """One shard, opened under `MARKER`; `client` never decodes."""

    client: redis.Redis
    tenant: str
    keys: ShardKeys = field(init=False)

    def __post_init__(self) -> None:
        self.keys = KeySpace("lukhas", self.tenant).root

    # -- calling

    def words(
        self, script: Script, args: Mapping[str, Arg], *, keys: Mapping[str, str], more: Sequence[str] = ()
    ) -> tuple[Arg, ...]:
        """What EVALSHA takes; `more` are contexts for the header's trailing lists."""
        known = self.arguments(script, args)
        names = {row.name: keys.get(row.name) or self.key(row, known) for row in script.keys if not row.many}
        trailing = next((row for row in script.keys if row.many), None)
        parts = TRAILING.get(trailing.name, PARTS) if trailing is not None else PARTS
        more_keys = [getattr(self.keys, part)(one) for one in more for part in parts]
        if script.name == "append" and str(known["ttl_ms"]) != "0":
            one = str(known["id"])
            session = self.keys.base + "session:" + quote(str(known["sid"]), safe="")
            more_keys = [self.keys.body(one), self.keys.hops(one), session, *more_keys]
        wanted = {row.name: known[row.name] for row in script.args if not row.many}
        return script.pack(names, wanted, more_keys, more)

    def arguments(self, script: Script, args: Mapping[str, Arg]) -> dict[str, Arg]:
        """All arguments of a script: those given, else plausible ones, else the header's defaults."""
        defaults = {row.name: row.default for row in script.args if row.default is not None}
        known: dict[str, Arg] = {**PLAUSIBLE, **OWN.get(script.name, {}), **defaults, **KNOWN, **args}
        payload = known["payload"]
        known.setdefault("bytes", len(payload) if isinstance(payload, bytes) else 0)
        known.setdefault("raw_bytes", known["bytes"])
        return known

    def key(self, row: KeyRow, args: Mapping[str, Arg]) -> str:
        """The key a header's row stands for, with these arguments."""
        parts = {
            "id": str(args.get("id", "")),
            "session": quote(str(args["sid"]), safe=""),
            "request_id": str(args.get("request_id", "")),
            "token": str(args["token"]),
        }
        name = row.pattern.split("}:", 1)[1]
        return self.keys.base + re.sub(r"<(\w+)>", lambda found: parts[found[1]], name)

    def call(
        self, name: str, /, *, keys: Mapping[str, str] | None = None, more: Sequence[str] = (), **args: Arg
    ) -> Any:
        """Run `lua/<name>.lua` and return its answer.

        Raises:
            Refused: The script refused.
            redis.ResponseError: It failed otherwise.
        """
        script = load(name)
        return self.send(script, self.words(script, args, keys=keys or {}, more=more))

    def tried(self, script: Script, words: Sequence[Arg]) -> Any:
        """As `send`, but a refusal or an error is the result."""
        try:
            return self.send(script, words)
        except (Refused, redis.ResponseError) as error:
            return error

    def outcome(self, name: str, /, *, more: Sequence[str] = (), **args: Arg) -> Any:
        """As `call`, but a refusal or an error is the result."""
        return self.tried(load(name), self.words(load(name), args, keys={}, more=more))

    def send(self, script: Script, words: Sequence[Arg]) -> Any:
        """Run a script with these words; it is loaded when the server does not know it."""
        try:
            try:
                return self.client.execute_command("EVALSHA", script.sha, *words)  # type: ignore[no-untyped-call]
            except NoScriptError:
                self.client.script_load(script.text)
                return self.client.execute_command("EVALSHA", script.sha, *words)  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            raise refusal(error) or error from None

    def open(self, mode: str = "live") -> None:
        """Give the shard its record."""
        self.call("open", mode=mode)

    def preserve(self, number: int, **args: Any) -> list[bytes]:
        """Store context `number`; the answer's words."""
        return list(self.call("preserve", id=context_id(number), **args))

    def append(self, number: int, text: bytes = b"item", **args: Any) -> list[bytes]:
        """Append one segment to context `number`; the answer's words."""
        return list(self.call("append", id=context_id(number), **{"payload": segment(text), **args}))

    # -- looking

    def dump(self) -> Dump:
        """Everything under the shard's keys."""
        return dump(self.client, prefix=self.keys.base)

    def changes(self, before: Dump) -> dict[str, str]:
        """Every key that is not as it was: its name without the base, and `+` (new), `-` (gone) or `~` (changed)."""
        after = self.dump()
        signs = {key: "+" if key not in before else "-" if key not in after else "~" for key in before.keys() | after}
        changed = (key for key in signs if before.get(key) != after.get(key))
        return {key.decode().removeprefix(self.keys.base): signs[key] for key in changed}

    def now_ms(self) -> int:
        """The server's clock."""
        seconds, micros = self.client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def usage(self) -> dict[str, int]:
        """The totals of record."""
        return {name.decode(): int(value) for name, value in self._hash(self.keys.usage).items()}

    def fields(self, number: int) -> dict[str, str]:
        """The metadata of context `number`."""
        found = self._hash(self.keys.ctx(context_id(number)))
        return {name.decode(): value.decode() for name, value in found.items()}

    def lease(self, number: int, token: int = 7) -> None:
        """Write a lease that lives for a long time into context `number` by hand."""
        key = self.keys.ctx(context_id(number))
        self.client.hset(key, mapping={"lease": f"{token} 99999999999999", "lease_owner": "worker-1"})

    def segments(self, number: int) -> list[bytes]:
        """What was appended to context `number` since its body was written."""
        found: Any = self.client.lrange(self.keys.segs(context_id(number)), 0, -1)
        return list(found)

    def identity(self, number: int) -> str:
        """What names the content of context `number`: nonce, sequence number and chain."""
        fields = self.fields(number)
        return f"{fields['nonce']} {fields['seq']} {fields.get('chain') or fields['digest']}"

    def stamp(self, number: int) -> str:
        """What names its metadata, as restore takes it."""
        fields = self.fields(number)
        names = ("version", "expires_ms", "accessed_ms", "pinned", "lease", "segs")
        return " ".join(fields.get(name, "") for name in names)

    def events(self) -> list[tuple[str, str, str]]:
        """Lifecycle events, oldest first: event, id, version."""
        entries: Any = self.client.xrange(self.keys.events)
        return [(f[b"event"].decode(), f[b"id"].decode(), f[b"version"].decode()) for _, f in entries]

    def scores(self, key: str) -> dict[str, float]:
        """A sorted set."""
        found: Any = self.client.zrange(key, 0, -1, withscores=True)
        return {member.decode(): float(score) for member, score in found}

    def deadlines(self, number: int) -> dict[str, int]:
        """The absolute deadline (ms) of each key of a context; -2 where there is none."""
        one = context_id(number)
        return {part: int(self.client.pexpiretime(getattr(self.keys, part)(one))) for part in PARTS}

    def expire(self, number: int) -> None:
        """Leave context `number` as native expiry does, a second past its deadline: keys gone, accounts not yet."""
        one = context_id(number)
        self.client.unlink(*(getattr(self.keys, part)(one) for part in PARTS))
        self.client.zadd(self.keys.index, {one: self.now_ms() - 1000})

    def _hash(self, key: str) -> dict[bytes, bytes]:
        found: Any = self.client.hgetall(key)
        return dict(found)
