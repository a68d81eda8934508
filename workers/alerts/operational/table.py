"""Table of the operational alerts: what can be wrong with the installation itself.

None of them is a finding of drift or an incident, and none starts a repair. A new one is a function
in ``checks``, a line here, one in ``docs/alerts.md`` and its test.
"""

from __future__ import annotations

from dataclasses import dataclass

from redistill.workers.alerts.alert import CHANNEL_FAILING, Severity
from redistill.workers.alerts.operational.checks import (
    consumer_lag,
    disk,
    lost_records,
    signing_expiry,
    signing_refused,
    silent_models,
    silent_processes,
    standstill,
)
from redistill.workers.alerts.operational.look import Check

__all__ = ["CHECKS", "SEVERITY_OF", "Operational"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Operational:
    """A kind of operational alert."""

    severity: Severity
    check: Check


CHECKS: dict[str, Operational] = {
    "lag": Operational(severity="warn", check=consumer_lag.late),
    "lag_growing": Operational(severity="page", check=consumer_lag.growing),
    "no_data": Operational(severity="warn", check=silent_models.no_data),
    "labels_late": Operational(severity="warn", check=silent_models.labels_late),
    "signing_expiry": Operational(severity="page", check=signing_expiry.near_expiry),
    "signing_refused": Operational(severity="page", check=signing_refused.refused),
    "disk": Operational(severity="page", check=disk.nearly_full),
    "dead_letters": Operational(severity="warn", check=lost_records.dead_letters),
    "gap": Operational(severity="warn", check=lost_records.lost),
    "retention_stopped": Operational(severity="warn", check=standstill.retention_stopped),
    "outbox_unsent": Operational(severity="page", check=standstill.outbox_unsent),
    "jobs_stuck": Operational(severity="warn", check=standstill.jobs_stuck),
    "process_silent": Operational(severity="page", check=silent_processes.silent),
    "process_unready": Operational(severity="page", check=silent_processes.none_ready),
}
"""By kind: what is measured, and whether a person is needed now."""

SEVERITY_OF: dict[str, Severity] = {
    **{kind: operational.severity for kind, operational in CHECKS.items()},
    CHANNEL_FAILING: "page",
}
"""Of every kind that there is: those that a check looks for, and what the alert process raises by
itself (:mod:`redistill.workers.alerts.failing`)."""
