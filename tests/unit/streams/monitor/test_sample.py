"""Sample of first rows: a profile is learned from as many as are needed, once, however they come."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from monitor_blocks import SCHEMA, block, cut, features

from redistill.streams.monitor import sample
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.monitor.reference import build_profile
from redistill.streams.monitor.sample import Learning, Sample, learn, rows_needed

WHOLE = block(features(1_200, 8), 8)


@pytest.fixture(autouse=True)
def _a_thousand_rows_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "LEARNING_ROWS", 1_000)


def learned(sizes: list[int], *, restored: bool = False) -> tuple[Learning, list[Profile]]:
    state, profiles, at = Learning(), [], 0
    for size in sizes:
        step = learn(state, cut(WHOLE, at, at + size), [(0, size // 3), (size // 3, size)], SCHEMA)
        state, at = step.after, at + size
        if restored and state.sample is not None:
            state = Learning(sample=Sample.of(state.sample.plain()))
        profiles += [] if step.profile is None else [step.profile]
    return state, profiles


@pytest.mark.parametrize("restored", [False, True])
@pytest.mark.parametrize("sizes", [[1_200], [990, 10, 200], [300, 699, 2, 199]])
def test_the_profile_is_that_of_the_first_rows_and_told_once(
    sizes: list[int], restored: bool
) -> None:
    state, profiles = learned(sizes, restored=restored)
    direct = build_profile(cut(WHOLE, 0, 1_000), SCHEMA, provisional=True)
    assert [p.digest for p in profiles] == [direct.digest]
    assert (state.sample, state.done) == (None, True)


def test_too_few_rows_are_kept() -> None:
    state, profiles = learned([400, 599])
    assert profiles == []
    assert state.sample is not None
    assert (state.sample.rows, state.done) == (999, False)


def test_what_was_remembered_is_not_changed() -> None:
    before, _ = learned([400])
    learn(before, cut(WHOLE, 400, 900), [(0, 500)], SCHEMA)
    assert before.sample is not None
    assert before.sample.rows == 400


def test_rows_of_an_older_schema_are_left_out() -> None:
    older = dataclasses.replace(WHOLE, feature_names=tuple(f"y{i}" for i in range(10)))
    step = learn(Learning(), older, [(0, 1_200)], SCHEMA)
    assert (step.profile, step.after.sample) == (None, None)


def test_another_schema_starts_the_sample_again() -> None:
    before, _ = learned([400])
    renamed = dataclasses.replace(
        SCHEMA,
        features=tuple(dataclasses.replace(f, name=f"z{f.name}") for f in SCHEMA.features),
    )
    rows = dataclasses.replace(cut(WHOLE, 0, 10), feature_names=renamed.names)
    step = learn(before, rows, [(0, 10)], renamed)
    assert step.after.sample is not None
    assert (step.after.sample.names, step.after.sample.rows) == (renamed.names, 10)


def test_a_predicted_number_survives_its_bytes() -> None:
    numbers = dataclasses.replace(WHOLE, prediction=np.linspace(0, 1, 1_200))
    kept = Sample(SCHEMA.names).plus(numbers, 0, 600).plus(numbers, 600, 1_200)
    regression = dataclasses.replace(SCHEMA, classes=())
    again = Sample.of(kept.plain()).profile("m", "7", regression)
    assert again.digest == kept.profile("m", "7", regression).digest
    assert again.columns[-2].role == "clock"


def test_wide_models_learn_from_fewer_rows() -> None:
    assert [rows_needed(f) for f in (0, 1_000, 1_500, 10_000)] == [1_000, 1_000, 666, 500]
