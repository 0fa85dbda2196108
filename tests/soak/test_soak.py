"""The soak itself, short (ten minutes under `make nightly`), and that its verdicts find what was planted."""

from __future__ import annotations

from pathlib import Path

import pytest

from lukhas_redis.testing import ServerBinary, server_binaries
from tests.fix_hypothesis import NIGHTLY
from tests.soak.__main__ import soak
from tests.soak.plan import PLANTS, Load

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(1800 if NIGHTLY else 180)]

SMOKE = Load(minutes=0.08, seed=7, workers=3, producers=1, rate=60, events=24)
FULL = Load(minutes=10.0, seed=7)
BINARIES = server_binaries()


@pytest.mark.parametrize("binary", BINARIES if NIGHTLY else BINARIES[:1], ids=lambda one: one.id)
def test_a_soak_passes(binary: ServerBinary, tmp_path: Path) -> None:
    """Kills, lost replies, poison and repeats leave every effect once and nothing over; the report says so."""
    found = soak(FULL if NIGHTLY else SMOKE, binary, tmp_path)
    assert [one for one in found if not one.holds] == []
    text = (tmp_path / f"soak-{binary.id}.md").read_text()
    assert text.startswith(f"# Soak on {binary.id}: passed")
    assert "- seed: 7" in text
    assert len((tmp_path / f"soak-{binary.id}.csv").read_text().splitlines()) > 5


@pytest.mark.parametrize("binary", BINARIES[-1:], ids=lambda one: one.id)
def test_verdicts_find_what_is_planted(binary: ServerBinary, tmp_path: Path) -> None:
    """An effect lost, one twice, two out of order, a key left over: each makes one verdict fail, which names it."""
    found = soak(SMOKE.model_copy(update={"plants": PLANTS}), binary, tmp_path)
    failed = {one.name: one.found for one in found if not one.holds}
    assert set(failed) == {"none lost", "none twice", "order", "left over"}
    assert failed["none lost"] == "part-0-0-0: no seen of [3]"
    assert failed["none twice"] == "part-0-0-0: seen more than once: [6]"
    assert "12, 10, " in failed["order"]
    assert failed["left over"].endswith(":group:work:parked")
    assert "failed: none lost" in (tmp_path / f"soak-{binary.id}.md").read_text()
