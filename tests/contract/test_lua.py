"""The scripts keep the rules of `lua/README.md`, and each rule is shown to be able to fail.

What belongs here: the source of the scripts against their headers, the errors of the package, and real servers'
compilers. What does not: what a script does (`tests/lua`).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lukhas_redis.ops.refusals import WORDS
from lukhas_redis.scripts import ScriptError, load, lua_folder, parse, script_names
from lukhas_redis.testing import RunningServer
from tests.contract import lua_rules
from tests.contract.lua_rules import RULES, Source, bare, called, commands_of

SCRIPTS = script_names()
KINDS = {row.name: row.type for name in SCRIPTS for row in load(name).keys}

GOOD = """#!lua
-- sample: store a word.
--
-- KEYS   ctx        hash    lukhas:{t}:ctx:<id>
--        usage      hash    lukhas:{t}:usage
--        more...    any     further keys
-- ARGV   word       text    what to store
-- OK     OK
-- ERR    LKLARGE            too large
-- EMITS  context.sample
--- @include "includes/refuse"
--- @include "includes/emit"
local ctx, usage_key = unpack(KEYS)
local word = unpack(ARGV)
if #word > 9 or #KEYS > 9 then refuse('LARGE') end
redis.call('HLEN', usage_key)

-- writes
emit(KEYS[3], 10, 'context.sample', word, '0')
redis.call('HSET', ctx, 'word', word)
return 'OK'
"""
BREAKS = [
    ("header", "hash    lukhas:{t}:ctx:<id>", "hsh     lukhas:{t}:ctx:<id>"),
    ("header", "text    what to store", "string  what to store"),
    ("header", "text    what to store", "text"),
    ("names", "local ctx, usage_key = unpack(KEYS)", "local usage_key, ctx = unpack(KEYS)"),
    ("names", "local word = unpack(ARGV)", "local term = unpack(ARGV)"),
    ("names", "local word = unpack(ARGV)", "local word = ARGV[1]"),
    ("trailing", "local word = unpack(ARGV)", "local word = unpack(ARGV)\nlocal again = ARGV[1]"),
    ("trailing", "--        more...    any     further keys\n", ""),
    ("trailing", "#KEYS > 9", "#{unpack(KEYS, 2)} > 9"),
    ("trailing", "#KEYS > 9", "#KEYS ~= 3"),
    ("refusals", "refuse('LARGE')", "refuse('HUGE')"),
    ("refusals", "-- ERR    LKLARGE            too large\n", ""),
    ("order", "return 'OK'", "refuse('LARGE')"),
    ("order", "return 'OK'", "error({err = 'LKLARGE'})"),
    ("order", "redis.call('HLEN', usage_key)", "redis.call('HSET', usage_key, 'a', '1')"),
    ("order", "redis.call('HLEN', usage_key)", "emit(KEYS[3], 10, 'context.sample', word, '0')"),
    ("marks", "\n-- writes\n", "\n-- write\n"),
    ("marks", "#!lua\n", "#!lua flags=no-writes\n"),
    ("types", "redis.call('HLEN', usage_key)", "redis.call('ZCARD', usage_key)"),
    ("types", "redis.call('HLEN', usage_key)", "redis.call('FLUSHALL')"),
    ("includes", '--- @include "includes/emit"\n', '--- @include "includes/emit"\n--- @include "includes/fmt"\n'),
    ("includes", "redis.call('HLEN', usage_key)", "whole('word', word, 1, 2)"),
    ("events", "'context.sample', word, '0')", "'context.other', word, '0')"),
    ("events", "-- EMITS  context.sample\n", ""),
    ("events", "'context.sample', word, '0')", "'context.' .. word, word, '0')"),
]


def read(file: str) -> str:
    """A file under `lua/`."""
    return (lua_folder() / file).read_text(encoding="utf-8")


def broken(rule: str, source: Source) -> list[str]:
    """What one rule says of a script."""
    kinds = {**KINDS, **{row.name: row.type for row in source.script.keys}}
    return list(getattr(lua_rules, rule)(source, kinds))


@pytest.mark.parametrize("rule", [rule.__name__ for rule in RULES])
@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_keeps_every_rule(name: str, rule: str) -> None:
    """A script's code does what its header says, in the order that makes it all or nothing."""
    assert broken(rule, Source(name, read(f"{name}.lua"), read)) == []


def test_a_good_script_breaks_no_rule() -> None:
    """The sample that the breaking samples are made from is sound itself."""
    assert {rule.__name__: broken(rule.__name__, Source("sample", GOOD, read)) for rule in RULES} == {
        rule.__name__: [] for rule in RULES
    }


@pytest.mark.parametrize("rule, was, becomes", BREAKS)
def test_each_rule_can_fail(rule: str, was: str, becomes: str) -> None:
    """A script that breaks a rule is found by that rule."""
    assert GOOD.count(was) == 1
    assert broken(rule, Source("sample", GOOD.replace(was, becomes), read))


@pytest.mark.parametrize("text", [GOOD.removeprefix("#!lua\n"), "\n" + GOOD, GOOD.replace("-- OK     OK\n", "")])
def test_the_first_line_and_the_header_are_demanded(text: str) -> None:
    """Without `#!lua` on line one, or without an OK row, a script cannot even be loaded."""
    with pytest.raises(ScriptError):
        parse("sample", text, read)


def test_an_apply_that_refuses_is_found() -> None:
    """Refusing is seen through an include that calls an include."""

    def with_refusal(file: str) -> str:
        extra = "local function emit_more(word)\n  refuse('LARGE')\nend\n" if file == "includes/emit.lua" else ""
        return read(file) + extra

    text = GOOD.replace("return 'OK'", "emit_more(word)\nreturn 'OK'")
    assert broken("order", Source("sample", text, with_refusal)) == ["['emit_more'] may refuse after '-- writes'"]


@pytest.mark.parametrize("name", [one.stem for one in sorted((lua_folder() / "includes").glob("*.lua"))])
def test_nothing_that_applies_a_plan_can_refuse(name: str) -> None:
    """No `x_apply`, emit, bury or transition reaches `refuse`, whoever calls it; checks and `usage_add` may."""
    header = f'#!lua\n-- all: one include.\n--\n-- OK     OK\n--- @include "includes/{name}"\n'
    source = Source("all", header, read)
    applying = [one for one in source.functions if one.endswith(("_apply", "_emit", "_lift")) or one in APPLYING]
    assert [one for one in applying if "refuse" in source.reach([one])] == []


APPLYING = ("emit", "bury", "transition", "fmt")


@pytest.mark.parametrize("name", [one.stem for one in sorted((lua_folder() / "includes").glob("*.lua"))])
def test_an_include_includes_only_what_it_calls(name: str) -> None:
    """What an include brings along it calls itself, so nobody gets a function from where they do not expect it."""
    text = read(f"includes/{name}.lua")
    brought = set(Source("all", f"#!lua\n-- all: one include.\n-- OK     OK\n{text}", read).direct)
    source = Source("all", f'#!lua\n-- all: one include.\n-- OK     OK\n--- @include "includes/{name}"\n', read)
    assert brought == {source.functions[one].home for one in called(bare(text)) if one in source.functions} & brought


def test_every_include_belongs_to_some_script() -> None:
    """There is no include that nothing uses."""
    used = {include for name in SCRIPTS for include in load(name).includes}
    assert used == {one.stem for one in (lua_folder() / "includes").glob("*.lua")}


def test_headers_agree_about_the_type_of_a_key() -> None:
    """A key that several scripts name has one type and one pattern; a list such as `victim` stands for others."""
    rows = {(row.name, row.type, row.pattern) for name in SCRIPTS for row in load(name).keys}
    assert len(rows) == len({name for name, _, _ in rows})


def test_the_rule_about_types_has_something_to_look_at() -> None:
    """Most commands name a key whose type is known, so the rule about types is not silent for want of names."""
    pairs = [pair for name in SCRIPTS for pair in commands_of(Source(name, read(f"{name}.lua"), read))]
    known = [pair for pair in pairs if KINDS.get(pair[1], "any") != "any"]
    assert len(known) > 0.6 * len(pairs) > 100


def test_every_code_word_has_an_error_and_every_error_a_code_word() -> None:
    """What the scripts may refuse with and what `ops.refusals` can explain are the same words."""
    assert {word for name in SCRIPTS for word in load(name).errors} == set(WORDS)


def test_strings_and_comments_are_not_code() -> None:
    """The rules look at code: a call in a comment, or in a text, is none."""
    assert called(bare("-- refuse('A')\nlocal a = 'refuse()' .. fmt(1)")) == {"fmt"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_servers_compile_every_script(server: RunningServer, name: str) -> None:
    """Both servers take every script as it is, and know it by the name the package calculates."""
    script = load(name)
    assert server.admin.script_load(script.text) in (script.sha, script.sha.encode())


def test_servers_refuse_what_is_no_script(server: RunningServer) -> None:
    """The compiler that the test above relies on does find a mistake."""
    loading: Callable[[str], object] = server.admin.script_load
    with pytest.raises(Exception, match="compiling"):
        loading(load("drop").text + "end\n")
