"""``redistill label``: labels from files, and those that are asked for."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer

from redistill.modes import as_the_user_has_it
from redistill.workers.cli import common
from redistill.workers.exit_codes import ExitCode

if TYPE_CHECKING:
    from redistill.streams.kafka.broker import Broker
    from redistill.streams.wire.events import LabelObserved
    from redistill.workers.models.label_import import RejectedRow
    from redistill.workers.models.spec import ModelSpec
    from redistill.workers.settings.settings import Settings

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Import labels from a file, or list those that are asked for.",
)

UNKNOWN_TOPIC = 3
"""Kafka's error code for a topic that is not there."""
SEND_SECONDS = 60.0
"""How long the broker may take to acknowledge one batch."""


@app.callback()
def label() -> None:
    """Import labels from a file, or list those that are asked for."""


@app.command("import")
def import_(
    file: Path = typer.Argument(
        ..., help="Parquet, or CSV with a header; or a folder of such files."
    ),
    model: str = typer.Option(
        ..., "--model", help="Name of the model.", autocompletion=common.complete_model
    ),
    source: str = typer.Option(
        "default", "--source", help="Who says so; [labels] sources decides who is believed."
    ),
    id_: str = typer.Option("id", "--id", help="Column of the predictions' ids."),
    label: str = typer.Option("label", "--label", help="Column of the labels."),
    time: str | None = typer.Option(
        None,
        "--time",
        help="Column of the times at which the labels became known. Default: when the file was"
        " changed.",
    ),
    confidence: str | None = typer.Option(
        None, "--confidence", help="Column that says how sure the source is, 0 to 1."
    ),
    inclusion: str | None = typer.Option(
        None, "--inclusion", help="Column of the probability with which a row was drawn."
    ),
    retract: bool = typer.Option(False, "--retract", help="Take these labels back."),
    bound: bool = typer.Option(
        False,
        "--bound",
        help="Send them to the topic of the source, labels.SOURCE, where it alone may write: the"
        " place of a source that [labels] bound names.",
    ),
    rejects: Path | None = typer.Option(
        None, "--rejects", help="Where rejected rows are written. Default: FILE.rejects.csv."
    ),
    as_json: bool = typer.Option(False, "--json", help="One JSON document instead of a sentence."),
) -> None:
    """Send the labels of a file to the topic of labels.

    Importing the same file twice counts each label once. Rows without id, label or time, or with a
    label that is no class of the model, are rejected: they are counted and written to a file of
    their own. Exit code 0: all were sent; 1: some were rejected, the others sent.
    """
    from redistill.streams.monitor.label_trust import counts
    from redistill.streams.wire.events import MODEL_PATTERN, TOPICS, LabelObserved, bound_topic
    from redistill.workers.errors import UsageError
    from redistill.workers.models import label_import

    if not re.fullmatch(MODEL_PATTERN, model):
        raise UsageError(f"{model!r} is no name of a model: a-z, 0-9 and ._- are, 80 at most")
    common.want_source(source)
    try:
        topic = bound_topic(source) if bound else TOPICS[LabelObserved]
    except ValueError as error:
        raise UsageError(f"--source {error}") from None
    settings = common.load()
    settings.broker()  # without one there is nothing to do: say so before the file is read
    spec = _spec(settings, model)
    if spec is None:
        near = _near(settings, model)
        until = "wait until it is" if bound else "are left out until it is"
        common.echo(f"{model} is not registered: its labels {until}{near}", err=True)
    elif not counts(source, bound, sources=spec.labels.sources, bound_sources=spec.labels.bound):
        believed = ", ".join(spec.labels.bound or spec.labels.sources)
        why = (
            f"{model} binds {believed}, and these are not of a bound source and sent with --bound"
            if spec.labels.bound
            else f"{source!r} is not among [labels] sources of {model} ({believed})"
        )
        common.echo(f"{why}: its labels are stored, and feed no detector", err=True)
    if not file.exists():
        raise UsageError(f"{file}: there is no such file")
    columns = label_import.Columns(
        id=id_, label=label, time=time, confidence=confidence, inclusion=inclusion
    )
    place = rejects or file.with_name(file.name + ".rejects.csv")
    sent = rejected = 0
    with _sender(settings, topic) as send, _rejects(place) as reject, _progress(file) as advance:
        batches = label_import.read(
            file,
            columns,
            model=model,
            source=source,
            now=datetime.now(UTC),
            classes=None if spec is None else spec.schema.classes,
            retract=retract,
        )
        for batch in batches:
            send(batch.labels)
            sent += len(batch.labels)
            rejected += len(batch.rejects)
            reject(batch.rejects)
            advance(batch.rows)
    if as_json:
        where = str(place) if rejected else None
        common.print_json({"sent": sent, "rejected": rejected, "rejects": where})
    else:
        common.echo(
            f"{sent:,} labels sent" + (f", {rejected:,} rows rejected: {place}" if rejected else "")
        )
    if rejected:
        raise typer.Exit(ExitCode.REFUSED)


@app.command("requests")
def requests_(
    model: str = typer.Argument(
        ..., help="Name of the model.", autocompletion=common.complete_model
    ),
    out: Path | None = typer.Option(
        None, "--out", help="Write the rows whose labels are wanted: FILE.parquet or FILE.csv."
    ),
    as_json: bool = common.AS_JSON,
) -> None:
    """List the labels asked for, and what came of each request.

    The rows of --out have id, served_at, prediction, request_id, p_include and the features that
    are stored. Add a column of labels and import the file: answers are known by their ids. A file
    that is there is never overwritten.

    \b
    redistill label requests credit --out rows.parquet
    redistill label import rows.parquet --model credit --source ledger
    """
    from redistill.streams.store.label_budget import budget_of
    from redistill.workers.documents.label import document_of_requests
    from redistill.workers.errors import UsageError
    from redistill.workers.models import registered
    from redistill.workers.store import requested_labels

    settings = common.load()
    if out is not None and out.suffix not in (".parquet", ".csv"):
        raise UsageError(f"--out {out}: a file whose name ends in .parquet or .csv")
    with common.opened(settings) as database, database.read() as conn:
        common.want_model(conn, model)
        spec = registered.spec_of(conn, model)
        if spec is None:
            raise UsageError(f"{model} is not registered: nothing is asked for")
        now, wait = database.clock(), spec.labels.wait_days
        budget = budget_of(conn, spec.watch_config(settings), now)
        found = requested_labels.progress(conn, model, wait_days=wait, now=now)
        table = None
        if out is not None:
            table = requested_labels.open_rows(
                conn, model, spec.schema,
                allowed=spec.privacy.store_features, wait_days=wait, now=now,
            )  # fmt: skip
    if out is not None:
        _write_rows(table, out)
    if as_json:
        common.print_json(document_of_requests(model, budget, found))
        return
    if not budget.allowed:
        common.echo(f"[labels] requests_per_day of {model} is 0: no labels are asked for")
    if found:
        listed = common.table("ASKED", "WHY", "ROWS", "ANSWERED", "OPEN", "EXPIRED", "COST")
        for r in found[:50]:
            counts = (r.rows, r.answered, r.open, r.expired)
            listed.add_row(
                common.ago(r.asked_at, now), common.one_line(r.why), *map(str, counts),
                f"{r.cost:,.2f}",
            )  # fmt: skip
        common.console().print(listed)
    wanted = sum(r.open for r in found)
    common.echo(
        f"{wanted:,} labels are wanted; {budget.used:,} of {budget.allowed:,} were asked for today"
        f" (UTC), {budget.left:,} are left" + (f"; rows: {out}" if out is not None else "")
    )


def _write_rows(table: Any, out: Path) -> None:
    import io

    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    from redistill import files
    from redistill.rowcells import guarded
    from redistill.workers.errors import UsageError

    sink = io.BytesIO()
    if out.suffix == ".parquet":
        parquet.write_table(table, sink)
    else:
        arrow_csv.write_csv(guarded(table), sink)
    try:
        with as_the_user_has_it():
            out.parent.mkdir(parents=True, exist_ok=True)
            made = files.create(out, sink.getvalue())
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from error
    if not made:  # people fill in labels there
        raise UsageError(f"{out} exists already, perhaps with labels: write elsewhere")


def _spec(settings: Settings, model: str) -> ModelSpec | None:
    from redistill.workers.models import registered

    with common.opened(settings) as database, database.read() as conn:
        return registered.spec_of(conn, model)


def _near(settings: Settings, model: str) -> str:
    from redistill.workers.store import names

    with common.opened(settings) as database, database.read() as conn:
        return names.did_you_mean(model, names.model_names(conn))


class _Send(Protocol):
    def __call__(self, labels: Iterable[LabelObserved]) -> None: ...


class _Reject(Protocol):
    def __call__(self, rows: Iterable[RejectedRow]) -> None: ...


class _Advance(Protocol):
    def __call__(self, rows: int) -> None: ...


@contextmanager
def _sender(settings: Settings, topic: str) -> Iterator[_Send]:
    """Sends a batch and waits until the broker has all of it."""
    from redistill.streams.kafka.broker import cause, close_producer, producer
    from redistill.streams.wire.codec import encode

    broker = settings.broker()
    topic = broker.topic(topic)
    _want_topic(broker, topic)
    client = producer(broker, linger_ms=20)

    def send(labels: Iterable[LabelObserved]) -> None:
        try:
            futures = []
            for item in labels:
                e = encode(item, source="redistill/label-import")
                futures.append(client.send(topic, value=e.value, key=e.key, headers=e.headers))
            client.flush(SEND_SECONDS)
            for future in futures:
                future.get(SEND_SECONDS)
        except Exception as error:
            raise cause(error, broker) from error

    try:
        yield send
    finally:
        close_producer(client)  # all was flushed before, or it is told that it was not


def _want_topic(broker: Broker, topic: str) -> None:
    """A producer would wait for a topic that is not there, and then not name it."""
    from redistill.streams.errors import BrokerRefused
    from redistill.streams.kafka.broker import admin, cause

    if broker.is_dev:  # it makes every topic
        return
    client = admin(broker)
    try:
        (found,) = client.describe_topics([topic])
    except Exception as error:
        raise cause(error, broker) from error
    finally:
        client.close()
    if found.get("error_code") == UNKNOWN_TOPIC:
        raise BrokerRefused(f"missing topic: {topic}; make it with `redistill topics apply`")


@contextmanager
def _rejects(path: Path) -> Iterator[_Reject]:
    """Writes rejected rows; there is no file without any."""
    from redistill.workers.errors import UsageError

    file: Any = None

    def write(rows: Iterable[RejectedRow]) -> None:
        nonlocal file
        for row in rows:
            if file is None:
                with as_the_user_has_it():
                    file = path.open("w", encoding="utf-8", newline="")
                csv.writer(file).writerow(("row", "id", "label", "reason"))
            csv.writer(file).writerow((row.row, row.id, row.label, row.reason))

    def keep(rows: Iterable[RejectedRow]) -> None:
        try:
            write(rows)
        except OSError as error:
            raise UsageError(
                f"rows were rejected, and {path} cannot be written: {error.strerror}; choose"
                " another file with --rejects and import again: each label counts once"
            ) from error

    try:
        yield keep
    finally:
        if file is not None:
            file.close()


@contextmanager
def _progress(file: Path) -> Iterator[_Advance]:
    """A bar on a terminal, silence elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    from redistill.workers.errors import UsageError
    from redistill.workers.models import label_import

    out = Console(stderr=True)
    with Progress(console=out, disable=not out.is_terminal, transient=True) as bar:
        try:
            total = label_import.count(file)
        except UsageError:  # reading it will say what is wrong with it
            total = None
        task = bar.add_task("labels", total=total)
        yield lambda rows: bar.advance(task, rows)
