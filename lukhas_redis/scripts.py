"""Finds the Lua scripts, joins their includes and reads their headers.

What belongs here: from `lua/<name>.lua` to a `Script` whose keys and arguments have names. What does not:
sending one (`transport`), or the function library for operators (`functions`).
Invariant: what a header says (names, order, types) is what Python sends; nothing is passed by position.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

Arg = str | int | bytes

_INCLUDE = re.compile(r'^--- @include "includes/([a-z_]+)"$')
_OPERATIONS = re.compile(r'^--- @operations "([a-z_ ]+)"$')
_SECTIONS = ("KEYS", "ARGV", "OK", "ERR", "EMITS", "FCALL")
_SECTION = re.compile(rf"^-- ({'|'.join(_SECTIONS)}) +(.*)$")
_CONTINUED = re.compile(r"^-- {2,}(\S.*)$")
_SERVER_LINE = re.compile(r"user_(?:script|function):(\d+)")


_Flat = tuple[list[str], list[tuple[str, int]], tuple[str, ...]]


class ScriptError(Exception):
    """A file under `lua/` breaks the grammar of `lua/README.md`; a mistake of ours, found at import or by tests."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key of a header: its name, its Redis type, its real pattern; `many` for a trailing list of keys."""

    name: str
    type: str
    pattern: str
    many: bool


@dataclass(frozen=True, slots=True)
class ArgRow:
    """One argument of a header; `default` is what an operator's FCALL sends when it is left out."""

    name: str
    kind: str
    default: str | None
    text: str
    many: bool


@dataclass(frozen=True)
class Script:
    """A flattened script with its contract."""

    name: str
    summary: str
    text: str
    keys: tuple[KeyRow, ...]
    args: tuple[ArgRow, ...]
    errors: tuple[str, ...]
    emits: tuple[str, ...]
    fcall: str | None
    flags: tuple[str, ...]
    includes: tuple[str, ...]
    origins: tuple[tuple[str, int], ...] = field(repr=False)

    @cached_property
    def sha(self) -> str:
        """The SHA-1 that EVALSHA knows the script by."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    @cached_property
    def reads_only(self) -> bool:
        """Whether the server itself forbids this script to write."""
        return "no-writes" in self.flags

    @cached_property
    def key_names(self) -> tuple[str, ...]:
        """Names of the keys in the order the script takes them, without a trailing list."""
        return tuple(row.name for row in self.keys if not row.many)

    @cached_property
    def arg_names(self) -> tuple[str, ...]:
        """Names of the arguments in the order the script takes them, without a trailing list."""
        return tuple(row.name for row in self.args if not row.many)

    @cached_property
    def _in_key_order(self) -> Callable[[Mapping[str, str]], Sequence[str]]:
        return _picker(self.key_names)

    @cached_property
    def _in_arg_order(self) -> Callable[[Mapping[str, Arg]], Sequence[Arg]]:
        return _picker(self.arg_names)

    def pack(
        self,
        keys: Mapping[str, str],
        args: Mapping[str, Arg],
        more_keys: Sequence[str] = (),
        more_args: Sequence[Arg] = (),
    ) -> tuple[Arg, ...]:
        """The words after `EVALSHA <sha>`: the number of keys, the keys, the arguments, in the header's order.

        Raises:
            KeyError: A name of the header was not given. Not retryable: it is a mistake in `ops`.
        """
        if len(keys) != len(self.key_names) or len(args) != len(self.arg_names):
            raise ScriptError(f"{self.name}: takes keys {self.key_names} and arguments {self.arg_names}")
        return (
            len(keys) + len(more_keys),
            *self._in_key_order(keys),
            *more_keys,
            *self._in_arg_order(args),
            *more_args,
        )

    def locate(self, server_message: str) -> str | None:
        """Where in `lua/` a server error happened, such as `includes/purge.lua:9`, or None when it does not say."""
        found = _SERVER_LINE.search(server_message)
        if not found or not 1 <= int(found[1]) <= len(self.origins):
            return None
        file, line = self.origins[int(found[1]) - 1]
        return f"{file}:{line}"


def _picker(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    """A function that takes the values of `names`, in their order; every call of a script needs it twice."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: [values[name] for name in names]


def lua_folder() -> Path:
    """Where the Lua files are: inside an installed wheel, or beside the package in a checkout."""
    inside = Path(__file__).parent / "_lua"
    return inside if inside.is_dir() else inside.parent.parent / "lua"


def script_names() -> tuple[str, ...]:
    """The names of all scripts, sorted."""
    return tuple(sorted(path.stem for path in lua_folder().glob("*.lua")))


@cache
def load(name: str) -> Script:
    """The script `lua/<name>.lua`, its includes joined and its header read.

    Raises:
        ScriptError: The file is missing or breaks the grammar. Not retryable.
    """
    return parse(name, _read(f"{name}.lua"), _read)


def _read(file: str) -> str:
    path = lua_folder() / file
    if not path.is_file():
        raise ScriptError(f"no such file: lua/{file}")
    return path.read_text(encoding="utf-8")


def parse(name: str, source: str, read: Callable[[str], str]) -> Script:
    """Flatten and read one script; `read(file)` gives the text of an include."""
    lines, origins, includes = _flatten(name, source, read)
    header = _Header(name, source.splitlines())
    header.join({include: _rows(read(f"includes/{include}.lua").splitlines()) for include in includes})
    for one in operations_of(source):
        header.adopt(_rows(read(f"{one}.lua").splitlines()))
    return Script(
        name=name,
        summary=header.summary,
        text="\n".join(lines) + "\n",
        keys=tuple(header.key_rows()),
        args=tuple(header.arg_rows()),
        errors=tuple(row.split()[0] for row in header.rows["ERR"]),
        emits=tuple(word for row in header.rows["EMITS"] for word in row.split()),
        fcall=header.rows["FCALL"][0] if header.rows["FCALL"] else None,
        flags=header.flags,
        includes=includes,
        origins=tuple(origins),
    )


def _flatten(name: str, source: str, read: Callable[[str], str]) -> _Flat:
    """Join includes (each once, depth first), keeping for every line where it came from."""
    flat = _Flattening(read)
    flat.add(f"{name}.lua", source, ())
    return flat.lines, flat.origins, tuple(flat.done)


class _Flattening:
    """A script on its way to one text: its lines, where each came from, and the includes it has so far."""

    def __init__(self, read: Callable[[str], str]) -> None:
        self.read = read
        self.lines: list[str] = []
        self.origins: list[tuple[str, int]] = []
        self.done: list[str] = []

    def add(self, file: str, text: str, stack: tuple[str, ...]) -> None:
        """Add a file line by line; `stack` are the includes it is inside of."""
        for number, line in enumerate(text.splitlines(), 1):
            if found := _INCLUDE.match(line):
                self._include(found[1], f"{file}:{number}", stack)
            elif several := _OPERATIONS.match(line):
                self._put(file, number, "local operations = {}")
                for one in several[1].split():
                    self._operation(one)
            elif "@include" in line or "@operations" in line:
                raise ScriptError(f"{file}:{number}: not an include: {line}")
            else:
                self._put(file, number, line)

    def _put(self, file: str, number: int, line: str) -> None:
        self.lines.append(line)
        self.origins.append((file, number))

    def _include(self, one: str, place: str, stack: tuple[str, ...]) -> None:
        if one in stack:
            raise ScriptError(f"{place}: includes form a circle: {' > '.join((*stack, one))}")
        if one not in self.done:
            inner = f"includes/{one}.lua"
            self.add(inner, self.read(inner), (*stack, one))
            self.done.append(one)

    def _operation(self, one: str) -> None:
        """Another script as a function of its keys and arguments; its includes stand before it, as everybody's."""
        file = f"{one}.lua"
        own = list(enumerate(self.read(file).splitlines(), 1))
        for number, line in own:
            if found := _INCLUDE.match(line):
                self._include(found[1], f"{file}:{number}", ())
        self._put(file, 1, f"operations.{one} = function(KEYS, ARGV)")
        for number, line in own:
            if not line.startswith(("#!", "--")):
                self._put(file, number, line)
        self._put(file, len(own), "end")


def operations_of(source: str) -> tuple[str, ...]:
    """The scripts that a script carries out as parts of itself."""
    return tuple(one for line in source.splitlines() if (found := _OPERATIONS.match(line)) for one in found[1].split())


def _rows(lines: list[str]) -> dict[str, list[str]]:
    """The rows of a header comment by section; a row that starts on the next line continues its section."""
    rows: dict[str, list[str]] = {name: [] for name in _SECTIONS}
    section: str | None = None
    for line in lines:
        if not line.startswith(("--", "#!")):
            return rows
        if found := _SECTION.match(line):
            section = str(found[1])
            rows[section].append(found[2])
        elif section and (more := _CONTINUED.match(line)):
            rows[section].append(more[1])
    return rows


class _Header:
    """The comment block at the top of a script, cut into its sections."""

    def __init__(self, name: str, lines: list[str]) -> None:
        if not lines or not lines[0].startswith("#!lua"):
            raise ScriptError(f"{name}.lua: the first line must be #!lua")
        found = re.search(r"flags=([\w,-]+)", lines[0])
        start = f"-- {name}: "
        self.name = name
        self.flags = tuple(found[1].split(",")) if found else ()
        self.summary = next((line[len(start) :] for line in lines if line.startswith(start)), "")
        self.rows = _rows(lines)
        if not self.summary or not self.rows["OK"]:
            raise ScriptError(f"{name}.lua: the header needs '-- {name}: <sentence>' and an OK section")

    def join(self, includes: Mapping[str, Mapping[str, list[str]]]) -> None:
        """Put an include's arguments where the header says `@include`, and add the errors of every include."""
        args: list[str] = []
        for row in self.rows["ARGV"]:
            if row.startswith("@") and row[1:].strip() not in includes:
                raise ScriptError(f"{self.name}.lua: {row} names no include of the script")
            args += includes[row[1:].strip()]["ARGV"] if row.startswith("@") else [row]
        self.rows["ARGV"] = args
        for rows in includes.values():
            self.rows["ERR"] += [row for row in rows["ERR"] if row not in self.rows["ERR"]]

    def adopt(self, operation: Mapping[str, list[str]]) -> None:
        """What an operation refuses and emits, the script that carries it out does, too."""
        self.rows["ERR"] += [row for row in operation["ERR"] if row not in self.rows["ERR"]]
        known = {word for row in self.rows["EMITS"] for word in row.split()}
        self.rows["EMITS"] += [word for row in operation["EMITS"] for word in row.split() if word not in known]

    def key_rows(self) -> list[KeyRow]:
        return [_key_row(*row.split()[:3]) for row in self.rows["KEYS"]]

    def arg_rows(self) -> list[ArgRow]:
        return [_arg_row(*row.split(maxsplit=2)) for row in self.rows["ARGV"]]


def _key_row(name: str, type_: str, pattern: str) -> KeyRow:
    return KeyRow(name.removesuffix("..."), type_, pattern, name.endswith("..."))


def _arg_row(name: str, kind: str, text: str = "") -> ArgRow:
    name, given, default = name.partition("=")
    return ArgRow(name.removesuffix("..."), kind, default if given else None, text, name.endswith("..."))
