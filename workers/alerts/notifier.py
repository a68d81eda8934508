"""Notifier: a thread for each channel, so that a slow one holds nobody up.

A channel has a list of what it is owed, which each plan replaces: nothing queues up behind what is
not so any more. After a failure that may pass, or after several refusals in a row, the channel as a
whole rests before the next try; each row remembers its own tries. A delivery is noted after it was
made: at least once. Nothing that goes wrong with a channel or with a note ends a thread.
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
LONGEST_NOTE_REST_SECONDS = 5.0
"""Between two tries to store what came of tries: a database that is back is noticed within this."""


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
    may
        Whether this process is the one that tells people, as far as is known: while it is not, what
        is owed may have been told by another one, and be true no more.
    before
        The thread that told the channel until now, and may have a delivery at work: nobody is told
        before it has ended, and what it told is known.
    """

    def __init__(
        self,
        name: str,
        channel: Channel,
        *,
        note: Callable[[Sequence[Delivery]], None],
        clock: Callable[[], int],
        rng: Random,
        may: Callable[[], bool] = lambda: True,
        before: ChannelThread | None = None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._channel, self._note, self._clock, self._rng = channel, note, clock, rng
        self._steady, self._may = steady, may
        self._change = threading.Condition()
        self._owed: list[Sending] = []
        self._known: dict[str, str] = {}
        """Digest that was told last, by key, until a plan is made that has read of it: one may be
        older than the last delivery."""
        self._noted: set[str] = set()
        """Keys of which notes were stored since the last plan came, ..."""
        self._read: set[str] = set()
        """... and before that: the plan that comes next has read them."""
        self._unnoted: list[Delivery] = []
        self._noted_at = float("-inf")
        self._note_failures, self._note_rest_until = 0, float("-inf")
        self._before = before
        self._failures, self._refusals, self._rest_until = 0, 0, float("-inf")
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=f"channel-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def offer(self, owed: Sequence[Sending]) -> None:
        """Replace what is owed, the most urgent first."""
        with self._change:
            for key in self._read:
                self._known.pop(key, None)
            self._read, self._noted = self._noted, set()
            self._owed = list(owed)
            self._change.notify()

    def forget(self) -> None:
        """Somebody else tells it now: nothing is owed, and what it was told is not known."""
        with self._change:
            self._owed, self._known = [], {}
            self._noted, self._read = set(), set()

    @property
    def remembered(self) -> int:
        """Alerts of which it is known what was told, beside what SQL says."""
        with self._change:
            return len(self._known)

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End after the delivery at work."""
        with self._change:
            self._stopped = True
            self._change.notify()

    def join(self, seconds: float | None) -> bool:
        """Wait for the end (``None``: as long as it takes); false: a receiver takes its time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._take_over()
        while not self._stopped:
            try:
                self._once()
            except Exception:  # whatever it is: the next time may do better
                log.exception("channel_stuck", action="channel_stuck", channel=self.name)
                with self._change:
                    self._change.wait_for(lambda: self._stopped, LOOK_SECONDS)
        self._note_all()

    def _take_over(self) -> None:
        """Wait until the thread before has ended, and go on where it was."""
        before, self._before = self._before, None
        if before is None:
            return
        before.join(None)
        self._unnoted = before._unnoted
        with self._change:
            self._known = before._known
            self._noted = self._known.keys() - {row.alert_key for row in self._unnoted}

    def _once(self) -> None:
        """Tell one thing that is due, or wait for one; store what came of it."""
        with self._change:
            one = self._next()
            if one is None and not self._may_note():
                if not self._stopped:
                    self._change.wait(self._pause())
                return
        if one is not None:
            self._tell(one)
        rest = self._steady() - self._noted_at
        if self._may_note() and (one is None or len(self._unnoted) >= NOTES or rest > NOTE_SECONDS):
            self._note_all()

    def _next(self) -> Sending | None:
        """What is told next; ``None``: nothing is due."""
        if self._stopped or self._steady() < self._rest_until or not self._may():
            return None
        now, place = self._clock(), 0
        while place < len(self._owed):
            one = self._owed[place]
            if self._known.get(one.alert.key) == one.delivery.digest:
                del self._owed[place]
            elif one.delivery.not_before <= now:
                return self._owed.pop(place)
            else:
                place += 1
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
            self._failures = self._refusals = 0
            now = self._clock()
            with self._change:
                self._known[one.alert.key] = one.delivery.digest
                self._noted.discard(one.alert.key)
                self._read.discard(one.alert.key)
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
        row = delivery.failed(one.delivery, error, now=self._clock(), rng=self._rng)
        if error.retriable:
            self._failures += 1
            pause = delivery.pause_seconds(self._failures, self._rng)
            asked = min(error.after_seconds or 0.0, LONGEST_REST_SECONDS)
            self._rest_until = self._steady() + max(min(pause, LONGEST_REST_SECONDS), asked)
        else:
            self._refusals += 1
            if self._refusals >= delivery.FAILING_TRIES:  # it is not about one alert
                self._rest_until = self._steady() + LONGEST_REST_SECONDS
        self._unnoted.append(row)
        log.warning(
            "alert_failed",
            action="alert_failed",
            channel=self.name,
            alert=one.alert.key,
            tries=row.tries,
            error=str(error),
        )

    def _may_note(self) -> bool:
        return bool(self._unnoted) and self._steady() >= self._note_rest_until

    def _note_all(self) -> None:
        """Store what came of the tries; what cannot be stored is kept and tried again, and a
        process that ends with it will have told it twice."""
        rows = self._unnoted
        self._noted_at = self._steady()
        self._unnoted = self._kept_of(rows)
        kept = {row.alert_key for row in self._unnoted}
        with self._change:
            self._noted |= {row.alert_key for row in rows} - kept
        self._note_failures = self._note_failures + 1 if kept else 0
        pause = NOTE_SECONDS * 2 ** min(self._note_failures, 10) if kept else 0.0
        self._note_rest_until = self._noted_at + min(pause, LONGEST_NOTE_REST_SECONDS)

    def _kept_of(self, rows: list[Delivery]) -> list[Delivery]:
        """Store rows; those that could not be. One that the database does not take keeps back those
        behind it of its own alert, and no others."""
        try:
            if rows:
                self._note(rows)
            return []
        except StreamsError:  # said once for all threads
            return rows
        except Exception:  # a defect must not end its thread; rows are tried alone
            log.exception("note_failed", action="note_failed", channel=self.name, rows=len(rows))
        kept: list[Delivery] = []
        for place, row in enumerate(rows):
            if any(row.alert_key == one.alert_key for one in kept):
                kept.append(row)
                continue
            try:
                self._note([row])
            except StreamsError:
                return [*kept, *rows[place:]]
            except Exception:  # which was said
                kept.append(row)
        return kept


class Notifier:
    """All channels of a process.

    Parameters
    ----------
    channels
        By name.
    note, clock, rng, may
        As of ``ChannelThread``.
    before
        The notifier that this one takes the place of; it is stopped. A channel of the same name is
        told once that one's thread has ended.
    """

    def __init__(
        self,
        channels: Mapping[str, Channel],
        *,
        note: Callable[[Sequence[Delivery]], None],
        clock: Callable[[], int],
        rng: Random | None = None,
        may: Callable[[], bool] = lambda: True,
        before: Notifier | None = None,
    ) -> None:
        rng = rng or Random()
        ending: dict[str, ChannelThread] = {}
        if before is not None:
            before.stop(0.0)  # a receiver at work ends by itself, and notes what it was told
            ending = {**before._ending, **before.threads}
        self.threads: Mapping[str, ChannelThread] = {
            name: ChannelThread(
                name,
                channel,
                note=note,
                clock=clock,
                rng=rng,
                may=may,
                before=ending.pop(name, None),
            )
            for name, channel in channels.items()
        }
        self._ending: Mapping[str, ChannelThread] = {
            name: thread for name, thread in ending.items() if thread.alive
        }
        """Threads of channels that are there no more; one may come back before its thread ended."""

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
        threads = [*self.threads.values(), *self._ending.values()]
        late = [t.name for t in threads if not t.join(max(0, end - time.monotonic()))]
        return not late
