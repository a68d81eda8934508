"""Tables of the observing side. Both sides share one database and one ``MetaData``.

``redistill.workers.store`` migrates it.

Rules: times are integers, microseconds since 1970 in UTC; ids of rows are 64-bit hashes; blobs
carry a format number. Stream workers write these tables and read ``specs`` and ``profiles``;
workers write those two and read all.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

__all__ = [
    "Big",
    "Float",
    "Integer",
    "Text",
    "accuracy_states",
    "counters",
    "feature_rows",
    "findings",
    "gaps",
    "input_states",
    "join_rates",
    "join_rows",
    "label_request_rows",
    "label_request_states",
    "label_requests",
    "labels",
    "leases",
    "metadata",
    "model_locks",
    "offsets",
    "outbox",
    "outcomes",
    "processes",
    "profiles",
    "properties",
    "specs",
    "unregistered",
    "windows",
]

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

Text, Integer, Float, Blob = sa.Text, sa.Integer, sa.Float, sa.LargeBinary
Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""64 bits everywhere; SQLite only gives an automatic key to a column declared INTEGER."""

# --- what is watched (written by register and publish) ---

specs = sa.Table(
    "specs",
    metadata,
    sa.Column("model", Text, primary_key=True),
    sa.Column(
        "revision", Big, nullable=False
    ),  # grows with each change of any row of the model's specs or profiles
    sa.Column("config_sha256", Text, nullable=False),
    sa.Column("level", Text, nullable=False),
    sa.Column(
        "watch", Text, nullable=False
    ),  # redistill.streams.monitor.config.WatchConfig as JSON
    sa.Column(
        "spec", Text, nullable=False
    ),  # the whole of model.toml as JSON (redistill.workers.models.spec.ModelSpec)
    sa.Column("registered_at", Big, nullable=False),
    sa.Column("updated_at", Big, nullable=False),
)

profiles = sa.Table(
    "profiles",
    metadata,
    sa.Column("model", Text, primary_key=True),
    sa.Column("version", Text, primary_key=True),
    sa.Column(
        "profile", Blob, nullable=True
    ),  # redistill.streams.monitor.reference.Profile.to_bytes(), at most 1 MB
    sa.Column(
        "base_error", Text, nullable=True
    ),  # redistill.streams.monitor.accuracy.BaseError.to_json()
    sa.Column("provisional", sa.Boolean, nullable=False, default=False),
    sa.Column("expected_error", Text, nullable=True),  # how often what kind of row is wrong: JSON
)

# --- offsets ---


def _next_offset(context: Any) -> int:
    """Of the row that is inserted."""
    return int(context.get_current_parameters()["next_offset"])


offsets = sa.Table(
    "offsets",
    metadata,
    sa.Column("topic_id", Text, primary_key=True),
    sa.Column("partition", Integer, primary_key=True),
    sa.Column("topic", Text, nullable=False),
    # where counting began; moved back by what a log lost of its end after it was counted, whose
    # offsets other records have now
    sa.Column("first_offset", Big, nullable=False),
    sa.Column("next_offset", Big, nullable=False),
    sa.Column("counted", Big, nullable=False),  # records read into state (a batch is one record)
    sa.Column("dead", Big, nullable=False),  # records sent to dlq
    sa.Column(
        "skipped", Big, nullable=False
    ),  # offsets that never held a record for us (gaps, control records)
    sa.Column("rows", Big, nullable=False),  # rows in the counted records
    sa.Column("updated_at", Big, nullable=False),
    # processes that took records from next_offset on and neither stored them nor left in order
    sa.Column("tries", Integer, nullable=False, server_default="0"),
    sa.Column("alone", Big, nullable=True),  # the offset of which one had no other record in hand
    # where the log ended when it was looked at last: what of it is lost with a topic that is
    # deleted; null: before there was this column
    sa.Column("log_end", Big, nullable=True),
    # next_offset once more: a worker of a release that does not write it can move no offset
    sa.Column("fence", Big, nullable=False, default=_next_offset),
    sa.CheckConstraint("fence = next_offset", name="ck_offsets_fence"),
)

gaps = sa.Table(
    "gaps",
    metadata,
    sa.Column("topic_id", Text, primary_key=True),
    sa.Column("partition", Integer, primary_key=True),
    sa.Column("first", Big, primary_key=True),
    sa.Column("last", Big, nullable=False),  # inclusive
    sa.Column("topic", Text, nullable=False),
    sa.Column("found_at", Big, nullable=False),
)

# --- monitor state ---

input_states = sa.Table(
    "input_states",
    metadata,
    sa.Column("model", Text, primary_key=True),
    sa.Column("version", Text, primary_key=True),
    sa.Column("topic_id", Text, primary_key=True),
    sa.Column("partition", Integer, primary_key=True),
    sa.Column(
        "state", Blob, nullable=False
    ),  # redistill.streams.monitor.observe.InputState.to_bytes()
    sa.Column("rows", Big, nullable=False),
    sa.Column("first_served_at", Big, nullable=True),
    sa.Column("last_served_at", Big, nullable=True),
    sa.Column("stored_at", Big, nullable=True),  # the last time; null: before there was this column
)

accuracy_states = sa.Table(
    "accuracy_states",
    metadata,
    sa.Column("model", Text, primary_key=True),
    sa.Column("version", Text, primary_key=True),
    sa.Column(
        "state", Blob, nullable=False
    ),  # redistill.streams.monitor.accuracy.AccuracyState.to_bytes()
    sa.Column("last_seq", Big, nullable=False),  # last outcome the state has seen
    sa.Column("n", Big, nullable=False),
)

windows = sa.Table(
    "windows",
    metadata,
    sa.Column("model", Text, primary_key=True),
    sa.Column("version", Text, primary_key=True),
    sa.Column("topic_id", Text, primary_key=True),
    sa.Column("partition", Integer, primary_key=True),
    sa.Column("number", Big, primary_key=True),
    sa.Column("rows", Big, nullable=False),
    sa.Column("first_served_at", Big, nullable=False),
    sa.Column("last_served_at", Big, nullable=False),
    sa.Column("closed_at", Big, nullable=False),
)

# --- joining predictions with labels ---

model_locks = sa.Table(  # the row that a join step locks (SKIP LOCKED); also the rates in force
    "model_locks",
    metadata,
    sa.Column("model", Text, primary_key=True),
    sa.Column("join_exponent", Integer, nullable=False, default=0),  # join rate = 2^-exponent
    sa.Column("feature_exponent", Integer, nullable=False, default=0),
)

join_rates = sa.Table(
    "join_rates",
    metadata,
    sa.Column("model", Text, primary_key=True),
    sa.Column("since", Big, primary_key=True),
    sa.Column("exponent", Integer, nullable=False),
)

join_rows = sa.Table(
    "join_rows",
    metadata,
    sa.Column("model", Text, primary_key=True),
    sa.Column("id_hash", Big, primary_key=True),  # signed view of the unsigned 64-bit hash
    sa.Column("version", Text, nullable=False),
    sa.Column("prediction", Text, nullable=False),
    sa.Column("score", Float, nullable=True),  # the largest of the scores
    sa.Column("slices", Text, nullable=True),  # JSON {"key": "value"}
    sa.Column("served_at", Big, nullable=False),
    sa.Column("topic_id", Text, nullable=False),
    sa.Column("partition", Integer, nullable=False),
    sa.Column(
        "window", Big, nullable=False
    ),  # number of the window of its partition in which it was served
    # by the database's clock: how long a row is kept follows from it, since anybody may say when
    # it was served; null: before there was this column
    sa.Column("stored_at", Big, nullable=True),
    # error | fallback: the answer was not the model's, and a label of it makes no outcome
    sa.Column("failed", Text, nullable=True),
    sa.Column("predicted_low", Float, nullable=True),  # the model's own prediction interval
    sa.Column("predicted_high", Float, nullable=True),
    sqlite_with_rowid=False,
)
sa.Index("ix_join_rows_stored_at", join_rows.c.stored_at)

labels = sa.Table(
    "labels",
    metadata,
    sa.Column("model", Text, primary_key=True),
    sa.Column("id", Text, primary_key=True),
    sa.Column("source", Text, primary_key=True),
    sa.Column("observed_at", Big, primary_key=True),
    sa.Column("id_hash", Big, nullable=False),
    sa.Column("label", Text, nullable=True),
    sa.Column("op", Text, nullable=False),
    sa.Column("confidence", Float, nullable=True),
    sa.Column("p_include", Float, nullable=True),  # in the draw of whoever labels
    sa.Column("uniform", sa.Boolean, nullable=False, default=True),
    sa.Column("version", Text, nullable=True),  # of a label that brings its own prediction
    sa.Column("prediction", Text, nullable=True),
    sa.Column("slices", Text, nullable=True),
    sa.Column("received_at", Big, nullable=False),
    sa.Column(
        "state", Text, nullable=False
    ),  # waiting | joined | unsampled | orphan | superseded | failed | ignored | unregistered
    # when a waiting label is looked up again: each time twice as late, so that one without a
    # prediction costs some twenty look-ups in its life, not one a flush
    sa.Column("check_at", Big, nullable=False, default=0),
    # it came from the topic of its source; a worker of an older release does not say
    sa.Column("bound", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
    sa.Column("request_id", Text, nullable=True),  # that it says it answers
    sa.Column("arrival", Text, nullable=True),  # topic | api | import; null: nobody said yet
)
sa.Index(
    "ix_labels_waiting", labels.c.model, labels.c.state, labels.c.check_at, labels.c.received_at
)
sa.Index("ix_labels_model_id_hash", labels.c.model, labels.c.id_hash)
sa.Index("ix_labels_model_received_at", labels.c.model, labels.c.received_at)
sa.Index(
    "ix_labels_unregistered",  # so that they are counted at once: there may be so many and no more
    labels.c.model,
    sqlite_where=labels.c.state == "unregistered",
    postgresql_where=labels.c.state == "unregistered",
)

feature_rows = sa.Table(
    "feature_rows",
    metadata,
    sa.Column("block_id", Big, primary_key=True, autoincrement=True),
    sa.Column("model", Text, nullable=False),
    sa.Column("version", Text, nullable=False),
    sa.Column("first_served_at", Big, nullable=False),
    sa.Column("last_served_at", Big, nullable=False),
    sa.Column("rows", Integer, nullable=False),
    sa.Column("bytes", Integer, nullable=False),
    # Arrow IPC stream: id utf8, id_hash int64, served_at timestamp[us, UTC], prediction utf8, score
    # float32, features FixedSizeList<float32>[F] (categories as indices); names in the schema
    # metadata key "features"
    sa.Column("data", Blob, nullable=False),
    sa.Column("stored_at", Big, nullable=True),  # as in join_rows
)
sa.Index(
    "ix_feature_rows_model_version_block_id",
    feature_rows.c.model,
    feature_rows.c.version,
    feature_rows.c.block_id,
)
sa.Index("ix_feature_rows_model_stored_at", feature_rows.c.model, feature_rows.c.stored_at)
sa.Index(
    "ix_feature_rows_model_last_served_at", feature_rows.c.model, feature_rows.c.last_served_at
)

outcomes = sa.Table(
    "outcomes",
    metadata,
    sa.Column("model", Text, primary_key=True),
    sa.Column("version", Text, primary_key=True),
    sa.Column("seq", Big, primary_key=True),
    sa.Column("id_hash", Big, nullable=False),
    sa.Column("id", Text, nullable=False),
    sa.Column("correct", Integer, nullable=False),  # 0 or 1, as first counted; never changed
    sa.Column("prediction", Text, nullable=False),
    sa.Column(
        "label", Text, nullable=True
    ),  # the current one: corrections and retractions change it
    sa.Column("score", Float, nullable=True),
    sa.Column("slices", Text, nullable=True),
    sa.Column("served_at", Big, nullable=False),
    sa.Column("observed_at", Big, nullable=False),
    sa.Column("source", Text, nullable=False),
    sa.Column("p_include", Float, nullable=True),
    sa.Column("uniform", sa.Boolean, nullable=False, default=True),
    sa.Column("topic_id", Text, nullable=True),
    sa.Column("partition", Integer, nullable=True),
    sa.Column("window", Big, nullable=True),
    sa.Column("made_at", Big, nullable=False),
    sa.Column("request_id", Text, nullable=True),  # that asked for its label
    sa.Column("arrival", Text, nullable=True),  # how that label came in, as in labels
    # "column=value": a request about one slice asked for it, and only that slice's test may see it
    sa.Column("slice_only", Text, nullable=True),
    sa.Column("predicted_low", Float, nullable=True),  # as in join_rows
    sa.Column("predicted_high", Float, nullable=True),
    sa.UniqueConstraint("model", "id_hash"),
)
sa.Index("ix_outcomes_model_served_at", outcomes.c.model, outcomes.c.served_at)
sa.Index("ix_outcomes_model_made_at", outcomes.c.model, outcomes.c.made_at)

# --- labels that were asked for ---

label_requests = sa.Table(
    "label_requests",
    metadata,
    sa.Column("request_id", Text, primary_key=True),
    sa.Column("model", Text, nullable=False),
    sa.Column("version", Text, nullable=False),
    sa.Column("why", Text, nullable=False),  # harm | confidence | slice:COLUMN=VALUE
    sa.Column("slice", Text, nullable=True),  # "column=value": rows of it alone could be drawn
    sa.Column("asked_at", Big, nullable=False),
    # of the rows that could be drawn, both inclusive, and the probability of each of them
    sa.Column("first_served_at", Big, nullable=False),
    sa.Column("last_served_at", Big, nullable=False),
    sa.Column("p_include", Float, nullable=False),
    sa.Column("rows", Integer, nullable=False),  # asked for
    sa.Column("cost", Float, nullable=False),  # of all of them
    sa.Column("budget", Integer, nullable=False),  # rows that might be asked for that day
    sa.Column("budget_left", Integer, nullable=False),  # of them, after this request
)
sa.Index("ix_label_requests_model_asked_at", label_requests.c.model, label_requests.c.asked_at)

label_request_rows = sa.Table(  # a row is asked for once
    "label_request_rows",
    metadata,
    sa.Column("model", Text, primary_key=True),
    sa.Column("id_hash", Big, primary_key=True, autoincrement=False),
    sa.Column("request_id", Text, nullable=False),
    sa.Column("id", Text, nullable=False),
    sa.Column("served_at", Big, nullable=False),
    sa.Column("asked_at", Big, nullable=False),
)
sa.Index("ix_label_request_rows_request_id", label_request_rows.c.request_id)

label_request_states = sa.Table(
    "label_request_states",
    metadata,
    sa.Column("model", Text, primary_key=True),
    sa.Column("version", Text, primary_key=True),
    # redistill.streams.monitor.label_requests.RequestState.to_json()
    sa.Column("state", Text, nullable=False),
    sa.Column("block_id", Big, nullable=False),  # last block of feature rows that was looked at
)

# --- what was found, and what has yet to be said ---

findings = sa.Table(
    "findings",
    metadata,
    sa.Column("finding_id", Text, primary_key=True),
    sa.Column("model", Text, nullable=False),
    sa.Column("version", Text, nullable=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("scope", Text, nullable=False),
    sa.Column("status", Text, nullable=False),
    sa.Column("severity", Text, nullable=False),
    sa.Column("revision", Integer, nullable=False),
    sa.Column("body", Text, nullable=False),  # the last drift.v1 of this finding as JSON
    sa.Column("opened_at", Big, nullable=False),
    sa.Column("stored_at", Big, nullable=False),
    # written by redistill.workers.incidents only: null = not yet taken in
    sa.Column("intake_revision", Integer, nullable=True),
    sa.Column("intake_note", Text, nullable=True),
    # number of the outcome that opened it: it and those before it raised the alarm, whatever times
    # anybody claims; null: no outcome did
    sa.Column("raised_seq", Big, nullable=True),
)
sa.Index("ix_findings_model_status", findings.c.model, findings.c.status)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("seq", Big, primary_key=True, autoincrement=True),
    sa.Column(
        "event_id", Text, nullable=False, unique=True
    ),  # ce_id: consumers drop what they have seen
    sa.Column("topic", Text, nullable=False),
    sa.Column("key", Text, nullable=False),
    sa.Column("headers", Text, nullable=False),  # JSON object
    sa.Column("value", Blob, nullable=False),
    sa.Column(
        "after_snapshot", Big, nullable=True
    ),  # wait until this snapshot of the repository is published
    sa.Column("created_at", Big, nullable=False),
    sa.Column("sent_at", Big, nullable=True),
)
sa.Index("ix_outbox_unsent", outbox.c.sent_at, outbox.c.seq)

properties = (
    sa.Table(  # single values that both sides read: published_snapshot, schema_version, salt, ...
        "facts",
        metadata,
        sa.Column("name", Text, primary_key=True),
        sa.Column("value", Text, nullable=False),
    )
)

counters = sa.Table(
    "counters",
    metadata,
    sa.Column("model", Text, primary_key=True),  # "" where no model is meant
    sa.Column(
        "name", Text, primary_key=True
    ),  # labels_unsampled, labels_orphan, labels_ignored, rows_duplicate, ...
    sa.Column("value", Big, nullable=False),
    sa.Column("updated_at", Big, nullable=True),  # null: before there was this column
)

unregistered = sa.Table(
    "unregistered",
    metadata,
    sa.Column("model", Text, primary_key=True),
    sa.Column("version", Text, primary_key=True),
    sa.Column("rows", Big, nullable=False),
    sa.Column("first_seen_at", Big, nullable=False),
    sa.Column("last_seen_at", Big, nullable=False),
    sa.Column(
        "sample", Blob, nullable=True
    ),  # Arrow IPC stream of at most 1,000 rows, strings kept
)

# One holder per name; the token grows with each change of holder and fences every write.
leases = sa.Table(
    "leases",
    metadata,
    sa.Column(
        "name", Text, primary_key=True
    ),  # "repository", "relay", "scheduler", "stream-file", "job:<id>", ...
    sa.Column("holder", Text, nullable=False),
    sa.Column("token", Big, nullable=False),
    sa.Column("expires_at", Big, nullable=False),
    # also of one that was given back: the newest of all tells what time it was when somebody worked
    sa.Column("renewed_at", Big, nullable=False, default=0),
)

processes = sa.Table(  # which processes are alive, as each says of itself every few seconds
    "processes",
    metadata,
    sa.Column("process_id", Text, primary_key=True),  # machine, process and its start
    sa.Column("kind", Text, nullable=False),  # stream | repair | web | alerts
    sa.Column("started_at", Big, nullable=False),
    sa.Column("seen_at", Big, nullable=False),
    sa.Column("ready", sa.Boolean, nullable=False),
    sa.Column("said", Text, nullable=False),  # what it waits for, where it is not ready
    # what its program knows (process_rows.GENERATION); the first release does not say
    sa.Column("generation", sa.Integer, nullable=False, default=1, server_default="1"),
)
