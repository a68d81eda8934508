from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from redistill.compress.shrink.scaling import scale_of

NORMAL = np.random.default_rng(0).normal(size=5_000)


def test_a_normal_column_keeps_its_mean_and_deviation() -> None:
    scale = scale_of((3 + 2 * NORMAL).astype(np.float32))
    assert scale.mean == pytest.approx(3 + 2 * NORMAL.mean(), rel=1e-5)
    assert scale.deviation == pytest.approx(2 * NORMAL.std(), rel=1e-5)
    assert scale.codes == ()


@pytest.mark.parametrize(
    "wild",
    [[-999.0] * 500, [999999999.0] * 5, [1e30], [-999.0] * 500 + [999999999.0] * 500, [np.inf] * 9],
    ids=["code", "few", "one", "both-ends", "infinite"],
)
def test_wild_values_do_not_set_the_scale(wild: list[float]) -> None:
    scale = scale_of(np.append(NORMAL, wild).astype(np.float32))
    assert abs(scale.median) < 0.05
    assert abs(scale.mean) < 0.05
    assert 0.8 < scale.deviation < 1.2


@pytest.mark.parametrize(
    ("column", "deviation"),
    [
        (np.full(100, 7.0), 1.0),
        (np.full(100, np.nan), 1.0),
        (np.repeat([0.0, 1.0], [980, 20]), 0.14),
        (np.repeat([0.0, 5.0, 6.0], [960, 20, 20]), 1.08),
    ],
    ids=["constant", "missing", "rare-flag", "mostly-zero"],
)
def test_columns_of_few_values_are_scaled_as_they_are(
    column: NDArray[np.float64], deviation: float
) -> None:
    assert scale_of(column.astype(np.float32)).deviation == pytest.approx(deviation, abs=0.005)
