"""Child process that runs ``redistill.compress.pipeline``: a folder in, a report or an error out.

The worker starts one :class:`Child` at boot. Its process (``redistill.workers.jobs.fork_server``)
holds torch; each job is a fork of it, with limits of memory and CPU time and a deadline, without
network, in a folder that is locked while the job runs. Nothing of the worker's environment reaches
it but a few names.
"""

from __future__ import annotations

import queue
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from redistill.workers.jobs import output_log
from redistill.workers.jobs.child_outcome import (
    ChildCancelled,
    ChildFailed,
    ChildRun,
    Ending,
    outcome,
)
from redistill.workers.jobs.lived_time import LivedTime
from redistill.workers.jobs.server_link import SILENT_SECONDS, ServerLink

__all__ = ["Child"]

ENTRY = "redistill.compress.pipeline:run"

TICK_SECONDS = 0.05
"""How soon a deadline or a cancellation is noticed."""

END_SECONDS = 5.0
"""From the order to kill a job to the news of its end. The order is a signal, and nothing can
ignore it but a process inside the kernel."""


class Child:
    """A warm process that runs jobs one after the other or side by side; thread-safe.

    Examples
    --------
    ::

        with Child.start() as child:
            ran = child.run(folder, deadline_s=600)
    """

    def __init__(self, link: ServerLink) -> None:
        self._link = link

    @classmethod
    def start(
        cls,
        entry: str = ENTRY,
        *,
        environment: Mapping[str, str] | None = None,
        silent_s: float = SILENT_SECONDS,
    ) -> Child:
        """Start the process; returns at once, it loads meanwhile.

        Parameters
        ----------
        entry
            ``module:function`` with the signature of ``redistill.compress.pipeline.run``; the
            module is loaded now, and its ``warm()`` called if it has one.
        environment
            What to take the permitted variables from; ``None``: this process's, and the path that
            its children import from.
        silent_s
            Seconds without an answer after which the process is killed.

        Raises
        ------
        OSError
            It cannot be started.
        """
        return cls(ServerLink(entry, environment, silent_s=silent_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether it can take jobs, now or when it is loaded."""
        return not self._link.over.is_set()

    @property
    def ready(self) -> bool:
        """Whether it can take jobs now."""
        return self._link.ready.is_set() and self.alive

    @property
    def why(self) -> str:
        """Why it is not alive, for a person."""
        return self._link.why

    @property
    def pid(self) -> int:
        """Process id of the warm process."""
        return self._link.pid

    def wait_ready(self) -> bool:
        """Wait until everything is loaded; false: it ended before."""
        while not self._link.ready.wait(TICK_SECONDS):
            if not self.alive:
                return False
        return True

    def run(
        self,
        folder: Path,
        *,
        deadline_s: float,
        memory_bytes: int | None = None,
        progress: Callable[[str, float], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> ChildRun:
        """Run the job in ``folder`` and wait for its report.

        Parameters
        ----------
        folder
            With ``job.json`` and what it needs (``redistill.compress.plan``).
        deadline_s
            Wall-clock seconds after which the process is killed. Its CPU time has the same limit.
            Time in which this process was stopped does not count.
        memory_bytes
            What it may use beyond the loaded libraries; ``None``: no limit.
        progress
            Called on this thread with the step and the share done.
        cancelled
            When set, the process is killed and ``ChildCancelled`` raised.

        Raises
        ------
        ChildFailed
            It raised, crashed, was killed, ran past its deadline, or gave no report; the message
            says which.
        ChildCancelled
            ``cancelled`` was set.
        """
        link, stop = self._link, cancelled if cancelled is not None else threading.Event()
        while not link.ready.wait(TICK_SECONDS):
            if link.gone.is_set():
                raise self._gone(folder)
            if stop.is_set():
                raise ChildCancelled(f"the job in {folder.name} was ended before it began")
        run = uuid.uuid4().hex
        inbox, watch = link.inbox(run), LivedTime()
        step: str | None = None
        ending: Ending | None = None
        killed_at, question, over = 0.0, 0, False
        request = {"folder": str(folder), "cpu_seconds": deadline_s, "memory_bytes": memory_bytes}
        try:
            link.send({"run": run, **request})
            while True:
                seconds = watch.seconds()
                if ending is None and (stop.is_set() or seconds > deadline_s):
                    ending = "cancelled" if stop.is_set() else "deadline"
                    killed_at, question = seconds, link.kill(run)
                try:
                    message = inbox.get(timeout=TICK_SECONDS)
                except queue.Empty:
                    if link.gone.is_set() and inbox.empty():
                        over = True
                        if ending == "cancelled":
                            raise _cancelled(folder) from None
                        raise self._gone(folder) from None
                    if ending is not None and seconds - killed_at > END_SECONDS:
                        self._has_not_ended(folder, ending, deadline_s, question)
                    continue
                if "progress" in message:
                    step = str(message["step"])
                    if progress is not None:
                        progress(step, float(message["share"]))
                elif "ended" in message:
                    over = True
                    return outcome(
                        folder,
                        message,
                        ending=ending,
                        step=step,
                        seconds=seconds,
                        deadline_s=deadline_s,
                    )
        finally:
            link.forget(run)
            if not over:  # ``progress`` raised: nobody wants the result any more
                link.kill(run)

    def close(self) -> None:
        """End the process and every job in it; in bounded time, whatever state it is in."""
        self._link.end("it was closed")
        self._link.join()

    def _has_not_ended(
        self, folder: Path, ending: Ending, deadline_s: float, question: int
    ) -> None:
        """The order to kill a job had no effect. If it was not even heard, the process that should
        have is frozen: all of it is killed, and the caller waits for that. If it was, the kernel
        holds the job; others that work must not suffer, and it ends whenever it can.

        Raises
        ------
        ChildFailed, ChildCancelled
            The order was heard.
        """
        if not self._link.heard(question):
            self._link.end(
                f"it did not answer for {END_SECONDS:g} s when a job had to end, and was killed"
            )
            return
        if ending == "cancelled":
            raise _cancelled(folder)
        raise ChildFailed(
            f"it did not finish within {deadline_s:.0f} s, was killed and is not gone after"
            f" {END_SECONDS:g} s more: the kernel holds it, as for a disk that does not answer",
            kind="deadline",
            retriable=True,
            tail=output_log.tail(folder),
        )

    def _gone(self, folder: Path) -> ChildFailed:
        what = "is gone" if self._link.ready.is_set() else "did not start"
        return ChildFailed(
            f"the process for jobs {what}: {self.why}",
            kind="gone",
            retriable=True,
            tail=output_log.tail(folder),
        )


def _cancelled(folder: Path) -> ChildCancelled:
    return ChildCancelled(f"the job in {folder.name} was ended on request")
