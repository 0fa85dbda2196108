"""The rules of `lua/README.md`, each as a function from one script to the sentences it breaks.

What belongs here: what can be read from the source without running it. What does not: which scripts there are, and
what a script does (`tests/lua`). Invariant: a rule that finds nothing to look at says so, or its test does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from lukhas_redis.scripts import Script, operations_of, parse

TYPED = {
    "hash": "HGET HMGET HGETALL HVALS HKEYS HLEN HEXISTS HSET HSETNX HDEL HINCRBY",
    "string": "GET STRLEN GETRANGE SET RENAME",
    "list": "LLEN LRANGE RPUSH LTRIM",
    "zset": "ZCARD ZCOUNT ZRANGE ZRANGEBYSCORE ZRANGEBYLEX ZRANK ZSCORE ZMSCORE ZADD ZREM ZPOPMIN",
    "stream": "XLEN XADD XRANGE XDEL XTRIM XACK XCLAIM XREADGROUP XPENDING XINFO XGROUP",
    "any": "EXISTS PEXPIRETIME PEXPIREAT PEXPIRE UNLINK TIME",
}
TYPE_OF = {command: kind for kind, commands in TYPED.items() for command in commands.split()}
_WRITING = (
    "HSET HSETNX HDEL SET RENAME RPUSH LTRIM ZADD ZREM ZPOPMIN XADD PEXPIREAT PEXPIRE "
    "UNLINK HINCRBY XDEL XTRIM XACK XCLAIM XREADGROUP XGROUP"
)
WRITES = set(_WRITING.split())
KINDS = {"int", "uuid", "text", "name", "hex", "word", "flag", "id", "bytes"}
# A repeat under `durable` rewrites its own record with its own words, and what called it returns at once.
WRITES_BEFORE = {"request_check"}
_LUA = "ipairs pairs pcall tonumber tostring unpack type error function if elseif while and or not return for in"
OF_LUA = set(_LUA.split())
EVENTS = {"expired": "context.expire", "evicted": "context.evict", "lost": "context.lose", "dropped": "context.drop"}

_CALL = re.compile(r"(?<![\w.:'])([A-Za-z_]\w*)\s*\(")
_COMMAND = re.compile(r"redis\.p?call\('(\w+)'(?:, ([\w.]+))?")
_REFUSE = re.compile(r"refuse\('(\w+)'")
_FUNCTION = re.compile(r"^local function (\w+)\((.*?)\)$(.*?)^end$", re.MULTILINE | re.DOTALL)
_UNPACK = re.compile(r"^local ([\w,\s]+?) = unpack\((KEYS|ARGV)\)$", re.MULTILINE)


@dataclass(frozen=True)
class Function:
    """One function of an include: what it calls, whether it refuses or writes by itself."""

    name: str
    home: str
    body: str

    @cached_property
    def calls(self) -> set[str]:
        """Names it calls."""
        return called(self.body)

    @cached_property
    def writes(self) -> bool:
        """Whether it sends a writing command itself."""
        return any(command in WRITES for command, _ in _COMMAND.findall(self.body))


class Source:
    """One script with its includes, cut into what the rules look at."""

    def __init__(self, name: str, text: str, read: Callable[[str], str]) -> None:
        self.script: Script = parse(name, text, read)
        self.includes = {one: bare(read(f"includes/{one}.lua")) for one in self.script.includes}
        self.functions = {
            found[1]: Function(found[1], home, found[3])
            for home, source in self.includes.items()
            for found in _FUNCTION.finditer(source)
        }
        # What it carries out as parts of itself keeps the rules as a script of its own; here it counts as included.
        self.operations = {one: bare(read(f"{one}.lua")) for one in operations_of(text)}
        self.direct = re.findall(r'^--- @include "includes/(\w+)"$', text, re.MULTILINE)
        before, mark, after = text.partition("\n-- writes\n")
        self.marks = text.count("\n-- writes\n")
        self.before, self.after = bare(before), bare(after) if mark else ""

    @property
    def own(self) -> str:
        """The script's own code."""
        return self.before + "\n" + self.after

    def reach(self, names: Iterable[str]) -> set[str]:
        """These functions and all they call, directly or not."""
        found: set[str] = set()
        waiting = [name for name in names if name in self.functions]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += [one for one in self.functions[name].calls if one in self.functions]
        return found


def bare(text: str) -> str:
    """Code without comments."""
    return "\n".join(re.sub(r"--.*$", "", line) for line in text.splitlines())


def called(code: str) -> set[str]:
    """Names called in a piece of code, without those of Lua itself."""
    without_text = re.sub(r"'[^']*'", "''", code)
    return set(_CALL.findall(without_text)) - OF_LUA


def header(source: Source, _: Mapping[str, str]) -> Iterator[str]:
    """The header is complete: known types and kinds, a text for each argument."""
    for key in source.script.keys:
        if key.type not in TYPED or not key.pattern:
            yield f"key {key.name} has no type or pattern"
    for arg in source.script.args:
        if arg.kind not in KINDS or not arg.text:
            yield f"argument {arg.name} has no known kind or no text"


def names(source: Source, _: Mapping[str, str]) -> Iterator[str]:
    """`unpack(KEYS)` and `unpack(ARGV)` name the rows of the header, in order; `usage_key` may stand for `usage`."""
    found = {which: [one.strip() for one in given.split(",")] for given, which in _UNPACK.findall(source.before)}
    for which, rows in (("KEYS", source.script.key_names), ("ARGV", source.script.arg_names)):
        given = [one.removesuffix("_key") if one not in rows else one for one in found.get(which, [])]
        if given != list(rows):
            yield f"unpack({which}) gives {given}, the header {list(rows)}"


def trailing(source: Source, _: Mapping[str, str]) -> Iterator[str]:
    """`KEYS` and `ARGV` are read by position only where the header ends with a list."""
    script = source.script
    lists = {"KEYS": any(row.many for row in script.keys), "ARGV": any(row.many for row in script.args)}
    for which, has_list in lists.items():
        by_position = re.findall(rf"{which}\[|#{which}|unpack\({which},|ipairs\({which}\)", source.own)
        if by_position and not has_list:
            yield f"{by_position[0]} is used, but the header lists no further {which}"
        first = len(script.key_names if which == "KEYS" else script.arg_names) + 1
        starts = re.findall(rf"unpack\({which}, (\d+)", source.own) + re.findall(
            rf"for i = (\d+), #{which} do", source.own
        )
        if set(starts) - {str(first)}:
            yield f"the list in {which} is taken from {starts}, the header's begins at {first}"
        if which == "KEYS" and set(re.findall(r"#KEYS ~= (\d+)", source.own)) - {str(first - 1)}:
            yield f"#KEYS is compared with another number than the header's {first - 1}"


def refusals(source: Source, _: Mapping[str, str]) -> Iterator[str]:
    """What is refused is what ERR lists, includes counted."""
    said = {
        f"LK{word}"
        for code in (source.own, *source.operations.values(), *source.includes.values())
        for word in _REFUSE.findall(code)
    }
    if said != set(source.script.errors):
        yield f"refuses {sorted(said)}, ERR lists {sorted(source.script.errors)}"


def order(source: Source, _: Mapping[str, str]) -> Iterator[str]:
    """Nothing is written before `-- writes`, and nothing refuses after it."""
    early = source.reach(called(source.before)) - WRITES_BEFORE
    early_commands = {command for command, _ in _COMMAND.findall(source.before)} & WRITES
    writers = {name for name in early if source.functions[name].writes} | early_commands
    if writers:
        yield f"{sorted(writers)} write before '-- writes'"
    late = called(source.after)
    refusing = {name for name in late if "refuse" in source.reach([name])} | (late & {"refuse"})
    if refusing or "error(" in source.after:
        yield f"{sorted(refusing) or 'error()'} may refuse after '-- writes'"


def marks(source: Source, _: Mapping[str, str]) -> Iterator[str]:
    """A writer has one line `-- writes`; a reader has none, the flag `no-writes`, and reaches no writing command."""
    commands = {command for command, _ in _COMMAND.findall(source.own)}
    reached = source.reach(called(source.own)) - WRITES_BEFORE
    writes = bool(commands & WRITES) or any(source.functions[name].writes for name in reached)
    if writes == source.script.reads_only:
        yield f"flags say {source.script.flags}, but it {'writes' if writes else 'does not write'}"
    if source.marks != int(writes):
        yield f"has {source.marks} lines '-- writes'"


def types(source: Source, kinds: Mapping[str, str]) -> Iterator[str]:
    """A command fits the type that the header gives its key, where the name of the key tells."""
    for command, key in commands_of(source):
        if command not in TYPE_OF:
            yield f"{command} is not a command these rules know"
        elif kinds.get(key, "any") not in (TYPE_OF[command], "any") and TYPE_OF[command] != "any":
            yield f"{command} on {key}, which is a {kinds[key]}"


def commands_of(source: Source) -> list[tuple[str, str]]:
    """Every command with the name of its key, `_key` and the table it is in taken away."""
    bodies = [function.body for function in source.functions.values()]
    found = [pair for code in (source.own, *bodies) for pair in _COMMAND.findall(code)]
    return [(command, key.rpartition(".")[2].removesuffix("_key")) for command, key in found]


def includes(source: Source, _: Mapping[str, str]) -> Iterator[str]:
    """What the script includes it uses, and every function called is there."""
    reached = source.reach(called(source.own) | set().union(*map(called, source.operations.values()), set()))
    homes = {source.functions[name].home for name in reached}
    for home in set(source.direct) - homes:
        yield f"includes/{home} is not used"
    known = set(source.functions) | set(
        re.findall(r"local function (\w+)", source.own + "".join(source.includes.values()))
    )
    bodies = [source.functions[name].body for name in reached]
    for missing in set().union(*map(called, [source.own, *bodies])) - known:
        yield f"calls {missing}, which no include defines"


def events(source: Source, _: Mapping[str, str]) -> Iterator[str]:
    """EMITS lists what is emitted; of operations carried out as parts, what they list."""
    if source.operations:
        return
    said = set(re.findall(r"'(context\.\w+)'", source.own)) | {f"context.{word}" for word in built(source)}
    if "purge_add" in source.functions:
        said |= {EVENTS[word] for word in re.findall(r"'(\w+)'", source.own) if word in EVENTS and word != "expired"}
    if "purge_expired" in called(source.own):
        said.add(EVENTS["expired"])
    if "XADD" in {command for command, _ in _COMMAND.findall(source.own)}:
        said.add("audit")
    if said != set(source.script.emits):
        yield f"emits {sorted(said)}, EMITS lists {sorted(source.script.emits)}"


def built(source: Source) -> set[str]:
    """The words that follow `'context.' ..`: those of the table that the argument with them was looked up in."""
    names = re.findall(r"'context\.' \.\. (\w+)", source.own)
    tables = [re.search(rf"\(\{{([^{{}}]*)\}}\)\[{name}\] or refuse\(", source.before) for name in names]
    return {word for table in tables if table for word in re.findall(r"(\w+) =", table[1])}


RULES = (header, names, trailing, refusals, order, marks, types, includes, events)
