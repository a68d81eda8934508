"""Heartbeat: whether the dead man's switch beats now. Pure.

Whoever receives it rings when it stops. So it must stop when anything does without which nobody
would be told: the process that sees, the relay that announces, the process that repairs, the one
that alerts. What these find wrong with each other is told on the channels; the heart is for the
night in which nothing is left to tell it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from redistill.streams.store.process_rows import ProcessRow
from redistill.times import MINUTE
from redistill.workers.alerts.alert import Alert
from redistill.workers.alerts.operational.words import duration

__all__ = ["KEY", "RELAY_US", "UNTRIED_US", "Signs", "beat", "why_silent"]

KEY = "heartbeat"
"""Of the alert that is the beat."""
NEEDED = ("stream", "repair")
"""One process of each has to live, beside this one."""
RELAY_US = 11 * MINUTE
"""How long an announcement may wait while no relay takes its lease: one that the broker refuses is
tried again every ten minutes. An idle relay takes none; whether its process lives is asked anyway.
"""
UNTRIED_US = 3 * MINUTE
"""The same of an announcement that was added since a relay last took its lease: what nobody has
tried is tried within a minute, whatever is wrong with the broker or with other announcements."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Signs:
    """Signs of life. Times are microseconds since 1970 by the database's clock."""

    processes: tuple[ProcessRow, ...]
    own_id: str
    """Of this alert process."""
    relay_at: int | None
    """When a relay last took or renewed its lease; ``None``: none ever did."""
    waits_since: int | None
    """When the oldest announcement was added that could be sent now; ``None``: there is none."""
    untried_since: int | None = None
    """The same of those that were added after ``relay_at``."""


def why_silent(signs: Signs, now: int) -> tuple[str, ...]:
    """Why the heart does not beat; empty: it beats.

    Examples
    --------
    >>> def row(name, kind, seen):
    ...     return ProcessRow(process_id=name, kind=kind, started_at=0, seen_at=seen, ready=True,
    ...                       said="")
    >>> rows = (row("s", "stream", 0), row("r", "repair", 0), row("a", "alerts", 0))
    >>> signs = Signs(processes=rows, own_id="a", relay_at=None, waits_since=None)
    >>> why_silent(signs, 0)
    ()
    >>> why_silent(signs, MINUTE)[0]
    'no stream process lives: the last was heard of 1 min ago'
    """
    why = [text for kind in NEEDED if (text := _dead(kind, signs.processes, now)) is not None]
    own = [row for row in signs.processes if row.process_id == signs.own_id and row.lives(now)]
    if not own:
        why.append("this alert process does not get to saying that it lives")
    elif not own[0].ready:  # it lives, and tells nobody anything
        why.append(f"this alert process is not ready: {own[0].said}")
    waited = 0 if signs.waits_since is None else now - signs.waits_since
    quiet = waited if signs.relay_at is None else now - signs.relay_at
    untried = 0 if signs.untried_since is None else now - signs.untried_since
    if min(waited, quiet) > RELAY_US or min(untried, quiet) > UNTRIED_US:
        why.append(
            f"no relay is at work: an announcement has waited for {duration(waited)}, and none took"
            f" the lease for {duration(quiet)}"
        )
    return tuple(why)


def beat(now: int) -> Alert:
    """The beat as a channel tells it."""
    return Alert(
        key=KEY,
        kind="heartbeat",
        state="firing",
        severity="info",
        alert_class="heartbeat",
        model=None,
        version=None,
        title="redistill is alive: its stream, relay, repair and alert processes work",
        opened_at=now,
    )


def _dead(kind: str, rows: Iterable[ProcessRow], now: int) -> str | None:
    same = [row for row in rows if row.kind == kind]
    if any(row.lives(now) for row in same):
        return None
    if not same:
        return f"no {kind} process lives"
    last = max(row.seen_at for row in same)
    return f"no {kind} process lives: the last was heard of {duration(now - last)} ago"
