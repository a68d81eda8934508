"""Policy: what is done about an incident. Pure: its context in, a remedy out; every remedy says
why.

The order of the rules is the order of their authority: what the model's level allows, what the
diagnosis found, what people have said, what was done lately forbids, what the budget leaves. The
first that has an opinion decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from redistill.compress.judge.gates.recipe import MOST
from redistill.compress.plan import Diagnosis
from redistill.streams.monitor.config import Level
from redistill.streams.wire.events import IncidentClass
from redistill.times import MINUTE
from redistill.workers.incidents.causes import REMEDIES
from redistill.workers.incidents.remedy import AskPerson, Remedy, Repair, Wait

__all__ = ["IncidentContext", "JobBudget", "RecentActions", "decide"]

FAILED_GATES = 2
"""So many rejected candidates in a row, and the circuit breaker opens: something else is wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IncidentContext:
    """The incident, and what its model allows."""

    model: str
    incident_class: IncidentClass
    level: Level
    approval: Literal["automatic", "on_request", "paused"]
    has_teacher: bool
    approved: bool = False
    """A person has said: repair it. Overrides pauses, cool-down and the circuit breaker."""
    predecessor: str | None = None
    """Version to which a roll back would go; ``None``: there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobBudget:
    """Recompression jobs of the last 24 hours against what is allowed."""

    model_jobs: int
    model_limit: int
    fleet_jobs: int
    fleet_limit: int
    free_at: int
    """When the oldest of the counted jobs is a day old: microseconds since 1970."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecentActions:
    """What has been done about this model lately. Times are microseconds since 1970."""

    live_job: str | None = None
    """A job of this model that is queued, running or waiting for labels."""
    paused_until: int | None = None
    pause_reason: str = ""
    cooling_until: int | None = None
    """End of the cool-down after the last automatic change or attempt."""
    rejected_in_a_row: int = 0
    """Candidates of automatic jobs that failed their gates since one last passed."""
    tested: int = 0
    """Candidates of the incident that have faced its fresh rows."""


def decide(
    incident: IncidentContext,
    diagnosis: Diagnosis | None,
    *,
    budget: JobBudget,
    recent: RecentActions,
    now: int,
) -> Remedy:
    """Choose the remedy.

    Parameters
    ----------
    incident
        The incident, and what its model allows.
    diagnosis
        What the child found; ``None``: it has not been asked yet. With a diagnosis the question is
        whether the running job goes on: budget and cool-down were settled when it was started.
    budget, recent
        What has been spent and done.
    now
        Microseconds since 1970.

    Examples
    --------
    >>> harmed = IncidentContext(
    ...     model="credit", incident_class="harm", level="repair", approval="automatic",
    ...     has_teacher=True,
    ... )
    >>> budget = JobBudget(model_jobs=0, model_limit=2, fleet_jobs=0, fleet_limit=24, free_at=0)
    >>> decide(harmed, None, budget=budget, recent=RecentActions(), now=0).decision
    'repair'
    >>> rejected = RecentActions(rejected_in_a_row=2)
    >>> decide(harmed, None, budget=budget, recent=rejected, now=0).decision
    'ask_person'
    """
    model = incident.model
    if incident.incident_class == "data_bug":
        return AskPerson(
            "the data that reach the model are broken: fix the pipeline; a model is never retrained"
            " on broken data"
        )
    if incident.incident_class in ("calibration", "serving"):
        return AskPerson(
            f"{incident.incident_class} trouble is not repaired automatically yet: look at the"
            f" findings, then `redistill recompress {model}` if the model is to blame"
        )
    if incident.level == "watch":
        return AskPerson(
            f"level watch: redistill may not change {model}; register ONNX versions (level"
            " rollback) or a teacher as well (level repair) to let it act"
        )
    if incident.level == "rollback":
        if incident.predecessor is None:
            return AskPerson(
                f"level rollback: {model} has no earlier version to go back to; add one with"
                f" `redistill add {model} VERSION FILE`"
            )
        return AskPerson(
            f"level rollback: if version {incident.predecessor} is known to cope, run"
            f" `redistill rollback {model}`"
        )
    if not incident.has_teacher:
        return AskPerson(f"{model} has no teacher to distil from: name one under [teacher]")
    if incident.approval == "paused":
        return AskPerson('repairs are paused in model.toml ([repair] approval = "paused")')
    if diagnosis is not None:
        return REMEDIES[diagnosis.cause](diagnosis)
    return _may_start(incident, budget, recent, now)


def _may_start(
    incident: IncidentContext, budget: JobBudget, recent: RecentActions, now: int
) -> Remedy:
    if recent.live_job is not None:
        return Wait(f"job {recent.live_job} of this model is still at work", until=None)
    if recent.tested >= MOST:
        return AskPerson(
            f"{MOST} candidates of this incident have faced its fresh rows, and one more could pass"
            f" by luck: see their gates (`redistill jobs list --model {incident.model}`);"
            f" `redistill recompress {incident.model}` asks for one that must not be worse and must"
            " gain, `redistill add` brings a version of your own"
        )
    if not incident.approved:
        if incident.approval == "on_request":
            return AskPerson(
                'repairs need approval ([repair] approval = "on_request"):'
                " `redistill incidents approve ID`"
            )
        if recent.rejected_in_a_row >= FAILED_GATES:
            return AskPerson(
                f"circuit breaker: {recent.rejected_in_a_row} candidates in a row failed their"
                " gates; look at the gates, then `redistill incidents approve ID`"
            )
        if recent.paused_until is not None and recent.paused_until > now:
            return Wait(
                f"automatic repair is paused: {recent.pause_reason}", until=recent.paused_until
            )
        if recent.cooling_until is not None and recent.cooling_until > now:
            left = (recent.cooling_until - now) / MINUTE
            return Wait(
                f"cool-down after the last change: {left:.0f} min left", until=recent.cooling_until
            )
    if budget.model_jobs >= budget.model_limit:
        return Wait(
            f"daily budget of the model spent: {budget.model_jobs} of {budget.model_limit} jobs"
            " ([repair] max_jobs_per_day)",
            until=budget.free_at,
        )
    if budget.fleet_jobs >= budget.fleet_limit:
        return Wait(
            f"daily budget of the fleet spent: {budget.fleet_jobs} of {budget.fleet_limit} jobs"
            " (REDISTILL_MAX_JOBS_PER_DAY)",
            until=budget.free_at,
        )
    return Repair("harm was measured: diagnose it, and repair what compression is to blame for")
