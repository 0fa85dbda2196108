"""Starting the server program so that it outlives whoever starts it.

What belongs here: its configuration, the detached start, and the wait until it serves. What does not: deciding whether
to start (see `service`). Invariant: the started server holds the life lock, so it is known to live exactly as long as
it does; a failed start leaves no process.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from lukhas_redis.embedded.locks import is_held
from lukhas_redis.embedded.places import Places, unsuitable
from lukhas_redis.embedded.probe import Answer, Verdict, ask
from lukhas_redis.embedded.programs import Program
from lukhas_redis.errors import ServerUnsuitable, Unavailable

_POLL_SECONDS = 0.02
# The shell ends at once; the server becomes an orphan in a session of its own: no zombie, no signal from our terminal.
_DETACH = 'umask 077; "$1" "$2" </dev/null >>"$3" 2>&1 & echo $!'


def launch(program: Program, places: Places, life_lock: int, timeout: float) -> Answer:
    """Start the server and wait until it serves; `life_lock` is the descriptor that the server inherits and keeps.

    Raises:
        ServerUnsuitable: the program ended while starting; the message ends with its log.
        Unavailable: it did not serve within `timeout` seconds; it goes on starting.
    """
    logged = places.log.stat().st_size if places.log.exists() else 0
    try:
        _write(places.configuration, _configuration(places))
        places.socket.unlink(missing_ok=True)
        pid = _spawn(program, places, life_lock)
        _write(places.record, json.dumps({"pid": pid, "server": program.id, "path": program.path}) + "\n")
    except OSError as error:
        raise unsuitable(places.home, error) from error
    finally:
        os.close(life_lock)
    return wait_serving(places, pid, timeout, logged)


def wait_serving(places: Places, pid: int, timeout: float, logged: int | None = None) -> Answer:
    """Wait until the server that holds the life lock serves.

    `pid` and `logged` (where in the log its own lines begin) are for messages only.

    Raises:
        ServerUnsuitable: it ended.
        Unavailable: it did not serve within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while (answer := ask(places.socket)).verdict is not Verdict.SERVING:
        if not is_held(places.life_lock):
            raise ServerUnsuitable(
                f"embedded server: the server ended while starting, see {places.log}:\n{_tail(places.log, logged)}",
                log=str(places.log),
            )
        if time.monotonic() > deadline:
            raise Unavailable(
                f"embedded server: process {pid or 'unknown'} is {answer.verdict.value} after {timeout} s at "
                f"{places.socket}; see {places.log}, and if it hangs, end it with kill -9",
                pid=pid,
            )
        time.sleep(_POLL_SECONDS)
    return answer


def recorded_pid(places: Places) -> int:
    """The process id noted at the last start, for messages; 0 if there is none."""
    try:
        return int(json.loads(places.record.read_text(encoding="utf-8"))["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _spawn(program: Program, places: Places, life_lock: int) -> int:
    done = subprocess.run(
        ["/bin/sh", "-c", _DETACH, "sh", program.path, str(places.configuration), str(places.log)],
        cwd=places.home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=(life_lock,),
        check=True,
        text=True,
    )
    return int(done.stdout)


def _configuration(places: Places) -> str:
    settings = {
        "port": "0",
        "unixsocket": _quoted(places.socket),
        "unixsocketperm": "700",
        "dir": _quoted(places.data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": '""',  # the append-only file is the one truth
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "set-proc-title": "no",  # `ps` then shows the path of this file, so people see whose server it is
    }
    return "".join(f"{name} {value}\n" for name, value in settings.items())


def _quoted(path: Path) -> str:
    raw = os.fsencode(path)
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._- "
    return '"' + "".join(chr(byte) if byte in plain else f"\\x{byte:02x}" for byte in raw) + '"'


def _write(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.chmod(0o600)
    draft.replace(path)


def _tail(log: Path, start: int | None, lines: int = 8) -> str:
    try:
        raw = log.read_bytes()
    except OSError as error:
        return f"(no log: {error})"
    return "\n".join(raw[start or 0 :].decode(errors="replace").splitlines()[-lines:])
