"""Modes, records and dry runs: what every script of the bus with a `@tenant` group promises alike.

What belongs here: live, dry_run, paused, a closed tenant, other shards, another incarnation. What does not: what the
scripts do otherwise (`test_bus_*`), and those of contexts (`test_modes`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from lukhas_redis.calls import Refused
from lukhas_redis.scripts import Arg, load
from lukhas_redis.testing import assert_same
from tests.lua.bus import ANY, Bus, Taken, event_words, packed
from tests.lua.bus_mischief import bus_scripts


@dataclass(frozen=True)
class Held:
    """A bus with something for every script to do."""

    bus: Bus
    taken: Taken

    def call(self, name: str, **args: Arg) -> Any:
        """Call a script with what there is to do."""
        more, own = CALLS[name](self)
        return self.bus.call(name, *more, **{**own, **args})

    def refused(self, name: str, **args: Arg) -> Refused:
        """The refusal of a call that must change nothing."""
        before = self.bus.dump()
        with pytest.raises(Refused) as caught:
            self.call(name, **args)
        assert_same(before, self.bus.dump())
        return caught.value


Words = Callable[[Held], tuple[tuple[Arg, ...], dict[str, Arg]]]
CALLS: dict[str, Words] = {
    "emit": lambda held: ((), {}),
    "join": lambda held: ((), {"group": "another"}),
    "claim": lambda held: (ANY, {}),
    "ack": lambda held: (held.taken.words, {}),
    "hold": lambda held: (held.taken.words, {"hold_ms": 1000}),
    "retry": lambda held: ((), held.taken.args),
    "commit": lambda held: ((), {**held.taken.args, "events": packed([event_words()])}),
    "leave": lambda held: ((), {"consumer": "idle"}),
    "retire": lambda held: ((), {"force": 1}),
    "trim": lambda held: ((), {}),
    "redrive": lambda held: (tuple(held.bus.ids("dead")), {}),
    "discard": lambda held: (tuple(held.bus.ids("dead")), {}),
    "replay": lambda held: ((3, held.taken.sid), {}),
}
NOT_WHEN_PAUSED = {"emit", "commit", "redrive", "replay"}
DRY = {"claim": [b"DRY"], "retry": [b"DRY"]}
by_script = pytest.mark.parametrize("name", sorted(CALLS))


@pytest.fixture
def held(bus: Bus) -> Held:
    """An event finished, one dead, one in hand, one that waits, and a worker that has nothing."""
    bus.emit_many(4)
    done, dead = bus.claim(2, consumer="idle")
    bus.ack(done, consumer="idle")
    bus.retry(dead, consumer="idle", max_deliveries=0)
    return Held(bus, bus.claim(1)[0])


def test_every_script_that_obeys_the_tenant_is_tested_here() -> None:
    """A new script of the bus with a `@tenant` group needs a row above."""
    assert {name for name in bus_scripts() if "shards" in load(name).arg_names} == set(CALLS)


@by_script
@pytest.mark.parametrize("how", ["argument", "flag", "first mode"])
def test_a_dry_run_changes_nothing(held: Held, name: str, how: str) -> None:
    """Asked for, by the tenant's mode, or by the mode it starts in; the answer says that it was one."""
    if how == "flag":
        held.bus.shard.call("set_flag", name="mode", value="dry_run")
    args: dict[str, Arg] = {"argument": {"dry": 1}, "flag": {}, "first mode": {"mode": "dry_run"}}[how]  # type: ignore[assignment]
    before = held.bus.dump()
    reply = held.call(name, **args)
    assert reply[: len(DRY.get(name, [b"OK", b"1"]))] == DRY.get(name, [b"OK", b"1"])
    assert_same(before, held.bus.dump())
    if how == "argument":
        held.call(name)
        assert held.bus.shard.changes(before), "a live call has nothing to do here, so this proves nothing"


@by_script
def test_paused_stops_what_begins_and_lets_the_rest_end(held: Held, name: str) -> None:
    """Nothing new is emitted or handed out; what is in hand is finished, and room can be made."""
    held.bus.shard.call("set_flag", name="mode", value="paused")
    if name in NOT_WHEN_PAUSED:
        assert held.refused(name).word == "LKPAUSED"
    else:
        expected = {"claim": b"PAUSED", "retry": b"RETRY"}.get(name, b"OK")
        assert held.call(name)[0] == expected


@by_script
def test_a_tenant_without_a_record_is_closed(held: Held, name: str) -> None:
    """Without a record nothing is written; a dry run needs none."""
    held.bus.shard.client.delete(held.bus.shard.keys.shard)
    assert held.refused(name, marker="", shards="").word == "LKCLOSED"
    assert held.call(name, marker="", shards="", dry=1)[0] in (b"OK", b"DRY")


@by_script
def test_another_number_of_shards_is_refused(held: Held, name: str) -> None:
    """A caller that believes in other shards is told how many there are."""
    error = held.refused(name, shards=2)
    assert (error.word, error.facts) == ("LKSHARDS", {"shards": "1"})


@by_script
def test_another_incarnation_of_the_data_is_refused(held: Held, name: str) -> None:
    """A marker that is not the record's means that the server lost its data since."""
    assert held.refused(name, marker="0ther").word == "LKRESET"


@by_script
def test_a_damaged_record_or_mode_is_called_so(held: Held, name: str) -> None:
    """A number of shards, or a mode, that is none is not passed on as a fact."""
    client, keys = held.bus.shard.client, held.bus.shard.keys
    client.hset(keys.shard, "shards", "a few")
    assert held.refused(name).word == "LKCORRUPT"
    client.hset(keys.shard, "shards", "1")
    client.hset(keys.flags, "mode", "sometimes")
    assert held.refused(name).word == "LKCORRUPT"


@by_script
def test_one_key_in_two_places_is_refused(held: Held, name: str) -> None:
    """It would pass every check and then break a write half way."""
    script = load(name)
    more, own = CALLS[name](held)
    words = list(held.bus.words(script, own, more))
    words[1] = words[2]
    before = held.bus.dump()
    with pytest.raises(Refused) as caught:
        held.bus.shard.send(script, words)
    assert caught.value.facts == {"name": "keys"}
    assert_same(before, held.bus.dump())
