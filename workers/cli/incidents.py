"""``redistill incidents``: what was found, why it happened, what was done, and what a person may
do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from redistill.times import DAY, HOUR, MINUTE, to_seconds
from redistill.workers.cli import common

if TYPE_CHECKING:
    import sqlalchemy as sa

    from redistill.workers.incidents.broken_feeds import BrokenFeed, BrokenIncident

__all__ = ["app"]

HELD = "Its id, or how it begins; or the key of another alert, as `redistill alerts list` shows it."
UNITS = {"m": MINUTE, "h": HOUR, "d": DAY}
LONGEST_SNOOZE = 30 * DAY
"""What nobody wants to hear of for longer should be resolved."""

app = typer.Typer(
    cls=common.Listing,
    add_completion=False,
    rich_markup_mode=None,
    help="List incidents, or show one: what was found, why, and what was done.",
)


@app.command("list")
def list_(
    model: str | None = common.OF_MODEL,
    everything: bool = typer.Option(False, "--all", help="Resolved ones as well, newest first."),
    limit: int = typer.Option(50, "--limit", min=1, max=10_000, help="At most so many."),
    as_json: bool = common.AS_JSON,
) -> None:
    """List open incidents, those that need a person first.

    \b
    redistill incidents list
    redistill incidents list --all --model credit
    """
    from redistill.workers.documents.incident import line_of_incident
    from redistill.workers.incidents import broken_feeds
    from redistill.workers.incidents.summary import finding_objects, summarised
    from redistill.workers.store import alert_queries
    from redistill.workers.store import incident_queries as queries

    with common.opened(common.load()) as database, database.read() as conn:
        common.want_model(conn, model)
        rows = queries.listed(conn, model=model, resolved=everything, limit=limit)
        bodies = alert_queries.finding_bodies(conn, [row["incident_id"] for row in rows])
        feeds = [feed for feed in _broken_feeds(conn) if model is None or model in feed.models]
    if as_json:
        common.print_json([line_of_incident(row) for row in rows])
        return
    if not rows:
        common.echo("no incidents" if everything else "no open incidents")
        return
    now = database.clock()
    for feed in feeds:
        common.echo_text(common.paragraph(broken_feeds.sentence(feed), indent=0))
        common.echo_text(common.paragraph(f"all of them: `{_shows(feed.members[0])}`"))
    said = set() if model else broken_feeds.wholly_in(feeds)
    for row in rows:
        told = summarised(row, finding_objects(bodies.get(row["incident_id"], ())))
        state = row["resolution"] or row["stage"]
        common.echo_text(
            common.paragraph(
                f"{row['incident_id'][:8]}  {common.one_line(row['model'])}"
                f" {common.one_line(row['version'])}: {told.what}, {state},"
                f" {common.ago(row['opened_at'], now)} ago",
                indent=0,
            )
        )
        if row["incident_id"] in said:
            continue
        for sentence in (told.how_bad, told.where, told.doing):
            if sentence:
                common.echo_text(common.paragraph(sentence))
        if told.commands:
            common.echo_text(common.paragraph(f"next: `{told.commands[0]}`"))


@app.command(short_help="Show findings, contributors and every step.")
def show(
    incident: str = typer.Argument(..., metavar="ID", help="Its id, or how it begins."),
    as_json: bool = common.AS_JSON,
) -> None:
    """Show one incident: findings, contributors, and every step with its time.

    \b
    redistill incidents show 3f2a81c0
    """
    from redistill.workers.documents.incident import document_of_incident
    from redistill.workers.incidents import incident_repository
    from redistill.workers.store import incident_queries as queries

    with common.opened(common.load()) as database, database.read() as conn:
        found = queries.detail(conn, incident_repository.find(conn, incident))
        feeds = [f for f in _broken_feeds(conn) if f.has(found["incident_id"])]
    if as_json:
        common.print_json(document_of_incident(found, feeds))
    else:
        _print(found, feeds)


@app.command()
def resolve(
    incident: str = typer.Argument(..., metavar="ID", help="Its id, or how it begins."),
    reason: str = typer.Option(..., "--reason", help="Why it is over, for the record."),
    as_json: bool = common.AS_JSON,
) -> None:
    """End an incident: you have dealt with it, or it is none.

    Its job, if one is at work, is cancelled. The findings that it is about will not open it again;
    new ones will.

    \b
    redistill incidents resolve 3f2a81c0 --reason "the feed was mended"
    """
    from redistill.workers.documents.incident import line_of_incident
    from redistill.workers.errors import UsageError
    from redistill.workers.incidents import incident_repository, lifecycle, model_context

    reason = common.want_reason(reason, "say why the incident is over")
    with common.opened(common.load()) as database, database.begin() as conn:
        row = incident_repository.find(conn, incident)
        model_context.load(conn, row["model"], lock=True)
        row = incident_repository.find(conn, row["incident_id"])
        if row["status"] != "open":
            raise UsageError(f"incident {row['incident_id']} is resolved already: {row['why']}")
        done = lifecycle.resolve(
            conn, row, "person", why=reason, actor=common.actor(), now=database.clock()
        )
    common.say(
        line_of_incident(done), f"incident {done['incident_id']} is resolved", as_json=as_json
    )


@app.command(short_help="Take an incident in hand: nobody else is told.")
def ack(
    incident: str = typer.Argument(..., metavar="ID", help=HELD),
    as_json: bool = common.AS_JSON,
) -> None:
    """Take an incident in hand: it is told to nobody further, and not escalated.

    Detectors and repairs go on, and its end is told. An incident that comes back is nobody's again.

    \b
    redistill incidents ack 3f2a81c0
    """
    from redistill.workers.documents.alert import HoldDocument
    from redistill.workers.store import alert_holds

    with common.opened(common.load()) as database, database.begin() as conn:
        key, subject, named = _held(conn, incident)
        alert_holds.acknowledge(
            conn, key, subject=subject, actor=common.actor(), now=database.clock()
        )
    done = HoldDocument(key=key, actor=common.actor(), snoozed_until=None)
    common.say(done, f"{named} is yours: nobody else is told", as_json=as_json)


@app.command(short_help="Be told of it again later; nothing else changes.")
def snooze(
    incident: str = typer.Argument(..., metavar="ID", help=HELD),
    length: str = typer.Option("4h", "--for", help="How long: 30m, 4h or 2d, at most 30 days."),
    off: bool = typer.Option(False, "--off", help="End a snooze."),
    as_json: bool = common.AS_JSON,
) -> None:
    """Be told again later, if it is still open then. No repair is held up, and its end is told.

    \b
    redistill incidents snooze 3f2a81c0 --for 8h
    redistill incidents snooze 3f2a81c0 --off
    """
    from redistill.workers.documents.alert import HoldDocument
    from redistill.workers.documents.document import iso
    from redistill.workers.store import alert_holds

    lasts = 0 if off else _length(length)
    with common.opened(common.load()) as database, database.begin() as conn:
        now = database.clock()
        key, subject, named = _held(conn, incident)
        alert_holds.snooze(
            conn, key, until=now + lasts, subject=subject, actor=common.actor(), now=now
        )
    done = HoldDocument(key=key, actor=common.actor(), snoozed_until=iso(now + lasts))
    said = "rests no longer" if off else f"rests until {common.moment(now + lasts)}"
    common.say(done, f"{named} {said}", as_json=as_json)


def _held(conn: sa.Connection, what: str) -> tuple[str, str, str]:
    """Key of the alert that is meant, what the audit calls it, and what people do."""
    from redistill.workers.errors import UsageError
    from redistill.workers.incidents import incident_repository
    from redistill.workers.store import alert_holds, alert_queries

    if ":" in what and not what.startswith("incident:"):
        if not alert_queries.is_open(conn, what):
            raise UsageError(f"no alert {what!r} is open: see `redistill alerts list`")
        return what, what, what
    row = incident_repository.find(conn, what.removeprefix("incident:"))
    number = str(row["incident_id"])
    if row["status"] != "open":
        raise UsageError(f"incident {number} is resolved already: {row['why']}")
    return alert_holds.of_incident(number), number, f"incident {number}"


def _length(text: str) -> int:
    """Microseconds of a text like ``4h``."""
    from redistill.workers.errors import UsageError

    found = re.fullmatch(r"(\d{1,4})([mhd])", text)
    lasts = int(found[1]) * UNITS[found[2]] if found else 0
    if not 0 < lasts <= LONGEST_SNOOZE:
        raise UsageError(f"--for {text!r}: 30m, 4h or 2d was expected, at most 30 days")
    return lasts


@app.command()
def approve(
    incident: str = typer.Argument(..., metavar="ID", help="Its id, or how it begins."),
    waive: list[str] = common.WAIVE,
    reason: str | None = common.WAIVE_REASON,
    as_json: bool = common.AS_JSON,
) -> None:
    """Let an incident be repaired although the policy waits or asks.

    Overrides approval on request, pauses, the cool-down and the circuit breaker; never the level of
    the model or the daily budget. Where trusted rows could not decide about a candidate, that
    candidate is judged again: with the trusted rows that are registered now, or without a gate that
    you take upon yourself. Your name and reason go into the report and the audit chain.

    \b
    redistill incidents approve 3f2a81c0
    redistill incidents approve 3f2a81c0 --waive trusted --reason "old rows, old prices"
    """
    from redistill.workers.documents.incident import line_of_incident
    from redistill.workers.incidents import incident_repository, lifecycle, model_context
    from redistill.workers.jobs.question import WAIVABLE

    waived = common.waived(waive, reason, WAIVABLE)
    settings = common.load()
    fleet_limits = model_context.FleetLimits.of(settings)
    with common.opened(settings) as database, database.begin() as conn:
        row = incident_repository.find(conn, incident)
        lifecycle.approve(
            conn, row, fleet_limits, actor=common.actor(), now=database.clock(), waived=waived
        )
        row = incident_repository.find(conn, row["incident_id"])
    queued = f"attempt {row['attempt']} of incident {row['incident_id']} is queued"
    common.say(line_of_incident(row), queued, as_json=as_json)


def _broken_feeds(conn: sa.Connection) -> list[BrokenFeed]:
    """What several models find broken, by their open findings."""
    from redistill.workers.incidents.broken_feeds import broken_feeds, broken_incident
    from redistill.workers.store import incident_queries as queries

    found = queries.data_bugs(conn).items()
    return broken_feeds(broken_incident(*which, bodies) for which, bodies in found)


def _shows(incident: BrokenIncident) -> str:
    return f"redistill incidents show {incident.incident_id[:8]}"


def _print(found: Mapping[str, Any], feeds: Sequence[BrokenFeed]) -> None:
    from redistill.workers.incidents import broken_feeds
    from redistill.workers.incidents.summary import readable, summarised

    def say(text: str, *, indent: int = 2) -> None:
        common.echo_text(common.paragraph(text, indent=indent))

    told = summarised(found, readable(found["findings"]))
    model, version = (common.one_line(found[name]) for name in ("model", "version"))
    say(f"{model} {version}: {told.how_bad}", indent=0)
    if told.where:
        say(told.where)
    if told.commands:
        say(f"next: `{told.commands[0 if len(told.commands) < 3 else 1]}`")
    say("why", indent=0)
    for sentence in told.why or ("not known yet",):
        say(sentence)
    if found["change_low"] is not None:
        low, high = common.moment(found["change_low"]), common.moment(found["change_high"])
        say(f"the change began between {low} and {high}")
    for feed in feeds:
        say("broken in other models, too", indent=0)
        say(broken_feeds.sentence(feed))
        others = [m for m in feed.members if m.incident_id != found["incident_id"]]
        say("the others: " + ", ".join(f"{m.model} ({m.incident_id[:8]})" for m in others))
    say("what redistill does", indent=0)
    say(told.doing)
    if told.may:
        say(told.may)
    for command in told.commands[1:]:
        say(f"you may type `{command}`")
    common.echo(
        f"  id {found['incident_id']}, {told.what}, attempts {found['attempt']}, decision"
        f" {found['decision'] or '-'}"
    )
    for finding in found["findings"]:
        say(
            f"finding {finding['kind']} ({common.one_line(finding['scope'])}),"
            f" {finding['status']}: {finding['reason']}",
            indent=0,
        )
    common.echo("")
    table = common.table("TIME", "AFTER", "STEP", "WHAT")
    for column in table.columns[:2]:
        column.no_wrap = True
    for step in found["timeline"]:
        after = common.duration(to_seconds(step["at"] - found["opened_at"]))
        table.add_row(common.moment(step["at"]), after, step["what"], step["why"])
    common.console().print(table)
