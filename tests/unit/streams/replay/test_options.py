"""Options of a replay: impossible ones are refused, all at once."""

from __future__ import annotations

from typing import Any

import pytest

from redistill.streams.errors import FileError
from redistill.streams.replay.options import MOST_ROWS, ReplayOptions


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"label_rate": 0.0},
        {"label_delay": MOST_ROWS},
        {"rows_per_alarm": 1},
        {"scores": ("a", "b"), "time": "at", "slices": ("label",)},
        {"reference_label": "truth", "reference_prediction": "said"},
        {"label": "y", "reference_prediction": "label"},
    ],
)
def test_what_can_be_done_is_taken(options: dict[str, Any]) -> None:
    ReplayOptions(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label_rate": 1.1}, "label rate 1.1 is not within 0 and 1"),
        ({"label_rate": float("nan")}, "label rate nan is not within 0 and 1"),
        ({"label_requests": 1.5}, "label requests 1.5 are not within 0 and 1"),
        ({"label_delay": -1}, "label delay -1 is not within 0 and 1,099,511,627,776 rows"),
        ({"seed": -1}, "seed -1 is negative"),
        ({"tolerance_points": 100}, "tolerance 100 is not within 0 and 100 points"),
        ({"strictness": -0.1}, "strictness -0.1 is not within 0 and 1"),
        ({"rows_per_alarm": float("nan")}, "rows per alarm nan is not within 1 and"),
        ({"rows_per_alarm": float("inf")}, "rows per alarm inf is not within 1 and"),
        ({"rows_per_alarm": 0.0}, "rows per alarm 0.0 is not within 1 and 1,099,511,627,776"),
        ({"window_rows": 0}, "a window of 0 rows is empty"),
        ({"prediction": "label"}, "column 'label' cannot have two meanings"),
        ({"time": "label"}, "column 'label' cannot have two meanings"),
        ({"scores": ("s", "s")}, "column 's' cannot have two meanings"),
        ({"slices": ("a", "b", "a")}, "slices name column 'a' more than once"),
        ({"reference_label": "prediction"}, "column 'prediction' of the reference cannot have two"),
    ],
)
def test_what_is_impossible_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(FileError) as caught:
        ReplayOptions(**options)
    assert str(caught.value).startswith(said)
    assert ";" not in str(caught.value)


def test_all_that_is_impossible_is_said_at_once() -> None:
    with pytest.raises(FileError, match=r"^label rate 2 is .*; seed -3 is .*; a window of 0 rows"):
        ReplayOptions(label_rate=2, seed=-3, window_rows=0)
