"""Post-release monitor: is the new version really better than what it replaced?

The predecessor's ONNX is run again on labelled rows that the new version served (a child in mode
``compare``); this module decides what follows from wins and losses, and does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
import structlog

from redistill.compress.plan import Comparison
from redistill.streams.wire.events import Trigger
from redistill.times import to_us
from redistill.workers.errors import RegistryError
from redistill.workers.releases import registry
from redistill.workers.releases.registry import PointerMove
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.store.tables import monitored_releases

__all__ = [
    "BREAKER_SECONDS",
    "E_LIMIT",
    "MonitoredRelease",
    "Settlement",
    "due",
    "expire",
    "note",
    "settle",
]

log = structlog.get_logger(__name__)

E_LIMIT = 100.0
"""Ville: a version that is no worse reaches an e-value of 100 against it with probability 1/100."""

BREAKER_SECONDS = 24 * 3_600.0
"""How long no repair starts by itself after an automatic roll back."""

Verdict = Literal["keep", "roll_back", "go_on"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MonitoredRelease:
    """A comparison that runs."""

    model: str
    epoch: int
    version: str
    predecessor: str
    last_seq: int
    """Newest outcome of the version that was compared."""
    since: int
    until: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Settlement:
    """What a comparison led to."""

    verdict: Verdict
    rollback: PointerMove | None = None
    """The automatic roll back."""
    note: str = ""
    """What a person should know: why nothing could be rolled back."""


def decide(comparison: Comparison, *, limit: float = E_LIMIT) -> Verdict:
    """What a paired comparison of a version with its predecessor says.

    Parameters
    ----------
    comparison
        ``e_better`` and ``e_worse`` are anytime-valid e-values: they may be looked at after every
        label (Ramdas et al., 2023, "Game-theoretic statistics and safe anytime-valid inference").
    limit
        E-value that decides.

    Examples
    --------
    >>> decide(Comparison(wins=2, losses=30, ties=100, e_better=0.1, e_worse=5e4))
    'roll_back'
    >>> decide(Comparison(wins=3, losses=2, ties=10, e_better=1.1, e_worse=0.7))
    'go_on'
    """
    if comparison.e_worse >= limit:
        return "roll_back"
    return "keep" if comparison.e_better >= limit else "go_on"


def due(conn: sa.Connection) -> list[MonitoredRelease]:
    """Comparisons that run, oldest first."""
    rows = conn.execute(
        sa.select(monitored_releases)
        .where(monitored_releases.c.state == "watching")
        .order_by(monitored_releases.c.since)
    )
    return [
        MonitoredRelease(
            model=r.model,
            epoch=r.epoch,
            version=r.version,
            predecessor=r.predecessor,
            last_seq=r.last_seq,
            since=r.since,
            until=r.until,
        )
        for r in rows
    ]


def settle(
    conn: sa.Connection,
    release: MonitoredRelease,
    comparison: Comparison,
    *,
    last_seq: int,
    actor: str,
    now: int,
    lifetimes: Lifetimes,
    cool_down_seconds: float,
    breaker_seconds: float = BREAKER_SECONDS,
    told: Mapping[str, Any] | None = None,
) -> Settlement:
    """Write what a comparison found, and roll back if the new version is worse.

    An automatic roll back bars the bytes (until ``redistill unbar``) and pauses automatic repair,
    so that publishing and rolling back cannot chase each other.

    Parameters
    ----------
    release
        As :func:`due` gave it. If the pointer moved meanwhile nothing is done.
    comparison
        The new version (wins) against its predecessor (losses).
    last_seq
        Newest outcome that was compared.
    told
        What else stands in the result: which labels counted.

    Returns
    -------
    Settled
        ``go_on`` while it is undecided.
    """
    verdict = decide(comparison)
    states = {"keep": "better", "roll_back": "worse", "go_on": "watching"}
    mine = (monitored_releases.c.model == release.model) & (
        monitored_releases.c.epoch == release.epoch
    )
    updated = conn.execute(
        sa.update(monitored_releases)
        .where(mine, monitored_releases.c.state == "watching")
        .values(
            state=states[verdict],
            last_seq=last_seq,
            result=_result({**msgspec.to_builtins(comparison), **(told or {})}),
        )
    )
    if updated.rowcount != 1:
        return Settlement(verdict="go_on", note="the pointer moved meanwhile")
    if verdict != "roll_back":
        return Settlement(verdict=verdict)
    reason = (
        f"worse than {release.predecessor} on the same labelled rows: {comparison.losses} lost, "
        f"{comparison.wins} won (e-value {comparison.e_worse:.3g})"
    )
    try:
        rollback = _go_back(conn, release, reason, actor, now, lifetimes, cool_down_seconds)
    except RegistryError as error:
        note = f"{release.model} {release.version} is {reason}, but nothing can replace it: {error}"
        log.error(
            "rollback_impossible", action="rollback_impossible", model=release.model, why=note
        )
        return Settlement(verdict=verdict, note=note)
    until = now + to_us(breaker_seconds)
    registry.pause(conn, release.model, until=until, reason=f"circuit breaker: {reason}")
    return Settlement(verdict=verdict, rollback=rollback)


def note(conn: sa.Connection, release: MonitoredRelease, told: Mapping[str, Any]) -> None:
    """Write why nothing was compared yet, for people who look."""
    g = monitored_releases.c
    conn.execute(
        sa.update(monitored_releases)
        .where(g.model == release.model, g.epoch == release.epoch, g.state == "watching")
        .values(result=_result(told))
    )


def _result(told: Mapping[str, Any]) -> str:
    return msgspec.json.encode(told).decode()


def expire(conn: sa.Connection, *, now: int) -> int:
    """End comparisons whose time is over undecided: the new version stays. How many it were."""
    updated = conn.execute(
        sa.update(monitored_releases)
        .where(monitored_releases.c.state == "watching", monitored_releases.c.until <= now)
        .values(state="expired")
    )
    return updated.rowcount


def _go_back(
    conn: sa.Connection,
    release: MonitoredRelease,
    reason: str,
    actor: str,
    now: int,
    lifetimes: Lifetimes,
    cool_down_seconds: float,
) -> PointerMove:
    """To the predecessor, or to what served before it where that cannot serve any more."""

    def back(to: str | None) -> PointerMove:
        return registry.rollback(
            conn,
            release.model,
            to=to,
            trigger=Trigger(kind="guard", id=f"{release.model}:{release.epoch}"),
            actor=actor,
            reason=reason,
            now=now,
            lifetimes=lifetimes,
            cool_down_seconds=cool_down_seconds,
            change="automatic_rollback",
        )

    try:
        return back(release.predecessor)
    except RegistryError:  # refused before anything was changed
        return back(None)
