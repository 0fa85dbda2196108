"""Starting, joining, stopping and asking for the embedded server.

What belongs here: the decisions. What does not: how each step is done (see the other modules). Invariant: of any
number of processes that call `ensure` at once exactly one starts the server, all get the same one, and what was in the
append-only file before is in it afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import redis

from lukhas_redis.embedded.launch import launch, recorded_pid, wait_serving
from lukhas_redis.embedded.locks import held, is_held, take
from lukhas_redis.embedded.places import Places, find_places, is_private, prepare
from lukhas_redis.embedded.probe import Answer, Verdict, ask, connection
from lukhas_redis.embedded.programs import find_program
from lukhas_redis.errors import ServerUnsuitable, Unavailable

_log = logging.getLogger("lukhas_redis.embedded")

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A running server: its URL, process id, whether this call started it, and where its files are.

    `version` says program and version, as in `valkey-9.1.2`. `note` is empty, or says that the running server is of
    another version than the one this process would start.
    """

    url: str
    pid: int
    started: bool
    version: str
    socket_path: Path
    log_path: Path
    note: str = ""


def ensure(
    *, state_dir: str | os.PathLike[str] | None = None, name: str = "default", timeout: float = _START_SECONDS
) -> EmbeddedServer:
    """Join the user's embedded server, or start it, and return when it serves.

    `state_dir` defaults to LUKHAS_STATE_DIR, else the system's place for state files; `name` keeps several servers
    apart. `timeout` in seconds covers loading the data. The server listens on a unix socket that only this user may
    open, appends every write to a file that is synced once a second, and never evicts. It survives the process that
    started it, and runs until `stop()`, `lukhas up --stop` or the end of the machine's session: nobody needs to know
    who the last user is. After a crash the next call starts it again with its data.
    It blocks; in an event loop use `ensure_async`.

    Raises:
        ServerUnsuitable: no program for this machine, an unusable directory, or the server refuses to start; says
            what, where and what to do. A retry does not help.
        Unavailable: it is starting or hanging for longer than `timeout`; a retry may help.
        InvalidArgument: the name is malformed.
    """
    places = find_places(state_dir, name)
    answer = _ask(places)
    if answer.verdict is Verdict.SERVING:  # the usual case: no lock, no file touched
        return _joined(places, answer)
    prepare(places)
    deadline = time.monotonic() + timeout
    with held(places.start_lock, timeout):
        answer = _ask(places)
        if answer.verdict is Verdict.SERVING:
            return _joined(places, answer)
        return _start_or_wait(places, max(1.0, deadline - time.monotonic()))


async def ensure_async(
    *, state_dir: str | os.PathLike[str] | None = None, name: str = "default", timeout: float = _START_SECONDS
) -> EmbeddedServer:
    """`ensure` in a thread, so that the event loop goes on; cancelling it does not undo a start under way."""
    return await asyncio.to_thread(ensure, state_dir=state_dir, name=name, timeout=timeout)


def status(*, state_dir: str | os.PathLike[str] | None = None, name: str = "default") -> EmbeddedServer | None:
    """The running server, or None; starts nothing and writes nothing.

    Raises:
        Unavailable: there is one, but it does not answer: loading its data, or hanging.
    """
    places = find_places(state_dir, name)
    answer = _ask(places)
    if answer.verdict is Verdict.SERVING:
        return _joined(places, answer)
    if answer.verdict is Verdict.ABSENT:
        return None
    raise Unavailable(f"embedded server at {places.socket}: process {recorded_pid(places)} is {answer.verdict.value}")


def stop(
    *, state_dir: str | os.PathLike[str] | None = None, name: str = "default", timeout: float = _STOP_SECONDS
) -> bool:
    """Stop the server in order, with everything on disk; True if one ran, False if there was none.

    Every process of the user that uses it loses its connection.

    Raises:
        Unavailable: it did not end within `timeout` seconds; names the process to look at. A retry may help.
    """
    places = find_places(state_dir, name)
    if not places.home.exists():
        return False
    with held(places.start_lock, timeout):
        if _ask(places).verdict is Verdict.ABSENT and not is_held(places.life_lock):
            return False
        _shut_down(places)
        _wait_gone(places, timeout)
        return True


def _ask(places: Places) -> Answer:
    # In a shared temporary directory somebody else may have been there first: no byte goes to their socket.
    return ask(places.socket) if is_private(places.socket.parent) else Answer(Verdict.ABSENT)


def _start_or_wait(places: Places, timeout: float) -> EmbeddedServer:
    life_lock = take(places.life_lock)
    if life_lock is None:  # it lives and does not answer yet: loading, paused, or started by a process killed meanwhile
        return _joined(places, wait_serving(places, recorded_pid(places), timeout))
    try:
        program = find_program()
    except ServerUnsuitable:
        os.close(life_lock)
        raise
    answer = launch(program, places, life_lock, timeout)
    _log.info("started embedded %s, process %d, at %s", answer.id, answer.pid, places.socket)
    return _describe(places, answer, started=True, note="")


def _joined(places: Places, answer: Answer) -> EmbeddedServer:
    note = _version_note(answer)
    if note:
        _log.warning("%s", note)
    return _describe(places, answer, started=False, note=note)


def _version_note(answer: Answer) -> str:
    try:
        ours = find_program().id
    except ServerUnsuitable:
        return ""  # nothing to start, so nothing to compare with; the running one is what there is
    if ours == answer.id:
        return ""
    return (
        f"joined a running {answer.id}; this process would start {ours}: `lukhas up --stop` lets the next one start it"
    )


def _describe(places: Places, answer: Answer, *, started: bool, note: str) -> EmbeddedServer:
    url = f"unix://{quote(str(places.socket))}"
    return EmbeddedServer(url, answer.pid, started, answer.id, places.socket, places.log, note)


def _shut_down(places: Places) -> None:
    with connection(places.socket) as client:
        try:
            client.execute_command("SHUTDOWN")
        except (redis.ConnectionError, redis.TimeoutError, OSError):
            return  # closing the connection is its way to say yes; whether it went is seen next
        except redis.ResponseError as error:
            raise Unavailable(f"embedded server: it refused to stop ({error}); see {places.log}") from error


def _wait_gone(places: Places, timeout: float) -> None:
    descriptor = take(places.life_lock, timeout)
    if descriptor is None:
        raise Unavailable(
            f"embedded server: process {recorded_pid(places)} still runs {timeout} s after SHUTDOWN; see {places.log}"
        )
    os.close(descriptor)
