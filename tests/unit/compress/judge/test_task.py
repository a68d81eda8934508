"""Tasks: a bounded loss per row, and no answer as wrong as can be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from compress_rows import GRAPH
from hypothesis import given
from hypothesis import strategies as st

from redistill.compress.judge import task
from redistill.compress.judge.task import Classification, Regression, Task

TASKS = (
    Classification(classes=3),
    Classification(classes=3, costs=((0.0, 1.0, 9.0), (2.0, 0.0, 1.0), (0.5, 0.5, 0.0))),
    Regression(clip=2.0),
    Regression(clip=2.0, error="squared"),
)


@pytest.mark.parametrize("one", TASKS, ids=str)
@given(data=st.data())
def test_a_loss_lies_between_0_and_1_whatever_was_scored(one: Task, data: st.DataObject) -> None:
    floats = st.floats(width=32, allow_nan=True, allow_infinity=True)
    scores = data.draw(st.lists(st.tuples(floats, floats, floats), min_size=1, max_size=5))
    truth = np.array(
        data.draw(st.lists(st.integers(0, 2), min_size=len(scores), max_size=len(scores)))
    )
    with np.errstate(over="ignore", invalid="ignore"):
        loss = one.loss(np.array(scores, np.float32), truth)
    assert loss.shape == (len(scores),)
    assert ((loss >= 0) & (loss <= 1)).all()


def test_costs_make_one_mistake_worse_than_another() -> None:
    costs = Classification(classes=2, costs=((0.0, 1.0), (50.0, 0.0)))
    missed = costs.loss(np.array([[1.0, 0.0]], np.float32), np.array([1]))
    alarm = costs.loss(np.array([[0.0, 1.0]], np.float32), np.array([0]))
    assert (missed.tolist(), alarm.tolist()) == ([1.0], [0.02])


def test_measures_have_intervals_and_the_cost_is_told_where_there_is_one() -> None:
    scores, truth = np.eye(2, dtype=np.float32)[[0, 0, 1, 0] * 25], np.array([0, 1, 1, 0] * 25)
    plain = Classification(classes=2)
    costly = Classification(classes=2, costs=((0.0, 1.0), (4.0, 0.0)))
    assert set(plain.measures) == {"accuracy", "calibration_error"}
    assert plain.measures["calibration_error"](plain, scores, truth) is None, "too few rows"
    for one, name, value in ((costly, "accuracy", 0.75), (costly, "cost", 0.25)):
        found = one.measures[name](one, scores, truth)
        assert found is not None
        assert found.value == value
        assert found.low is not None
        assert found.high is not None
        assert found.low < value < found.high
    number = Regression(clip=2.0)
    clipped = number.measures["clipped_error"](number, scores, truth)
    assert clipped is not None
    assert clipped.n == 100


def test_a_jobs_task_is_what_its_graph_says() -> None:
    assert task.of(GRAPH) == Classification(classes=2)
    costly = task.of(replace(GRAPH, costs=((0.0, 1.0), (4.0, 0.0))))
    assert costly == Classification(classes=2, costs=((0.0, 1.0), (4.0, 0.0)))


@pytest.mark.parametrize(
    "costs",
    [
        ((0.0, 0.0), (0.0, 0.0)),
        ((0.0, 1.0), (-1.0, 0.0)),
        ((0.0, float("nan")), (1.0, 0.0)),
        ((0.0, float("inf")), (1.0, 0.0)),
        ((1.0, 1.0), (1.0, 0.0)),
        ((0.0, 1.0),),
    ],
    ids=str,
)
def test_costs_that_make_no_loss_are_refused(costs: tuple[tuple[float, ...], ...]) -> None:
    with pytest.raises(ValueError, match="costs"):
        Classification(classes=2, costs=costs)


@pytest.mark.parametrize("clip", [0.0, -1.0, float("nan"), float("inf")])
def test_a_clip_that_is_no_error_is_refused(clip: float) -> None:
    with pytest.raises(ValueError, match="clip = "):
        Regression(clip=clip)
