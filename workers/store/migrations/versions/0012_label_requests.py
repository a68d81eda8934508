"""Where labels come from, rows that failed, prediction intervals, and expected errors of a version.

Nothing of this was told before: older rows say so by NULL.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision: str | None = "0011"
branch_labels = None
depends_on = None

NEW: dict[str, dict[str, type[sa.types.TypeEngine[str] | sa.types.TypeEngine[float]]]] = {
    "join_rows": {"failed": sa.Text, "predicted_low": sa.Float, "predicted_high": sa.Float},
    "labels": {"request_id": sa.Text, "arrival": sa.Text},
    "outcomes": {
        "request_id": sa.Text,
        "arrival": sa.Text,
        "slice_only": sa.Text,
        "predicted_low": sa.Float,
        "predicted_high": sa.Float,
    },
    "profiles": {"expected_error": sa.Text},
}


def upgrade() -> None:
    """Add the columns."""
    for table, columns in NEW.items():
        for name, kind in columns.items():
            op.add_column(table, sa.Column(name, kind(), nullable=True))
