"""``redistill``: the command line. Each command is a module of its own, imported only when it is
called."""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn, cast

import typer
from typer.core import TyperGroup

from redistill import extras, modes
from redistill.workers.cli import command_logs, common
from redistill.workers.exit_codes import ExitCode

__all__ = ["COMMANDS", "EXTRAS", "app", "main"]

COMMANDS: dict[str, str] = {
    "demo": "Watch drift being caught and repaired, here and now, without a server.",
    "up": "Start everything for one machine: broker if none is given, stream, repair, alert and"
    " web process.",
    "init": "Write a first model.toml of an ONNX file, for you to fill in.",
    "register": "Put a model under watch: from model.toml, or from the traffic seen so far.",
    "run": "Run one process: stream, repair, alerts or web.",
    "models": "List the models: state, serving version, accuracy, labels.",
    "incidents": "List incidents, or show one: what was found, why, and what was done.",
    "alerts": "List what people are told now, or send a test to each channel.",
    "jobs": "List recompression jobs, or show one with its steps and gates.",
    "add": "Add a version of a model from an ONNX file; it has to pass the gates.",
    "publish": "Move a model's pointer to a version that passed its gates.",
    "rollback": "Move a model's pointer back to the bytes that served before.",
    "unbar": "Let bytes be published again that an automatic roll back took away.",
    "recompress": "Ask for a recompression now.",
    "compress": "Make a model smaller from files: no broker, no registration.",
    "gate": "Judge a candidate against what serves, from files: no broker, no registration.",
    "replay": "Run the monitor over a file: no broker, no registration.",
    "label": "Import labels from a file, or list those that are asked for.",
    "keys": "Make, replace or export signing keys.",
    "topics": "Create the topics on the broker, or say what is wrong with them.",
    "db": "Create or upgrade the database.",
    "doctor": "Check broker, topics, database, keys, clock, disk and the rest; say what to type.",
    "check-history": "Prove the invariants on the database and the topics.",
}
"""Every command and its one-line help; ``workers/cli/<name with _>.py`` holds a ``typer.Typer``
called ``app``."""

EXTRAS = {"demo": "demo", "replay": "stream", "run stream": "stream"}
"""What a command needs, by its first words; ``worker`` where it is not named."""


NEED = "redistill.need"
"""Where the context keeps what the command needs."""


class Need(NamedTuple):
    """An extra, and the words of the command that needs it."""

    extra: str
    by: str


def _need(name: str, *rest: str) -> Need:
    """What a command needs, by its name and its arguments."""
    words = next((w for w in (" ".join([name, *rest[:1]]), name) if w in EXTRAS), name)
    return Need(EXTRAS.get(words, "worker"), f"redistill {words}")


def _is_text(argument: str) -> bool:
    """Whether an argument can be stored and sent; the name of a file need not."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return os.path.lexists(argument)
    return True


UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Why standard output may take nothing; that nobody reads it is no error (EPIPE)."""


class LazyGroup(TyperGroup):
    """A group that imports a command's module when the command is asked for, so that ``--help``
    stays fast."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import ``redistill.workers.cli.<cmd_name>`` and return its command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module("redistill.workers.cli." + cmd_name.replace("-", "_"))
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command, and refuse it where its libraries are missing; its help needs none."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0].lower(), COMMANDS, n=3)
            told = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{told}")
        if (odd := next((arg for arg in args if not _is_text(arg)), None)) is not None:
            ctx.fail(
                f"{odd!r} is not UTF-8: only the name of a file that is there already need not be."
            )
        if args[0] in COMMANDS:
            ctx.meta[NEED] = need = _need(*args)
            if not set(args) & set(ctx.help_option_names):
                extras.require(need.extra, by=need.by)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a library that cannot be imported is told in a sentence."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # nobody reads on; click would end with the status of a no
            _write_no_more()
            raise typer.Exit(ExitCode.FAILED) from None
        except ImportError as error:
            if isinstance(error, extras.ExtraError) or NEED not in ctx.meta:
                raise
            told = extras.explain(error, extra=ctx.meta[NEED].extra, by=ctx.meta[NEED].by)
            raise (told or error) from error

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Keep compressed models honest in production: find harm, rebuild the model, prove it"
    " better, publish or roll back.",
)


@app.callback(invoke_without_command=True)
def root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """Entry point of every command."""
    if version:
        common.echo(f"redistill {extras.version()}")
        raise typer.Exit


def main(argv: list[str] | None = None) -> Any:
    """Run the command line; errors that a user can mend are printed as one sentence, not as a
    traceback."""
    from redistill.streams.errors import StreamsError
    from redistill.workers.errors import WorkersError

    modes.keep_private()
    if argv is None:
        command_logs.keep_off_stdout()
    try:
        return app(args=argv)
    except extras.ExtraError as error:
        common.echo_text(str(error), err=True)
        sys.exit(error.exit_code)
    except (StreamsError, WorkersError) as error:
        common.echo_text(f"redistill: {error}", err=True)
        sys.exit(getattr(error, "exit_code", ExitCode.FAILED))
    except OSError as error:
        # of a file it would say which one
        if error.filename is not None or error.errno not in UNWRITABLE:
            _end_in_defect()
        _tell_unwritable(error)
        sys.exit(ExitCode.FAILED)
    except Exception:  # a crash must not end with the status of an answer
        _end_in_defect()


def _end_in_defect() -> NoReturn:
    """Show the traceback, and end: Python's own status for it is that of a no."""
    sys.excepthook(*cast("Any", sys.exc_info()))
    sys.exit(ExitCode.DEFECT)


def _tell_unwritable(error: OSError) -> None:
    """Say that standard output takes nothing; what the command was to do may be done."""
    _write_no_more()
    with suppress(OSError):
        told = f"standard output cannot be written: {error.strerror}"
        common.echo(f"redistill: {told}; what was asked for may be done", err=True)


def _write_no_more() -> None:
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # or the interpreter tries once more at its end
        os.close(nowhere)


if __name__ == "__main__":
    main()
