"""``redistill gate``: a candidate against what serves, from files: for continuous integration."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from redistill.modes import as_the_user_has_it
from redistill.workers.cli import common
from redistill.workers.exit_codes import ExitCode

if TYPE_CHECKING:
    from redistill.workers.documents.gate import GateDocument
    from redistill.workers.onboarding.file_gate import JudgedPair

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Judge a candidate against what serves, from files: no broker, no registration.",
)

EXIT_CODES = {
    "passed": ExitCode.OK,
    "refused": ExitCode.REFUSED,
    "undecided": ExitCode.UNDECIDED,
}
"""By the answer."""


class Format(enum.StrEnum):
    """Of what is printed."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"
    MARKDOWN = "markdown"


@app.command()
def gate(
    candidate: Path = typer.Argument(..., help="ONNX file to be judged."),
    baseline: Path = typer.Option(..., "--baseline", help="ONNX file of what serves."),
    data: Path = typer.Option(
        ...,
        "--data",
        help="Labelled rows that neither was trained on: Parquet, CSV, or a folder of such.",
    ),
    policy: Path | None = typer.Option(
        None,
        "--policy",
        help="TOML file with [gates], and [schema] where the models have categories: the keys of"
        " model.toml, which will do itself. Default: the limits of every gate as documented.",
    ),
    labels: str | None = typer.Option(
        None, "--labels", help="Column of the labels; default: [data] label of the policy, `label`."
    ),
    form: Format = typer.Option(Format.TEXT, "--format", help="Of what is printed."),
    report: list[Path] = typer.Option(
        [],
        "--report",
        metavar="FILE",
        help="Also write the answer to a file, in the form of its ending: .txt, .json, .xml"
        " (JUnit), .md (Markdown); may be repeated.",
    ),
) -> None:
    """Judge a candidate against what serves, by the gates of repairs, from files alone.

    Not worse than the baseline on these rows by more than the margins, its classes and slices
    neither; loads in a limited process; size and latency within the limits. Exit code 0: every gate
    passed; 1: one failed; 2: the call or a file is wrong; 3: the rows are too few to say yes or no;
    70: a defect of redistill.

    Each run on the same rows is another look at them: the error rates of the gates hold for the
    first.

    \b
    redistill gate candidate.onnx --baseline incumbent.onnx --data rows.parquet --policy gates.toml
    redistill gate new.onnx --baseline old.onnx --data rows.csv --labels y --report gate.xml
    """
    from redistill.workers.cli.gate_formats import ENDINGS, FORMATS
    from redistill.workers.errors import UsageError
    from redistill.workers.models import gate_policy
    from redistill.workers.onboarding import file_gate

    for path in report:
        if path.suffix not in ENDINGS:
            raise UsageError(
                f"--report {path}: its ending tells the form: {', '.join(sorted(ENDINGS))}"
            )
        common.want_writable(path, "--report")
    asked = gate_policy.NO_POLICY if policy is None else gate_policy.read(policy)
    found = _document(file_gate.judge(candidate, baseline, data, policy=asked, label=labels))
    for path in report:
        _write(path, FORMATS[ENDINGS[path.suffix]](found))
    common.echo_text(FORMATS[form.value](found).removesuffix("\n"))
    raise typer.Exit(EXIT_CODES[found.answer])


def _document(judged: JudgedPair) -> GateDocument:
    import msgspec

    from redistill.compress.plan import Accepted, Rejected
    from redistill.workers.documents.gate import GateDocument
    from redistill.workers.onboarding import file_gate

    report = judged.report
    answer, why = "undecided", ""
    match report.decision:
        case Accepted():
            answer, why = "passed", "every gate passed"
        case Rejected(reasons=reasons):
            answer, why = "refused", "; ".join(reasons)
        case missing if missing is not None:
            more = "" if missing.need is None else f", about {missing.need:,} would decide"
            why = f"{missing.gate} is undecided with {missing.have:,} rows{more}: {missing.why}"
    plain = [msgspec.to_builtins(v) for v in (*report.variants[:1], report.incumbent)]
    for told, role in zip(plain, ("candidate", "baseline"), strict=True):
        told |= {"name": role, "sha256": judged.sha256[role]}
    return GateDocument(
        answer=answer,
        why=why,
        gates=[msgspec.to_builtins(g) for g in report.gates],
        candidate=plain[0],
        baseline=plain[1],
        rows=dict(report.rows),
        sha256=dict(judged.sha256),
        policy_sha256=report.policy_sha256,
        notes=list(judged.notes),
        repeated_looks=file_gate.REPEATED_LOOKS,
    )


def _write(path: Path, text: str) -> None:
    from redistill.workers.errors import WorkersError

    try:
        with as_the_user_has_it():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WorkersError(f"--report {path} cannot be written: {error.strerror}") from error
