"""Pointer listener: the thread that reads the topic ``pointers`` and wakes whoever asked for a
model.

What it hears is a hint to look into the signed repository, nothing more. It belongs to no group:
every service hears every pointer, from the compacted topic's start, and needs no permission but to
read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from redistill.streams.errors import StreamsError
from redistill.streams.kafka.broker import Broker, consumer
from redistill.streams.wire.events import TOPICS, PointerMoved
from redistill.streams.wire.messages import decode
from redistill.streams.wire.reading import read_each

__all__ = ["Callback", "PointerListener"]

Callback = Callable[[PointerMoved], None]

_POLL_MS = 500
_REFRESH_POLLS = 120
"""Polls, a minute's worth when nothing comes, after which new partitions are looked for."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 3.0  # seconds between attempts


class PointerListener:
    """Calls back with the newest pointer of a model, at once if one is known, and whenever it
    moves.

    Parameters
    ----------
    broker
        Where to listen.
    trouble
        Called with what is wrong; ``None`` when all is well again.
    failed
        Called with the model and the exception that a callback raised.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        trouble: Callable[[str | None], None],
        failed: Callable[[str, Exception], None],
    ) -> None:
        self.broker = broker
        self.trouble = trouble
        self.failed = failed
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: dict[str, list[Callback]] = {}
        self._fresh: list[tuple[str, Callback]] = []  # not told of the last pointer yet
        self._last: dict[str, PointerMoved] = {}

    def add(self, model: str, callback: Callback) -> None:
        """Call back from now on, in the listener's thread."""
        with self._lock:
            self._callbacks.setdefault(model, []).append(callback)
            self._fresh.append((model, callback))

    def run(self) -> None:
        """Listen until ``stopping`` is set."""
        pause = _FIRST_PAUSE
        while not self.stopping.is_set():
            client: Any = None
            try:
                client = consumer(self.broker, max_poll_records=5_000)
                while not self.stopping.is_set() and self._listen(client):
                    pause = _FIRST_PAUSE / 2
            except StreamsError as exc:
                self.trouble(str(exc))
            except Exception as exc:  # poll() raises whatever befell the connection
                self.trouble(f"pointers: {type(exc).__name__}: {exc}")
            finally:
                if client is not None:
                    with suppress(Exception):
                        client.close()
            self.stopping.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _listen(self, client: Any) -> bool:
        """Assign the partitions there are now and read them for a minute; ``False``: none."""
        from kafka import TopicPartition

        topic = self.broker.topic(TOPICS[PointerMoved])
        numbers = client.partitions_for_topic(topic)
        if not numbers:
            self.trouble(f"topic {topic!r} is missing; make it with `redistill topics apply`")
            return False
        wanted = {TopicPartition(topic, n) for n in numbers}
        if (added := wanted - client.assignment()) or client.assignment() - wanted:
            client.assign(sorted(wanted))
            client.seek_to_beginning(*(added or wanted))
        self.trouble(None)
        for _ in range(_REFRESH_POLLS):
            if self.stopping.is_set():
                break
            polled = client.poll(timeout_ms=_POLL_MS)
            self._hear([r for records in polled.values() for r in records])
        return True

    def _hear(self, records: list[Any]) -> None:
        newest: dict[str, PointerMoved] = {}
        moves, unreadable = read_each(records, partial(decode, expect=PointerMoved))
        for event in moves:
            newest[event.model] = event
        for _, why in unreadable:  # the worker that wrote it will hear of it, not a service
            if why.code == "failed":
                self.failed("topic pointers", why)
        with self._lock:
            moved = {m: e for m, e in newest.items() if e != self._last.get(m)}
            self._last |= moved
            fresh, self._fresh = self._fresh, []
            calls = [(e, c) for m, e in moved.items() for c in self._callbacks.get(m, [])]
            calls += [(self._last[m], c) for m, c in fresh if m in self._last and m not in moved]
        for event, callback in calls:
            try:
                callback(event)
            except Exception as exc:  # the caller's; the others are called all the same
                self.failed(event.model, exc)
