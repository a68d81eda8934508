"""The door of compress: what a folder says is done, and the report is the last thing written."""

from __future__ import annotations

from pathlib import Path

import pytest
from compress_rows import tiny_job

from redistill.compress import once, pipeline
from redistill.compress.errors import BadJob, DeadlineExceeded
from redistill.compress.plan import read_report


def test_the_mode_decides_what_is_done_and_the_report_is_written(tmp_path: Path) -> None:
    tiny_job(tmp_path, mode="diagnose", base_error=0.01)
    told: list[tuple[str, float]] = []
    report = pipeline.run(tmp_path, progress=lambda step, share: told.append((step, share)))
    assert report.mode == "diagnose"
    assert read_report((tmp_path / "report.json").read_bytes()) == report
    assert told == [("diagnose", 0.0), ("diagnose", 1.0)]


def test_every_mode_of_a_job_has_its_function() -> None:
    from typing import get_args

    from redistill.compress.plan import Mode

    assert pipeline.MODES.keys() == set(get_args(Mode))


def test_a_deadline_that_has_passed_leaves_no_report(tmp_path: Path) -> None:
    tiny_job(tmp_path, mode="diagnose", base_error=0.01, deadline_s=5.0)
    clock = iter([0.0, 9.0, 9.0])
    with pytest.raises(DeadlineExceeded, match="deadline of 5 s passed at step 'diagnose'"):
        pipeline.run(tmp_path, clock=lambda: next(clock))
    assert not (tmp_path / "report.json").exists()


def test_a_folder_without_a_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadJob):
        pipeline.run(tmp_path)


def test_a_process_that_does_one_job_has_the_same_door() -> None:
    assert once.run is pipeline.run
