"""``redistill add``: a version of a model from an ONNX file; it has to pass the gates."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer

from redistill.workers.cli import common
from redistill.workers.exit_codes import ExitCode

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Add a version of a model from an ONNX file; it has to pass the gates.",
)


@app.command()
def add(
    model: str = common.MODEL,
    version: str = typer.Argument(..., help="Name of the new version."),
    file: Path = typer.Argument(..., help="The ONNX file, with its weights inside."),
    trusted_only: bool = typer.Option(
        False,
        "--trusted-only",
        help="Judge on trusted rows alone, where too few served rows have a label.",
    ),
    waive: list[str] = common.WAIVE,
    reason: str | None = common.WAIVE_REASON,
    as_json: bool = typer.Option(False, "--json", help="One JSON document instead of sentences."),
) -> None:
    """Add a version of a model from an ONNX file.

    It is judged against what serves: loads in a limited process, size, latency, accuracy, worst
    slice, on trusted rows and on labelled rows of the traffic. One that trusted rows show to be
    worse is refused before a label of the traffic is looked at, and what "as good" takes is told.
    Nothing is published: that is `redistill publish`. Where trusted rows cannot decide, --waive
    takes that gate upon you, with your name and reason in the report. Exit code 1: a gate failed;
    3: it cannot be decided yet; 5: it needs a person.

    \b
    redistill add credit 2026-11 student.onnx
    redistill publish credit 2026-11
    """
    import msgspec

    from redistill.compress.plan import NeedsPerson, Undecidable
    from redistill.workers.jobs.child import Child
    from redistill.workers.jobs.question import WAIVABLE_WHEN_ADDED
    from redistill.workers.onboarding import external_version

    waived = common.waived(waive, reason, WAIVABLE_WHEN_ADDED)
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
            now=database.clock(),
            waived=waived,
        )
    decision = done.report.decision
    passed = done.version is not None and done.version.gate_passed
    alone = ["--trusted-only"] if trusted_only else []
    again = shlex.join(["redistill", "add", model, version, str(file), *alone])
    why = external_version.why(done.report, again=again)
    status = "undecided" if done.version is None else "candidate" if passed else "rejected"
    gates = msgspec.to_builtins(done.report.gates)
    if as_json:
        common.print_json(
            {
                "model": model,
                "version": version,
                "status": status,
                "sha256": None if done.version is None else done.version.sha256,
                "why": why,
                "as_good": external_version.as_good(done.report),
                "gates": gates,
            }
        )
    else:
        for gate in gates:
            mark = {True: "pass", False: "FAIL", None: "open"}[gate["passed"]]
            common.echo(f"  {mark}  {gate['name']}: {gate['why']}")
        common.echo(f"{model} {version} is {status}: {why}")
        if (needs := external_version.as_good(done.report)) is not None:
            common.echo(needs)
        if passed:
            common.echo(f"publish it with `redistill publish {model} {shlex.quote(version)}`")
        elif isinstance(decision, Undecidable):
            other = "" if trusted_only else ", or on trusted rows alone: --trusted-only"
            common.echo(f"try again with more labels{other}")
    if passed:
        return
    if isinstance(decision, Undecidable):
        raise typer.Exit(ExitCode.UNDECIDED)
    person = isinstance(decision, NeedsPerson)
    raise typer.Exit(ExitCode.NEEDS_PERSON if person else ExitCode.REFUSED)
