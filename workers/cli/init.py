"""``redistill init``: write a first ``model.toml`` of an ONNX file."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer

from redistill.modes import as_the_user_has_it
from redistill.workers.cli import common

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Write a first model.toml of an ONNX file, for you to fill in.",
)


@app.command()
def init(
    onnx: Path = typer.Option(..., "--onnx", help="The ONNX file that serves."),
    from_traffic: str | None = typer.Option(
        None,
        "--from-traffic",
        metavar="NAME",
        help="Also learn the columns from the events of this model, which nobody registered yet.",
    ),
    out: Path = typer.Option(Path("model.toml"), "--out", help="Where the file is written."),
    as_json: bool = common.AS_JSON,
) -> None:
    """Write a first model.toml of an ONNX file.

    Reads inputs, outputs and classes off the file, runs it in a limited process to see whether its
    scores are probabilities, and with --from-traffic takes columns, categories, slices and the
    version from what services logged. What neither tells is a commented line that says what to fill
    in. Nothing is registered.

    \b
    redistill init --onnx student.onnx
    redistill init --onnx student.onnx --from-traffic credit
    redistill register model.toml --dry-run
    """
    from redistill.workers.errors import UsageError
    from redistill.workers.models import skeleton, traffic

    if out.is_dir():
        raise UsageError(f"--out {out} is a folder: name the file, such as {out / 'model.toml'}")
    if out.exists():
        raise UsageError(f"{out} exists already: write elsewhere with --out")
    found = skeleton.look(onnx)
    seen = None
    if from_traffic is not None:
        with common.opened(common.load()) as database, database.read() as conn:
            seen = traffic.look(conn, from_traffic)
    text, warnings = skeleton.to_toml(found, seen, folder=out.parent)
    try:
        with as_the_user_has_it(), out.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written: {error.strerror}") from error
    missing = [line for line in text.splitlines() if skeleton.FILL_IN in line and "=" in line]
    if as_json:
        common.print_json({"file": str(out), "to_fill_in": missing, "warnings": list(warnings)})
        return
    common.echo(f"wrote {out}")
    if missing:
        common.echo("what the files do not tell, to be filled in there:")
    for line in missing:
        common.echo(f"  {line.lstrip('# ')}")
    for warning in warnings:
        common.echo(f"warning: {warning}")
    common.echo(f"then: redistill register {shlex.quote(str(out))} --dry-run")
