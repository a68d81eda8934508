"""Tables of the acting side, in the ``MetaData`` of ``streams.store.tables`` and by its rules."""

from __future__ import annotations

import sqlalchemy as sa

from redistill.streams.store.tables import Big, Float, Integer, Text, metadata

__all__ = [
    "activations",
    "alert_deliveries",
    "alert_holds",
    "audit",
    "barred",
    "deletion_budgets",
    "fresh_tests",
    "incident_findings",
    "incidents",
    "job_steps",
    "jobs",
    "metadata",  # of both sides: complete once this module is imported
    "monitored_releases",
    "operational_alerts",
    "pauses",
    "pointer_history",
    "pointers",
    "release_requests",
    "repository_roles",
    "storm_members",
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
    # queued | running | waiting_labels
    # | succeeded | rejected | needs_person | failed | expired | cancelled
    sa.Column("state", Text, nullable=False),
    sa.Column("options", Text, nullable=False),  # JSON: train_on, source, waived, ...
    sa.Column("outcome", Text, nullable=True),  # JSON: `redistill jobs show` tells each key
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

fresh_tests = sa.Table(  # which candidates of an incident have faced its fresh labelled rows
    "fresh_tests",
    metadata,
    sa.Column("incident_id", Text, sa.ForeignKey("incidents.incident_id"), primary_key=True),
    sa.Column("number", Integer, primary_key=True),  # 1, 2, 3: over all jobs of the incident
    sa.Column("sha256", Text, nullable=False),  # of the candidate's model.onnx
    sa.Column("version", Text, nullable=False),  # what it had to beat
    sa.Column("since", Big, nullable=False),  # where the rows begin; 0: not known
    sa.Column("recipe", Text, nullable=False),
    sa.Column("job_id", Text, sa.ForeignKey("jobs.job_id"), nullable=False),
    # that the first candidate of the incident needs, as [gates.fresh] said; the second needs twice
    sa.Column("e_value", Float, nullable=False),
    sa.Column("at", Big, nullable=False),
    sa.UniqueConstraint("incident_id", "sha256", "version", "since"),
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

barred = sa.Table(  # bytes that an automatic roll back took away: published only after `unbar`
    "barred",
    metadata,
    sa.Column("model", Text, primary_key=True),
    sa.Column("sha256", Text, primary_key=True),
    sa.Column("reason", Text, nullable=False),
    sa.Column("at", Big, nullable=False),
)

deletion_budgets = sa.Table(  # how much retention may delete, and has deleted, of a table
    "deletion_budgets",
    metadata,
    sa.Column("table_name", Text, primary_key=True),
    sa.Column("model", Text, primary_key=True),  # "": of the whole table
    sa.Column("allowed", Big, nullable=False),
    sa.Column("deleted", Big, nullable=False),
    sa.Column("last_at", Big, nullable=False),
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
    sa.Column("mac", Text, nullable=False),  # HMAC of what is asked, under the audit key
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
    # HMAC under the audit key (redistill.workers.store.audit_key); "": written before there was one
    sa.Column("mac", Text, nullable=False),
    sa.Index("ix_audit_subject", "subject", "seq"),
)

operational_alerts = sa.Table(  # what is wrong with the installation itself, not with a model
    "operational_alerts",
    metadata,
    sa.Column("alert_id", Text, primary_key=True),  # uuid5 of kind, subject and when it began
    # lag | labels_late | signing_expiry | disk | dead_letters | gap | retention_stopped
    # | process_silent | channel_failing ... (redistill.workers.alerts.operational)
    sa.Column("kind", Text, nullable=False),
    sa.Column("subject", Text, nullable=False),  # what it is about: a topic, a model, a role, ...
    sa.Column("model", Text, nullable=True),  # that it concerns; null: no one model
    sa.Column("severity", Text, nullable=False),  # page | warn
    sa.Column("said", Text, nullable=False),  # one sentence with the figure in it
    sa.Column("remedy", Text, nullable=False),  # what to do, or to type
    sa.Column("opened_at", Big, nullable=False),
    sa.Column("updated_at", Big, nullable=False),
    sa.Column("resolved_at", Big, nullable=True),
    sa.Column("open_mark", Integer, nullable=True),  # 1 while open, null afterwards
    sa.UniqueConstraint("kind", "subject", "open_mark"),
)

alert_holds = sa.Table(  # who has an alert in hand, or wants to hear of it later
    "alert_holds",
    metadata,
    sa.Column("alert_key", Text, primary_key=True),  # redistill.workers.alerts.alert.Alert.key
    sa.Column("acknowledged_at", Big, nullable=True),
    sa.Column("acknowledged_by", Text, nullable=True),
    sa.Column("snoozed_until", Big, nullable=True),
    sa.Column("snoozed_by", Text, nullable=True),
)

alert_deliveries = sa.Table(  # what each channel was told of each alert, and what it is still owed
    "alert_deliveries",
    metadata,
    sa.Column("channel", Text, primary_key=True),  # its name in alerts.toml
    sa.Column("alert_key", Text, primary_key=True),
    sa.Column("state", Text, nullable=False),  # owed | held | told | given_up
    sa.Column("digest", Text, nullable=False),  # of what it is owed
    sa.Column("told", Text, nullable=True),  # the digest that it was told last
    sa.Column("told_state", Text, nullable=True),  # with it: firing | acknowledged | resolved
    sa.Column("title", Text, nullable=False),  # of what it is owed, for lists
    sa.Column("severity", Text, nullable=False),  # at which it is owed: page | warn | info
    sa.Column("since", Big, nullable=False),  # since when it is open at this severity
    sa.Column("tries", Integer, nullable=False),  # failed ones in a row
    sa.Column("not_before", Big, nullable=False),
    sa.Column("wanted_at", Big, nullable=False),  # since when it is owed this digest
    sa.Column("sent_at", Big, nullable=True),  # when it was told last
    sa.Column("error", Text, nullable=True),  # of the last failed try
)

storm_members = sa.Table(  # which alerts are told together, for as long as one of them is open
    "storm_members",
    metadata,
    sa.Column("alert_key", Text, primary_key=True),
    sa.Column("storm_key", Text, nullable=False),
    sa.Column("joined_at", Big, nullable=False),
)
