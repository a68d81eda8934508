"""Deliveries are counted by channel and by what came of them."""

from __future__ import annotations

from dataclasses import replace

from redistill.workers.processes.alert_metrics import AlertMetrics
from redistill.workers.store.alert_deliveries import Delivery

TOLD = Delivery(
    channel="team", alert_key="incident:1", state="told", digest="d", title="t", severity="page",
    since=0, not_before=0, wanted_at=0,
)  # fmt: skip


def test_tries_are_counted_and_a_channel_that_was_never_asked_is_zero() -> None:
    metrics = AlertMetrics(["oncall"], namespace="eu-1")
    metrics.noted(TOLD)
    for _ in range(2):
        metrics.noted(replace(TOLD, state="owed", error="timed out", tries=1))
    told = {
        (s.name.removeprefix("eu_1_redistill_alerts_"), s.labels["channel"]): s.value
        for family in metrics.collect()
        for s in family.samples
        if s.name.endswith("_total")
    }
    assert told == {
        ("sent_total", "oncall"): 0,
        ("failed_total", "oncall"): 0,
        ("sent_total", "team"): 1,
        ("failed_total", "team"): 2,
    }
