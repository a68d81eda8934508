"""Pipeline, the only door to this package: a job's folder in, a report and a candidate out.

``run`` reads ``job.json`` and does what its mode says. It needs no network, no environment and no
key, may be killed at any moment, and goes on where it stopped when it is run again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from redistill.compress import folder, measure, offline, recipes, repair
from redistill.compress.folder import JobContext
from redistill.compress.plan import Report, to_json
from redistill.compress.steps import Deadline, Progress, Steps, nothing
from redistill.files import write

__all__ = ["MODES", "run", "warm"]

MODES: dict[str, Callable[[JobContext], Report]] = {
    "repair": repair.repair,
    "gate": repair.gate,
    "diagnose": measure.diagnose,
    "compare": measure.compare,
    "baseline": measure.baseline,
    "compress": offline.compress,
}


def run(
    job_folder: Path,
    *,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Report:
    """Do a job.

    Parameters
    ----------
    job_folder
        Laid out as ``redistill.compress.plan`` says. One process at a time may work in it.
    progress
        Called with the name of a step and the share of it that is done: 0 at its start, 1 at its
        end (at once, if it was finished by an earlier run).
    clock
        Monotonic seconds, for the deadline.

    Returns
    -------
    Report
        Also written to ``report.json``, as the last thing. A candidate that is refused is a
        decision in it, not an error.

    Raises
    ------
    BadJob, BadData, BadModel
        What was given cannot be used; the message says what was wrong and where.
    DeadlineExceeded
        Finished steps are kept.
    """
    job_folder = Path(job_folder)
    job = folder.read(job_folder)
    deadline = Deadline(seconds=job.deadline_s, clock=clock)
    steps = Steps(
        job_folder,
        deadline=deadline,
        progress=progress or nothing,
        scope=recipes.scope(job),
    )
    report = MODES[job.mode](JobContext(folder=job_folder, job=job, steps=steps, deadline=deadline))
    write(job_folder / folder.REPORT, to_json(report))
    return report


def warm() -> None:
    """Load what the first job of a process would otherwise wait for: torch alone costs 2 s.

    For a process from which jobs are forked, before it is forked. Starts no thread.
    """
    from redistill.compress import build

    build.warm()
