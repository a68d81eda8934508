from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from redistill.sentinels import find, said

NORMAL = np.random.default_rng(0).normal(size=2_000)
AGES = np.round(45 + 12 * NORMAL)


def mixed(rest: NDArray[np.float64], *codes: float, share: float = 0.1) -> NDArray[np.float64]:
    """The column with each code in so many of its rows."""
    out = rest.copy()
    for i, code in enumerate(codes):
        out[i :: round(1 / share)] = code
    return out


@pytest.mark.parametrize("share", [0.005, 0.1, 0.5])
@pytest.mark.parametrize(
    ("rest", "codes"),
    [
        (NORMAL, (-999.0,)),
        (NORMAL, (999999999.0,)),
        (NORMAL, (-1e30,)),
        (NORMAL, (-999.0, -998.0)),
        (NORMAL, (-999.0, 999999999.0)),
        (AGES, (999.0,)),
        (150 + 40 * NORMAL, (-999.0,)),
        ((NORMAL > 0) * 1.0, (99.0,)),
        (1000 + NORMAL, (0.0,)),
    ],
    ids=["-999", "999999999", "-1e30", "two", "both-ends", "age", "near", "flag", "zero"],
)
def test_codes_for_missing_are_found(
    rest: NDArray[np.float64], codes: tuple[float, ...], share: float
) -> None:
    if share * len(codes) < 1:
        found = find(mixed(rest, *codes, share=share).astype(np.float32))
        assert [s.value for s in found] == sorted(np.float32(codes).tolist())


@pytest.mark.parametrize(
    "column",
    [
        NORMAL,
        AGES,
        np.exp(2 * NORMAL),
        np.sinh(3 * NORMAL),
        (NORMAL > 1.9) * 1.0,
        (NORMAL > 1.9) * 100000.0,
        np.minimum(np.exp(NORMAL), 9.0),
        np.maximum(NORMAL, 0.0),
        np.random.default_rng(1).poisson(0.1, 2_000) * 1.0,
        np.append(NORMAL, 1e12),
        np.full(2_000, -999.0),
        np.full(2_000, np.nan),
        np.append(np.full(2_000, -999.0), [1.0, 2.0]),
        np.empty(0),
    ],
    ids=[
        "normal",
        "whole",
        "heavy",
        "heavier",
        "flag",
        "large-flag",
        "capped",
        "floored",
        "counts",
        "one-outlier",
        "nothing-else",
        "nothing",
        "hardly-anything-else",
        "empty",
    ],
)
def test_what_belongs_to_its_column_is_no_code(column: NDArray[np.float64]) -> None:
    assert find(column) == ()


def test_each_column_is_named_with_its_values_and_many_are_counted() -> None:
    columns = [mixed(NORMAL, -999.0, 999999999.0), NORMAL, mixed(NORMAL, -99.9)]
    assert said(["b", "c", "d"], [c.astype(np.float32) for c in columns]) == [
        "column b: the values -999 in 10% and 1000000000 in 10% of the rows look like a code for"
        " missing: leave them empty",
        "column d: the value -99.9 in 10% of the rows looks like a code for missing: leave it"
        " empty",
    ]
    many = said([f"x{i}" for i in range(8)], [mixed(NORMAL, -999.0)] * 8)
    assert many[5:] == ["3 more columns hold such codes"]
