"""Looks at the broker, every two seconds, in a task of their own: how far the logs are, and where
that cannot be had, why not.

What aiokafka raises says little of a broker that is away, and nothing of one that refuses us: it
tries again for ever. So the broker is asked beside it, step by step, as it was before the start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from faust.types import TP

from redistill.streams.engine.broker_watch import BrokerWatch
from redistill.streams.engine.health import Health
from redistill.streams.engine.lag import Lag, LogEnd
from redistill.streams.errors import BrokerRefused, BrokerUnavailable, StreamsError

__all__ = ["BrokerLooks"]

log = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0
ENDS_SECONDS = 10.0
JOIN_SECONDS = 6.0
"""How long joining the group takes, most of the time: asking meanwhile helps nobody."""
REFUSED_SECONDS = 4.0
"""Reading is refused while it was refused within this."""
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 30.0
"""Seconds between two questions; doubled while it refuses, since an account may be locked by many
tries."""
AWAY_PAUSE = 5.0


class BrokerLooks:
    """Measures lag, and finds out what is wrong where it cannot be measured.

    Parameters
    ----------
    why_not
        Asks the broker beside aiokafka, given what that raised; ``None``: it lets us in.
    consumer
        The bulk consumer, once there is one.
    positions
        SQL's next offset of each partition held.
    looked
        Told where the logs end.
    clock, monotonic
        Seconds since 1970; seconds between which waits are measured.
    """

    def __init__(
        self,
        *,
        why_not: Callable[[Exception | None], StreamsError | None],
        consumer: Callable[[], Any],
        positions: Callable[[], Mapping[TP, int]],
        watch: BrokerWatch,
        lag: Lag,
        looked: Callable[[Mapping[TP, LogEnd]], None],
        health: Health,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._why_not = why_not
        self._consumer = consumer
        self._positions = positions
        self._watch = watch
        self._lag = lag
        self._looked = looked
        self._health = health
        self._clock = clock
        self._monotonic = monotonic
        self._pause = FIRST_PAUSE
        self._due = 0.0
        self._unjoined_since: float | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """One look."""
        consumer = self._consumer()
        if consumer is None:
            return
        now = self._monotonic()
        self._reading(consumer, now)
        pending = consumer.pending_error()
        self._health.pending_error = None if pending is None else repr(pending)
        stored = dict(self._positions())
        error: Exception | None = pending
        if pending is None and stored:
            ends, error = await self._ends(consumer, stored)
            if error is None:
                since = consumer.waiting_since(stored)
                self._lag.measured(ends, stored, self._clock(), since=since)
                self._looked(ends)
                self._well()
                return
        elif pending is None and self._health.joined and not self._watch.away:
            if not consumer.assignment():  # else it has not begun: its lag is not 0, but not known
                self._lag.measured({}, {}, self._clock())
            self._well()
            return
        if self._joining(now) and error is None and not self._watch.away:
            return
        await self._ask(consumer, error, now)

    def _reading(self, consumer: Any, now: float) -> None:
        refused: tuple[float, Exception] | None = consumer.refused
        if refused is not None and now - refused[0] < REFUSED_SECONDS:
            self._watch.trouble("read", BrokerRefused(_lacks(refused[1])))
        else:
            self._watch.well("read")

    async def _ends(
        self, consumer: Any, stored: Mapping[TP, int]
    ) -> tuple[Mapping[TP, LogEnd], Exception | None]:
        try:
            async with asyncio.timeout(ENDS_SECONDS):
                return await consumer.ends(*stored), None
        except Exception as error:  # aiokafka's; a lag that is not known is none
            log.debug("lag_unknown", action="lag_unknown", error=repr(error))
            return {}, error

    def _joining(self, now: float) -> bool:
        """Whether the group is being joined, and that takes no longer than usual."""
        if self._health.joined:
            self._unjoined_since = None
            return False
        if self._unjoined_since is None:
            self._unjoined_since = now
        return now - self._unjoined_since < JOIN_SECONDS

    def _well(self) -> None:
        self._health.blind = False
        self._pause = FIRST_PAUSE
        self._due = 0.0
        if self._health.joined:
            self._unjoined_since = None
        self._watch.well("look")

    async def _ask(self, consumer: Any, error: Exception | None, now: float) -> None:
        """Ask beside aiokafka what is wrong, if it is time."""
        if now < self._due:
            return
        why = await asyncio.to_thread(self._why_not, error)
        limit = AWAY_PAUSE if isinstance(why, BrokerUnavailable) else LONGEST_PAUSE
        self._due = self._monotonic() + min(self._pause, limit)
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)
        if why is not None:
            self._watch.trouble("look", why)
        elif error is None:
            self._well()
        else:  # it is aiokafka that does not find the way
            self._health.blind = True
            self._watch.lets_in()
        if consumer.pending_error() is not None:
            await consumer.try_again()


def _lacks(error: Exception) -> str:
    return f"reading is refused: {error}; grant READ with the broker's ACLs"
