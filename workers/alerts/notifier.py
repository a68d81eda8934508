"""Notifier: a thread for each channel, so that a slow one holds nobody up.

A channel has a list of what it is owed, which each plan replaces: nothing queues up behind what is
not so any more. After a failure that may pass, the channel as a whole rests before the next try;
each row remembers its own tries. A delivery is noted after it was made: at least once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from random import Random

import structlog

from redistill.streams.errors import StreamsError
from redistill.times import to_seconds
from redistill.workers.alerts import delivery
from redistill.workers.alerts.channels.channel import Channel, DeliveryFailed
from redistill.workers.alerts.planning import Sending
from redistill.workers.store.alert_deliveries import Delivery

__all__ = ["Notifier"]

log = structlog.get_logger(__name__)

SEND_SECONDS = 10.0
"""How long a receiver may take: a slower answer is taken for none, and it is told again."""
LONGEST_REST_SECONDS = 60.0
"""A channel that is back is noticed within this."""
NOTES, NOTE_SECONDS = 50, 0.2
"""What came of so many tries, or of so long, is stored at once: a commit takes ten times as long as
a delivery, and a process that dies tells so many twice at most."""
LOOK_SECONDS = 1.0
"""How often a thread looks again by itself, whatever wakes it."""


class ChannelThread:
    """Tells one channel what it is owed.

    Parameters
    ----------
    name
        Of the channel.
    channel
        Used by this thread alone.
    note
        Stores what came of tries (``redistill.workers.store.alert_deliveries.note`` of each).
    clock
        Microseconds since 1970: the database's.
    rng
        Draws the pauses.
    """

    def __init__(
        self,
        name: str,
        channel: Channel,
        *,
        note: Callable[[Sequence[Delivery]], None],
        clock: Callable[[], int],
        rng: Random,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.in_place = name, channel.in_place
        self.sent = 0
        """Deliveries that were made."""
        self.failed = 0
        """Tries that failed."""
        self._channel, self._note, self._clock, self._rng = channel, note, clock, rng
        self._steady = steady
        self._change = threading.Condition()
        self._owed: list[Sending] = []
        self._known: dict[str, str] = {}
        """Digest that was told last, by key: a plan may be older than the last delivery."""
        self._unnoted: list[Delivery] = []
        self._noted_at = float("-inf")
        self._failures, self._rest_until = 0, float("-inf")
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=f"channel-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def offer(self, owed: Sequence[Sending]) -> None:
        """Replace what is owed, the most urgent first."""
        with self._change:
            self._owed = list(owed)
            self._change.notify()

    def forget(self) -> None:
        """Somebody else tells it now: nothing is owed, and what it was told is not known."""
        with self._change:
            self._owed, self._known = [], {}

    def stop(self) -> None:
        """End after the delivery at work."""
        with self._change:
            self._stopped = True
            self._change.notify()

    def join(self, seconds: float) -> bool:
        """Wait for the end; false: a receiver takes its time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._change:
                if self._stopped:
                    break
                one = self._next()
                if one is None and not self._unnoted:
                    self._change.wait(self._pause())
                    continue
            if one is None:
                self._note_all()
                if self._unnoted:
                    time.sleep(NOTE_SECONDS)
                continue
            self._tell(one)
            if len(self._unnoted) >= NOTES or self._steady() - self._noted_at > NOTE_SECONDS:
                self._note_all()
        self._note_all()

    def _next(self) -> Sending | None:
        """What is told next; ``None``: nothing is due."""
        if self._steady() < self._rest_until:
            return None
        now = self._clock()
        for place, one in enumerate(self._owed):
            if self._known.get(one.alert.key) == one.delivery.digest:
                continue
            if one.delivery.not_before <= now:
                return self._owed.pop(place)
        return None

    def _pause(self) -> float:
        """Seconds until something may be due; notes that could not be stored are tried then."""
        now = self._clock()
        dues = [to_seconds(one.delivery.not_before - now) for one in self._owed]
        rest = self._rest_until - self._steady()
        return min(LOOK_SECONDS, max(0.01, rest, min(dues, default=LOOK_SECONDS)))

    def _tell(self, one: Sending) -> None:
        try:
            self._channel.send(one.alert, seconds=SEND_SECONDS)
        except DeliveryFailed as error:
            self._failed(one, error)
        except Exception as error:  # a channel's own defect must not end its thread
            log.exception("channel_defect", action="channel_defect", channel=self.name)
            self._failed(one, DeliveryFailed(f"{type(error).__name__} in the channel itself"))
        else:
            self.sent += 1
            self._failures = 0
            now = self._clock()
            with self._change:
                self._known[one.alert.key] = one.delivery.digest
            self._unnoted.append(delivery.sent(one.delivery, one.alert, now=now))
            log.info(
                "alert_sent",
                action="alert_sent",
                channel=self.name,
                alert=one.alert.key,
                state=one.alert.state,
                severity=one.alert.severity,
                seconds=round(to_seconds(now - one.delivery.wanted_at), 3),
            )

    def _failed(self, one: Sending, error: DeliveryFailed) -> None:
        self.failed += 1
        row = delivery.failed(one.delivery, error, now=self._clock(), rng=self._rng)
        if error.retriable:
            self._failures += 1
            pause = delivery.pause_seconds(self._failures, self._rng)
            asked = min(error.after_seconds or 0.0, LONGEST_REST_SECONDS)
            self._rest_until = self._steady() + max(min(pause, LONGEST_REST_SECONDS), asked)
        self._unnoted.append(row)
        log.warning(
            "alert_failed",
            action="alert_failed",
            channel=self.name,
            alert=one.alert.key,
            tries=row.tries,
            error=str(error),
        )

    def _note_all(self) -> None:
        """Store what came of the tries; while the database is away it is kept, and a process that
        ends with it will have told them twice."""
        self._noted_at = self._steady()
        if not self._unnoted:
            return
        try:
            self._note(self._unnoted)
        except StreamsError:  # said once for all threads
            return
        self._unnoted = []


class Notifier:
    """All channels of a process.

    Parameters
    ----------
    channels
        By name.
    note, clock, rng
        As of ``ChannelThread``.
    """

    def __init__(
        self,
        channels: Mapping[str, Channel],
        *,
        note: Callable[[Sequence[Delivery]], None],
        clock: Callable[[], int],
        rng: Random | None = None,
    ) -> None:
        rng = rng or Random()
        self.threads = {
            name: ChannelThread(name, channel, note=note, clock=clock, rng=rng)
            for name, channel in channels.items()
        }
        self.in_place = {name: thread.in_place for name, thread in self.threads.items()}

    def start(self) -> None:
        """Start every thread."""
        for thread in self.threads.values():
            thread.start()

    def offer(self, owed: Mapping[str, Sequence[Sending]]) -> None:
        """Replace what every channel is owed."""
        for name, thread in self.threads.items():
            thread.offer(owed.get(name, ()))

    def forget(self) -> None:
        """Another process tells them now."""
        for thread in self.threads.values():
            thread.forget()

    def stop(self, seconds: float) -> bool:
        """End all threads; false: a receiver did not answer in time, and is left alone."""
        for thread in self.threads.values():
            thread.stop()
        end = time.monotonic() + seconds
        late = [t.name for t in self.threads.values() if not t.join(max(0, end - time.monotonic()))]
        return not late
