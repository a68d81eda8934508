"""Link to a fork server: starts it, carries messages, asks once a second whether it is there, and
takes it down with all its jobs.

Nothing here waits for the other side without end: what a frozen process does not take is kept
back, and one that gives no answer is killed.
"""

from __future__ import annotations

import contextlib
import json
import queue
import select
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from typing import Any

import structlog

from redistill.workers.jobs import child_process
from redistill.workers.jobs.lived_time import LivedTime

__all__ = ["SILENT_SECONDS", "ServerLink"]

log = structlog.get_logger(__name__)

START_SECONDS = 120.0
"""Loading torch takes 2 s alone, 7 s when every process of a machine starts at once, more on a
cold disk."""

PING_SECONDS = 1.0
"""Between two questions whether the process is there."""

SILENT_SECONDS = 20.0
"""A process that only forks and passes messages on answers within milliseconds; a machine that
swaps, or whose disk hangs, may need seconds. Longer is frozen."""

CLOSE_SECONDS = 5.0
"""A process that was told to end kills its jobs and does; one that does not is killed."""


class ServerLink:
    """A fork server and the thread that listens to it.

    Parameters
    ----------
    entry, environment
        As ``child_process.spawn`` takes them.
    silent_s
        Seconds without an answer after which the process is killed.

    Attributes
    ----------
    ready
        Set when everything is loaded.
    over
        Set when it takes no jobs any more, and is being taken down.
    gone
        Set when nothing of it is left.
    why
        Why it is over, for a person.
    """

    def __init__(
        self, entry: str, environment: Mapping[str, str] | None, *, silent_s: float
    ) -> None:
        self.ready = threading.Event()
        self.over = threading.Event()
        self.gone = threading.Event()
        self.why = ""
        self._silent_s = silent_s
        self._process: subprocess.Popen[bytes]
        self._control: socket.socket
        self._sending = threading.Lock()  # held for moments: nothing under it waits
        self._outgoing = bytearray()
        self._inboxes: dict[str, queue.SimpleQueue[dict[str, Any]]] = {}
        self._working: dict[str, int] = {}
        """Process ids by run, of jobs that have not ended."""
        self._asked = self._answered = 0
        """Questions whether it is there, and the last that was answered."""
        started: queue.SimpleQueue[OSError | None] = queue.SimpleQueue()
        # Linux ends the process with the thread that started it: the one that needs it longest
        self._thread = threading.Thread(
            target=self._live, args=(entry, environment, started), name="child-reader", daemon=True
        )
        self._thread.start()
        if (error := started.get()) is not None:
            raise error

    @property
    def pid(self) -> int:
        """Process id of the fork server."""
        return self._process.pid

    def inbox(self, run: str) -> queue.SimpleQueue[dict[str, Any]]:
        """Where messages about a run arrive from now on."""
        return self._inboxes.setdefault(run, queue.SimpleQueue())

    def forget(self, run: str) -> None:
        """Nobody wants to hear of a run any more."""
        self._inboxes.pop(run, None)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message, without ever waiting."""
        with self._sending:
            self._outgoing += json.dumps(message).encode() + b"\n"
            self._flush()

    def kill(self, run: str) -> int:
        """Order a job's end, and ask whether the order was heard; the number of the question."""
        self.send({"kill": run})
        return self._ask()

    def heard(self, question: int) -> bool:
        """Whether a question was answered, and all that was sent before it done."""
        return self._answered >= question

    def end(self, why: str) -> None:
        """Have everything taken down; returns at once."""
        self.why = self.why or why
        self.over.set()
        with contextlib.suppress(OSError):  # it is gone already
            self._control.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        """Wait until it is taken down; in bounded time, whatever state it is in."""
        self._thread.join(CLOSE_SECONDS + 2 * child_process.REAP_SECONDS)

    def _ask(self) -> int:
        with self._sending:
            self._asked += 1
            number = self._asked
        self.send({"ping": number})
        return number

    def _flush(self) -> None:
        try:
            while self._outgoing:
                sent = self._control.send(self._outgoing, socket.MSG_DONTWAIT)
                del self._outgoing[:sent]
        except BlockingIOError:
            return
        except OSError:  # it is gone, which the thread notices
            self._outgoing.clear()

    # --- in the thread ---

    def _live(
        self,
        entry: str,
        environment: Mapping[str, str] | None,
        started: queue.SimpleQueue[OSError | None],
    ) -> None:
        try:
            self._process, self._control = child_process.spawn(entry, environment)
        except OSError as error:
            started.put(error)
            return
        started.put(None)
        frozen = True
        try:
            frozen = self._listen()
        except Exception as error:  # what it said may be anything
            self.why = f"it spoke in no known way: {error!r}"
        finally:
            self.over.set()
            self._take_down(frozen)
            self.gone.set()

    def _listen(self) -> bool:
        """Hear the process until it is over; true: it has to be killed."""
        pending, asked_at = b"", 0.0
        loading, silence, answered = LivedTime(), LivedTime(), 0
        poll = select.poll()
        while True:
            poll.register(self._control, select.POLLIN | (select.POLLOUT if self._outgoing else 0))
            happened = poll.poll(min(PING_SECONDS, self._silent_s) * 1e3)
            if self.over.is_set():  # we end it: has it anything to say?
                return not self.ready.is_set() or self._answered < self._asked
            if happened and happened[0][1] & select.POLLOUT:
                with self._sending:
                    self._flush()
            if happened and happened[0][1] & ~select.POLLOUT:
                try:
                    data = self._control.recv(65_536)
                except OSError:
                    data = b""
                if not data:
                    return False
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    self._take(json.loads(line))
            if not self.ready.is_set():
                if loading.seconds() > START_SECONDS:
                    self.why = f"it was not loaded after {START_SECONDS:g} s"
                    return True
                continue
            waits = self._answered < self._asked
            if not waits or self._answered > answered:
                silence, answered = LivedTime(), self._answered
            elif silence.seconds() > self._silent_s:
                self.why = f"it did not answer for {self._silent_s:g} s and was killed"
                return True
            if not waits and time.monotonic() - asked_at >= PING_SECONDS:
                asked_at = time.monotonic()
                self._ask()

    def _take(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            if (why := message["network"]) is not None:
                log.info("jobs_have_network", action="jobs_have_network", why=why)
            self.ready.set()
            return
        if "pong" in message:
            self._answered = max(self._answered, int(message["pong"]))
            return
        run = str(message.get("progress") or message.get("ended") or message.get("started"))
        if "started" in message:
            self._working[run] = int(message["pid"])
        elif "ended" in message:
            self._working.pop(run, None)
        inbox = self._inboxes.get(run)
        if inbox is not None:
            inbox.put(message)

    def _take_down(self, frozen: bool) -> None:
        """End the process, its jobs, and what those have started."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        if not frozen:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self._process.wait(CLOSE_SECONDS)
                self.why = self.why or f"it ended with status {status}"
        self.why = self.why or "it closed its socket"
        child_process.kill(self._process, self._working.values())
        with self._sending:
            self._control.close()
