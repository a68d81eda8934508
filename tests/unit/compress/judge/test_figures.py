"""Figures of a candidate: what is counted of whom, and what is not shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gate_evidence import evidence, scores, versus

from redistill.compress.judge import figures as module
from redistill.compress.judge.betting import e_value
from redistill.compress.judge.figures import figures
from redistill.compress.judge.task import Regression


def test_fresh_rows_are_shown_only_where_gates_looked_at_them() -> None:
    e = evidence(fresh=versus(40, 3, 300, classes={"class=a": np.ones(343, bool)}))
    hidden, shown = (figures(e, faced=faced, seed=0) for faced in (False, True))
    assert hidden is not None
    assert shown is not None
    assert hidden.looks == ()
    for found in (hidden.classes, hidden.slices, hidden.calibration):
        assert found.keys() == {"trusted"}
    assert shown.classes["fresh"]["a"]["candidate"].n == 343
    assert shown.calibration["fresh"].keys() == {"candidate", "incumbent"}


def test_accuracy_of_a_class_is_of_its_rows_for_every_model_there_is() -> None:
    half = np.arange(1_000) < 500
    e = evidence(trusted=versus(20, 4, 976, classes={"class=a": half, "class=b": ~half}))
    found = figures(e, faced=False, seed=0)
    assert found is not None
    of = found.classes["trusted"]
    assert of["a"]["candidate"].value == pytest.approx(1 - 4 / 500)
    assert of["a"]["incumbent"].value == pytest.approx(1 - 20 / 500)
    assert of["b"]["incumbent"].value == 1.0
    low, high = of["a"]["candidate"].low, of["a"]["candidate"].high
    assert low is not None
    assert high is not None
    assert low < of["a"]["candidate"].value < high
    assert "teacher" not in of["a"]


def test_slices_of_few_rows_are_left_out_and_of_many_the_largest_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    n = np.arange(1_000)
    groups = {"r=a": n < 49, "r=b": n < 50, "r=c": n < 200, "r=d": n < 100}
    e = evidence(trusted=versus(20, 4, 976, groups=groups))
    found = figures(e, faced=False, seed=0)
    assert found is not None
    assert list(found.slices["trusted"]) == ["r=b", "r=c", "r=d"]
    monkeypatch.setattr(module, "MOST_SLICES", 2)
    fewer = figures(e, faced=False, seed=0)
    assert fewer is not None
    assert list(fewer.slices["trusted"]) == ["r=c", "r=d"]


def test_looks_end_at_all_rows_with_the_gates_own_e_value() -> None:
    e = evidence()
    found = figures(e, faced=True, seed=0)
    assert found is not None
    assert len(found.looks) == module.LOOKS
    assert [x.rows for x in found.looks] == sorted({x.rows for x in found.looks})
    last, d = found.looks[-1], e.fresh.difference(e.task)
    assert last.rows == len(d) == last.points.n
    assert last.e_value == pytest.approx(e_value(d).e)
    assert last.points.value == pytest.approx(100.0 * d.mean())


def test_a_model_without_anybody_beside_it_has_no_looks() -> None:
    alone = replace(versus(1, 0, 99), scores={"candidate": scores(np.ones(100, bool))})
    found = figures(evidence(fresh=alone, trusted=alone), faced=True, seed=0)
    assert found is not None
    assert found.looks == ()


def test_a_task_without_classes_has_no_figures() -> None:
    assert figures(evidence(task=Regression(clip=1.0)), faced=True, seed=0) is None
