"""Slice tests of a version in words: how many slices have one, or why none has."""

from __future__ import annotations

import sqlalchemy as sa

from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.expected_error import LEAST_ROWS, ExpectedError
from redistill.streams.monitor.slice_columns import slice_columns
from redistill.streams.store.tables import profiles
from redistill.workers.models.spec import ModelSpec

__all__ = ["shown", "why_none"]


def shown(conn: sa.Connection, spec: ModelSpec, version: str) -> str:
    """Which slices of a version have tests of their own, for a person."""
    c = profiles.c
    row = conn.execute(
        sa.select(c.base_error, c.expected_error).where(c.model == spec.name, c.version == version)
    ).one_or_none()
    if row is not None and row.expected_error is not None:
        found = ExpectedError.from_json(row.expected_error)
        return (
            f"{len(found.slices)} slices of {', '.join(found.columns)} have tests of their own,"
            f" from {found.n:,} labelled rows of {version}"
        )
    measured = None if row is None else row.base_error
    base = None if measured is None else BaseError.from_json(measured)
    why = why_none(spec, base)
    if base is not None and base.n >= LEAST_ROWS and _columns(spec):
        why += ", or an earlier redistill measured it and kept no rows"
    return f"slices of {version} have no tests: {why}"


def why_none(spec: ModelSpec, base: BaseError | None) -> str:
    """Why no slice has a test, where nobody knows what errors to expect of them.

    Parameters
    ----------
    base
        Of the version; ``None``: nobody measured it.
    """
    if not _columns(spec):
        return "the model has no columns of slices ([schema] slices)"
    if base is None:
        return "its base error is learned from traffic, not measured on labelled rows"
    return (
        f"a slice needs {LEAST_ROWS} of the labelled rows on which the base error is measured, and"
        f" no slice has them among {base.n:,}"
    )


def _columns(spec: ModelSpec) -> tuple[str, ...]:
    return slice_columns(spec.schema, spec.privacy.store_features)
