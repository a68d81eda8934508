from __future__ import annotations

from pathlib import Path

import loop
import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from redistill.compress.plan import ColumnCheck, column_of
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.monitor.reference import build_profile
from redistill.streams.store.tables import profiles
from redistill.streams.wire.block import Codes, Feature, PredictionBlock, Schema
from redistill.workers.jobs.window_checks import check_window, profile_of

SCHEMA = Schema(features=(Feature(name="x"), Feature(name="label")), classes=("a", "b"))


def profile() -> Profile:
    n = 2_000
    x = np.random.default_rng(0).normal(10.0, 2.0, (n, 2)).astype(np.float32)
    block = PredictionBlock(
        model="credit", version="v1", ids=[str(i) for i in range(n)], served_at=np.arange(n),
        feature_names=SCHEMA.names, features=x, prediction=Codes(np.zeros(n, np.int32), ("a",)),
        scores=None,
    )  # fmt: skip
    return build_profile(block, SCHEMA)


def window(**columns: np.ndarray) -> pa.Table:
    usual = np.random.default_rng(1).normal(10.0, 2.0, (400, 2)).astype(np.float32)
    given = {"x": usual[:, 0], "label": usual[:, 1]} | columns
    table = {column_of(name): pa.array(values, pa.float32()) for name, values in given.items()}
    return pa.table(table | {"label": pa.array(["a"] * 400)})


def test_columns_are_checked_by_their_names_and_findings_marked() -> None:
    rows = window(label=np.random.default_rng(2).normal(25.4, 5.0, 400))
    (check,) = check_window(rows, profile(), ["label"])
    assert (check.column, check.rule, check.contributes, check.open) == (
        "label", "unit_change", True, True,
    )  # fmt: skip
    assert check.slope is not None
    assert abs(check.slope - 2.54) < 0.3


def test_finding_about_a_column_that_is_as_usual_is_handed_in_as_such() -> None:
    assert check_window(window(), profile(), ["x"]) == (
        ColumnCheck(column="x", rule="finding", value=0.0, open=True),
    )
    assert check_window(window(), profile(), []) == ()


def test_without_a_profile_only_the_findings_are_known() -> None:
    rows = window(x=np.full(400, np.nan))
    assert [c.rule for c in check_window(rows, None, ["x"])] == ["finding"]
    assert [c.rule for c in check_window(rows, profile(), ["x"])] == ["missing"]


def test_column_that_the_window_does_not_have_is_not_called_missing() -> None:
    assert check_window(window().drop_columns(["x"]), profile(), []) == ()


def test_profile_is_the_versions(tmp_path: Path) -> None:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    with database.begin() as conn:
        loop.register(conn, loop.spec())
        assert profile_of(conn, "credit", "v1") is None
        conn.execute(sa.update(profiles).values(profile=profile().to_bytes()))
        found = profile_of(conn, "credit", "v1")
        assert profile_of(conn, "credit", "v2") is None
    database.dispose()
    assert found is not None
    assert found.digest == profile().digest
