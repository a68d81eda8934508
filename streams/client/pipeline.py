"""Pipeline of a logger, one per process: the queue, and the daemon threads that empty it.

Encoder: queue -> batches -> buffer. Sender: buffer -> broker. Listener: pointers -> callbacks. They
start when they are first needed. After a fork the child makes a pipeline of its own.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from redistill.streams.client.batcher import Batcher, BoundLabel, Logged, Outgoing
from redistill.streams.client.ledger import Ledger, Stats
from redistill.streams.client.pointers import Callback, PointerListener
from redistill.streams.client.send_buffer import SendBuffer
from redistill.streams.client.sender import Sender
from redistill.streams.kafka.broker import Broker
from redistill.streams.wire.events import Event

__all__ = ["Pipeline"]

_TICK_SECONDS = 0.02
"""Between two looks at a queue that is not empty: 200 rows at 10,000 a second."""
UNSENT = "unsent when closed"
_SILENCE_SECONDS = 10.0
"""Without anything acknowledged, given up or complained about, while something waits: threads may
hang where they cannot say so, as in a lock that a fork took along."""
_JOIN_SECONDS = 2.0


class Pipeline:
    """Queue and threads of one process.

    Parameters
    ----------
    broker
        Where to.
    source
        CloudEvents' ``source``; ``None``: host and process.
    max_bytes
        Bytes of encoded records that may wait.
    at_exit
        Called once when threads start, to arrange for ``close`` at the process's end.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        source: str | None,
        max_bytes: int,
        at_exit: Callable[[], None],
    ) -> None:
        self.queue: deque[Logged | BoundLabel | Event] = deque()
        self.asleep = True
        """Whether the encoder waits to be woken: looked at by every call of ``log``."""
        self.closed = False
        self.ledger = Ledger()
        self._broker = broker
        self._source = source
        self._buffer = SendBuffer(max_bytes)
        self._at_exit = at_exit
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._sender: Sender | None = None
        self._listener: PointerListener | None = None
        self._threads: list[threading.Thread] = []
        self._encoding = 0  # rows taken from the queue that are in no record yet
        self._wanted = self._done = self._mark = 0  # flushes, and what the last one waits for
        self._moved = (0, time.monotonic())  # rows done with, and when that last changed

    def wake(self) -> None:
        """Let the encoder look at the queue; starts it the first time."""
        self.asleep = False
        self._wake.set()
        if self._sender is None:
            self._start()

    def listen(self, asked: Mapping[str, Sequence[Callback]]) -> None:
        """Start to listen to pointers for these models and callbacks."""
        with self._lock:
            if self._listener is None and not self.closed:
                self._listener = PointerListener(
                    self._broker,
                    trouble=lambda why: self.ledger.set_trouble("pointers", why),
                    failed=lambda model, exc: self.ledger.say(
                        f"the callback for pointers of {model!r} raised {exc!r}",
                        cause=f"callback:{model}",
                    ),
                )
                self._thread("pointers", self._listener.run)
            if self._listener is not None:
                for model, callbacks in asked.items():
                    for callback in callbacks:
                        self._listener.add(model, callback)

    def stats(self) -> Stats:
        """Counts, taken one after the other: exact when nothing is under way."""
        self._watch()  # by the caller's thread too: the encoder may hang as well
        waiting, ledger = self._waiting(), self.ledger
        with ledger.lock:
            sent, dropped, invalid = ledger.sent, ledger.dropped, ledger.invalid
        return Stats(
            logged=sent + dropped + invalid + waiting,
            sent=sent,
            dropped=dropped,
            invalid=invalid,
            pending=waiting,
            pending_bytes=self._buffer.bytes,
            trouble=ledger.trouble(),
        )

    def _waiting(self) -> int:
        return len(self.queue) + self._encoding + self._buffer.rows

    def _watch(self) -> None:
        """Complain where rows wait, nothing becomes of them, and nobody says why."""
        now, ledger = time.monotonic(), self.ledger
        done = ledger.sent + ledger.dropped + ledger.invalid
        if not self._waiting() or done != self._moved[0]:
            self._moved = (done, now)
        elif now - self._moved[1] >= _SILENCE_SECONDS and ledger.trouble() is None:
            ledger.set_trouble(
                "sender",
                f"nothing was sent to {self._broker.servers} for {_SILENCE_SECONDS:.0f} s, and no"
                " error was seen: the sending thread hangs, or the broker does not answer",
            )

    def flush(self, timeout: float) -> bool:
        """Wait until all that is in the queue now is acknowledged or given up."""
        end = time.monotonic() + timeout
        if self._sender is None and not self.queue:
            return True
        with self._lock:
            self._wanted += 1
            wanted = self._wanted
        self.wake()
        while self._done < wanted or not self._buffer.is_settled(self._mark):
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._buffer.wait(min(left, 0.05))
        return True

    def close(self, timeout: float) -> None:
        """Flush for at most ``timeout`` seconds and end the threads."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
        self.flush(timeout)
        self._stopping.set()
        self._wake.set()
        for part in (self._sender, self._listener):
            if part is not None:
                part.stopping.set()
        with self._buffer.changed:
            self._buffer.changed.notify_all()
        end = time.monotonic() + min(timeout, _JOIN_SECONDS)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(end - time.monotonic(), 0.0))
        self._buffer.abandon(lambda rows: self.ledger.count_dropped(rows, UNSENT))

    def forget(self) -> None:
        """In the child of a fork: the connection is the parent's."""
        if self._sender is not None:
            self._sender.forget()

    def _start(self) -> None:
        with self._lock:
            if self._sender is not None or self._stopping.is_set():
                return
            self._sender = Sender(
                self._broker,
                self._buffer,
                sent=lambda record: self.ledger.count_sent(record.rows),
                dropped=lambda record, why: self.ledger.count_dropped(record.rows, why),
                trouble=lambda why: self.ledger.set_trouble("sender", why),
            )
            self._moved = (self._moved[0], time.monotonic())
            self._thread("encoder", self._encode)
            self._thread("sender", self._sender.run)
        self._at_exit()
        if "multiprocessing.util" in sys.modules:  # its children end without atexit
            from multiprocessing import parent_process, util

            if parent_process() is not None:
                util.Finalize(None, self.close, args=(_JOIN_SECONDS,), exitpriority=1)

    def _thread(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=f"redistill-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _encode(self) -> None:
        """Body of the encoding thread."""
        source = self._source or f"/{socket.gethostname()}/{os.getpid()}"
        batcher = Batcher(source, self._refused)
        while True:
            wanted, stopping = self._wanted, self._stopping.is_set()
            try:
                self._take_in(batcher)
                if wanted > self._done or stopping:
                    self._keep(batcher.drain())
            except Exception as exc:  # a thread that died would lose everything without a word
                self.ledger.say(f"encoder: {type(exc).__name__}: {exc}", cause="encoder")
            if wanted > self._done:
                self._mark = self._buffer.last()
                self._done = wanted
            if stopping:
                return
            self._rest(batcher)

    def _take_in(self, batcher: Batcher) -> None:
        for _ in range(len(self.queue)):
            self._encoding += 1  # before it leaves the queue: never counted as gone
            entry = self.queue.popleft()
            if isinstance(entry, Logged):
                self._keep(batcher.add(entry, time.monotonic()))
            elif isinstance(entry, BoundLabel):
                self._keep(batcher.event(entry.label, bound=True))
            else:
                self._keep(batcher.event(entry))
        self._keep(batcher.due(time.monotonic()))

    def _rest(self, batcher: Batcher) -> None:
        self._wake.clear()
        self._watch()
        if self._wanted > self._done or self._stopping.is_set():
            return
        if self.queue or batcher.next_due() is not None:
            self._stopping.wait(_TICK_SECONDS)
            return
        self.asleep = True
        if not self.queue:  # looked at again now that callers see that we sleep
            self._wake.wait(1.0)
        self.asleep = False

    def _keep(self, records: Sequence[Outgoing]) -> None:
        for record in records:
            kept = self._buffer.put(record)
            self._encoding -= record.rows
            if not kept:
                why = UNSENT  # the encoder was not done when its time to close was over
                if not self._buffer.abandoned:
                    why = f"no room, {self._buffer.max_bytes} bytes are waiting for the broker"
                self.ledger.count_dropped(record.rows, why)

    def _refused(self, why: str, rows: int) -> None:
        self._encoding -= rows
        self.ledger.count_invalid(rows, why)
