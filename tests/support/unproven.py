"""What ``check-history`` does not prove: each column, deletion and duplicate of a row that it would not
notice, with the reason. Reviewed by hand; a test fails on an entry that is noticed after all, and on
anything that is not noticed and not listed.

Kinds of reasons: *work* is what a process is about to do, and does anew from the facts when it finds
nothing or nonsense. *Words* are for people, and nothing follows from them. A *time* says when a row was
written; rules compare those of one transaction, and no clock is a proof. A *single* fact was written down
once: its second copy would have been the log of a service, which is long gone. *Lawful* is what retention,
a restart or a rebuild does as well.
"""

from __future__ import annotations

__all__ = ["UNPROVEN", "reason"]

WORK = "work: "
SINGLE = "single: "
LAWFUL = "lawful: "
TIME = "time: when it was written, of one row alone"
WORDS = "words: nothing follows from them"

PROGRESS = WORK + "how far a job is; a worker that takes it up does over what is not there"
UNLABELLED = SINGLE + "a prediction without a label; with one it is compared with its outcome"
UNUSED = SINGLE + "a label that made no outcome (waiting, of a stranger, given up)"
TOLD = SINGLE + "what channels were told: only they know. One marked as told is never told"
LEASE = (
    WORK + "a lease runs out or is taken by the next process; steps of jobs are compared with it"
)
DRAWN = SINGLE + "from when on, or until when, rows could be drawn that nobody labelled"
REFUSED = SINGLE + "a request that was refused moved nothing; one that was granted is compared"
SERVICE = SINGLE + "what a service says of itself; which bytes it served is compared"

UNPROVEN: dict[str, str] = {
    "alert_deliveries.*": TOLD,
    "operational_alerts.*": WORK + "what the installation lacks now; looked at anew each minute",
    "storm_members.*": TOLD,
    "processes.*": WORK + "a process says every five seconds that it lives",
    "deletion_budgets.*": WORK + "how much retention may delete this hour",
    "activations.event_id": SERVICE,
    "activations.instance_id": SERVICE,
    "activations.at": SERVICE,
    "activations.(delete)": LAWFUL + "retention deletes them",
    "activations.(duplicate)": SERVICE,
    "alert_holds.(delete)": LAWFUL + "forgotten when an incident is about new trouble",
    "counters.model": SINGLE + "a count for people; those of the ledger are added up",
    "counters.name": SINGLE + "a count for people; those of the ledger are added up",
    "counters.value": SINGLE + "a count for people; those of the ledger are added up",
    "counters.updated_at": TIME,
    "counters.(delete)": LAWFUL + "those of the ledger are never deleted, the others are",
    "counters.(duplicate)": SINGLE + "a name that nobody reads",
    "facts.(duplicate)": SINGLE + "a property that nobody reads",
    "feature_rows.block_id": WORK + "the order in which blocks came",
    "feature_rows.version": SINGLE + "which version served a block",
    "feature_rows.data": SINGLE + "features of rows; their number and times are compared",
    "feature_rows.stored_at": TIME,
    "findings.stored_at": TIME,
    "findings.intake_note": WORDS,
    "findings.raised_seq": SINGLE
    + "which outcome raised an alarm; that it is no earlier one is compared by flushes",
    "gaps.found_at": TIME,
    "gaps.(delete)": LAWFUL + "markers of transactions are skipped as well, and no gaps",
    "guards.last_seq": WORK + "how far a comparison has looked",
    "guards.result": WORDS + "; its e-values are compared with what was done",
    "guards.until": WORK + "when a comparison is given up",
    "incident_findings.attached_at": TIME,
    "input_states.stored_at": TIME,
    "intents.done_at": REFUSED,
    "intents.result": REFUSED,
    "intents.(delete)": LAWFUL + "retention deletes them",
    "job_steps.name": PROGRESS,
    "job_steps.detail": PROGRESS,
    "job_steps.seconds": WORDS,
    "job_steps.cpu_seconds": WORDS,
    "job_steps.at": PROGRESS,
    "job_steps.(delete)": PROGRESS,
    "job_steps.(duplicate)": PROGRESS,
    "jobs.outcome": WORDS + "; which release it names is compared",
    "jobs.tries": PROGRESS,
    "jobs.not_before": PROGRESS,
    "jobs.deadline_at": PROGRESS,
    "jobs.frozen_at": PROGRESS,
    "jobs.gate_rows": PROGRESS,
    "jobs.started_at": TIME,
    "jobs.finished_at": TIME,
    "join_rates.since": TIME,
    "join_rates.(duplicate)": SINGLE + "that a rate was set once more",
    "join_rows.id_hash": UNLABELLED,
    "join_rows.version": UNLABELLED,
    "join_rows.prediction": UNLABELLED,
    "join_rows.score": UNLABELLED,
    "join_rows.slices": UNLABELLED,
    "join_rows.served_at": UNLABELLED,
    "join_rows.topic_id": UNLABELLED,
    "join_rows.partition": UNLABELLED,
    "join_rows.window": UNLABELLED,
    "join_rows.stored_at": TIME,
    "join_rows.failed": UNLABELLED,
    "join_rows.predicted_low": UNLABELLED,
    "join_rows.predicted_high": UNLABELLED,
    "label_request_states.*": WORK + "what is asked for next; policy of the next look",
    "label_requests.last_served_at": DRAWN,
    "labels.model": UNUSED,
    "labels.source": UNUSED,
    "labels.observed_at": UNUSED,
    "labels.label": UNUSED,
    "labels.op": UNUSED,
    "labels.bound": UNUSED,
    "labels.confidence": SINGLE + "how sure the source was; nothing follows from it",
    "labels.p_include": UNUSED,
    "labels.uniform": UNUSED,
    "labels.request_id": UNUSED,
    "labels.arrival": UNUSED,
    "labels.version": UNUSED,
    "labels.prediction": UNUSED,
    "labels.slices": UNUSED,
    "labels.received_at": TIME,
    "labels.check_at": WORK + "when a label is looked up again",
    "leases.name": LEASE,
    "leases.holder": LEASE,
    "leases.token": LEASE,
    "leases.expires_at": LEASE,
    "leases.renewed_at": LEASE,
    "leases.(delete)": LEASE,
    "leases.(duplicate)": LEASE,
    "model_locks.model": WORK + "the row of a model whose rates never changed is made at need",
    "model_locks.feature_exponent": WORK + "the rate of now; only that of joins has a history",
    "model_locks.(delete)": WORK + "the row of a model whose rates never changed is made at need",
    "model_locks.(duplicate)": WORK + "the row of a model that there is not locks nothing",
    "offsets.topic_id": LAWFUL + "a topic that was deleted, of which nothing was left to read",
    "offsets.partition": LAWFUL + "a topic that was deleted, of which nothing was left to read",
    "offsets.updated_at": TIME,
    "offsets.tries": WORK + "deaths at an offset: with how much caution the next worker takes it",
    "offsets.alone": WORK + "deaths at an offset: with how much caution the next worker takes it",
    "outbox.seq": WORK + "the order in which announcements are sent",
    "outbox.after_snapshot": WORK + "what an announcement waited for; one that waits is compared",
    "outbox.created_at": TIME,
    "outbox.sent_at": LAWFUL + "sent once more after a crash; consumers drop what they have seen",
    "outcomes.made_at": TIME,
    "pauses.until": WORK + "until when no repair starts by itself; not before the roll back",
    "pauses.reason": WORDS,
    "pauses.(duplicate)": WORK + "no repair of a model that there is not",
    "pointers.announced_at": WORK + "when a pointer is announced again",
    "repository_roles.timestamp.version": LAWFUL + "it is to be signed anew",
    "specs.revision": WORK + "tells workers to read the model again",
    "specs.updated_at": TIME,
    "unregistered.model": SINGLE + "a name from the wire; how many rows there were is added up",
    "unregistered.version": SINGLE + "a name from the wire; how many rows there were is added up",
    "unregistered.first_seen_at": TIME,
    "unregistered.last_seen_at": TIME,
    "unregistered.sample": SINGLE + "rows of a stranger, to register it from",
    "windows.closed_at": TIME,
}


def reason(name: str) -> str | None:
    """Why a mutation is not noticed; ``None``: it has to be."""
    table, *_, what = name.split(".")
    return next(
        (UNPROVEN[n] for n in (name, f"{table}.{what}", f"{table}.*") if n in UNPROVEN), None
    )
