"""What the trusted rows of a model can show, in words and counted as a job counts them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from redistill.streams.wire.block import Feature, Schema
from redistill.workers.models import trusted_power
from redistill.workers.models.spec import ModelSpec
from redistill.workers.models.trusted_power import TrustedRows

SPEC = ModelSpec(name="credit", schema=Schema(features=(Feature(name="x"),), classes=("a", "b")))


def with_margins(**gates: float) -> ModelSpec:
    return replace(SPEC, gates={"trusted": gates})


def test_rows_are_counted_as_a_job_counts_them() -> None:
    x = np.random.default_rng(1).normal(size=(500, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    once = trusted_power.count(x, y)
    assert (once.judging + once.ranking, 60 < once.ranking < 140) == (500, True)
    twice = trusted_power.count(np.concatenate([x, x]), np.concatenate([y, y]))
    assert twice == once, "a row is evidence once"
    few = trusted_power.count(x[:60], y[:60])
    assert (few.judging, few.ranking) == (60, 0), "too few to rank anything: all judge"


def test_what_is_counted_comes_back_from_the_specification() -> None:
    rows = TrustedRows(360, 90)
    assert trusted_power.of_spec(replace(SPEC, measured=rows.measured)) == rows
    assert trusted_power.of_spec(SPEC) is None


def test_measured_churn_is_said_to_be_measured_and_changes_what_is_shown() -> None:
    rows = TrustedRows(1_000, 200)
    assumed, measured = (trusted_power.shown(rows, SPEC, c) for c in (None, 0.10))
    assert "1.4 points at a churn of 3.0% (assumed;" in assumed
    assert "2.5 points at a churn of 10.0% (measured on the newest candidate;" in measured


def test_margins_are_those_of_the_model() -> None:
    told = trusted_power.shown(TrustedRows(360, 90), with_margins(margin_points=4.0), None)
    assert "margin_points = 4 needs 178, scheduled_margin_points = 1 needs 1,971" in told


def test_no_number_of_rows_shows_a_margin_of_nothing() -> None:
    told = trusted_power.shown(TrustedRows(360, 90), with_margins(margin_points=0.0), None)
    assert told.endswith("of such rows [gates.trusted] scheduled_margin_points = 1 needs 1,971")


@pytest.mark.parametrize(
    ("judging", "margin", "warned"),
    [(557, 2.0, True), (558, 2.0, False), (100, 10.0, False), (10_000, 0.0, True)],
)
def test_too_few_rows_are_warned_of_and_the_margin_stays(
    judging: int, margin: float, warned: bool
) -> None:
    spec = with_margins(margin_points=margin)
    told = trusted_power.too_few(TrustedRows(judging, judging // 4), spec, None)
    assert (told is not None) == warned


def test_warning_says_how_many_more_rows_it_takes() -> None:
    told = trusted_power.too_few(TrustedRows(360, 90), SPEC, None)
    assert told is not None
    assert "bring about 248 more" in told  # 198 that judge; one in five only ranks
    assert "margin_points = 2" in told
    none = trusted_power.too_few(TrustedRows(0, 0), SPEC, None)
    assert none is not None
    assert "about" not in none
