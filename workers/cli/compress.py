"""``redistill compress``: a smaller model from files: no broker, no database, no registration."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from redistill.modes import as_the_user_has_it
from redistill.workers.cli import common
from redistill.workers.exit_codes import ExitCode

if TYPE_CHECKING:
    from rich.table import Table

    from redistill.compress.plan import Report, Variant
    from redistill.compress.steps import Progress
    from redistill.workers.onboarding.compression import Compressed

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Make a model smaller from files: no broker, no registration.",
)

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
LONGEST_SECONDS = 7 * 86_400.0


@app.command()
def compress(
    model: Path = typer.Argument(..., metavar="MODEL.TOML", help="model.toml, or its folder."),
    budget: str | None = typer.Option(
        None,
        "--budget",
        metavar="TIME",
        help="Time for making students, such as 60s, 5m or 1h; what is finished by then is"
        " measured. Default: as long as it takes.",
    ),
    front: Path | None = typer.Option(
        None, "--front", help="Also write one HTML page: accuracy against size and latency."
    ),
    out: Path | None = typer.Option(
        None,
        "--out",
        help="Folder of the chosen student with its report; default: NAME-compressed. An"
        " interrupted run goes on there.",
    ),
    seed: int = typer.Option(0, "--seed", min=0, max=2**32 - 1, help="Of all that is drawn."),
    as_json: bool = common.AS_JSON,
) -> None:
    """Make a model smaller: distil students of every family from its teacher, quantize them, and
    measure all of them beside each other.

    model.toml needs [teacher] onnx, [data] reference and trusted; without [model] onnx the students
    are compared with their teacher. One is chosen on trusted rows that no gate looks at, and judged
    by the gates. Exit code 0: it passes all of them; 1: it fails one; 3: the trusted rows are too
    few to say. The folder is written in any case.

    \b
    redistill compress model.toml
    redistill compress model.toml --budget 60s --front front.html --out small/
    """
    from redistill.workers.errors import UsageError
    from redistill.workers.onboarding.compression import Compression

    seconds = None if budget is None else _seconds(budget)
    if front is not None:
        common.want_writable(front, "--front")
    job = Compression.read(model)
    target = out or Path(f"{job.spec.name}-compressed")
    work = _work(target)
    progress = _progress(quiet=as_json)
    found = job.run(seconds=seconds, seed=seed, folder=work, progress=progress)
    kept = found.save(target)
    if front is not None:
        try:
            with as_the_user_has_it():
                front.write_text(found.front(), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--front {front} cannot be written: {error.strerror}") from error
    _done_with(work)
    _say(found, kept, as_json=as_json)
    raise typer.Exit(_code(found.report))


def _seconds(text: str) -> float:
    """A duration as people write it."""
    from redistill.workers.errors import UsageError

    match = _DURATION.fullmatch(text.strip().lower())
    if match is None or match[2] not in UNITS:
        raise UsageError(f"--budget {text!r}: a time such as 60s, 5m or 1h was expected")
    seconds = float(match[1]) * UNITS[match[2]]
    if not 0 < seconds <= LONGEST_SECONDS:
        raise UsageError(f"--budget {text!r}: more than nothing and at most 168h was expected")
    return seconds


def _work(target: Path) -> Path:
    """Where the work is kept below the output.

    Raises
    ------
    UsageError
        The output is no folder of ours, or cannot be written.
    """
    from redistill.workers.errors import UsageError
    from redistill.workers.onboarding.compression import JOB

    try:
        if target.exists() and not target.is_dir():
            raise UsageError(f"--out {target} is a file: name a folder")
        ours = {"candidate", JOB}
        if target.is_dir() and (other := {p.name for p in target.iterdir()} - ours):
            raise UsageError(
                f"--out {target} holds other files ({sorted(other)[0]}): name a folder of its own"
            )
        work = target / JOB
        work.mkdir(parents=True, exist_ok=True, mode=0o700)  # it holds the rows
    except OSError as error:
        raise UsageError(f"--out {target} cannot be written: {error.strerror}") from error
    return work


def _done_with(work: Path) -> None:
    import shutil

    shutil.rmtree(work, ignore_errors=True)


def _progress(*, quiet: bool) -> Progress:
    """Steps on standard error, one line each as it begins; on a terminal in one line."""
    told: set[str] = set()
    live = sys.stderr.isatty()

    def tell(step: str, share: float) -> None:
        if live:
            done = step == "judge" and share == 1.0
            common.echo_live("" if done else f"{step} {share:.0%}")
        elif step not in told:
            told.add(step)
            common.echo(step, err=True)

    return (lambda step, share: None) if quiet else tell


def _say(found: Compressed, kept: Path, *, as_json: bool) -> None:
    from redistill.workers.documents.compression import document

    if as_json:
        common.print_json(document(found.report, folder=str(kept), notes=found.notes))
        return
    report = found.report
    common.console().print(_table(report))
    for gate in report.gates:
        if gate.passed is not True:
            word = "FAILED" if gate.passed is False else "undecided"
            told = f"{word} {gate.name}: {gate.why}"
            if gate.passed is None and gate.need is not None:
                told += f"; about {gate.need:,} rows would decide it"
            common.echo_text(common.paragraph(told, width=80))
    for note in dict.fromkeys((*found.notes, *report.warnings)):
        common.echo_text(common.paragraph(f"note: {note}", width=80, indent=0))
    answer = {ExitCode.OK: "passes every gate", ExitCode.REFUSED: "fails a gate"}
    said = answer.get(_code(report), "is undecided: the trusted rows are too few")
    spent = report.seconds.get("cpu", 0.0)
    common.echo(f"{report.chosen} {said}; {spent:.1f} s of CPU; written to {kept}")


def _table(report: Report) -> Table:
    """All variants within 80 columns, the most accurate first; chosen ones are marked."""
    table = common.table("MODEL", "ACCURACY [95%]", "BYTES", "P50 MS", "")
    rows = sorted(report.variants, key=lambda v: -v.trusted_accuracy.value)
    for v in rows:
        refused = ", ".join(g.name for g in v.gates if g.passed is False)
        mark = "chosen" if v.name == report.chosen else ""
        table.add_row(*_cells(v), f"{mark} {f'not: {refused}' if refused else ''}".strip())
    for beside, what in ((report.incumbent, "serves"), (report.teacher, "")):
        if beside is not None:
            table.add_row(*_cells(beside), what)
    return table


def _cells(v: Variant) -> tuple[str, str, str, str]:
    m = v.trusted_accuracy
    interval = (
        "" if m.low is None or m.high is None else f" [{100 * m.low:.1f}, {100 * m.high:.1f}]"
    )
    return v.name, f"{m.value:.1%}{interval}", f"{v.bytes:,}", f"{v.p50_ms:.4f}"


def _code(report: Report) -> ExitCode:
    from redistill.compress.plan import Accepted, Rejected

    match report.decision:
        case Accepted():
            return ExitCode.OK
        case Rejected():
            return ExitCode.REFUSED
    return ExitCode.UNDECIDED
