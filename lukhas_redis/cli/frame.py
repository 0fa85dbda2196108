"""What every command stands on: the options they share, and the session that turns those into settings and a store.

What belongs here: `Session`, the shared options, the classes of commands. What does not: a command, or the way results
look (`output`).
Invariant: an option that was not given is not passed on, so settings keep their own order of sources.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from lukhas_redis.cli.failures import NotConfirmed

if TYPE_CHECKING:
    from lukhas_redis.bus import ContextBus
    from lukhas_redis.settings import Settings
    from lukhas_redis.store import ContextStore

OUTPUTS = ("table", "json")


@dataclass
class Session:
    """One run of `lukhas`: what was asked for, and what is made of it on first use."""

    url: str | None = None
    tenant: str | None = None
    config: str | None = None
    output: str = "table"

    @property
    def json(self) -> bool:
        """Whether results are JSON."""
        return self.output == "json"

    @cached_property
    def settings(self) -> Settings:
        """Defaults < file < environment < options.

        Raises:
            InvalidArgument: One of them is wrong; the message names it and its source.
        """
        from lukhas_redis.settings import Settings

        given = {"url": self.url, "tenant": self.tenant}
        return Settings.load(self.config, **{name: value for name, value in given.items() if value is not None})

    @property
    def tried(self) -> str | None:
        """Which server was asked for and where that stands, for messages; None for the embedded one."""
        if "settings" not in vars(self) or not self.settings.url:
            return None
        shown, origin = self.settings.origin()["url"]
        return f"{shown} (from {'--url' if origin == 'argument' else origin})"

    @cached_property
    def target(self) -> str:
        """The URL of the server: the settings', else that of the embedded server, which is started if need be."""
        if self.settings.url:
            return self.settings.url
        from lukhas_redis.embedded import ensure

        server = ensure()
        if server.started:
            self.say(f"started the embedded server ({server.version}); `lukhas up --stop` stops it")
        return server.url

    def store(self) -> ContextStore:
        """A store for the target, to be used as a context manager; nothing is sent yet.

        Raises:
            InvalidArgument: The URL or the tenant is wrong.
        """
        from lukhas_redis.store import ContextStore

        # Nobody scrapes a process that ends at once.
        quiet = self.settings.model_copy(update={"metrics": False})
        return ContextStore.connect(self.target, settings=quiet)

    @contextmanager
    def bus(self) -> Generator[ContextBus]:
        """The bus of the target, with a store that is closed after it.

        Raises:
            InvalidArgument: The URL or the tenant is wrong.
        """
        from lukhas_redis.bus import ContextBus

        with self.store() as store:
            yield ContextBus(store)

    def say(self, text: str) -> None:
        """Tell the person something that is not the result."""
        click.echo(text, err=True)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Go on only if the person said so: with `--yes`, or when asked.

        Raises:
            NotConfirmed: They said no, or nobody can be asked.
        """
        if yes:
            return
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise NotConfirmed(f"{question} Nobody can be asked here: give --yes, or --dry-run to see what it would do")
        if not click.confirm(question, err=True):
            raise NotConfirmed("nothing was changed", refused=True)


pass_session: Callable[[Callable[..., Any]], Callable[..., Any]] = click.make_pass_decorator(Session, ensure=True)


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    session = ctx.ensure_object(Session)
    if value is not None and param.name is not None:
        setattr(session, param.name, value)


def shared_options(*, root: bool) -> list[click.Parameter]:
    """The options that may stand before or after the name of a command."""

    def option(*names: str, **more: Any) -> click.Parameter:
        return click.Option(names, expose_value=False, callback=_remember, **more)

    return [
        option("--url", metavar="URL", help="Server to use, such as redis://host:6379 (LUKHAS_URL)."),
        option("--tenant", metavar="NAME", help="Tenant to look at (LUKHAS_TENANT)."),
        option("--config", metavar="FILE", help="Settings file, .toml or .json (LUKHAS_CONFIG)."),
        option(
            "--output",
            "-o",
            type=click.Choice(OUTPUTS),
            # Not after the command: there the environment would win over what stands before it.
            envvar="LUKHAS_OUTPUT" if root else None,
            help="Results as a table or as JSON (LUKHAS_OUTPUT).",
        ),
    ]


class Leaf(click.Command):
    """A command that does something: takes the shared options beside its own."""

    def __init__(self, name: str | None, params: Sequence[click.Parameter] | None = None, **more: Any) -> None:
        super().__init__(name, params=[*(params or ()), *shared_options(root=False)], **more)


class Family(click.Group):
    """A command that has commands of its own, such as `flags set`; takes the shared options, too."""

    def __init__(self, name: str | None, params: Sequence[click.Parameter] | None = None, **more: Any) -> None:
        super().__init__(name, params=[*(params or ()), *shared_options(root=False)], **more)
