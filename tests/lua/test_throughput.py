"""Throughput: a token bucket over stored bytes, by the server's clock.

What belongs here: what preserve does when bytes come too fast. What does not: limits on what is stored.
"""

from __future__ import annotations

from typing import Any

import pytest

from lukhas_redis.calls import Refused
from lukhas_redis.testing import assert_same
from tests.lua.shard import HOUR, Shard


def refused(shard: Shard, number: int, **args: Any) -> Refused:
    """The refusal of a preserve that must change nothing."""
    before = shard.dump()
    with pytest.raises(Refused) as caught:
        shard.preserve(number, **args)
    assert_same(before, shard.dump())
    return caught.value


def test_throughput_is_refused_with_the_time_to_wait(shard: Shard) -> None:
    """One second's worth may go at once, one write may overdraw it; then it is refused until the debt is paid."""
    shard.preserve(1, rate=10)
    error = refused(shard, 2, rate=10)
    assert error.word == "LKTHROTTLED"
    assert 1 <= error.number("retry_after_ms") <= 300
    shard.client.hincrby(shard.keys.usage, "rate_at", -error.number("retry_after_ms"))
    assert shard.preserve(2, rate=10)[0] == b"OK"


def test_a_debt_is_paid_in_full_and_saving_up_is_bounded(shard: Shard) -> None:
    """After a large write the rate holds on average; idle time never saves more than one second's worth."""
    shard.preserve(1, rate=10, payload=b"x" * 1000)
    shard.client.hincrby(shard.keys.usage, "rate_at", -1000)
    assert refused(shard, 2, rate=10).number("retry_after_ms") > 90_000
    shard.client.hincrby(shard.keys.usage, "rate_at", -1_000_000)
    assert shard.preserve(2, rate=10)[0] == b"OK"
    assert shard.usage()["rate_left"] == 10 - 12


def test_the_tenants_throughput_flag_counts(shard: Shard) -> None:
    """`max_mbps` is megabits a second; 0 takes the limit away."""
    shard.call("set_flag", name="max_mbps", value="1")
    shard.preserve(1, rate=1, payload=b"x" * 250_000)
    assert refused(shard, 2, rate=0).word == "LKTHROTTLED"
    shard.call("set_flag", name="max_mbps", value="0")
    assert shard.preserve(2, rate=1)[0] == b"OK"


def test_a_clock_that_went_back_does_not_hold_writes_up(shard: Shard) -> None:
    """After a failover to a server whose clock is behind, a debt written in its future is forgotten."""
    shard.preserve(1, rate=10, payload=b"x" * 1000)
    shard.client.hincrby(shard.keys.usage, "rate_at", HOUR)
    assert shard.preserve(2, rate=10)[0] == b"OK"
    assert shard.usage()["rate_at"] <= shard.now_ms()
