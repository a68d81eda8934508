"""Sender: the thread that owns the Kafka producer. It connects, sends, tries again for ever, says
why not.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from redistill.streams.client.batcher import Outgoing
from redistill.streams.client.send_buffer import SendBuffer
from redistill.streams.errors import BrokerRefused, StreamsError
from redistill.streams.kafka.broker import Broker, check, close_producer, producer

__all__ = ["Sender"]

_FLYING_BYTES = 4 << 20  # copies inside the producer; the rest waits in the buffer
_DELIVERY_MS = 30_000
"""A record unsettled for so long comes back, and the producer is made anew: one that is idempotent
never recovers from a broker that lost its state."""
_BLOCK_MS = 2_000  # how long a missing topic may hold up the others
_SILENCE = 2.0  # seconds without an answer after which the broker is asked
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 10.0  # seconds between attempts to connect
_TOPIC_PAUSE = 2.0  # seconds for which a topic that failed is left alone
_REFUSED_PAUSE = 5.0  # the same where the broker refuses it, until somebody grants a permission
_TOO_LARGE = ("MessageSizeTooLargeError", "RecordListTooLargeError", "InvalidRecordError")


class Sender:
    """Sends what stands in a send buffer. ``run`` is the body of a daemon thread.

    Parameters
    ----------
    broker
        Where to.
    buffer
        What.
    sent, dropped
        Called with a record that was acknowledged, or that the broker will never take and why.
    trouble
        Called with what is wrong, each time that something is; ``None`` when all is well again.
    """

    def __init__(
        self,
        broker: Broker,
        buffer: SendBuffer,
        *,
        sent: Callable[[Outgoing], None],
        dropped: Callable[[Outgoing, str], None],
        trouble: Callable[[str | None], None],
    ) -> None:
        self.broker = broker
        self.buffer = buffer
        self.sent = sent
        self.dropped = dropped
        self.trouble = trouble
        self.stopping = threading.Event()
        self.producer: Any = None
        self._resting: dict[str, float] = {}  # topic -> until when it is left alone
        self._taken: dict[int, Outgoing] = {}  # with the producer, and not settled
        self._heard = 0.0  # when the broker last answered, or was asked why it does not
        self._broken = False  # the producer has to be made anew

    def run(self) -> None:
        """Send until ``stopping`` is set."""
        while not self.stopping.is_set():
            if self.producer is None and not self._connect():
                continue
            if self._broken:
                self._disconnect()
                continue
            now = time.monotonic()
            self._resting = {t: until for t, until in list(self._resting.items()) if until > now}
            taken = self.buffer.take(self._resting, _FLYING_BYTES)
            if taken is not None:
                self._send(*taken)
            elif self._taken and now - self._heard > _SILENCE:
                self._heard = now  # kafka-python waits without a word: find out why
                if (why := check(self.broker)) is not None:
                    self.trouble(str(why))
            else:
                self.buffer.wait(0.1)
        self._disconnect()

    def forget(self) -> None:
        """After a fork, in the child: the connection is the parent's, not even closed here."""
        if self.producer is not None:
            atexit.unregister(self.producer._cleanup)
            self.producer._closed = True  # its destructor would talk to the parent's sockets

    def _connect(self) -> bool:
        pause = _FIRST_PAUSE
        while not self.stopping.is_set():
            if self.buffer.is_settled(self.buffer.last()):
                self.buffer.wait(0.5)  # nothing to send: no need to reach the broker
                continue
            try:
                made = producer(
                    self.broker,
                    linger_ms=0,
                    delivery_timeout_ms=_DELIVERY_MS,
                    request_timeout_ms=_DELIVERY_MS // 2,
                    max_block_ms=_BLOCK_MS,
                )
            except StreamsError as exc:
                self.trouble(str(exc))
            except Exception as exc:  # kafka-python is missing, or anything that it may raise
                self.trouble(f"{type(exc).__name__}: {exc}")
            else:
                # Closed by us, after what is waiting was sent; its own hook would run before ours.
                atexit.unregister(made._cleanup)
                self.producer, self._broken = made, False  # all is well when it has sent something
                return True
            self.stopping.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return False

    def _disconnect(self) -> None:
        made, self.producer = self.producer, None
        if made is not None:
            close_producer(made)
        for number in list(self._taken):  # what the producer never spoke of again
            if self._taken.pop(number, None) is not None:
                self.buffer.give_back(number)

    def _send(self, number: int, record: Outgoing) -> None:
        if not self._taken:
            self._heard = time.monotonic()
        self._taken[number] = record
        topic = self.broker.topic(record.topic)
        try:
            future = self.producer.send(
                topic, value=record.value, key=record.key, headers=record.headers
            )
        except Exception as exc:
            # Without an answer there is no metadata of the topic: ask whether it is the broker.
            why = (
                (check(self.broker) or _missing(topic)) if "Timeout" in type(exc).__name__ else exc
            )
            self._failed(number, why)
            return
        future.add_callback(self._acknowledged, number)
        future.add_errback(self._failed_later, number, self.producer)

    def _acknowledged(self, number: int, _metadata: Any) -> None:
        if self._taken.pop(number, None) is None:
            return
        self._heard = time.monotonic()
        self.buffer.settle(number, self.sent)
        self.trouble(None)

    def _failed_later(self, number: int, made: Any, exc: BaseException) -> None:
        # An idempotent producer is dead after its first error: it refuses all that it has, and all
        # that comes, with the same one, whichever topic or record it was about.
        if made is self.producer and not self._broken:
            self._failed(number, exc)
            self._broken = True

    def _failed(self, number: int, exc: BaseException) -> None:
        if (record := self._taken.pop(number, None)) is None:
            return
        name = type(exc).__name__
        late = "timestamp" in f"{name}: {exc}".lower()  # of the record, as the machine has it
        if name in _TOO_LARGE and not late:
            self.buffer.settle(number, lambda gone: self.dropped(gone, f"{name}: {exc}"))
            return
        topic = self.broker.topic(record.topic)
        self._resting[record.topic] = time.monotonic() + _TOPIC_PAUSE
        self.buffer.give_back(number)
        if isinstance(exc, StreamsError):
            self.trouble(str(exc))
        elif "Authorization" in name:
            self._resting[record.topic] = time.monotonic() + _REFUSED_PAUSE
            self.trouble(f"topic {topic!r}: no permission to write ({exc}); grant it by an ACL")
        elif late:
            self._resting[record.topic] = time.monotonic() + _REFUSED_PAUSE
            clock = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
            self.trouble(
                f"topic {topic!r}: refused for its time; this machine's clock says {clock}: is that"
                f" right? ({exc})"
            )
        elif "UnknownTopic" in name:
            self.trouble(str(_missing(topic)))
        else:
            self.trouble(f"topic {topic!r}: {name}: {exc}")
            self._broken = True


def _missing(topic: str) -> BrokerRefused:
    return BrokerRefused(f"topic {topic!r} is missing; make it with `redistill topics apply`")
