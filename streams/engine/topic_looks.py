"""Looks at the topics, every ten seconds, in a task of their own: are all there, and was any of
them deleted and made again?

A topic that was made again has the name and the partitions of the old one, and none of its records:
only its id tells them apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

import structlog

from redistill.streams.engine.broker_watch import BrokerWatch
from redistill.streams.engine.start import missing_topics
from redistill.streams.errors import BrokerRefused, BrokerUnavailable

__all__ = ["TopicLooks"]

log = structlog.get_logger(__name__)

LOOK_SECONDS = 10.0


class TopicLooks:
    """Compares the topics' ids with those under which is read.

    Parameters
    ----------
    ask
        Ids of the topics that are there, by name (it may take some seconds).
    topics
        All that should be there; it may grow.
    held
        Ids under which is read, by name; none before the first assignment.
    changed
        Called when another topic has the name of one that is read.
    """

    def __init__(
        self,
        *,
        ask: Callable[[], Mapping[str, str]],
        topics: Iterable[str],
        held: Callable[[], Mapping[str, str]],
        watch: BrokerWatch,
        changed: Callable[[], None],
    ) -> None:
        self._ask = ask
        self._topics = topics
        self._held = held
        self._watch = watch
        self._changed = changed

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """One look."""
        if not (self._held() or self._watch.away):
            return
        try:
            ids = await asyncio.to_thread(self._ask)
        except (BrokerUnavailable, BrokerRefused) as error:
            self._watch.trouble("topics", error)
            return
        if (missing := missing_topics(self._topics, ids)) is not None:
            self._watch.trouble("topics", missing)
        else:
            self._watch.well("topics")
        changed = [name for name, held in self._held().items() if ids.get(name, held) != held]
        if changed:
            log.error("topic_recreated", action="topic_recreated", topics=changed)
            self._changed()
