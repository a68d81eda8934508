"""Tables of the acting side, in the ``MetaData`` of ``streams.store.tables`` and by its rules."""

from __future__ import annotations

import sqlalchemy as sa

from redistill.streams.store.tables import Big, Float, Integer, Text, metadata

__all__ = [
    "activations",
    "audit",
    "barred",
    "incident_findings",
    "incidents",
    "job_steps",
    "jobs",
    "metadata",  # of both sides: complete once this module is imported
    "monitored_releases",
    "pauses",
    "pointer_history",
    "pointers",
    "release_requests",
    "repository_roles",
    "versions",
]

incidents = sa.Table(
    "incidents",
    metadata,
    sa.Column("incident_id", Text, primary_key=True),
    sa.Column("model", Text, nullable=False),
    sa.Column("version", Text, nullable=False),
    sa.Column("incident_class", Text, nullable=False),
    sa.Column("status", Text, nullable=False),  # open | resolved
    # detected | diagnosing | waiting_labels | repairing | awaiting_person | guarding | resolved
    sa.Column("stage", Text, nullable=False),
    sa.Column("cause", Text, nullable=True),
    sa.Column("decision", Text, nullable=True),
    sa.Column("why", Text, nullable=False),
    sa.Column("attempt", Integer, nullable=False),
    sa.Column(
        "split_salt", Text, nullable=False
    ),  # divides gate rows from training rows, fixed per incident
    sa.Column("change_low", Big, nullable=True),
    sa.Column("change_high", Big, nullable=True),
    sa.Column("opened_at", Big, nullable=False),
    sa.Column("updated_at", Big, nullable=False),
    sa.Column("resolved_at", Big, nullable=True),
    sa.Column("resolution", Text, nullable=True),
    # 1 while open, null afterwards: unique together with (model, class), since nulls never collide
    sa.Column("open_mark", Integer, nullable=True),
    sa.UniqueConstraint("model", "incident_class", "open_mark"),
)

incident_findings = sa.Table(
    "incident_findings",
    metadata,
    sa.Column("incident_id", Text, sa.ForeignKey("incidents.incident_id"), primary_key=True),
    sa.Column("finding_id", Text, primary_key=True),
    sa.Column("attached_at", Big, nullable=False),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column(
        "job_id", Text, primary_key=True
    ),  # uuid5(incident, attempt), or of (model, schedule time | command id)
    sa.Column("number", Integer, nullable=False, unique=True),
    sa.Column("model", Text, nullable=False),
    sa.Column("incident_id", Text, sa.ForeignKey("incidents.incident_id"), nullable=True),
    sa.Column("attempt", Integer, nullable=False),
    sa.Column("trigger_kind", Text, nullable=False),  # incident | actor | schedule | guard
    sa.Column("trigger_id", Text, nullable=False),
    # queued | running | waiting_labels | succeeded | rejected | failed | expired | cancelled
    sa.Column("state", Text, nullable=False),
    sa.Column("options", Text, nullable=False),  # JSON: mode, train_on, source, ...
    sa.Column("outcome", Text, nullable=True),  # JSON: decision, reasons, version, sha256, seconds
    sa.Column("tries", Integer, nullable=False),
    sa.Column("not_before", Big, nullable=False),
    sa.Column("deadline_at", Big, nullable=False),
    sa.Column("frozen_at", Big, nullable=True),  # end of the training window
    sa.Column(
        "gate_rows", Integer, nullable=True
    ),  # of the rows it waits for, at the last judgement
    sa.Column("created_at", Big, nullable=False),
    sa.Column("started_at", Big, nullable=True),
    sa.Column("finished_at", Big, nullable=True),
    # 1 while queued, running or waiting_labels, null afterwards: one live job per model
    sa.Column("live_mark", Integer, nullable=True),
    sa.UniqueConstraint("model", "live_mark"),
    sa.UniqueConstraint("incident_id", "attempt"),
)

job_steps = sa.Table(
    "job_steps",
    metadata,
    sa.Column("job_id", Text, sa.ForeignKey("jobs.job_id"), primary_key=True),
    sa.Column(
        "name", Text, primary_key=True
    ),  # window, diagnose, teacher_logits, train, quantize, gate, seal, publish
    sa.Column("state", Text, nullable=False),  # running | done | failed
    sa.Column("detail", Text, nullable=True),  # JSON
    sa.Column("seconds", Float, nullable=True),
    sa.Column("cpu_seconds", Float, nullable=True),
    sa.Column(
        "token", Big, nullable=False
    ),  # fencing token of the lease under which it was written
    sa.Column("at", Big, nullable=False),
)

versions = sa.Table(  # the registry
    "versions",
    metadata,
    sa.Column("model", Text, primary_key=True),
    sa.Column("version", Text, primary_key=True),
    sa.Column("sha256", Text, nullable=False),  # of model.onnx
    sa.Column("manifest_sha256", Text, nullable=False),
    sa.Column("kind", Text, nullable=False),  # baseline | added | repaired | scheduled
    sa.Column(
        "status", Text, nullable=False
    ),  # candidate | rejected | published | rolledback | barred
    sa.Column("files", Text, nullable=False),  # JSON {file name: {"sha256": ..., "bytes": ...}}
    sa.Column("report", Text, nullable=False),  # the gate report as JSON
    sa.Column("gate_passed", sa.Boolean, nullable=False),
    sa.Column("policy_sha256", Text, nullable=True),
    sa.Column("predecessor", Text, nullable=True),
    sa.Column("job_id", Text, nullable=True, unique=True),
    sa.Column("created_at", Big, nullable=False),
    sa.Column("published_at", Big, nullable=True),
)

pointers = sa.Table(
    "pointers",
    metadata,
    sa.Column("model", Text, primary_key=True),
    sa.Column("stable", Text, nullable=False),
    sa.Column("epoch", Big, nullable=False),
    sa.Column("reason", Text, nullable=False),
    sa.Column("moved_at", Big, nullable=False),
    sa.Column("announced_at", Big, nullable=False),
)

pointer_history = sa.Table(
    "pointer_history",
    metadata,
    sa.Column("model", Text, primary_key=True),
    sa.Column("epoch", Big, primary_key=True),
    sa.Column("stable", Text, nullable=False),
    sa.Column("sha256", Text, nullable=False),
    sa.Column("change", Text, nullable=False),  # publish | rollback | automatic_rollback
    sa.Column("reason", Text, nullable=False),
    sa.Column("trigger", Text, nullable=False),  # JSON of wire.events.Trigger
    sa.Column("at", Big, nullable=False),
)

barred = sa.Table(  # bytes that an automatic roll back took away: never published again
    "barred",
    metadata,
    sa.Column("model", Text, primary_key=True),
    sa.Column("sha256", Text, primary_key=True),
    sa.Column("reason", Text, nullable=False),
    sa.Column("at", Big, nullable=False),
)

repository_roles = sa.Table(  # from which the TUF metadata are made, byte for byte
    "repository_roles",
    metadata,
    sa.Column("role", Text, primary_key=True),  # root | targets | snapshot | timestamp | m-NAME
    sa.Column("version", Big, nullable=False),
    sa.Column("expires_at", Big, nullable=False),
    sa.Column(
        "body", Text, nullable=False
    ),  # JSON of what the role signs besides version and expiry
)

release_requests = sa.Table(  # what commands ask the holder of the lease "repository" to do
    "intents",
    metadata,
    sa.Column("intent_id", Text, primary_key=True),
    sa.Column("kind", Text, nullable=False),  # publish | rollback | add | register
    sa.Column("model", Text, nullable=False),
    sa.Column("body", Text, nullable=False),  # JSON
    sa.Column("actor", Text, nullable=False),
    sa.Column("created_at", Big, nullable=False),
    sa.Column("done_at", Big, nullable=True),
    sa.Column("result", Text, nullable=True),  # JSON {"ok": bool, "message": str, ...}
)

monitored_releases = sa.Table(  # a new version against its predecessor until decided or seven days
    "guards",
    metadata,
    sa.Column("model", Text, primary_key=True),
    sa.Column("epoch", Big, primary_key=True),
    sa.Column("version", Text, nullable=False),
    sa.Column("predecessor", Text, nullable=False),
    sa.Column("state", Text, nullable=False),  # watching | better | worse | expired | superseded
    sa.Column("last_seq", Big, nullable=False),
    sa.Column("result", Text, nullable=True),  # JSON: wins, losses, e-values
    sa.Column("since", Big, nullable=False),
    sa.Column("until", Big, nullable=False),
)

pauses = (
    sa.Table(  # automatic repair is paused: after a roll back, by the circuit breaker, by a person
        "pauses",
        metadata,
        sa.Column("model", Text, primary_key=True),
        sa.Column("until", Big, nullable=False),
        sa.Column("reason", Text, nullable=False),
    )
)

activations = sa.Table(
    "activations",
    metadata,
    sa.Column("event_id", Text, primary_key=True),
    sa.Column("model", Text, nullable=False),
    sa.Column("instance_id", Text, nullable=False),
    sa.Column("version", Text, nullable=False),
    sa.Column("sha256", Text, nullable=False),
    sa.Column("epoch", Big, nullable=False),
    sa.Column("at", Big, nullable=False),
)

audit = sa.Table(  # append-only hash chain
    "audit",
    metadata,
    sa.Column("seq", Big, primary_key=True, autoincrement=True),
    sa.Column("at", Big, nullable=False),
    sa.Column("actor", Text, nullable=False),
    sa.Column("action", Text, nullable=False),
    sa.Column("subject", Text, nullable=False),
    sa.Column("body", Text, nullable=False),  # JSON
    sa.Column("previous_sha256", Text, nullable=False),
    sa.Column("sha256", Text, nullable=False, unique=True),
)
