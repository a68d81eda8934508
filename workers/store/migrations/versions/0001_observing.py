"""Tables of the observing side, as of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "specs",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("revision", BIG, nullable=False),
        sa.Column("config_sha256", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("watch", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("registered_at", BIG, nullable=False),
        sa.Column("updated_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_specs")),
    )
    op.create_table(
        "profiles",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("profile", sa.LargeBinary(), nullable=True),
        sa.Column("base_error", sa.Text(), nullable=True),
        sa.Column("provisional", sa.Boolean(), nullable=False),
        sa.Column("predecessor", sa.Text(), nullable=True),
        sa.Column("created_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("model", "version", name=op.f("pk_profiles")),
    )
    op.create_table(
        "offsets",
        sa.Column("topic_id", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("first_offset", BIG, nullable=False),
        sa.Column("next_offset", BIG, nullable=False),
        sa.Column("counted", BIG, nullable=False),
        sa.Column("dead", BIG, nullable=False),
        sa.Column("skipped", BIG, nullable=False),
        sa.Column("rows", BIG, nullable=False),
        sa.Column("updated_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("topic_id", "partition", name=op.f("pk_offsets")),
    )
    op.create_table(
        "gaps",
        sa.Column("topic_id", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("first", BIG, nullable=False),
        sa.Column("last", BIG, nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("found_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("topic_id", "partition", "first", name=op.f("pk_gaps")),
    )
    op.create_table(
        "input_states",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("topic_id", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.Column("rows", BIG, nullable=False),
        sa.Column("first_served_at", BIG, nullable=True),
        sa.Column("last_served_at", BIG, nullable=True),
        sa.Column("updated_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint(
            "model", "version", "topic_id", "partition", name=op.f("pk_input_states")
        ),
    )
    op.create_table(
        "accuracy_states",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.Column("last_seq", BIG, nullable=False),
        sa.Column("n", BIG, nullable=False),
        sa.Column("errors", BIG, nullable=False),
        sa.Column("updated_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("model", "version", name=op.f("pk_accuracy_states")),
    )
    op.create_table(
        "windows",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("topic_id", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("number", BIG, nullable=False),
        sa.Column("rows", BIG, nullable=False),
        sa.Column("first_served_at", BIG, nullable=False),
        sa.Column("last_served_at", BIG, nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("closed_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint(
            "model", "version", "topic_id", "partition", "number", name=op.f("pk_windows")
        ),
    )
    op.create_table(
        "model_locks",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("join_exponent", sa.Integer(), nullable=False),
        sa.Column("feature_exponent", sa.Integer(), nullable=False),
        sa.Column("drained_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_model_locks")),
    )
    op.create_table(
        "join_rates",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("since", BIG, nullable=False),
        sa.Column("exponent", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("model", "since", name=op.f("pk_join_rates")),
    )
    op.create_table(
        "join_rows",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("id_hash", BIG, nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("prediction", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("slices", sa.Text(), nullable=True),
        sa.Column("served_at", BIG, nullable=False),
        sa.Column("topic_id", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("window", BIG, nullable=False),
        sa.PrimaryKeyConstraint("model", "id_hash", name=op.f("pk_join_rows")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_join_rows_served_at", "join_rows", ["served_at"])
    op.create_table(
        "labels",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("observed_at", BIG, nullable=False),
        sa.Column("id_hash", BIG, nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("op", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=True),
        sa.Column("p_include", sa.Float(), nullable=True),
        sa.Column("uniform", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("prediction", sa.Text(), nullable=True),
        sa.Column("slices", sa.Text(), nullable=True),
        sa.Column("received_at", BIG, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("check_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("model", "id", "source", "observed_at", name=op.f("pk_labels")),
    )
    op.create_index("ix_labels_model_id_hash", "labels", ["model", "id_hash"])
    op.create_index("ix_labels_waiting", "labels", ["model", "state", "check_at"])
    op.create_table(
        "feature_rows",
        sa.Column("block_id", BIG, autoincrement=True, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("first_served_at", BIG, nullable=False),
        sa.Column("last_served_at", BIG, nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("block_id", name=op.f("pk_feature_rows")),
    )
    op.create_index(
        "ix_feature_rows_model_last_served_at", "feature_rows", ["model", "last_served_at"]
    )
    op.create_table(
        "outcomes",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("seq", BIG, nullable=False),
        sa.Column("id_hash", BIG, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("correct", sa.Integer(), nullable=False),
        sa.Column("prediction", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("slices", sa.Text(), nullable=True),
        sa.Column("served_at", BIG, nullable=False),
        sa.Column("observed_at", BIG, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("p_include", sa.Float(), nullable=True),
        sa.Column("uniform", sa.Boolean(), nullable=False),
        sa.Column("topic_id", sa.Text(), nullable=True),
        sa.Column("partition", sa.Integer(), nullable=True),
        sa.Column("window", BIG, nullable=True),
        sa.Column("made_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("model", "version", "seq", name=op.f("pk_outcomes")),
        sa.UniqueConstraint("model", "id_hash", name=op.f("uq_outcomes_model_id_hash")),
    )
    op.create_index("ix_outcomes_model_served_at", "outcomes", ["model", "served_at"])
    op.create_table(
        "findings",
        sa.Column("finding_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("harmful", sa.Boolean(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("opened_at", BIG, nullable=False),
        sa.Column("updated_at", BIG, nullable=False),
        sa.Column("stored_at", BIG, nullable=False),
        sa.Column("intake_revision", sa.Integer(), nullable=True),
        sa.Column("intake_note", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("finding_id", name=op.f("pk_findings")),
    )
    op.create_index("ix_findings_model_status", "findings", ["model", "status"])
    op.create_table(
        "outbox",
        sa.Column("seq", BIG, autoincrement=True, nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("after_snapshot", BIG, nullable=True),
        sa.Column("created_at", BIG, nullable=False),
        sa.Column("sent_at", BIG, nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_outbox")),
        sa.UniqueConstraint("event_id", name=op.f("uq_outbox_event_id")),
    )
    op.create_index("ix_outbox_unsent", "outbox", ["sent_at", "seq"])
    op.create_table(
        "facts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_facts")),
    )
    op.create_table(
        "counters",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", BIG, nullable=False),
        sa.PrimaryKeyConstraint("model", "name", name=op.f("pk_counters")),
    )
    op.create_table(
        "unregistered",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("rows", BIG, nullable=False),
        sa.Column("first_seen_at", BIG, nullable=False),
        sa.Column("last_seen_at", BIG, nullable=False),
        sa.Column("sample", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("model", "version", name=op.f("pk_unregistered")),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("token", BIG, nullable=False),
        sa.Column("expires_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
