"""``redistill models``: all models with their state, or one with its versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from redistill.times import to_seconds
from redistill.workers.cli import common

if TYPE_CHECKING:
    import sqlalchemy as sa

    from redistill.workers.incidents.summary import Summary
    from redistill.workers.settings.settings import Settings
    from redistill.workers.store.queries import Overview

__all__ = ["app"]

Told = tuple[str, "Summary", str]
"""Id of an incident, its summary, and its reason."""
MOST_INCIDENTS = 1_000

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="List the models: state, serving version, accuracy, labels.",
)


@app.command()
def models(
    name: str | None = typer.Argument(
        None, help="Show one model with its versions.", autocompletion=common.complete_model
    ),
    version: str | None = typer.Argument(None, help="Show what judged one of its versions."),
    as_json: bool = typer.Option(False, "--json", help="One JSON document instead of a table."),
) -> None:
    """List the models, worst first, or show one with its versions.

    Accuracy is measured on the last labelled rows of the serving version, with its 95% interval;
    where there are no labels none is shown. A gate row is a row with both a label and stored
    features: a repair is judged on about a hundred of them. Of one model: how the newest version
    does against its predecessor, the last moves of the pointer, and what is stored for a repair. Of
    one version: what it costs, its gates, the gaps between declared groups, and where its model
    card, gate report, lineage and bill of materials lie.
    """
    from redistill.workers.documents.model import (
        JudgedVersion,
        ModelList,
        document_of_model,
        line_of_model,
    )
    from redistill.workers.errors import UsageError
    from redistill.workers.store import clock_problem, model_detail, names, queries
    from redistill.workers.store.model_status import worst_first

    settings = common.load()
    with common.opened(settings) as database, database.read() as conn:
        now = database.clock()
        common.want_model(conn, name)
        known = names.model_names(conn)
        judged = None
        if name is not None and version is not None:
            judged = model_detail.judged_of(conn, name, version)
            if judged is None:
                told = [v["version"] for v in model_detail.versions_of(conn, name)]
                near = names.did_you_mean(version, told) if told else " (it has none)"
                raise UsageError(f"{name} has no version {version!r}{near}")
        found = [queries.overview(conn, m, now) for m in ([name] if name else known)]
        incidents = {} if as_json else _incidents(conn, name)
        unknown = queries.unregistered_models(conn)
        clocks = clock_problem.get(conn)
        detail = model_detail.detail(conn, name, now) if name else {}
        planned = _schedule(conn, name, now) if name else None
        trusted = _trusted(conn, name) if name else None
        slices = _slices(conn, name, found[0].version) if name else None
    if judged is not None and name is not None:
        from redistill.workers.releases.release_files import RepositoryLayout

        judged["documents"] = {
            what: str(RepositoryLayout(settings.root).path(name, what, sha256))
            for what, sha256 in judged["documents"].items()
        }
        if as_json:
            common.print_json(JudgedVersion(**judged))
        else:
            _print_judged(judged)
        return
    found = worst_first(found, now)
    lag = _lag(settings, now)
    if clocks is not None:
        common.echo(
            f"nothing is deleted for its age: {clocks.why} (RUNBOOK: A clock that is wrong)",
            err=True,
        )
    if as_json:
        if name:
            (one,) = found
            common.print_json(
                document_of_model(
                    one,
                    detail,
                    now,
                    schedule=planned,
                    trusted_rows=trusted,
                    slice_tests=slices,
                )
            )
        else:
            counted = lag if isinstance(lag, _Lag) else None
            common.print_json(
                ModelList(
                    models=[line_of_model(o, now) for o in found],
                    unregistered={u.model: u.rows for u in unknown},
                    lag=None if counted is None else counted.lag,
                    held=None if counted is None else counted.held,
                    lag_unknown=lag if isinstance(lag, str) else None,
                )
            )
        return
    if not found:
        common.echo("no model is registered yet: `redistill register model.toml`")
    else:
        _print(found, incidents, now)
    if name:
        _print_detail(detail)
    for line in (trusted, slices, planned):
        if line is not None:
            common.echo(line)
    for u in unknown:
        common.echo(
            f"not registered: {u.model}, {u.rows:,} rows seen since"
            f" {common.moment(u.first_seen_at)}"
            f" (`redistill register {u.model} --from-traffic`)"
        )
    if lag is not None:
        common.echo(f"stream lag: {lag if isinstance(lag, str) else lag.text}")


def _schedule(conn: sa.Connection, name: str, now: int) -> str | None:
    """When a model's schedule is due next, in words."""
    from redistill.workers.incidents.model_context import load
    from redistill.workers.models.explain import next_run

    context = load(conn, name)
    return None if context is None else next_run(context.spec, now)


def _trusted(conn: sa.Connection, name: str) -> str | None:
    """What a model's trusted rows can show, in words; ``None``: it has none."""
    from redistill.workers.incidents.model_context import load
    from redistill.workers.models import trusted_power
    from redistill.workers.store import queries

    context = load(conn, name)
    rows = None if context is None else trusted_power.of_spec(context.spec)
    if context is None or rows is None:
        return None
    return trusted_power.shown(rows, context.spec, queries.trusted_churn(conn, name))


def _slices(conn: sa.Connection, name: str, version: str | None) -> str | None:
    """Which slices of the serving version have tests, in words; ``None``: nothing serves."""
    from redistill.workers.incidents.model_context import load
    from redistill.workers.models import slice_tests

    context = load(conn, name)
    if context is None or version is None:
        return None
    return slice_tests.shown(conn, context.spec, version)


def _incidents(conn: sa.Connection, name: str | None) -> dict[str, Told]:
    """The open incident of each model that needs a person first, or is the newest."""
    from redistill.workers.incidents.summary import finding_objects, summarised
    from redistill.workers.store import alert_queries, incident_queries

    rows = incident_queries.listed(conn, model=name, resolved=False, limit=MOST_INCIDENTS)
    first = {row["model"]: row for row in reversed(rows)}
    bodies = alert_queries.finding_bodies(conn, [row["incident_id"] for row in first.values()])
    return {
        model: (
            row["incident_id"],
            summarised(row, finding_objects(bodies.get(row["incident_id"], ()))),
            str(row["why"]),
        )
        for model, row in first.items()
    }


@dataclass(frozen=True, slots=True)
class _Lag:
    """Records of the input topics that are not counted."""

    lag: int
    """Yet: a stream worker has to."""
    held: int
    """Because a transaction is open."""

    @property
    def text(self) -> str:
        held = f"; {self.held:,} more wait for open transactions" if self.held else ""
        return f"{self.lag:,} records{held}"


def _lag(settings: Settings, now: int) -> _Lag | str | None:
    """What is not counted of the input topics; a text where the broker does not tell."""
    if not settings.has_broker:
        return None
    import sqlalchemy as sa

    from redistill.streams.errors import StreamsError
    from redistill.streams.store.tables import offsets
    from redistill.workers.invariants.log_offsets import logs
    from redistill.workers.models.registered import input_topics

    with common.opened(settings) as database, database.read() as conn:
        rows = conn.execute(sa.select(offsets)).all()
        read = input_topics(conn, settings.namespace)
    kept = {(r.topic_id, r.partition): r.next_offset for r in rows}
    try:
        found = logs(settings.broker(), read)
    except StreamsError as error:
        last = max((r.updated_at for r in rows), default=None)
        counted = (
            f"records were last counted {common.ago(last, now)} ago" if rows else "none so far"
        )
        return f"not known ({error}); {counted}"
    lag = held = 0
    for x in found:
        following = int(kept.get((x.topic_id, x.partition), x.begin))
        lag += x.pending(following)
        held += x.held(following)
    return _Lag(lag, held)


def _print(found: list[Overview], told: Mapping[str, Told], now: int) -> None:
    for o in found:
        _print_model(o, told.get(o.model), now)


def _print_model(o: Overview, incident: Told | None, now: int) -> None:
    from redistill.streams.wire import sentences
    from redistill.workers.store.model_status import accuracy, state

    def say(text: str, *, indent: int = 2) -> None:
        common.echo_text(common.paragraph(text, indent=indent))

    word = state(o, now) + (" (repairs paused)" if o.paused_until is not None else "")
    serves = f", version {common.one_line(o.version)}" if o.version else ", no version yet"
    say(f"{common.one_line(o.model)}: {word}{serves}", indent=0)
    measured = accuracy(o)
    if measured is None:
        say("accuracy not known: no labels")
    else:
        told = sentences.measured(measured.value, measured.low, measured.high, measured.n)
        say(f"accuracy {told}")
    lag = ""
    if o.label_lag_us is not None:
        lag = f", they come after {common.duration(max(0.0, to_seconds(o.label_lag_us)))}"
    gated = ""
    if o.gate_rows_per_day is not None:
        gated = f", {o.gate_rows_per_day:,.0f} gate rows a day"
    say(
        f"{o.labels_waiting:,} labels wait for their prediction{lag}{gated}; last event"
        f" {common.ago(o.last_served_at, now)}"
    )
    if incident is not None:
        number, summary, why = incident
        say(f"{summary.what}: {summary.how_bad if summary.measured else why}")
        if summary.where:
            say(summary.where)
        say(f"next: `redistill incidents show {number[:8]}`")


def _compared(result: dict[str, Any] | None) -> str:
    """What the comparison with the predecessor found so far."""
    if result is None:
        return "not looked at yet"
    if "waits_for" in result:
        said = f"waits for {result['waits_for']}"
    else:
        said = (
            f"{result['wins']:,} won, {result['losses']:,} lost (e-value of being worse:"
            f" {result['e_worse']:.3g})"
        )
    if left_out := result.get("left_out"):
        said += (
            f"; {left_out:,} labels do not count: more than three times as many as usual"
            f" ({result['usual_per_day']:,.0f} a day)"
        )
    return said


def _print_detail(detail: dict[str, Any]) -> None:
    _print_versions(detail["versions"])
    if comparison := detail["comparison"]:
        counts = _compared(comparison["result"])
        common.echo(
            f"{comparison['version']} against its predecessor {comparison['predecessor']} on the"
            f" same labelled rows: {comparison['state']}, {counts}"
        )
    for move in detail["moves"]:
        common.echo(f"{_second(move['at'])} {move['change']} {move['version']}: {move['reason']}")
    for said in detail["labels"]:
        where = " on its own topic" if said["bound"] else ""
        counts = "" if said["counts"] else ", which do not count"
        common.echo(f"{said['source']}{where}: {said['labels']:,} labels in 24 h{counts}")
    stored = detail["stored"]
    if stored["rows"]:
        common.echo(
            f"a repair can draw on {stored['rows']:,} rows served since {_second(stored['since'])}"
        )


def _second(at: str | None) -> str:
    """A time of a document, to the second."""
    return (at or "-")[:19].replace("T", " ")


def _print_versions(versions: list[dict[str, Any]]) -> None:
    from rich.table import Table

    if not versions:
        common.echo("no versions: level watch, or nothing was published yet")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("version", "status", "kind", "sha256", "published (UTC)", "why"):
        table.add_column(title, overflow="fold")
    table.add_column("bytes", justify="right")
    for v in versions:
        table.add_row(
            ("> " if v["serves"] else "  ") + v["version"],
            v["status"],
            v["kind"],
            v["sha256"][:8],
            _second(v["published_at"]),
            _gates(v),
            "removed" if v["bytes"] is None else f"{v['bytes']:,}",
        )
    common.console().print(table)


def _gates(version: dict[str, Any]) -> str:
    """Which gates a version failed, or that it passed; and what a person took upon themselves."""
    if version["failed_gates"]:
        return "; ".join(version["failed_gates"])
    if not version["gate_passed"]:
        return ""
    waived = [f"{gate} waived by {who}" for gate, who in version["waived"].items()]
    return "; ".join(["gates passed", *waived])


def _print_judged(judged: dict[str, Any]) -> None:
    from redistill.workers.cli.judged import gap_lines, gate_table, measured_lines

    common.echo(
        f"{judged['version']}: {judged['status']}, {judged['kind']}, sha256 {judged['sha256'][:8]}"
    )
    for line in measured_lines(judged["measured"]):
        common.echo(line)
    if judged["gates"]:
        common.console().print(gate_table(judged["gates"]))
    else:
        common.echo("no gate judged it")
    for line in gap_lines(judged["gaps"]):
        common.echo(line)
    for what, path in judged["documents"].items():
        common.echo(f"{what}: {path}")
