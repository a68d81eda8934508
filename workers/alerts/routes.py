"""Routes: which channels an alert goes to at a time, and at which severity. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import time
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo

from redistill.times import to_us, utc
from redistill.workers.alerts.alert import SEVERITIES, Alert, Severity
from redistill.workers.alerts.alerts_file import Quiet, Route

__all__ = ["is_quiet", "rank", "targets", "worst"]


def rank(severity: Severity) -> int:
    """Place of a severity, from the least to the most."""
    return SEVERITIES.index(severity)


def worst(severities: Iterable[Severity]) -> Severity:
    """The most severe of some; ``info`` of none."""
    return max(severities, key=rank, default="info")


def targets(
    alert: Alert, ways: Sequence[Route], *, now: int, since: Callable[[str], int | None]
) -> dict[str, Severity]:
    """Channels that an alert goes to, each with the severity at which it is told.

    Parameters
    ----------
    now
        Microseconds since 1970.
    since
        Since when a channel stands before it as a page that is open; ``None``: it does not.
    """
    out: dict[str, Severity] = {}

    def add(channels: Iterable[str], severity: Severity) -> None:
        for name in channels:
            out[name] = worst([severity, *([out[name]] if name in out else [])])

    for route in ways:
        if not _matches(alert, route):
            continue
        severity = route.severity or alert.severity
        add(route.channels, severity)
        waited = route.escalate_after_minutes
        if waited is None or severity != "page" or alert.state != "firing":
            continue
        begun = [at for name in route.channels if (at := since(name)) is not None]
        if begun and now - min(begun) >= to_us(waited * 60):
            add(route.escalate_to, severity)
    return out


def _matches(alert: Alert, route: Route) -> bool:
    if rank(alert.severity) < rank(route.min_severity):
        return False
    model = alert.model or ""
    if not any(p == "*" or fnmatchcase(model, p) for p in route.models):
        return False
    return any(
        fnmatchcase(word, p) for p in route.classes for word in (alert.alert_class, alert.kind)
    )


def is_quiet(quiet: Quiet | None, severity: Severity, now: int) -> bool:
    """Whether an alert of a severity waits for the end of the quiet hours.

    Examples
    --------
    >>> night = Quiet(begin="22:00", end="07:00")
    >>> [is_quiet(night, "warn", h * 3_600_000_000) for h in (6, 7, 21, 22)]
    [True, False, False, True]
    >>> is_quiet(night, "page", 0)
    False
    """
    if quiet is None or rank(severity) >= rank(quiet.only_below):
        return False
    at = utc(now).astimezone(ZoneInfo(quiet.timezone)).time()
    begin, end = time.fromisoformat(quiet.begin), time.fromisoformat(quiet.end)
    return begin <= at < end if begin <= end else at >= begin or at < end
