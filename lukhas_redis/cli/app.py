"""The list of commands, and running one of them.

What belongs here: which command lives in which module, `--version`, the edge where errors become exit codes. What does
not: a command.
Invariant: `--help` and `--version` import neither redis nor pydantic: a command's module is imported when it is used.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from lukhas_redis.cli.failures import report, report_usage
from lukhas_redis.cli.frame import Session, shared_options
from lukhas_redis.errors import LukhasRedisError

INTERRUPTED = 130

COMMANDS = {
    "demo": ("lukhas_redis.cli.demo:demo", "A real agent run over four worker processes, one of them killed."),
    "up": ("lukhas_redis.cli.up:up", "Start or join the embedded server."),
    "doctor": ("lukhas_redis.cli.doctor:doctor", "What is wrong with the server or the tenant, and what to do."),
    "stats": ("lukhas_redis.cli.stats:stats", "Use, limits and mode of the tenant."),
    "ls": ("lukhas_redis.cli.ls:ls", "List live contexts, soonest deadline first."),
    "show": ("lukhas_redis.cli.show:show", "One context: metadata, hops, lifecycle; its data if asked."),
    "append": ("lukhas_redis.cli.change:append", "Add items to a list inside a context."),
    "patch": ("lukhas_redis.cli.change:patch", "Merge a JSON merge patch into a context."),
    "lease": ("lukhas_redis.cli.leases:lease", "Let one owner alone write a context for a while."),
    "renew": ("lukhas_redis.cli.leases:renew", "Let a live lease end later."),
    "release": ("lukhas_redis.cli.leases:release", "End a lease, also that of a worker that died."),
    "rm": ("lukhas_redis.cli.rm:rm", "Drop a context."),
    "tail": ("lukhas_redis.cli.tail:tail", "Events as they happen: of contexts, or of the bus."),
    "emit": ("lukhas_redis.cli.emit:emit", "Put an event on the bus."),
    "bus": ("lukhas_redis.cli.bus:bus", "Groups, what they have in hand, history, replay."),
    "dlq": ("lukhas_redis.cli.dlq:dlq", "Dead letters: list, show, retry, drop."),
    "worker": ("lukhas_redis.cli.worker:worker", "Run the handlers of a bus, MODULE:APP, until it is stopped."),
    "flags": ("lukhas_redis.cli.flags:flags", "Mode, limits and feature flags, and who changed them."),
    "functions": ("lukhas_redis.cli.functions:functions", "The verbs for plain redis-cli: load, verify, show."),
    "config": ("lukhas_redis.cli.config:config", "The settings, and where each comes from."),
    "sweep": ("lukhas_redis.cli.sweep:sweep", "Take expired contexts out of the accounts."),
    "check": ("lukhas_redis.cli.accounts:check", "Prove the tenant's accounts sound; changes nothing."),
    "repair": ("lukhas_redis.cli.accounts:repair", "Make the tenant's accounts sound again."),
}


class Commands(click.Group):
    """The commands of `COMMANDS`, each imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names, in the order of the list."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list itself has what `--help` says about a command, so that none is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; here, inside click, because click has its own ideas of a broken pipe and of Ctrl-C."""
        try:
            return super().invoke(ctx)
        except LukhasRedisError as error:
            session = ctx.ensure_object(Session)
            report(error, session.tried, as_json=session.json)
            raise click.exceptions.Exit(error.exit_code) from None
        except BrokenPipeError:
            _abandon_stdout()
            raise click.exceptions.Exit(0) from None
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"lukhas {version('lukhas-redis')}")
        ctx.exit()


_VERSION = click.Option(
    ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version."
)

lukhas = Commands(
    "lukhas",
    params=[*shared_options(root=True), _VERSION],
    help="Working state of AI agents in Redis: look at it and run it.\n\n"
    "Exit codes: 0 ok, 1 failed or negative, 2 usage, 3 not found, 4 conflict, 5 unreachable, 6 access.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    # A session id or a path may hold what the terminal's encoding lacks.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    words = list(arguments) if arguments is not None else sys.argv[1:]
    try:
        code = lukhas.main(words, prog_name="lukhas", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        report_usage(error, words)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        _abandon_stdout()
        return 0
    return code if isinstance(code, int) else 0


def _abandon_stdout() -> None:
    """Nobody reads any more: what is still buffered must not make the interpreter complain when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
