"""Tasks tell when they last ended well, and how often they failed."""

from __future__ import annotations

import threading

from redistill.workers.processes.periodic_tasks import PeriodicTask
from redistill.workers.processes.task_metrics import TaskMetrics


def test_each_task_is_told_under_its_process() -> None:
    tasks = {
        name: PeriodicTask(name, lambda: False, every_seconds=1, stop=threading.Event())
        for name in ("plan", "beat")
    }
    tasks["beat"].failures = 3
    metrics = TaskMetrics(tasks, process="alerts", namespace="eu-1")
    told = {
        (s.name, s.labels["duty"]): s.value for family in metrics.collect() for s in family.samples
    }
    assert told["eu_1_redistill_alerts_duty_failures", "beat"] == 3
    assert told["eu_1_redistill_alerts_duty_failures", "plan"] == 0
    assert told["eu_1_redistill_alerts_duty_age_seconds", "plan"] >= 0
