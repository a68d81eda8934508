"""Broker watch: whether the broker lets this worker in, and what is said about that.

A worker waits for a broker that is away, and for one that refuses it: starting again would help
neither. It is said once, in words, and then more and more seldom: at least a minute apart, twice as
long each time, so that an outage of ten minutes has five lines and one of a week some fifty. While
it lasts the libraries' own lines are held back (:mod:`redistill.streams.engine.logs`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from redistill.streams.engine.health import Health
from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.errors import BrokerRefused, StreamsError

__all__ = ["BrokerWatch"]

log = structlog.get_logger(__name__)

AGAIN_SECONDS, LONGEST_AGAIN_SECONDS = 60.0, 4 * 3_600.0
"""Between two lines about the same outage, and about one that comes and goes."""


class BrokerWatch:
    """Remembers what is wrong, by what was tried. Everything that is tried has a name of its own,
    so that what goes well takes back only its own trouble.

    Parameters
    ----------
    health
        Told while something is wrong: the watchdog holds nothing against the worker then.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        health: Health,
        metrics: StreamMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._health = health
        self._metrics = metrics
        self._clock = clock
        self._troubles: dict[str, StreamsError] = {}
        self._since = 0.0
        self._said = False
        self._due: dict[str, float] = {}
        self._pause: dict[str, float] = {}
        metrics.broker_up.set(1)

    @property
    def away(self) -> bool:
        """Whether anything is wrong."""
        return bool(self._troubles)

    def trouble(self, doing: str, error: StreamsError) -> None:
        """Something could not be done: the broker is away, or refuses it."""
        now = self._clock()
        if not self._troubles:
            self._since, self._said = now, False
        self._troubles[doing] = error
        self._health.broker_away = str(error)
        self._metrics.broker_up.set(0)
        action = "broker_refused" if isinstance(error, BrokerRefused) else "broker_away"
        if now < self._due.get(action, now):
            return
        pause = self._pause.get(action, AGAIN_SECONDS)
        self._due[action] = now + pause
        self._pause[action] = min(LONGEST_AGAIN_SECONDS, 2 * pause)
        self._said = True
        log.warning(
            action,
            action=action,
            doing=doing,
            error=str(error),
            seconds=round(now - self._since),
        )

    def well(self, doing: str) -> None:
        """Something was done."""
        if self._troubles.pop(doing, None) is None or self._troubles:
            return
        self._health.broker_away = None
        self._metrics.broker_up.set(1)
        self._pause.clear()
        if self._said:
            seconds = round(self._clock() - self._since)
            log.info("broker_back", action="broker_back", seconds=seconds)

    def lets_in(self) -> None:
        """The broker lets us in, and what is wrong goes on: that is held against the worker."""
        self._health.broker_away = None
