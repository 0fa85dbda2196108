"""The demo from its options to its exit code.

What belongs here: putting the parts together, cleaning up. What does not: parsing the command line.
Invariant: the exit code is 0 only when every run was verified; whatever happens, what was started is ended.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from typing import NoReturn
from uuid import uuid4

from lukhas_redis.demo.conversations import SHIPPED, find_conversations
from lukhas_redis.demo.evidence import collect, faults
from lukhas_redis.demo.layout import show
from lukhas_redis.demo.looking import forget, look
from lukhas_redis.demo.pipeline import Pipeline
from lukhas_redis.demo.place import Place, make_place
from lukhas_redis.demo.plan import demo_settings
from lukhas_redis.demo.relay import Relay, RelayError
from lukhas_redis.demo.report import Report, latencies, sizes
from lukhas_redis.demo.screen import Screen
from lukhas_redis.demo.sessions import PROVIDERS, Session
from lukhas_redis.errors import LukhasRedisError
from lukhas_redis.settings import mask_url
from lukhas_redis.store import ContextStore

RUNS = 8
_INTERRUPTED = 130


def run(*, url: str | None = None, keep: bool = False, output: str = "table") -> int:
    """Run the demo and return its exit code.

    `url`: a server to use, under a random tenant; None starts one that ends with the demo. `keep` leaves server and
    contexts for looking at. `output`: table or json. 0: everything was verified; 1: it was not, what differed was
    written; 130: interrupted; otherwise the exit code of the error that kept it from running.
    """
    screen = Screen(sys.stdout, sys.stderr, quiet=output == "json")
    try:
        with _ending_in_order():
            return _run(url, screen, keep=keep, as_json=output == "json")
    except KeyboardInterrupt:
        screen.line("interrupted; everything was cleaned up")
        return _INTERRUPTED
    except RelayError as error:
        screen.result(f"NOT VERIFIED: {error}")
        return 1
    except LukhasRedisError as error:
        screen.result(f"demo: {error}")
        return error.exit_code


def _run(url: str | None, screen: Screen, *, keep: bool, as_json: bool) -> int:
    started = monotonic()
    sessions = make_sessions()
    screen.line(screen.styled("lukhas demo", "bold") + ": agent runs passed between 4 worker processes")
    place = make_place(url)
    kept = False
    try:
        report = _relayed(place, sessions, screen, started, keep=keep)
        kept = keep
    finally:
        with _undisturbed():
            trouble = place.close(keep=kept)
    if trouble:
        screen.line(f"  clean-up   {trouble}")
    if as_json:
        screen.result(json.dumps(report.to_dict(), indent=2))
    else:
        show(report, place, screen, keep=keep)
    return 1 if report.faults else 0


def make_sessions() -> list[Session]:
    """The runs of the demo: the conversations found, each as often as it takes."""
    found = find_conversations()
    chosen = [found[number % len(found)] for number in range(RUNS)]
    return [Session(number, conversation, str(uuid4())) for number, conversation in enumerate(chosen)]


def _relayed(place: Place, sessions: list[Session], screen: Screen, started: float, *, keep: bool) -> Report:
    settings = demo_settings(place.url, place.tenant)
    report_ids = {provider: str(uuid4()) for provider in PROVIDERS}
    kept = False
    with ContextStore.connect(settings.url, tenant=place.tenant, settings=settings) as store:
        try:
            report = _reported(place, store, sessions, report_ids, screen, started)
            kept = keep
        finally:
            if not place.own and not kept:
                with _undisturbed():
                    forget(store, sessions, list(report_ids.values()))
    return report


def _reported(
    place: Place,
    store: ContextStore,
    sessions: list[Session],
    report_ids: dict[str, str],
    screen: Screen,
    started: float,
) -> Report:
    server = store.ready()
    name = f"{server.flavor} {server.version}"
    screen.line(f"  server     {name}, {'its own, ends with the demo' if place.own else f'tenant {place.tenant}'}")
    screen.line(f"             {mask_url(place.url)}")
    _tell_runs(sessions, screen)
    relay = Relay(place, store, sessions, report_ids, stuck_at(sessions), screen)
    codes = relay.run()
    pipeline, broken = Pipeline(place, store, screen).run()
    evidence = collect(store, sessions, report_ids, relay.victim, codes)
    return Report(
        server=name,
        seconds=monotonic() - started,
        latencies=latencies(evidence.reports),
        sizes=sizes(sessions, evidence),
        killed=relay.victim,
        stuck_at=relay.stuck_at,
        takeovers=evidence.takeovers,
        sight=look(store, sessions[-1]),
        faults=[*faults(sessions, evidence), *(f"pipeline: {fault}" for fault in broken)],
        pipeline=pipeline,
    )


def stuck_at(sessions: list[Session]) -> tuple[int, int]:
    """Where the victim is killed: half way through the longest run."""
    longest = max(sessions, key=lambda session: session.turns)
    return longest.number, max(1, longest.turns // 2)


def _tell_runs(sessions: list[Session], screen: Screen) -> None:
    folders = {session.conversation.path.parent for session in sessions}
    source = "shipped, " if folders == {SHIPPED} else "recorded, "
    turns = sum(session.turns for session in sessions)
    names = len({session.conversation.name for session in sessions})
    screen.line(f"  runs       {len(sessions)} at once, {turns} turns ({source}{names} different)")


@contextmanager
def _ending_in_order() -> Generator[None]:
    """A polite request to end is treated as Ctrl-C is."""

    def interrupt(*_: int | FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _undisturbed() -> Generator[None]:
    """Cleaning up is short, and a second Ctrl-C would leave half of it undone."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
