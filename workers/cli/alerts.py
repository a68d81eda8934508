"""``redistill alerts``: what people are told, and whether it reaches them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from redistill.times import now_us
from redistill.workers.cli import common
from redistill.workers.exit_codes import ExitCode

if TYPE_CHECKING:
    from redistill.workers.alerts.alert import Alert
    from redistill.workers.alerts.channels.channel import Channel
    from redistill.workers.documents.alert import TrialLine

__all__ = ["app"]

app = typer.Typer(
    cls=common.Listing,
    add_completion=False,
    rich_markup_mode=None,
    help="List what people are told now, or send a test to each channel.",
)

SEND_SECONDS = 10.0
"""As long as the alert process waits for a receiver."""


@app.command("list", short_help="List what is open, and what each channel was told.")
def list_(as_json: bool = common.AS_JSON) -> None:
    """List alerts that are open, who has them in hand, and what each channel was told.

    \b
    redistill alerts list
    """
    from redistill.workers.alerts import storms
    from redistill.workers.alerts.holds import held
    from redistill.workers.alerts.planner import LATELY_US, Planner
    from redistill.workers.documents.alert import line_of_alert
    from redistill.workers.store import alert_deliveries, alert_holds, alert_queries

    settings = common.load()
    with common.opened(settings) as database, database.read() as conn:
        now = database.clock()
        found = Planner(database, public_url=settings.public_url).alerts(conn, now)
        members = alert_queries.storms(conn)
        holds = alert_holds.read(conn)
        rows = alert_deliveries.read(conn, since=now - LATELY_US).values()
    of: dict[str, list[Alert]] = {}
    for alert in found:
        of.setdefault(members.get(alert.key, alert.key), []).append(alert)
    present = [
        storms.grouped(key, those) if key in members.values() else those[0]
        for key, those in of.items()
    ]
    shown = [
        line_of_alert(held(a, holds.get(a.key), now), (r for r in rows if r.alert_key == a.key))
        for a in present
        if a.state != "resolved"
    ]
    if as_json:
        common.print_json(shown)
        return
    if not shown:
        common.echo("no alert is open")
        return
    table = common.table("ALERT", "SEVERITY", "STATE", "MODEL", "WHAT", "CHANNELS")
    for one in shown:
        channels = ", ".join(f"{c.channel} {c.state}" for c in one.channels)
        table.add_row(
            one.key, one.severity, one.state, one.model or "-", one.title, channels or "nobody"
        )
    common.console().print(table)


@app.command("test", short_help="Send a test to channels, and say if it came.")
def send_test(
    channels: list[str] = typer.Argument(
        None, metavar="[CHANNEL]...", help="Names in alerts.toml; default: all."
    ),
    as_json: bool = common.AS_JSON,
) -> None:
    """Send a test to each channel, which says that nothing is wrong.

    \b
    redistill alerts test
    redistill alerts test oncall
    """
    from redistill.workers.alerts.channel_set import ChannelSet
    from redistill.workers.alerts.incident_alerts import trial
    from redistill.workers.errors import UsageError

    path = common.load().alerts_path
    made = ChannelSet.read(path)
    takes = {n for n, t in made.traits.items() if t.carries is None or "test" in t.carries}
    if strangers := sorted(set(channels or ()) - set(made.channels)):
        there = ", ".join(made.channels) or "none"
        raise UsageError(f"{path} has no [channels.{strangers[0]}]: it has {there}")
    chosen = channels or sorted(takes)
    if not chosen:
        raise UsageError(f"there is no channel in {path}: docs/alerts.md shows how to add one")
    out = [
        _try(name, made.channels[name], trial(name, actor=common.actor(), now=now_us()))
        for name in chosen
    ]
    if as_json:
        common.print_json(out)
    for one in () if as_json else out:
        came = f"told in {one.seconds:.1f} s" if one.error is None else f"not told: {one.error}"
        common.echo(f"{one.channel}: {came}")
    if any(one.error is not None for one in out):
        raise typer.Exit(ExitCode.REFUSED)


def _try(name: str, channel: Channel, alert: Alert) -> TrialLine:
    """Tell a channel of a test, and that it is over where it would go on; what came of it."""
    from dataclasses import replace

    from redistill.workers.alerts.channels.channel import DeliveryFailed
    from redistill.workers.documents.alert import TrialLine

    begun, said = time.monotonic(), None
    try:
        channel.send(alert, seconds=SEND_SECONDS)
        if channel.in_place:
            over = replace(alert, state="resolved", resolved_at=alert.opened_at)
            channel.send(over, seconds=SEND_SECONDS)
    except DeliveryFailed as error:
        said = str(error)
    return TrialLine(channel=name, seconds=round(time.monotonic() - begun, 3), error=said)
