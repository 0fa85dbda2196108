"""What `redis-cli GET lukhas:help` says: the keys and the verbs, for whoever opens redis-cli without this package.

What belongs here: the text, made from the keys' own descriptions and the scripts' headers. What does not: writing it to
a server (`library`).
Invariant: every key pattern of every script and every verb of the library is in it, because it is made of them.
"""

from __future__ import annotations

import inspect

from lukhas_redis.functions import library_version, verbs
from lukhas_redis.keys import ShardKeys
from lukhas_redis.scripts import ArgRow, Script

# Keys of a shard as a whole, and of its bus; those of one context describe themselves in `keys.ShardKeys`.
SHARD_KEYS = {
    "index": "sorted set: live contexts by deadline, in milliseconds",
    "order": "sorted set: contexts that may be evicted, first out first",
    "sizes": "hash: stored bytes per context",
    "usage": "hash: totals and counters",
    "tombs": "sorted set: contexts that are gone, with the reason",
    "events": "stream: lifecycle events, the last thousand or so",
    "flags": "hash: mode, limits, feature flags (change them with lukhas_set_flag: it is audited)",
    "audit": "stream: who changed a flag, when, from, to, why",
    "shard": "hash: number of shards, incarnation marker, last fencing token",
}
BUS_KEYS = {
    "bus:<priority>": "stream: events; <priority> is critical, high, normal or low",
    "bus:later": "stream: delayed events",
    "bus:due": "sorted set: delayed events by the time they are due",
    "bus:dead": "stream: dead letters, each with its group, its error and the event",
    "bus:wake": "stream: signs that wake one idle worker, 16 at most",
    "bus:groups": "hash: consumer groups, and when each was made",
    "group:<group>": "hash: what a group has done, and when a worker last asked (seen_ms)",
    "group:<group>:held:<priority>": "sorted set: what it has in hand, by the time it is free again",
    "group:<group>:parked": "sorted set: events that wait for their ordering key",
    "group:<group>:busy": "hash: ordering keys in use, and which event has each",
}
CONTEXT_KEYS = {
    "ctx": "<id>", "body": "<id>", "segs": "<id>", "hops": "<id>", "log": "<id>",
    "session": "<session>", "request": "<request id>", "stage": "<random>",
}  # fmt: skip
# What many verbs take and operators rarely give.
COMMON = (
    "request_id", "request", "durable", "retention_ms", "dry", "mode", "shards", "marker", "window", "grace_ms",
    "max_tombs",
)  # fmt: skip
_NAMES = {"request": "req"}
_WIDTH = 30

_INTRO = """\
lukhas_redis: working state of AI agents. Release {version}.

A key is {prefix}:{{<tenant>}}:<name>, or {prefix}:{{<tenant>/<k>}}:<name> on shard k of a tenant with several.
The part in braces is literal: in a shell, quote the key. Look at anything; write through the verbs only.
All times are milliseconds of this server's clock (TIME). Everything of a context expires together, by itself.

KEYS of a tenant
{keys}

LOOKING
  HGETALL '{prefix}:{{default}}:ctx:<id>'                       one context's metadata
  ZRANGE '{prefix}:{{default}}:index' 0 9 WITHSCORES            the ten contexts that expire first
  XREVRANGE '{prefix}:{{default}}:events' + - COUNT 10          what happened last
  HGETALL '{prefix}:{{default}}:flags'                          mode and limits ((empty): all as configured)
  XREVRANGE '{prefix}:{{default}}:audit' + - COUNT 10           who changed them
  XINFO GROUPS '{prefix}:{{default}}:bus:normal'                how far each group is: lag, pending
  XPENDING '{prefix}:{{default}}:bus:normal' <group>            what it has not finished, and who has it
  HGETALL '{prefix}:{{default}}:group:<group>'                  what it has done
  XREVRANGE '{prefix}:{{default}}:bus:dead' + - COUNT 10        the newest dead letters, and why

VERBS: FCALL <verb> 1 '<key>' [name value ...]; those marked (reads) also with FCALL_RO. FCALL lukhas_version 0
{verbs}
  ... stands for what else it may take, each with a default: {common}

EXAMPLES
  FCALL lukhas_extend 1 '{prefix}:{{default}}:ctx:<id>' ttl_ms 7200000
  FCALL_RO lukhas_metadata 1 '{prefix}:{{default}}:ctx:<id>'
  FCALL_RO lukhas_list 1 '{prefix}:{{default}}:index' count 20
  FCALL lukhas_lease 1 '{prefix}:{{default}}:ctx:<id>' owner ann lease_ms 60000
  FCALL_RO lukhas_status 1 '{prefix}:{{default}}:bus:groups'
  FCALL lukhas_redrive 1 '{prefix}:{{default}}:bus:dead' letter <letter>
  FCALL lukhas_retire 1 '{prefix}:{{default}}:bus:groups' group <group>
  FCALL lukhas_set_flag 1 '{prefix}:{{default}}:flags' name mode value paused by ann reason 'moving house'
"""


def help_text(prefix: str) -> str:
    """The text for the key `<prefix>:help`."""
    rows = "\n".join(_verb(script).replace("lukhas:{t}:", f"{prefix}:{{<tenant>}}:") for script in verbs())
    named = {"common": " ".join(COMMON), "verbs": rows}
    return _INTRO.format(prefix=prefix, version=library_version(), keys=_keys(), **named)


def _keys() -> str:
    of_context = {f"{_NAMES.get(name, name)}:{what}": _described(name) for name, what in CONTEXT_KEYS.items()}
    return "\n".join(f"  {name:<{_WIDTH}} {text}" for name, text in (of_context | SHARD_KEYS | BUS_KEYS).items())


def _described(name: str) -> str:
    text = (inspect.getdoc(getattr(ShardKeys, name)) or "").split(";")[0].rstrip(".")
    return text[:1].lower() + text[1:]


def _verb(script: Script) -> str:
    reads = " (reads)" if script.reads_only else ""
    call = f"  lukhas_{script.name} 1 '{key_of(script)}' {arguments(script)}".rstrip()
    return f"{call}\n      {script.summary}{reads}"


def arguments(script: Script) -> str:
    """What a verb takes: its own arguments, optional ones in brackets, and `...` for the common ones."""
    own = [_argument(row) for row in script.args if not is_found(row) and row.name not in COMMON]
    return " ".join([*own, "..."] if any(row.name in COMMON for row in script.args) else own)


def _argument(row: ArgRow) -> str:
    shown = f"{row.name} <{row.kind}>"
    return shown if row.default is None else f"[{shown}]"


def is_found(row: ArgRow) -> bool:
    """Whether the verb finds an argument itself, from the key it was given."""
    return row.name in ("id", "sid")


def key_of(script: Script) -> str:
    """The pattern of the one key that a verb is given."""
    return next(row.pattern for row in script.keys if row.name == script.fcall)
