"""Fixtures: names that no other test uses."""

from __future__ import annotations

from collections.abc import Generator
from uuid import uuid4

import pytest

from tests.fix_farm import Farm


def new_tenant() -> str:
    """A tenant name that no other test uses, for tests that need many (Hypothesis)."""
    return f"t-{uuid4().hex[:16]}"


@pytest.fixture
def tenant(farm: Farm) -> Generator[str]:
    """A tenant of the test's own; its keys are deleted after the test wherever one may be."""
    name = new_tenant()
    yield name
    farm.forget(name)
