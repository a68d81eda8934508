"""What people are told of the tests of slices that a version has, or why it has none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import loop
import numpy as np
import pytest
import sqlalchemy as sa

from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.store.tables import profiles
from redistill.streams.wire.block import Codes
from redistill.workers.models import slice_tests
from redistill.workers.models.spec import ModelSpec

WRONG = (np.arange(400) % 10 == 0).astype(np.int64)


def sliced() -> ModelSpec:
    spec = loop.spec()
    return replace(spec, schema=replace(spec.schema, slices=("region",)))


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sa.Connection]:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    with database.begin() as conn:
        loop.register(conn, sliced())
        yield conn
    database.dispose()


def known(conn: sa.Connection, **values: Any) -> str:
    """What is said where this is known of the version."""
    conn.execute(sa.update(profiles).values(**values))
    return slice_tests.shown(conn, sliced(), "v1")


def test_slices_that_have_tests_are_counted_with_the_rows_behind_them(conn: sa.Connection) -> None:
    region = Codes.of(["EU", "EU", "EU", "US"] * 100)
    expected = ExpectedError.fit(WRONG, {"region": region})
    said = known(conn, expected_error=expected.to_json())
    assert said == "2 slices of region have tests of their own, from 400 labelled rows of v1"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (80, "no slice has them among 80"),
        (400, "no slice has them among 400, or an earlier redistill measured it and kept no rows"),
    ],
)
def test_few_rows_are_why_there_is_none(conn: sa.Connection, rows: int, words: str) -> None:
    base = BaseError.from_errors(WRONG[:rows], ordered=False)
    said = known(conn, base_error=base.to_json())
    assert said.startswith("slices of v1 have no tests: a slice needs 100 of the labelled rows")
    assert said.endswith(words)


def test_traffic_is_why_there_is_none(conn: sa.Connection) -> None:
    assert "learned from traffic" in known(conn, base_error=None)
    assert "learned from traffic" in slice_tests.shown(conn, sliced(), "unheard of")


def test_a_model_without_columns_of_slices_has_none(conn: sa.Connection) -> None:
    said = slice_tests.shown(conn, loop.spec(), "v1")
    assert said.endswith("the model has no columns of slices ([schema] slices)")
