"""Checks of a job's window: what is wrong, or different, with columns of the very rows that are
diagnosed."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from redistill.compress.plan import ColumnCheck, column_of
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.monitor.row_checks import check_rows
from redistill.streams.store.tables import profiles

__all__ = ["check_window", "profile_of"]


def profile_of(conn: sa.Connection, model: str, version: str) -> Profile | None:
    """The profile of a version; ``None``: it has none, and its rows cannot be checked."""
    stored = conn.execute(
        sa.select(profiles.c.profile).where(
            profiles.c.model == model, profiles.c.version == version
        )
    ).scalar_one_or_none()
    return None if stored is None else Profile.from_bytes(stored)


def check_window(
    table: pa.Table, profile: Profile | None, findings: Collection[str]
) -> tuple[ColumnCheck, ...]:
    """Check the rows of a window.

    Parameters
    ----------
    table
        ``fresh.parquet``.
    profile
        Of the version that served them; ``None``: only the findings are known.
    findings
        Columns with an open contract finding.
    """
    if profile is None:
        return _of_findings(findings)
    names = profile.schema.names
    known = set(table.column_names)
    columns = {
        name: table.column(column_of(name)).to_numpy().astype(np.float32)
        for name in names
        if column_of(name) in known
    }
    absent = np.full(len(table), np.nan, np.float32)
    values = np.stack([columns.get(m, absent) for m in names])
    found = [c for c in check_rows(values, profile) if c.column in columns]
    seen = {c.column for c in found}
    checks = [
        ColumnCheck(
            column=c.column,
            rule=c.rule,
            value=c.value,
            slope=c.slope,
            intercept=c.intercept,
            share=c.share,
            beyond=c.beyond,
            contributes=c.contributes,
            open=c.column in findings,
        )
        for c in found
    ]
    return (*checks, *_of_findings(set(findings) - seen))


def _of_findings(columns: Collection[str]) -> tuple[ColumnCheck, ...]:
    return tuple(
        ColumnCheck(column=name, rule="finding", value=0.0, open=True) for name in sorted(columns)
    )
