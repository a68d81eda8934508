"""What a job prints: its end is kept, and no disk is filled."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from redistill.workers.jobs import output_log
from redistill.workers.jobs.output_log import OutputLog, tail


def test_runs_of_a_job_stand_one_after_the_other(tmp_path: Path) -> None:
    for run in (b"one\n", b"two\n"):
        log = OutputLog(tmp_path)
        log.write(run)
        log.close()
    assert tail(tmp_path) == "one\ntwo\n"


def test_only_the_end_of_long_output_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_log, "LONGEST", 100)
    monkeypatch.setattr(output_log, "KEPT", 50)
    log, whole = OutputLog(tmp_path), b""
    for i in range(60):
        line = b"line %02d\n" % i
        whole += line
        log.write(line)
        text = (tmp_path / output_log.FILE).read_bytes()
        assert len(text) <= 100
        assert whole.endswith(text.removeprefix(output_log.CUT))
    log.write(b"x" * 1_000)
    assert (tmp_path / output_log.FILE).read_bytes() == output_log.CUT + b"x" * 50


def test_tail_is_the_end_that_an_error_quotes(tmp_path: Path) -> None:
    assert tail(tmp_path) == ""
    (tmp_path / output_log.FILE).write_bytes(b"\xff" + b"x" * 5_000)
    assert tail(tmp_path) == "x" * output_log.TAIL_BYTES


def test_disk_that_is_full_costs_the_output_only(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("/dev/full stands for the disk")
    (tmp_path / output_log.FILE).symlink_to("/dev/full")
    log = OutputLog(tmp_path)
    log.write(b"lost")
    log.close()
