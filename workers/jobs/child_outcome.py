"""Outcome of one run of a job's process: a report, or what became of it instead.

Whatever the process did - it raised, crashed, was killed, hung, ended without a report - is one
error with a kind, a sentence for a person, and whether another try may help.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from redistill.compress.plan import Report, read_report
from redistill.workers.errors import WorkersError
from redistill.workers.jobs import output_log

__all__ = ["ChildCancelled", "ChildFailed", "ChildRun", "Ending", "outcome"]

REPORT = "report.json"
LONGEST_REPORT = 64 << 20
"""Bytes; a report with thousands of slices has a few hundred kilobytes."""

BUSY = 0.5
"""Share of its time that a job which works takes of a processor. One that took less was stopped,
starved or waited, and may do better next time."""

CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT)
"""What a process does to itself: a fault in a native library, or in the memory."""

Ending = Literal["cancelled", "deadline"]
"""Why we killed it."""


class ChildFailed(WorkersError):
    """A job's process could not do its work.

    Parameters
    ----------
    message
        What happened, for a person.
    kind
        Class name of the error in the child (``BadData``), or ``killed``, ``crashed``,
        ``deadline``, ``no_report``, ``gone`` (the process from which it was forked).
    retriable
        Whether the same folder may succeed in another try.
    tail
        The end of what the child wrote, for the log.
    errno
        Of an operating system's error in the child, for example ``ENOSPC``.
    """

    def __init__(
        self, message: str, *, kind: str, retriable: bool, tail: str = "", errno: int | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.retriable = retriable
        self.tail = tail
        self.errno = errno


class ChildCancelled(WorkersError):
    """The job's process was ended because the caller asked for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChildRun:
    """What a run gave and cost."""

    report: Report
    seconds: float
    cpu_seconds: float
    memory_bytes: int


def outcome(
    folder: Path,
    ended: Mapping[str, Any],
    *,
    ending: Ending | None,
    step: str | None,
    seconds: float,
    deadline_s: float,
) -> ChildRun:
    """What became of a run whose process has ended.

    Parameters
    ----------
    folder
        Of the job.
    ended
        The fork server's message.
    ending
        Why we killed it, if we did.
    step
        The last that it told of.
    seconds
        How long it ran.
    deadline_s
        How long it was allowed to.

    Raises
    ------
    ChildFailed
        It gave no report; the message says why.
    ChildCancelled
        It was ended on request.
    """
    cpu = float(ended["cpu_seconds"])
    if ended["status"] == 0:  # it may have finished while we were about to kill it
        return ChildRun(
            report=_report(folder),
            seconds=seconds,
            cpu_seconds=cpu,
            memory_bytes=int(ended["memory_bytes"]),
        )
    if ending == "cancelled":
        raise ChildCancelled(f"the job in {folder.name} was ended on request")
    text = output_log.tail(folder)
    where = f" in step {step!r}" if step else ""
    idle = cpu < BUSY * deadline_s
    if ending == "deadline" or ended["signal"] == signal.SIGXCPU:
        told = f" and used {cpu:.0f} s of a processor: it hung, or was held up" if idle else ""
        raise ChildFailed(
            f"it did not finish within {deadline_s:.0f} s{where}{told}",
            kind="deadline",
            retriable=idle,
            tail=text,
        )
    if (error := ended["error"]) is not None:
        late = error["kind"] == "DeadlineExceeded"  # it looked at the clock itself
        raise ChildFailed(
            f"{error['kind']}: {error['message']}",
            kind=str(error["kind"]),
            retriable=idle if late else bool(error["retriable"]),
            tail=text,
            errno=error.get("errno"),
        )
    if ended["signal"] is not None:
        raise ChildFailed(
            f"it {_died(int(ended['signal']))}{where}; last line: {_last_line(text)}",
            kind="crashed" if ended["signal"] in CRASHES else "killed",
            retriable=True,
            tail=text,
        )
    raise ChildFailed(
        f"it ended with status {ended['status']}{where} and did not say why;"
        f" last line: {_last_line(text)}",
        kind="crashed",
        retriable=True,
        tail=text,
    )


def _report(folder: Path) -> Report:
    """The report, which has to be there and whole.

    Raises
    ------
    ChildFailed
        It is not.
    """
    path = folder / REPORT
    try:
        size = path.stat().st_size
        if size > LONGEST_REPORT:
            raise ValueError(f"{size:,} bytes are more than {LONGEST_REPORT:,}")
        return read_report(path.read_bytes())
    except FileNotFoundError:
        why = f"without {REPORT}"
    except Exception as error:  # a file of any bytes
        why = f"with a {REPORT} that cannot be read: {str(error)[:300]}"
    raise ChildFailed(
        f"it ended as if it had finished, {why}",
        kind="no_report",
        retriable=True,
        tail=output_log.tail(folder),
    )


def _died(number: int) -> str:
    """How a signal ended it, in words."""
    try:
        name = signal.Signals(number).name
    except ValueError:  # a real-time signal
        name = f"signal {number}"
    if number in CRASHES:
        return f"crashed with {name} (a fault in a native library, or in the memory)"
    if number == signal.SIGKILL:
        return f"was killed by {name} (out of memory, or by hand)"
    return f"was ended by {name}"


def _last_line(text: str) -> str:
    """What it said last; of a crash, what Python saw of it."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith("Fatal Python error")]
    return (fatal or lines or ["it wrote nothing"])[-1]
