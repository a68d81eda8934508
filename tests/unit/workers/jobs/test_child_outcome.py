"""What becomes of a run, from the fork server's message alone."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import deadly_job
import pytest

from redistill.workers.jobs.child_outcome import ChildCancelled, ChildFailed, ChildRun, outcome
from redistill.workers.jobs.output_log import FILE


def ended(**values: Any) -> dict[str, Any]:
    none = dict.fromkeys(("status", "signal", "error"))
    return {**none, "cpu_seconds": 1.0, "memory_bytes": 5, **values}


def of(folder: Path, message: dict[str, Any], **values: Any) -> ChildRun:
    given: dict[str, Any] = {"ending": None, "step": None, "seconds": 3.0, "deadline_s": 10.0}
    return outcome(folder, message, **{**given, **values})


def failure(folder: Path, message: dict[str, Any], **values: Any) -> ChildFailed:
    with pytest.raises(ChildFailed) as caught:
        of(folder, message, **values)
    return caught.value


def test_report_counts_even_if_the_job_was_about_to_be_killed(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(deadly_job.report())
    ran = of(tmp_path, ended(status=0), ending="deadline")
    assert (ran.report.job_id, ran.seconds, ran.cpu_seconds, ran.memory_bytes) == ("j", 3.0, 1.0, 5)


def test_cancelled_is_no_failure(tmp_path: Path) -> None:
    with pytest.raises(ChildCancelled):
        of(tmp_path, ended(signal=9), ending="cancelled")


@pytest.mark.parametrize(
    ("message", "values"),
    [
        (ended(signal=9), {"ending": "deadline"}),
        (ended(signal=int(signal.SIGXCPU)), {}),
        (ended(error={"kind": "DeadlineExceeded", "message": "late", "retriable": False}), {}),
    ],
)
@pytest.mark.parametrize(("cpu", "retriable"), [(1.0, True), (9.0, False)])
def test_job_that_worked_until_its_deadline_would_do_so_again(
    tmp_path: Path, message: dict[str, Any], values: dict[str, Any], cpu: float, retriable: bool
) -> None:
    error = failure(tmp_path, {**message, "cpu_seconds": cpu}, step="train", **values)
    assert error.retriable is retriable
    assert ("it hung, or was held up" in str(error)) == (retriable and error.kind == "deadline")


@pytest.mark.parametrize(
    ("number", "kind", "told"),
    [
        (11, "crashed", "it crashed with SIGSEGV (a fault in a native library, or in the memory)"),
        (9, "killed", "it was killed by SIGKILL (out of memory, or by hand)"),
        (15, "killed", "it was ended by SIGTERM"),
        (43, "killed", "it was ended by signal 43"),
    ],
)
def test_signal_is_told_in_words(tmp_path: Path, number: int, kind: str, told: str) -> None:
    error = failure(tmp_path, ended(signal=number), step="gate")
    assert (error.kind, error.retriable) == (kind, True)
    assert str(error) == f"{told} in step 'gate'; last line: it wrote nothing"


def test_crash_shows_what_python_saw_of_it(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("Fatal Python error: Aborted\n\nThread 1:\n  File x\n")
    assert str(failure(tmp_path, ended(signal=6))).endswith(
        "last line: Fatal Python error: Aborted"
    )


def test_errno_is_passed_on(tmp_path: Path) -> None:
    told = {"kind": "OSError", "message": "full", "retriable": True, "errno": 28}
    assert failure(tmp_path, ended(status=1, error=told)).errno == 28
