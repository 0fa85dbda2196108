"""Small scripts that transport tests run: one that adds once per request id, and one that fails in many ways.

What belongs here: scripts and the requests made of them. What does not: servers, simulated or real.
Invariant: the keys of a tag start with `t:{tag}:`, so that a test can look at them and remove them.
"""

from __future__ import annotations

from typing import Any

from lukhas_redis.calls import Call, Op, Read, Request, Snapshot, Stage
from lukhas_redis.scripts import Script, parse

COUNT = parse(
    "count",
    """#!lua
-- count: add to a counter, once per request id.
--
-- KEYS  counter  string  t:{tag}:counter
--       done     string  t:{tag}:done:<id>
-- ARGV  by       int     how much
-- OK    the counter after it
-- ERR   LKLIMIT  by=..   more than 100 at once
local counter, done = KEYS[1], KEYS[2]
local by = tonumber(ARGV[1])
local first = redis.call('GET', done)
if first then return tonumber(first) end
redis.call('GET', counter)
if by > 100 then return redis.error_reply('LKLIMIT by=' .. ARGV[1] .. ' limit=100') end

-- writes
local total = redis.call('INCRBY', counter, ARGV[1])
redis.call('SET', done, total, 'EX', 600)
return total
""",
    lambda _: "",
)
TAKE = parse(
    "take",
    """#!lua
-- take: make a staged payload the body, once.
--
-- KEYS  stage  string  t:{tag}:stage:<random>
--       body   string  t:{tag}:body
-- ARGV  size   int     bytes expected
-- OK    bytes stored
-- ERR   LKSTAGE          there is no such stage
local stage, body = KEYS[1], KEYS[2]
if redis.call('EXISTS', stage) == 0 then return redis.error_reply('LKSTAGE') end

-- writes
redis.call('RENAME', stage, body)
return redis.call('STRLEN', body)
""",
    lambda _: "",
)
LOOK = parse(
    "look",
    """#!lua flags=no-writes
-- look: read a counter.
--
-- KEYS  counter  string  t:{tag}:counter
-- OK    the counter
return tonumber(redis.call('GET', KEYS[1]) or '0')
""",
    lambda _: "",
)
BROKEN = parse(
    "broken",
    """#!lua
-- broken: fail at line 7.
--
-- KEYS  counter  string  t:{tag}:counter
-- OK    never

local nothing = KEYS[1] + {}
return nothing
""",
    lambda _: "",
)
SPIN = parse(
    "spin",
    """#!lua
-- spin: loop until it is killed.
--
-- KEYS  counter  string  t:{tag}:counter
-- OK    never
while true do redis.call('GET', KEYS[1]) end
""",
    lambda _: "",
)


def counter_key(tag: str) -> str:
    """Where `COUNT` counts."""
    return f"t:{{{tag}}}:counter"


def count_call(tag: str, request_id: str | None = "r", by: int = 1, **options: Any) -> Call:
    """One `COUNT` with a request id; without one it is not repeatable (but still counts once per `done` key)."""
    keys = {"counter": counter_key(tag), "done": f"t:{{{tag}}}:done:{request_id}"}
    return Call(COUNT, tag, COUNT.pack(keys, {"by": by}), request_id=request_id, **options)


def take_call(tag: str, payload: bytes, request_id: str | None = "r", **options: Any) -> Call:
    """One `TAKE` of a staged payload."""
    stage = f"t:{{{tag}}}:stage:{request_id}"
    words = TAKE.pack({"stage": stage, "body": f"t:{{{tag}}}:body"}, {"size": len(payload)})
    return Call(TAKE, tag, words, request_id=request_id, stage=Stage(stage, payload), **options)


def simple_call(script: Script, tag: str, **options: Any) -> Call:
    """One call of a script that takes the counter alone."""
    return Call(script, tag, script.pack({"counter": counter_key(tag)}, {}), **options)


def read(tag: str, *words: str) -> Read:
    """One plain read."""
    return Read(tag, words)


def snapshot(tag: str) -> Snapshot:
    """The counter by script and by GET, of one moment."""
    return Snapshot(simple_call(LOOK, tag), (read(tag, "GET", counter_key(tag)),))


def asking(request: Request) -> Op[Any]:
    """An operation of one request."""
    return (yield request)


def asking_all(*requests: Request) -> Op[Any]:
    """An operation of several requests at once."""
    return (yield requests)
