"""Bound topics: those of the sources that models bind, which a stream worker comes to read while it
runs.

To read another topic is to join the group with another subscription: each member stores what it
has, and goes on where it was a moment later. Members of one group may read different topics, as
while they learn of a new one at different times, or where some are of an older release: the topic
is then divided among those that read it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping

import structlog

from redistill.streams.engine.broker_watch import BrokerWatch
from redistill.streams.engine.start import missing_topics
from redistill.streams.errors import BrokerRefused, BrokerUnavailable, StoreUnavailable

__all__ = ["BoundTopics"]

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
ASK_SECONDS = 10.0
"""Between two questions to the broker where nothing new is bound."""

Subscribe = Callable[[Iterable[str]], Awaitable[None]]


class BoundTopics:
    """Keeps what is read in step with what is bound.

    Parameters
    ----------
    bound
        Topics that have to be read, as the broker names them, with what each holds (it may take
        some seconds). Asked each second: a worker that has nothing to do reads no specifications.
    once_bound
        The same of those that were read some day: they are read for as long as they are there,
        since nobody knows what still comes.
    ask
        Which of some topics are there (it may take some seconds).
    topics
        What is read; it is changed.
    """

    def __init__(
        self,
        *,
        bound: Callable[[], Mapping[str, str]],
        once_bound: Callable[[], Mapping[str, str]],
        ask: Callable[[Iterable[str]], Mapping[str, str]],
        topics: MutableMapping[str, str],
        watch: BrokerWatch,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bound = bound
        self._once_bound = once_bound
        self._ask = ask
        self._topics = topics
        self._common = frozenset(topics)
        self._watch = watch
        self._monotonic = monotonic
        self._looked_for: frozenset[str] = frozenset()
        self._due = 0.0

    def find(self) -> bool:
        """Bring what is read into step; returns whether it changed. Blocks while it asks."""
        now = self._monotonic()
        try:
            bound = dict(self._bound())
            new = frozenset(bound.keys() - self._topics.keys())
            if new <= self._looked_for and now < self._due:
                return False
            wanted = {**self._once_bound(), **bound}
            there = self._ask(wanted) if wanted else {}
        except StoreUnavailable:
            return False  # the worker says so
        except (BrokerUnavailable, BrokerRefused) as error:
            self._watch.trouble("bound", error)
            self._due = now + ASK_SECONDS
            return False
        self._looked_for, self._due = new, now + ASK_SECONDS
        if (missing := missing_topics(bound, there)) is not None:
            self._watch.trouble("bound", missing)
        else:
            self._watch.well("bound")
        before = dict(self._topics)
        self._topics.update({t: wanted[t] for t in there})
        # one that is bound and was deleted is missed, and may come back; another one is forgotten
        for gone in self._topics.keys() - self._common - bound.keys() - there.keys():
            del self._topics[gone]
        return self._topics != before

    async def run(self, subscribe: Subscribe, ready: Callable[[], bool]) -> None:
        """Until cancelled.

        Parameters
        ----------
        subscribe
            Makes the group's member read these topics and no others.
        ready
            Whether the group was joined: what Faust subscribes to at its start would replace ours.
        """
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if ready():
                await self.look(subscribe)

    async def look(self, subscribe: Subscribe) -> None:
        """One look."""
        if await asyncio.to_thread(self.find):
            log.info("subscribed", action="subscribed", topics=sorted(self._topics))
            await subscribe(list(self._topics))
