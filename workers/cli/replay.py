"""``redistill replay``: run the monitor over a file, with no broker and no registration."""

from __future__ import annotations

import csv
import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from redistill.modes import as_the_user_has_it
from redistill.workers.cli import common

if TYPE_CHECKING:
    from rich.console import Console

    from redistill.streams.replay.lines import Replay
    from redistill.streams.replay.report import ReportData

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Run the monitor over a file: no broker, no registration.",
)


def _names(text: str | None) -> tuple[str, ...]:
    """Names between commas; one that has a comma itself stands in quotes, as in a CSV file."""
    try:
        row = next(csv.reader([text or ""], skipinitialspace=True), [])
    except csv.Error as error:
        raise typer.BadParameter(
            f"{text!r}: names between commas were expected ({error})"
        ) from None
    return tuple(n.strip() for n in row if n.strip())


@app.command()
def replay(
    stream: Path = typer.Argument(
        help="Parquet or CSV file, or a folder of part files, rows in the order of the stream."
    ),
    reference: Path = typer.Option(
        ...,
        "--reference",
        help="Rows that show what is normal, in time order, with honest predictions.",
    ),
    label: str = typer.Option("label", "--label", help="Column of labels; may hold nulls."),
    prediction: str = typer.Option("prediction", "--prediction", help="Column of predictions."),
    scores: str = typer.Option(
        "",
        "--scores",
        help="Columns of scores, one per class, comma-separated; their maximum is the confidence."
        " One alone of two classes is the second's probability.",
    ),
    reference_label: str = typer.Option(
        None, "--reference-label", help="The reference's column of labels, if named otherwise."
    ),
    reference_prediction: str = typer.Option(
        None, "--reference-prediction", help="The reference's column of predictions."
    ),
    time: str = typer.Option(
        None,
        "--time",
        help="Column of serving times (numbers are seconds). Without it rows are seconds.",
    ),
    slices: str = typer.Option(
        "", "--slices", help="Columns by which the summary breaks accuracy down, comma-separated."
    ),
    classes: str = typer.Option(
        "", "--classes", help="Class names, comma-separated. Default: those of the reference."
    ),
    label_rate: float = typer.Option(
        1.0, "--label-rate", help="Random share of the labels that is kept, 0 to 1."
    ),
    label_delay: int = typer.Option(0, "--label-delay", help="Rows after which a label arrives."),
    label_requests: float = typer.Option(
        0.0,
        "--label-requests",
        help="Share of the rows whose label may be asked for once harm is suspected, 0 to 1.",
    ),
    seed: int = typer.Option(0, "--seed", help="Of the draws of labels."),
    tolerance: float = typer.Option(
        1.0, "--tolerance", help="Loss of accuracy, in points, that nobody need be woken for."
    ),
    strictness: float = typer.Option(
        0.0,
        "--strictness",
        help="0: any loss counts once it exceeds the tolerance; .5: also silent on lasting losses"
        " of half the tolerance, and slower.",
    ),
    rows_per_alarm: str = typer.Option(
        "1e6",
        "--rows-per-alarm",
        metavar="ROWS|fleet",
        help="Rows per false alarm that you can live with; fleet: as the models in the database.",
    ),
    window_rows: int = typer.Option(2_000, "--window-rows", help="Rows of a window."),
    json_path: str = typer.Option(
        None, "--json", help="File for the lines of JSON; - is standard output."
    ),
    report_path: Path | None = typer.Option(
        None, "--report", metavar="FILE.html", help="File for a page with charts, for people."
    ),
) -> None:
    """Run the monitor over a file, as the stream worker would have run it.

    Every column that is not named in an option is a feature. The base error comes from the
    reference's labels and predictions, in the order of the file. Labels are drawn with a seed and
    arrive late; those still on their way when the file ends come in after its last row.

    With --label-requests labels are asked for where harm is suspected: of rows served since the
    likeliest change, and of the next ones. No more than that share of all rows is asked for; the
    file answers --label-delay rows later, and a row without a label is spent. The whole budget is
    there from the first row on; the summary shows beside it what comes of one that is earned row
    by row. It is looked every 50 rows, for each of the two: that takes several times as long.

    --json writes a line per finding as it would have been published, with its row; a line per
    window with its measured accuracy; and a summary, last. Exit code 0 whatever was found; 2: a
    file cannot be used.

    --report writes one HTML file that needs no network and no script: accuracy and findings over
    time, slices, distributions beside the reference, labels, and what other tolerances would have
    cost, for which the stream is read again, six times or seven; it comes after what is told here.

    A stream worker follows the fleet's traffic: its rows per false alarm, and so what it finds, are
    others than the million assumed here. --rows-per-alarm fleet reads them from the database of
    the settings (REDISTILL_HOME, REDISTILL_DATABASE); the summary says which were used.

    \b
    redistill replay stream.parquet --reference reference.parquet
    redistill replay stream.parquet --reference reference.parquet \\
        --label-rate 0.1 --label-delay 500 --tolerance 2 --json out.jsonl
    redistill replay stream.parquet --reference reference.parquet --rows-per-alarm fleet
    redistill replay stream.parquet --reference reference.parquet --report out.html
    """
    import msgspec

    from redistill.streams.replay.options import ReplayOptions
    from redistill.streams.replay.report import gather
    from redistill.streams.replay.run import run_replay

    options = ReplayOptions(
        label=label,
        prediction=prediction,
        scores=_names(scores),
        reference_label=reference_label,
        reference_prediction=reference_prediction,
        time=time,
        slices=_names(slices),
        classes=_names(classes),
        label_rate=label_rate,
        label_delay=label_delay,
        label_requests=label_requests,
        seed=seed,
        tolerance_points=tolerance,
        strictness=strictness,
        **_budget(rows_per_alarm),
        window_rows=window_rows,
    )
    outputs = [Path(json_path)] if json_path not in (None, "-") else []
    if report_path is not None:
        _want_writable(report_path)
        outputs.append(report_path)
    _want_apart(outputs, (stream, reference))
    lines: list[dict[str, Any]] = []
    console = common.console(stderr=json_path == "-")
    with _output(json_path) as out, _Progress(console) as progress:

        def write(line: dict[str, Any]) -> None:
            out(msgspec.json.encode(line) + b"\n")
            if report_path is not None or "row" not in line or "finding_id" in line:
                lines.append(line)

        run_replay(stream, reference, options, write=write, progress=progress)
    _tell(console, [line for line in lines if "accuracy" not in line])
    if report_path is not None:
        _report(report_path, gather(stream, reference, options, lines))


def _want_writable(path: Path) -> None:
    """See before a long run that the page can be written after it."""
    from redistill.streams.errors import FileError

    why = None
    if path.is_dir():
        why = errno.EISDIR
    elif not path.parent.is_dir():
        why = errno.ENOENT
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        why = errno.EACCES
    if why is not None:
        raise FileError(f"{path} cannot be written: {os.strerror(why)}")


def _want_apart(outputs: list[Path], inputs: tuple[Path, ...]) -> None:
    """Refuse to write over what is read, or two things into one file."""
    from redistill.streams.errors import FileError

    if len({path.resolve() for path in outputs}) < len(outputs):
        raise FileError(f"{outputs[0]} cannot be the file of both --json and --report")
    for path in filter(Path.is_file, outputs):
        for read in inputs:
            parts = read.rglob("*") if read.is_dir() else [read]
            if any(part.is_file() and part.samefile(path) for part in parts):
                raise FileError(f"{path} is read: what is written there would destroy it")


def _report(path: Path, data: ReportData) -> None:
    from redistill.streams.errors import FileError
    from redistill.streams.replay.report_page import page

    try:
        with as_the_user_has_it():
            path.write_text(page(data), encoding="utf-8", errors="replace")
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror}") from error


def _budget(asked: str) -> dict[str, Any]:
    """Rows per alarm, and who said so."""
    from redistill.workers.errors import UsageError

    if asked == "fleet":
        return {"rows_per_alarm": _of_fleet(), "budget": "fleet"}
    try:
        return {"rows_per_alarm": float(asked)}
    except ValueError:
        raise UsageError(
            f"rows per alarm {asked!r} is neither a number nor the word fleet"
        ) from None


def _of_fleet() -> float:
    """Rows per alarm that live workers use, from the database."""
    from redistill import extras

    extras.require("worker", by="redistill replay --rows-per-alarm fleet")
    from redistill.workers.cli import common
    from redistill.workers.errors import UsageError
    from redistill.workers.store import alarm_budget, opening

    settings = common.load()
    if (file := opening.missing(settings)) is not None:
        raise UsageError(
            f"--rows-per-alarm fleet: there is no database {file}: set REDISTILL_HOME or"
            " REDISTILL_DATABASE as for the workers, or give a number of rows"
        )
    with common.opened(settings) as database, database.read() as conn:
        found = alarm_budget.of_fleet(conn)
    if found is None:
        raise UsageError(
            "--rows-per-alarm fleet: no model is registered in the database, so nothing is known of"
            " the fleet: register one, or give a number of rows"
        )
    return found


@contextmanager
def _output(path: str | None) -> Iterator[Callable[[bytes], object]]:
    """Takes the lines of JSON; all of them are in the file at the end."""
    from redistill.streams.errors import FileError

    if path is None:
        yield len
        return
    try:
        with as_the_user_has_it():
            file = sys.stdout.buffer if path == "-" else Path(path).open("wb")  # noqa: SIM115
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror}") from error

    def put(data: bytes = b"") -> None:
        try:
            if data:
                file.write(data)
            else:
                file.flush()
        except OSError as error:
            raise FileError(f"{path} cannot be written: {error.strerror}") from error

    try:
        yield put
        put()
    finally:
        if path != "-":
            with suppress(OSError):  # closing tries again to write what could not be written
                file.close()


class _Progress:
    """A progress bar on a terminal, nothing elsewhere."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

        self.bar = Progress(
            "{task.description}",
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("rows", total=None)

    def __enter__(self) -> _Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, result: Replay) -> None:
        opened = sum(result.opened.values())
        self.bar.update(
            self.task,
            completed=result.rows,
            total=result.total,
            description=f"rows, {opened} findings"
            + (" [red]harm[/red]" if result.harm_open else ""),
        )


def _tell(console: Console, lines: list[dict[str, Any]]) -> None:
    """The findings and the summary, for people."""
    from rich.table import Table

    from redistill.streams.wire import sentences

    summary = lines[-1]["summary"]
    findings = lines[:-1]
    if findings and console.is_terminal:
        table = Table("row", "what", "status", "why", box=None, pad_edge=False)
        for f in findings:
            red = bool(f["impact"]["harmful"]) and f["status"] != "resolved"
            table.add_row(
                str(f["row"]), _what(f), f["status"], f["reason"], style="red" if red else None
            )
        console.print(table)
    else:
        for f in findings:
            common.echo_text(
                common.paragraph(
                    f"row {f['row']:,}: {_what(f)} {f['status']}: {f['reason']}", indent=0
                ),
                err=console.stderr,
            )
    base = summary["base_error"]
    told = None
    if summary["accuracy"] is not None:
        told = sentences.measured(
            *(summary[f"accuracy{part}"] for part in ("", "_low", "_high", "_labels"))
        )
    console.print(
        f"{sentences.counted(summary['rows'], 'row')} in {summary['seconds']} s,"
        f" {sentences.counted(summary['labels'], 'label')}"
        + ("" if told is None else f", accuracy {told}")
        + (
            ", base error not known"
            if base is None
            else f", base error {base['rate']:.1%} (upper bound {base['upper']:.1%}, n ="
            f" {base['n']:,})"
        ),
        soft_wrap=True,
    )
    harm = summary["harm"]
    console.print(
        f"rows per false alarm: {summary['rows_per_alarm']:,.0f}"
        + (" (the fleet's)" if summary["rows_per_alarm_from"] == "fleet" else ""),
        soft_wrap=True,
    )
    _tell_requests(console, summary)
    console.print(
        "no harm found"
        if not harm["opened"]
        else f"harm found {_times(harm['opened'])}, {'still going on' if harm['open'] else 'over'}",
    )
    for s in summary["slices"]:
        console.print(
            f"{s['key']} = {s['value']}: accuracy"
            f" {sentences.measured(s['accuracy'], s['low'], s['high'], s['n'])}",
            soft_wrap=True,
        )
    for note in summary["notes"]:
        console.print(f"note: {note}", soft_wrap=True, markup=False)


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n:,} times"


def _tell_requests(console: Console, summary: dict[str, Any]) -> None:
    """What was asked for, and what would have come of a budget earned row by row."""
    used = summary["label_requests"]
    if used is None:
        return
    earned = used["earned_row_by_row"]
    rows = ", ".join(f"{row:,}" for row in earned["harm"]["rows"])
    console.print(
        f"labels asked for: {used['asked_share']:.1%} of the rows ({used['answered']:,} answered);"
        f" labels in all: {summary['label_share']:.1%}",
        soft_wrap=True,
    )
    console.print(
        f"with the budget earned row by row: {earned['asked_share']:.1%} asked for, "
        + (f"harm found in row {rows}" if rows else "no harm found"),
        soft_wrap=True,
    )


def _what(finding: dict[str, Any]) -> str:
    scope = "" if finding["scope"] == "all" else f" {finding['scope']}"
    return f"{finding['kind']}{scope}" + (" HARM" if finding["impact"]["harmful"] else "")
