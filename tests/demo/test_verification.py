"""The comparison at the end: it can fail, and it says what differs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lukhas_redis.demo.conversations import find_conversations
from lukhas_redis.demo.evidence import Evidence, faults
from lukhas_redis.demo.sessions import PROVIDERS, USER, Session, advance, half_done, turn_of
from lukhas_redis.demo.verify import canonical, differences, fingerprint
from lukhas_redis.models import Checked, Context, Hop, Metadata

SOUND = Checked((), 0, 0)


@pytest.fixture
def session() -> Session:
    """The shipped conversation as a run."""
    return Session(3, find_conversations(Path("/nowhere"))[0], str(uuid4()))


def context(session: Session) -> Context:
    """What is found at the end when all is well."""
    metadata = Metadata(
        context_id=session.context_id,
        version=session.last_version,
        incarnation="i",
        sequence=1,
        session_id=session.session_id,
        context_type="conversation",
        owner=USER,
        created_ms=0,
        updated_ms=0,
        expires_ms=1,
        ttl_ms=1,
        accessed_ms=None,
        hop_count=session.turns + 1,
        pinned=False,
        raw_bytes=1,
        stored_bytes=1,
        level=0,
        checksum="",
        digest="",
        now_ms=0,
    )
    return Context(session.expected(session.turns), metadata)


def hops(session: Session) -> list[Hop]:
    """The last 32 hops when all is well."""
    return [
        Hop(turn + 1, 0, session.provider(turn), session.provider(turn + 1), 2 * turn + 2, 0.0, None)
        for turn in range(max(0, session.turns - 31), session.turns + 1)
    ]


def evidence(session: Session, **changes: Any) -> Evidence:
    """All is well, but for `changes`."""
    codes = dict.fromkeys(PROVIDERS, 0) | {"coder": -9}
    reports: dict[str, Any] = {name: {"finished": True, "takeovers": []} for name in PROVIDERS}
    reports["tester"]["takeovers"] = [(3, 5, "coder")]
    whole: dict[str, Any] = {
        "contexts": [context(session)],
        "hops": [hops(session)],
        "accounts": SOUND,
        "killed": "coder",
        "exit_codes": codes,
        "reports": reports,
    }
    return Evidence(**(whole | changes))


def test_a_whole_relay_has_no_faults(session: Session) -> None:
    """When everything is as it must be, nothing is reported."""
    assert faults([session], evidence(session)) == []


def test_one_changed_character_is_found_and_named(session: Session) -> None:
    """One character in one message of many: the fault names the run and the path."""
    found = context(session)
    found.data["messages"][40] = {**found.data["messages"][40], "role": "Tool"}
    (fault,) = faults([session], evidence(session, contexts=[found]))
    assert fault.startswith("run 3: /messages/40/role: ")


@pytest.mark.parametrize(
    "key, value, text",
    [
        ("crew", list(PROVIDERS), "/crew: tuple became list"),
        ("roles", {"assistant", "tool", "user"}, "/roles: frozenset became set"),
        ("budget", 3.17, "/budget: Decimal became float"),
        ("turn", True, "/turn: int became bool"),
    ],
)
def test_a_value_of_another_type_is_a_difference(session: Session, key: str, value: Any, text: str) -> None:
    """A type that did not survive is a fault, also where Python calls the values equal."""
    found = context(session)
    found.data[key] = value
    assert faults([session], evidence(session, contexts=[found])) == [f"run 3: {text}"]


@pytest.mark.parametrize(
    "change, text",
    [
        ({"version": 1}, "a write was lost or done twice"),
        ({"hop_count": 2}, "2 hops, not"),
        ({"owner": "coder"}, "owned by coder, not by user"),
    ],
)
def test_wrong_metadata_is_a_fault(session: Session, change: dict[str, Any], text: str) -> None:
    """Version, number of hops and owner are checked, each by itself."""
    found = context(session)
    broken = Context(found.data, replace(found.metadata, **change))
    (fault,) = faults([session], evidence(session, contexts=[broken]))
    assert text in fault


def test_a_missing_hop_is_a_fault(session: Session) -> None:
    """A gap among the hops that are kept is reported."""
    (fault,) = faults([session], evidence(session, hops=[hops(session)[:5] + hops(session)[6:]]))
    assert "hops" in fault


def test_a_hop_between_the_wrong_providers_is_a_fault(session: Session) -> None:
    """A hop that leads elsewhere is reported."""
    broken = hops(session)
    broken[7] = replace(broken[7], destination="nobody")
    (fault,) = faults([session], evidence(session, hops=[broken]))
    assert "nobody" in fault


@pytest.mark.parametrize(
    "change, text",
    [
        ({"contexts": [ValueError("gone")]}, "run 3: not restored: gone"),
        ({"accounts": Checked((), 12, 0)}, "the store's accounts are not sound"),
        ({"exit_codes": dict.fromkeys(PROVIDERS, 0)}, "worker coder ended with 0, not -9"),
        ({"exit_codes": dict.fromkeys(PROVIDERS, -9) | {"planner": 1, "tester": 0, "reviewer": 0}}, "planner ended"),
        ({"killed": "planner"}, "nobody took over a turn of planner"),
    ],
)
def test_a_crew_that_ended_otherwise_is_a_fault(session: Session, change: dict[str, Any], text: str) -> None:
    """A context that is gone, unsound accounts, a wrong exit code, a turn nobody took over: each is reported."""
    assert any(text in fault for fault in faults([session], evidence(session, **change)))


def test_a_worker_without_a_final_report_is_a_fault(session: Session) -> None:
    """Latencies that are not all there are not passed off as all."""
    reports = {**evidence(session).reports, "reviewer": {"finished": False, "takeovers": []}}
    assert "worker reviewer left no final report" in faults([session], evidence(session, reports=reports))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.decimals(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(VALUES, VALUES)
def test_no_two_values_share_a_fingerprint(one: Any, other: Any) -> None:
    """Values that differ in value or type (as `repr` shows both) differ in canonical form, equal ones do not."""
    assert (canonical(one) == canonical(other)) == (repr(one) == repr(other))


def test_order_matters_in_dicts_and_not_in_sets() -> None:
    """Two dicts with their keys in another order differ; two sets built in another order do not."""
    assert fingerprint({"a": 1, "b": 2}) != fingerprint({"b": 2, "a": 1})
    assert fingerprint(frozenset(["a", "b", "c"])) == fingerprint(frozenset(["c", "a", "b"]))
    assert differences({"a": 1, "b": 2}, {"b": 2, "a": 1}) == ["/: keys ['a', 'b'] became ['b', 'a']"]


def test_the_same_moment_in_another_zone_is_a_difference() -> None:
    """12:00 UTC and 13:00+01:00 are equal for Python and not for the demo."""
    here, there = datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 13, tzinfo=timezone(timedelta(hours=1)))
    assert here == there
    assert len(differences([here], [there])) == 1


def test_turn_by_turn_leads_to_the_expected_state(session: Session) -> None:
    """Adding one message a turn gives the state that is made from the original alone, at each turn."""
    state = session.opening()
    for turn in range(1, session.turns + 1):
        state = advance(state, session.message(turn))
        assert differences(session.expected(turn), state) == []
    assert state["budget"] == Decimal("5.00") - Decimal("0.03") * session.turns


def test_a_version_says_which_turn_it_is(session: Session) -> None:
    """Even versions are turns that are due, odd ones turns whose handoff is missing; both name the turn."""
    assert [turn_of(version) for version in (2, 3, 4, 5, session.last_version)] == [1, 1, 2, 2, session.turns + 1]
    assert [half_done(version) for version in (2, 3, 4)] == [False, True, False]


def test_every_provider_has_turns_and_the_user_has_the_ends(session: Session) -> None:
    """The user opens and receives each run; between them the providers take turns in order."""
    assert (session.provider(0), session.provider(session.turns + 1)) == (USER, USER)
    order = [session.provider(turn) for turn in range(1, 9)]
    assert order == [PROVIDERS[(3 + turn) % 4] for turn in range(8)]
