"""Holds applied to alerts: an alert that somebody has in hand, or that rests, says so. Pure."""

from __future__ import annotations

from dataclasses import replace

from redistill.times import utc
from redistill.workers.alerts.alert import Alert
from redistill.workers.store.alert_holds import Hold

__all__ = ["again", "held", "rests"]


def rests(hold: Hold | None, now: int) -> bool:
    """Whether an alert is snoozed."""
    return hold is not None and hold.snoozed_until is not None and hold.snoozed_until > now


def again(hold: Hold | None, now: int) -> int:
    """When a snooze of an alert ended, after which it is told again; 0: there was none."""
    return 0 if hold is None or rests(hold, now) else hold.snoozed_until or 0


def held(alert: Alert, hold: Hold | None, now: int) -> Alert:
    """The alert with what its hold makes of it."""
    if hold is None or alert.state == "resolved":
        return alert
    if rests(hold, now):
        until = utc(hold.snoozed_until or 0)
        said = f"snoozed by {hold.snoozed_by} until {until:%Y-%m-%d %H:%M} UTC"
    elif hold.acknowledged_at is not None:
        at = utc(hold.acknowledged_at)
        said = f"acknowledged by {hold.acknowledged_by} at {at:%Y-%m-%d %H:%M} UTC"
    else:
        return alert
    done = f"{alert.done}; {said}" if alert.done else said
    return replace(alert, state="acknowledged", done=done)
