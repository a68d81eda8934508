"""A worker runs from its start to a signal."""

from __future__ import annotations

import threading

import pytest
from structlog.testing import capture_logs

from redistill.workers.exit_codes import ExitCode
from redistill.workers.processes.until_stopped import until_stopped


class Worker:
    holder = "here:1"

    def __init__(self, well: bool) -> None:
        self.well = well
        self.did: list[str] = []

    def start(self) -> None:
        self.did.append("start")

    def finish(self) -> bool:
        self.did.append("finish")
        return self.well


@pytest.mark.parametrize(("well", "status"), [(True, 0), (False, ExitCode.FAILED)])
def test_worker_is_ready_once_it_runs_and_ends_when_it_is_told(well: bool, status: int) -> None:
    stop, worker = threading.Event(), Worker(well)

    def ready(one: Worker) -> None:
        one.did.append("ready")
        stop.set()

    with capture_logs() as lines:
        assert until_stopped(worker, "repair", stop=stop, ready=ready, broker="k:1") == status
    assert worker.did == ["start", "ready", "finish"]
    assert [{k: x[k] for k in x if k not in ("event", "log_level")} for x in lines] == [
        {"action": "repair_started", "holder": "here:1", "broker": "k:1"},
        {"action": "repair_stopped", "well": well},
    ]
