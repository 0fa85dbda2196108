"""The text of the function library.

What belongs here: what can be read from it without a server. What does not: calling it (`tests/lua/test_functions.py`).
"""

from __future__ import annotations

import re

import pytest

from lukhas_redis import functions
from lukhas_redis.functions import library, library_version, verbs
from lukhas_redis.scripts import load, script_names


def test_the_library_is_the_same_every_time() -> None:
    """Two workers of one release generate the same text, so loading it again changes nothing."""
    first, version = library(), library_version()
    library.cache_clear()
    assert (library(), library_version()) == (first, version)


def test_the_version_follows_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another text has another version."""
    before = library_version()
    library.cache_clear()
    monkeypatch.setattr(functions, "_RUNNER", functions._RUNNER + "\n-- changed")
    assert library_version() != before
    library.cache_clear()


def test_every_verb_is_registered_once_with_its_flags() -> None:
    """One function for each script with an FCALL row, under its name, and one for the version."""
    text = library()
    registered = re.findall(r"register_function\{function_name = 'lukhas_(\w+)', flags = \{(.*?)\}", text)
    expected = {script.name: ", ".join(f"'{flag}'" for flag in script.flags) for script in verbs()}
    assert dict(registered) == {**expected, "version": "'no-writes'"}
    assert len(registered) == len(expected) + 1


def test_the_verbs_are_the_scripts_with_an_fcall_row() -> None:
    """A verb's key is one of its script's keys, and everything else in its header can be derived or given by name."""
    assert {script.name for script in verbs()} == {name for name in script_names() if load(name).fcall}
    for script in verbs():
        assert script.fcall in script.key_names
        assert not any(row.many for row in script.keys)
        assert [row for row in script.args if row.many] == [row for row in script.args[-1:] if row.many]
        placeholders = set(re.findall(r"<(\w+)>", " ".join(row.pattern for row in script.keys)))
        assert placeholders <= {"id", "session", "request_id", "group"}
        assert "group" not in placeholders or "group" in script.arg_names


def test_a_list_is_one_argument_that_must_be_given() -> None:
    """The list at the end of a header is a name like others, without a default; an operator gives one of it."""
    text = library()
    for name in ("redrive", "discard"):
        (contract,) = re.findall(rf"^local contract_{name} = (.*)$", text, re.MULTILINE)
        assert "{'letter'}}" in contract
        assert "letter = true" in contract
        assert contract.endswith(",letter'}")


def test_every_function_of_an_include_is_there_once() -> None:
    """Includes are joined once for the whole library, each after those it needs."""
    text = library()
    defined = re.findall(r"^local function (\w+)", text, re.MULTILINE)
    assert len(defined) == len(set(defined))
    assert (
        text.index("local function refuse")
        < text.index("local function stored")
        < text.index("local function usage_check")
    )
    assert "@include" not in text


def test_the_library_stays_below_what_lua_allows() -> None:
    """Lua takes 200 local names in one chunk; a library near that needs another shape. Those of a verb are its own."""
    assert len(re.findall(r"^local ", library(), re.MULTILINE)) < 150


def test_texts_are_quoted() -> None:
    """A description with a quote or a backslash does not end the string it is in."""
    assert functions._quoted(r"it's a \ mark") == r"'it\'s a \\ mark'"
