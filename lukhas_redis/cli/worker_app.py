"""The bus that a worker runs: found by its name, made by the app.

What belongs here: `MODULE:ATTRIBUTE`, importing, calling a factory. What does not: running it (`worker_life`).
Invariant: whatever is wrong with an app is one typed error that says where.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from pathlib import Path

from lukhas_redis.bus import AsyncContextBus
from lukhas_redis.cli.failures import BadApp
from lukhas_redis.cli.output import clean
from lukhas_redis.errors import LukhasRedisError


def load(name: str) -> object:
    """What `name`, as in `agents.review:bus`, stands for; the current directory is searched first.

    Raises:
        BadApp: There is no such module or attribute, or importing it failed.
    """
    module, _, path = name.partition(":")
    if not module or not path or module.endswith(".py") or "/" in module:
        raise BadApp(f"app {name!r:.120} is not of the form MODULE:ATTRIBUTE, such as agents.review:bus", app=name)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found = _imported(name, module)
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise BadApp(f"app {name}: there is no {part!r:.80} in it", app=name) from None
    return found


def _imported(name: str, module: str) -> object:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            raise BadApp(
                f"app {name}: there is no module {error.name} in {Path.cwd()} or on the path", app=name
            ) from None
        raise _failed(name, "importing it", error) from error
    except Exception as error:
        raise _failed(name, "importing it", error) from error


async def make(name: str, found: object) -> AsyncContextBus:
    """The bus itself, or what the app's function, async or not, returns.

    Raises:
        BadApp: The function failed, there is no bus, or nothing is subscribed.
        LukhasRedisError: The function could not do what it needs a server for.
    """
    if not isinstance(found, AsyncContextBus) and callable(found):
        try:
            found = found()
            if inspect.isawaitable(found):
                found = await found
        except LukhasRedisError:
            raise
        except Exception as error:
            raise _failed(name, "calling it", error) from error
    if not isinstance(found, AsyncContextBus):
        raise BadApp(
            f"app {name} is no AsyncContextBus, nor a function that returns one: {type(found).__name__}", app=name
        )
    if not found.subscriptions:
        raise BadApp(f"app {name} is a bus without any subscription", app=name)
    return found


def _failed(name: str, what: str, error: Exception) -> BadApp:
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return BadApp(clean(f"app {name}: {what} failed: {type(error).__name__}: {error!s:.300}{place}"), app=name)
