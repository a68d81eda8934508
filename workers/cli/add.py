"""``redistill add``: a version of a model from an ONNX file; it has to pass the gates."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer

from redistill.times import now_us
from redistill.workers.cli import common

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Add a version of a model from an ONNX file; it has to pass the gates.",
)


@app.command()
def add(
    model: str = typer.Argument(..., help="Name of the model."),
    version: str = typer.Argument(..., help="Name of the new version."),
    file: Path = typer.Argument(..., help="The ONNX file, with its weights inside."),
    trusted_only: bool = typer.Option(
        False,
        "--trusted-only",
        help="Judge on trusted rows alone, where too few served rows have a label.",
    ),
    as_json: bool = typer.Option(False, "--json", help="One JSON document instead of sentences."),
) -> None:
    """Add a version of a model from an ONNX file.

    It is judged against what serves: loads in a limited process, size, latency, accuracy, worst
    slice, on trusted rows and on labelled rows of the traffic. Nothing is published: that is
    `redistill publish`. Exit status 3: a gate failed, or cannot be decided yet.

    \b
    redistill add credit 2026-11 student.onnx
    redistill publish credit 2026-11
    """
    import msgspec

    from redistill.workers.jobs.child import Child
    from redistill.workers.onboarding import external_version

    settings = common.load()
    with common.opened(settings) as database:
        done = external_version.add(
            database,
            settings,
            lambda: Child.start(entry="redistill.compress.once:run"),
            model=model,
            version=version,
            file=file,
            trusted_only=trusted_only,
            actor=common.actor(),
            now=now_us(),
        )
    passed = done.version is not None and done.version.gate_passed
    status = "undecided" if done.version is None else "candidate" if passed else "rejected"
    gates = msgspec.to_builtins(done.report.gates)
    if as_json:
        common.print_json(
            {
                "model": model,
                "version": version,
                "status": status,
                "sha256": None if done.version is None else done.version.sha256,
                "why": external_version.why(done.report),
                "gates": gates,
            }
        )
    else:
        for gate in gates:
            mark = {True: "pass", False: "FAIL", None: "open"}[gate["passed"]]
            common.echo(f"  {mark}  {gate['name']}: {gate['why']}")
        common.echo(f"{model} {version} is {status}: {external_version.why(done.report)}")
        if passed:
            common.echo(f"publish it with `redistill publish {model} {shlex.quote(version)}`")
        elif done.version is None:
            common.echo("try again with more labels, or on trusted rows alone: --trusted-only")
    if not passed:
        raise typer.Exit(3)
