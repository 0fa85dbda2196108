"""docs/guarantees.md: every claim names a test, and every test it names exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)


def test_every_test_the_guarantees_name_exists() -> None:
    """A guarantee whose test was renamed or removed is found out."""
    assert len(NAMED) > 40
    missing = [
        f"{path}::{name}"
        for path, name in NAMED
        if not (ROOT / path).is_file()
        or not re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert missing == []


def test_every_guarantee_names_a_test() -> None:
    """A line that promises something says what shows it, or says that it is not tested."""
    claims = re.split(r"^- ", TEXT, flags=re.MULTILINE)[1:]
    unproved = [claim for claim in claims if "::test_" not in claim and "Not tested." not in claim]
    assert unproved == []
