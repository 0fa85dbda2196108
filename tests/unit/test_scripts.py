"""The loader of the Lua files: includes, headers, packing by name, and where a server error happened.

What belongs here: small made-up sources. What does not: the real scripts' headers (`tests/contract/test_lua.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import redis

from lukhas_redis import scripts
from lukhas_redis.scripts import ArgRow, KeyRow, Script, ScriptError, load, parse, script_names
from lukhas_redis.testing import RunningServer

HEAD = "#!lua\n-- sample: do something.\n--\n"
OK = "-- OK     OK\n"


def reader(files: Mapping[str, str]) -> Callable[[str], str]:
    """A `read` for `parse`, over includes given by name."""

    def read(file: str) -> str:
        return files[file.removeprefix("includes/").removesuffix(".lua")]

    return read


def sample(text: str, **files: str) -> Script:
    """The script `sample` with these includes."""
    return parse("sample", text, reader(files))


def include(*names: str) -> str:
    """Include lines."""
    return "".join(f'--- @include "includes/{name}"\n' for name in names)


def test_an_include_is_joined_where_it_stands() -> None:
    """Its lines take the place of the directive; nothing else is changed."""
    script = sample(HEAD + OK + include("a") + "return a()\n", a="local function a() return 1 end\n")
    assert script.text == HEAD + OK + "local function a() return 1 end\nreturn a()\n"
    assert script.includes == ("a",)


def test_an_include_is_joined_once_after_what_it_needs() -> None:
    """Two ways to the same include give it once, before the first that needs it."""
    script = sample(
        HEAD + OK + include("b", "c", "a"), a="-- a\n", b=include("a") + "-- b\n", c=include("a", "b") + "-- c\n"
    )
    assert script.includes == ("a", "b", "c")
    assert script.text.splitlines()[-3:] == ["-- a", "-- b", "-- c"]


@pytest.mark.parametrize("files", [{"a": include("a")}, {"a": include("b"), "b": include("c"), "c": include("a")}])
def test_includes_in_a_circle_are_refused_with_the_way(files: Mapping[str, str]) -> None:
    """The message names the file, the line and the circle."""
    last = "c" if "c" in files else "a"
    with pytest.raises(ScriptError, match=rf"includes/{last}\.lua:1: includes form a circle: a.* > a$"):
        sample(HEAD + OK + include("a"), **files)


@pytest.mark.parametrize(
    "line",
    ['-- @include "includes/a"', '--- @include "a"', "--- @include 'includes/a'", '  --- @include "includes/a"',
     '--- @include "includes/a" -- why', '--- @include "includes/A"', '--- @include "includes/../a"'],
)  # fmt: skip
def test_a_bad_directive_is_refused_with_its_place(line: str) -> None:
    """What looks like an include and is none would be left out silently; it is named with file and line."""
    with pytest.raises(ScriptError, match=r"sample\.lua:5: not an include: "):
        sample(HEAD + OK + line + "\n", a="-- a\n")


def test_a_missing_include_is_named() -> None:
    """The real reader says which file there is not."""
    with pytest.raises(ScriptError, match=r"no such file: lua/includes/nowhere\.lua"):
        parse("sample", HEAD + OK + include("nowhere"), scripts._read)


def test_a_missing_script_is_named() -> None:
    """Also a script that is asked for by a wrong name."""
    with pytest.raises(ScriptError, match=r"no such file: lua/nowhere\.lua"):
        load("nowhere")


@pytest.mark.parametrize(
    "text, problem",
    [
        ("", "the first line must be #!lua"),
        ("\n" + HEAD + OK, "the first line must be #!lua"),
        ("-- sample: do something.\n" + OK, "the first line must be #!lua"),
        ("#!lua\n-- other: do something.\n" + OK, "the header needs"),
        ("#!lua\n-- sample:\n" + OK, "the header needs"),
        (HEAD, "the header needs"),
        (HEAD + "return 1\n" + OK, "the header needs"),
        (HEAD + OK + "-- ARGV   @nowhere\n", "@nowhere names no include"),
    ],
)
def test_a_broken_header_is_refused(text: str, problem: str) -> None:
    """First line, sentence, OK section and groups are demanded."""
    with pytest.raises(ScriptError, match=problem):
        sample(text)


def test_every_section_of_a_header_is_read() -> None:
    """Keys with types and patterns, arguments with kinds, defaults and texts, trailing lists, errors, events, verb."""
    script = sample(
        "#!lua flags=no-writes,allow-oom\n-- sample: do something.\n--\n"
        "-- KEYS   ctx        hash    lukhas:{t}:ctx:<id>\n--        more...    any     further keys\n"
        "-- ARGV   id         uuid    the context\n--        dry=0      flag    1 = change nothing\n"
        "--        note=      text    may be empty\n--        rest...    name    further names\n"
        "-- OK     OK id\n--        AGAIN              repeat\n"
        "-- ERR    LKABSENT           it is gone: reason\n--        LKFULL             no room\n"
        "-- EMITS  context.a context.b\n-- FCALL  ctx\n--\n-- Text that is no row.\nreturn 1\n"
    )
    assert script.summary == "do something."
    assert script.flags == ("no-writes", "allow-oom")
    assert script.reads_only
    assert script.keys == (
        KeyRow("ctx", "hash", "lukhas:{t}:ctx:<id>", many=False),
        KeyRow("more", "any", "further", many=True),
    )
    assert script.args == (
        ArgRow("id", "uuid", None, "the context", many=False),
        ArgRow("dry", "flag", "0", "1 = change nothing", many=False),
        ArgRow("note", "text", "", "may be empty", many=False),
        ArgRow("rest", "name", None, "further names", many=True),
    )
    assert (script.key_names, script.arg_names) == (("ctx",), ("id", "dry", "note"))
    assert (script.errors, script.emits, script.fcall) == (("LKABSENT", "LKFULL"), ("context.a", "context.b"), "ctx")


def test_a_header_without_flags_or_optional_sections() -> None:
    """What a header does not have is empty, not guessed."""
    script = sample(HEAD + OK)
    assert (script.flags, script.keys, script.args, script.errors, script.emits) == ((), (), (), (), ())
    assert script.fcall is None
    assert not script.reads_only


def test_a_group_brings_the_rows_of_its_include() -> None:
    """`@group` stands for the include's arguments, in its place; errors of all includes are added, each once."""
    group = "-- ARGV   one  int  first\n--        two=5  int  second\n-- ERR    LKA   a\n--        LKB   b\nlocal x\n"
    text = (
        HEAD + "-- ARGV   zero int nought\n--        @group\n--        three int third\n" + OK + "-- ERR    LKA   a\n"
    )
    script = sample(text + include("group"), group=group)
    assert script.arg_names == ("zero", "one", "two", "three")
    assert script.errors == ("LKA", "LKB")


def test_the_sha_is_that_of_the_joined_text() -> None:
    """EVALSHA finds the script under this name."""
    script = sample(HEAD + OK + include("a"), a="-- a\n")
    assert script.sha == hashlib.sha1(script.text.encode(), usedforsecurity=False).hexdigest()


PACKED = (
    HEAD
    + "-- KEYS   a hash p\n--        b hash p\n--        more... any p\n"
    + "-- ARGV   x int t\n--        y int t\n"
    + OK
)


def test_pack_puts_names_into_the_headers_order() -> None:
    """Whatever order they are given in, keys and arguments leave in that of the header, lists after them."""
    words = sample(PACKED).pack({"b": "B", "a": "A"}, {"y": b"2", "x": 1}, ["C", "D"], ["3"])
    assert words == (4, "A", "B", "C", "D", 1, b"2", "3")


@pytest.mark.parametrize(
    "keys, args",
    [({"a": "A"}, {"x": 1, "y": 2}), ({"a": "A", "b": "B", "c": "C"}, {"x": 1, "y": 2}),
     ({"a": "A", "b": "B"}, {"x": 1}), ({"a": "A", "b": "B"}, {"x": 1, "y": 2, "z": 3}),
     ({"a": "A", "c": "C"}, {"x": 1, "y": 2}), ({"a": "A", "b": "B"}, {"x": 1, "z": 2})],
)  # fmt: skip
def test_pack_refuses_names_that_are_missing_or_too_many(keys: Mapping[str, str], args: Mapping[str, int]) -> None:
    """A call with other names than the header's is never sent."""
    with pytest.raises((ScriptError, KeyError)):
        sample(PACKED).pack(keys, args)


def test_locate_names_file_and_line() -> None:
    """A line of the joined text is a line of the file it came from, also after an include."""
    script = sample(HEAD + OK + include("a") + "return 1\n", a="-- first\n-- second\n")
    assert script.locate("ERR boom script: abc, on @user_script:6.") == "includes/a.lua:2"
    assert script.locate("ERR user_script:7: boom") == "sample.lua:6"


@pytest.mark.parametrize(
    "message", ["", "ERR boom", "WRONGTYPE Operation", "on @user_script:0.", "on @user_script:99."]
)
def test_locate_says_none_when_the_message_does_not_tell(message: str) -> None:
    """No line, or one that the script does not have, is no place."""
    assert sample(HEAD + OK).locate(message) is None


FAILING = {
    "refuse": "local function fail(key)\n  error({err = 'LKX a=1'})\nend\n",
    "command": "local function fail(key)\n  redis.call('LPUSH', key, 'x')\nend\n",
    "lua": "local function fail(key)\n  return nil + 1\nend\n",
}


@pytest.mark.parametrize("kind", sorted(FAILING))
def test_locate_finds_a_real_servers_error(server: RunningServer, tenant: str, kind: str) -> None:
    """Refusal, failed command and mistake are each found in the include where they happened, on every server."""
    script = sample(
        HEAD + OK + include("fail") + "redis.call('SET', KEYS[1], 'x')\nfail(KEYS[1])\n", fail=FAILING[kind]
    )
    with pytest.raises(redis.ResponseError) as caught:
        server.admin.eval(script.text, 1, f"lukhas:{{{tenant}}}:x")
    assert script.locate(str(caught.value)) == "includes/fail.lua:2"


def test_locate_finds_an_error_in_the_script_itself(server: RunningServer) -> None:
    """Lines after an include are counted in the script's own file."""
    script = sample(HEAD + OK + include("a") + "\nreturn nil + 1\n", a="-- one\n-- two\n-- three\n")
    with pytest.raises(redis.ResponseError) as caught:
        server.admin.eval(script.text, 0)
    assert script.locate(str(caught.value)) == "sample.lua:7"


def test_scripts_are_found_in_a_checkout_and_in_a_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A wheel has them inside the package, a checkout beside it."""
    assert {"preserve", "restore", "handoff"} <= set(script_names())
    package = tmp_path / "lukhas_redis"
    package.mkdir()
    monkeypatch.setattr(scripts, "__file__", str(package / "scripts.py"))
    assert scripts.lua_folder() == tmp_path / "lua"
    (package / "_lua").mkdir()
    (package / "_lua" / "one.lua").write_text(HEAD)
    assert script_names() == ("one",)
