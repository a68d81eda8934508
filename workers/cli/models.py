"""``redistill models``: all models with their state, or one with its versions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import typer

from redistill.times import now_us
from redistill.workers.cli import common

if TYPE_CHECKING:
    import sqlalchemy as sa

    from redistill.workers.settings.settings import Settings
    from redistill.workers.store.queries import Overview

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="List the models: state, serving version, accuracy, labels.",
)

MILLION = 1e6


@app.command()
def models(
    name: str | None = typer.Argument(None, help="Show one model with its versions."),
    as_json: bool = typer.Option(False, "--json", help="One JSON document instead of a table."),
) -> None:
    """List the models, worst first, or show one with its versions.

    Accuracy is measured on the last labelled rows of the serving version, with its 95% interval;
    where there are no labels none is shown. A gate row is a row with both a label and stored
    features: a repair is judged on about a hundred of them. Of one model: how the newest version
    does against its predecessor, the last moves of the pointer, and what is stored for a repair.
    """
    from redistill.workers.errors import UsageError
    from redistill.workers.store import model_detail, queries
    from redistill.workers.store.model_status import worst_first

    settings = common.load()
    now = now_us()
    with common.opened(settings) as database, database.read() as conn:
        known = queries.models(conn)
        if name is not None and name not in known:
            listed = ", ".join(known[:10]) or "none yet: `redistill register model.toml`"
            raise UsageError(f"there is no model {name!r}; registered: {listed}")
        found = [queries.overview(conn, m, now) for m in ([name] if name else known)]
        unknown = queries.unregistered_models(conn)
        detail = model_detail.detail(conn, name) if name else {}
        planned = _schedule(conn, name, now) if name else None
    found = worst_first(found, now)
    lag = _lag(settings)
    if as_json:
        rows = [_document(o, now) for o in found]
        if name:
            common.print_json(rows[0] | detail | {"schedule": planned})
        else:
            seen = {u.model: u.rows for u in unknown}
            more = asdict(lag) if isinstance(lag, _Lag) else {"lag": lag}
            common.print_json({"models": rows, "unregistered": seen, **more})
        return
    if not found:
        common.echo("no model is registered yet: `redistill register model.toml`")
    else:
        _print(found, now)
    if name:
        _print_detail(detail)
    if planned is not None:
        common.echo(planned)
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


def _lag(settings: Settings) -> _Lag | str | None:
    """What is not counted of the input topics; a text where the broker does not tell."""
    if not settings.has_broker:
        return None
    import sqlalchemy as sa

    from redistill.streams.errors import StreamsError
    from redistill.streams.store.tables import offsets
    from redistill.workers.invariants.log_offsets import logs

    with common.opened(settings) as database, database.read() as conn:
        kept = {
            (r.topic_id, r.partition): r.next_offset for r in conn.execute(sa.select(offsets)).all()
        }
    try:
        found = logs(settings.broker(), ("predictions", "labels"))
    except StreamsError as error:
        return f"not known ({error})"
    lag = held = 0
    for x in found:
        following = int(kept.get((x.topic_id, x.partition), x.begin))
        lag += x.pending(following)
        held += x.held(following)
    return _Lag(lag, held)


def _document(o: Overview, now: int) -> dict[str, Any]:
    from redistill.workers.store.model_status import accuracy, state

    measured = accuracy(o)
    return {
        "model": o.model,
        "level": o.level,
        "state": state(o, now),
        "version": o.version,
        "accuracy": None
        if measured is None
        else {
            "basis": "measured",
            "value": measured.value,
            "low": measured.low,
            "high": measured.high,
            "n": measured.n,
        },
        "labels_waiting": o.labels_waiting,
        "label_lag_s": None if o.label_lag_us is None else o.label_lag_us / MILLION,
        "gate_rows_per_day": o.gate_rows_per_day,
        "last_event_age_s": None
        if o.last_served_at is None
        else (now - o.last_served_at) / MILLION,
        "open_findings": o.open_findings,
        "incident": None
        if o.incident is None
        else dict(zip(("class", "stage", "why"), o.incident, strict=True)),
        "job": o.job,
        "paused_until": None if o.paused_until is None else common.moment(o.paused_until),
    }


def _print(found: list[Overview], now: int) -> None:
    from rich.table import Table

    from redistill.workers.store.model_status import accuracy, state

    table = Table(box=None, pad_edge=False)
    for title in ("model", "state", "version", "accuracy (measured)"):
        table.add_column(title, overflow="fold")
    for title in ("waiting", "label lag", "gate rows/day", "last event"):
        table.add_column(title, justify="right")
    for o in found:
        measured = accuracy(o)
        rate = "no labels"
        if measured is not None:
            rate = (
                f"{measured.value:.1%} [{measured.low:.1%}, {measured.high:.1%}] on {measured.n:,}"
            )
        word = state(o, now)
        table.add_row(
            o.model,
            f"{word} (repairs paused)" if o.paused_until is not None else word,
            o.version or "-",
            rate,
            f"{o.labels_waiting:,}",
            "-" if o.label_lag_us is None else common.duration(o.label_lag_us / MILLION),
            "-" if o.gate_rows_per_day is None else f"{o.gate_rows_per_day:,.0f}",
            common.ago(o.last_served_at, now),
        )
    out = common.console()
    out.print(table)
    for o in found:
        if o.incident is not None:
            out.print(f"{o.model}: {o.incident[2]}", markup=False)


def _print_detail(detail: dict[str, Any]) -> None:
    _print_versions(detail["versions"])
    if comparison := detail["comparison"]:
        result = comparison["result"]
        counts = "not looked at yet"
        if result is not None:
            counts = (
                f"{result['wins']:,} won, {result['losses']:,} lost (e-value of being worse:"
                f" {result['e_worse']:.3g})"
            )
        common.echo(
            f"{comparison['version']} against its predecessor {comparison['predecessor']} on the"
            f" same labelled rows: {comparison['state']}, {counts}"
        )
    for move in detail["moves"]:
        common.echo(f"{_second(move['at'])} {move['change']} {move['version']}: {move['reason']}")
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
            "; ".join(v["failed_gates"]) or ("gates passed" if v["gate_passed"] else ""),
            "removed" if v["bytes"] is None else f"{v['bytes']:,}",
        )
    common.console().print(table)
