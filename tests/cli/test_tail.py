"""tail: events that were kept, and following those to come."""

from __future__ import annotations

import json
import subprocess

import pytest

from lukhas_redis import ContextStore, Settings
from lukhas_redis.testing import RunningServer
from tests.cli.running import COMMAND, Lukhas


def test_tail_without_following_shows_the_last_events(lukhas: Lukhas, store: ContextStore) -> None:
    """`tail --no-follow` prints the last ten; `--limit` that many; `--since all` everything kept; oldest first."""
    ids = [store.preserve("s1", {"n": n}).context_id for n in range(12)]
    seen = [event["context_id"] for event in lukhas("tail", "--no-follow", "-o", "json").lines]
    assert seen == ids[-10:]
    assert len(lukhas("tail", "--no-follow", "--limit", "3", "-o", "json").lines) == 3
    every = lukhas("tail", "--no-follow", "--since", "all", "-o", "json").lines
    assert [event["context_id"] for event in every] == ids
    assert {"event_id", "event", "context_id", "version", "at_ms"} == set(every[0])


def test_tail_since(lukhas: Lukhas, store: ContextStore) -> None:
    """`--since` takes an event id (exclusive) and an age; what is neither is refused with exit 2."""
    for n in range(3):
        store.preserve("s1", {"n": n})
    first, second, third = lukhas("tail", "--no-follow", "--since", "1h", "-o", "json").lines
    later = lukhas("tail", "--no-follow", "--since", first["event_id"], "-o", "json").lines
    assert later == [second, third]
    assert lukhas("tail", "--no-follow", "--since", "yesterday").code == 2


def test_tail_as_text(lukhas: Lukhas, store: ContextStore) -> None:
    """A line has time, event, id and version."""
    kept = store.preserve("s1", {})
    (line,) = lukhas("tail", "--no-follow").out.splitlines()
    assert line.split()[1:] == ["context.preserve", kept.context_id, "v1"]


def test_tail_merges_shards_in_order_of_time(server: RunningServer, tenant: str, lukhas: Lukhas) -> None:
    """The events of a tenant with several shards come in one sequence, none missing."""
    with ContextStore.connect(server.url, tenant=tenant, settings=Settings(metrics=False, shards=4)) as store:
        ids = {store.preserve(f"s{n}", {}).context_id for n in range(20)}
    events = lukhas("tail", "--no-follow", "--since", "all", "-o", "json").lines
    assert {event["context_id"] for event in events} == ids
    assert [event["at_ms"] for event in events] == sorted(event["at_ms"] for event in events)


@pytest.mark.faults
def test_tail_follows_through_a_restart(tenant: str, fresh_server: object) -> None:
    """Events made while it follows are printed, also those after the server was away for a moment."""
    server: RunningServer = fresh_server(config={"appendonly": "yes"})  # type: ignore[operator]
    words = ["tail", "-o", "json", "--interval", "0.05", "--url", server.url, "--tenant", tenant]
    with (
        ContextStore.connect(server.url, tenant=tenant, settings=Settings(metrics=False)) as store,
        subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process,
    ):
        assert process.stdout is not None
        before = store.preserve("s1", {})
        assert json.loads(process.stdout.readline())["context_id"] == before.context_id
        server.restart()
        after = store.preserve("s1", {})
        assert json.loads(process.stdout.readline())["context_id"] == after.context_id
        process.terminate()
