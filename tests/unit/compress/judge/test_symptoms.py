from __future__ import annotations

import dataclasses

import pytest

from redistill.compress.judge.symptoms import Symptoms


def test_nothing_is_measured_unless_it_is_said_and_symptoms_are_a_value() -> None:
    none = Symptoms(labelled=0, tolerance_points=1.0)
    measured = {f.name: getattr(none, f.name) for f in dataclasses.fields(none)}
    del measured["labelled"], measured["tolerance_points"]
    assert all(value in (None, ()) for value in measured.values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        none.labelled = 3  # type: ignore[misc]
