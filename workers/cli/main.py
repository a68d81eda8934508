"""``redistill``: the command line. Each command is a module of its own, imported only when it is called."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup

COMMANDS: dict[str, str] = {
    "demo": "Watch drift being caught and repaired, here and now, without a server.",
    "up": "Start everything for one machine: broker if none is given, stream, repair and web process.",
    "register": "Put a model under watch: from model.toml, or from the traffic seen so far.",
    "run": "Run one process: stream, repair or web.",
    "models": "List the models: state, serving version, accuracy, labels.",
    "incidents": "List incidents, or show one: what was found, why, and what was done.",
    "jobs": "List recompression jobs, or show one with its steps and gates.",
    "add": "Add a version of a model from an ONNX file; it has to pass the gates.",
    "publish": "Move a model's pointer to a version that passed its gates.",
    "rollback": "Move a model's pointer back to the bytes that served before.",
    "recompress": "Ask for a recompression now.",
    "replay": "Run the monitor over a file: no broker, no registration.",
    "label": "Import labels from a file.",
    "keys": "Make or export the keys that sign releases.",
    "topics": "Create the topics on the broker, or say what is wrong with them.",
    "db": "Create or upgrade the database.",
    "check-history": "Prove the invariants on the database and the topics.",
}
"""Every command and its one-line help; ``workers/cli/<name with _>.py`` holds a ``typer.Typer`` called ``app``."""


class LazyGroup(TyperGroup):
    """A group that imports a command's module when the command is asked for, so that ``--help`` stays fast."""

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

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Keep compressed models honest in production: find harm, rebuild the model, prove it better,"
    " publish or roll back.",
)


@app.callback(invoke_without_command=True)
def root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """Entry point of every command."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"redistill {installed('redistill')}")
        raise typer.Exit


def main(argv: list[str] | None = None) -> Any:
    """Run the command line; errors that a user can mend are printed as one sentence, not as a traceback."""
    from redistill.streams.errors import StreamsError
    from redistill.workers.errors import WorkersError

    try:
        return app(args=argv)
    except (StreamsError, WorkersError) as error:
        typer.echo(f"redistill: {error}", err=True)
        sys.exit(getattr(error, "exit_code", 1))


if __name__ == "__main__":
    main()
