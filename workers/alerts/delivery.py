"""Delivery of one alert to one channel: what is owed, when it is tried again, when it is given up.
Pure.

Level-triggered: what a channel should know is compared with what it was told last, so nothing
depends on having seen a change happen. A delivery is noted after it was made: whoever dies in
between sends the same again under the same key, at least once.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from random import Random
from typing import Literal

from redistill.times import DAY, SECOND, to_us
from redistill.workers.alerts.alert import Alert, digest
from redistill.workers.alerts.channels.channel import DeliveryFailed
from redistill.workers.store.alert_deliveries import Delivery

__all__ = [
    "FAILING_TRIES",
    "UPDATE_PAUSE_US",
    "failed",
    "owed",
    "pause_seconds",
    "sent",
]

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 300.0
"""Between two tries; what a receiver asks for is kept up to an hour."""
LONGEST_ASKED_SECONDS = 3_600.0
FAILING_TRIES = 5
"""Failed tries in a row after which a channel counts as failing: half a minute of retries."""
GIVE_UP_US = 3 * DAY
"""A weekend: what could not be told for longer is tried seldom, ..."""
GIVEN_UP_PAUSE_SECONDS = LONGEST_ASKED_SECONDS
"""... or once the channel has taken something else: it is told what is so by then."""
UPDATE_PAUSE_US = 10 * SECOND
"""Between two updates that change neither state nor severity: figures move more often than anybody
reads them."""


_digest = lru_cache(maxsize=8_192)(digest)
"""Most alerts are the same in the next round."""


def telling(alert: Alert, *, in_place: bool, again: int, period: int = 0) -> str:
    """What tells one telling from another.

    Parameters
    ----------
    in_place
        Whether the channel replaces what it was told: then everything tells. Otherwise only that an
        alert begins, that its severity changes, that a storm has doubled (among the members that it
        lists), and that it ends.
    again
        When a snooze ended, after which the same is told again.
    period
        Number of the period in which a receiver that forgets has to be reminded of what is open.
    """
    if in_place:
        return f"{_digest(alert)}:{again}" + (f":{period}" if alert.state != "resolved" else "")
    if alert.state == "resolved":
        return "resolved"
    return f"open:{alert.severity}:{len(alert.members).bit_length()}:{again}"


def owed(
    alert: Alert,
    row: Delivery | None,
    *,
    channel: str,
    in_place: bool,
    again: int,
    settle: int,
    now: int,
    repeat_seconds: float | None = None,
    took_at: int = 0,
) -> Delivery:
    """The row of an alert that a channel should know, as it has to be by now.

    Parameters
    ----------
    row
        What is known of it.
    settle
        Microseconds that a new alert waits, counted from when it opened.
    repeat_seconds
        After so long what is open has to be told again; ``None``: never.
    took_at
        When the channel last took anything; 0: it never did.
    """
    if row is not None:  # whoever wrote it had a clock that was ahead
        row = replace(row, not_before=min(row.not_before, now + to_us(LONGEST_ASKED_SECONDS)))
    period = 0 if repeat_seconds is None else now // to_us(repeat_seconds)
    wanted = telling(alert, in_place=in_place, again=again, period=period)
    if row is None:
        return Delivery(
            channel=channel,
            alert_key=alert.key,
            state="owed",
            digest=wanted,
            title=alert.title,
            severity=alert.severity,
            since=now,
            not_before=min(alert.opened_at, now) + settle,
            wanted_at=now,
        )
    if row.state == "held":
        row = replace(row, wanted_at=now)  # it was kept back on purpose until now
    goes_on = row.told_state != "resolved" and row.severity == alert.severity
    since = max(row.since if goes_on else now, again)
    if row.digest == wanted:
        if row.told == wanted:
            return replace(row, state="told", since=since)
        if row.state == "given_up":
            back = took_at > _tried_at(row)
            again_at = _soon(row) if back else row.not_before
            state: Literal["owed", "given_up"] = "owed" if back else "given_up"
            return replace(row, state=state, since=since, not_before=again_at)
        return replace(row, state="owed", since=since)
    return replace(
        row,
        state="told" if row.told == wanted else "owed",
        digest=wanted,
        title=alert.title,
        severity=alert.severity,
        since=since,
        not_before=_next(row, alert, now),
        wanted_at=row.wanted_at if row.state in ("owed", "held") else now,
    )


def _next(row: Delivery, alert: Alert, now: int) -> int:
    """When a row whose digest has changed may be sent."""
    if row.state == "given_up":
        return _soon(row)
    if row.tries:
        return row.not_before  # the channel is in trouble: a newer text is no reason to hurry
    same = row.told_state == alert.state and row.severity == alert.severity
    if same and row.sent_at is not None:
        return min(row.sent_at, now) + UPDATE_PAUSE_US
    return row.not_before if row.told is None else now


def _tried_at(row: Delivery) -> int:
    """When one that was given up was tried last."""
    return row.not_before - to_us(GIVEN_UP_PAUSE_SECONDS)


def _soon(row: Delivery) -> int:
    """When one that was given up is tried again if there is reason to hope."""
    return _tried_at(row) + to_us(LONGEST_PAUSE_SECONDS)


def sent(row: Delivery, alert: Alert, *, now: int) -> Delivery:
    """The row after a channel was told ``alert`` with the row's digest."""
    return replace(
        row,
        state="told",
        told=row.digest,
        told_state=alert.state,
        tries=0,
        not_before=now,
        sent_at=now,
        error=None,
    )


def failed(row: Delivery, error: DeliveryFailed, *, now: int, rng: Random) -> Delivery:
    """The row after a try that failed: when it is tried again, or that it is given up."""
    tries = row.tries + 1 if error.retriable else max(row.tries + 1, FAILING_TRIES)
    pause = pause_seconds(tries, rng) if error.retriable else LONGEST_PAUSE_SECONDS
    if error.after_seconds is not None:
        pause = max(pause, min(error.after_seconds, LONGEST_ASKED_SECONDS))
    gives_up = now - row.wanted_at > GIVE_UP_US
    if gives_up:
        pause = GIVEN_UP_PAUSE_SECONDS
    return replace(
        row,
        state="given_up" if gives_up else "owed",
        tries=tries,
        not_before=now + to_us(pause),
        error=str(error),
    )


def pause_seconds(tries: int, rng: Random) -> float:
    """How long to wait after so many failed tries: it doubles, and half of it is drawn, so that
    those who failed together do not come back together.

    References
    ----------
    M. Brooker, Exponential Backoff and Jitter, AWS Architecture Blog, 2015 ("equal jitter").

    Examples
    --------
    >>> [round(pause_seconds(n, Random(1)), 2) for n in (1, 4, 40)]
    [0.57, 4.54, 170.15]
    """
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(tries - 1, 30))
    return longest * rng.uniform(0.5, 1.0)
