from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.wire.block import Codes, Feature, Schema
from redistill.times import microseconds
from redistill.workers.models.explain import Said, explain, next_run
from redistill.workers.models.registration import PreparedModel
from redistill.workers.models.spec import ModelSpec, RepairSection
from redistill.workers.settings.settings import Settings
from redistill.workers.store.queries import Traffic

SPEC = ModelSpec(
    name="credit",
    level="repair",
    schema=Schema(features=(Feature(name="x"),), classes=("a", "b")),
    repair=RepairSection(wait_hours=24),
)
NOW = microseconds(datetime(2026, 11, 25, 12, tzinfo=UTC))  # a Wednesday
WEEK = Traffic(days=7, rows=10_000, labels=1_000, gate_rows=500)


def base(rows: int, *, every: int = 10) -> BaseError:
    return BaseError.from_errors((np.arange(rows) % every == 0).astype(np.int64))


def said(known: BaseError | None, traffic: Traffic | None = None, *, alarms: float = 1.0) -> Said:
    prepared = PreparedModel(spec=SPEC, profile=None, base=known, warnings=(), contents=())
    settings = Settings.load({"home": "/nowhere", "alarms_per_week": alarms})
    return explain(prepared, settings, traffic, now=NOW)


def test_the_delays_are_those_that_were_measured() -> None:
    """Base error 10%, 10% labels, tolerance 1: 558 labels with 20,000 base rows, 1,818 with 450,
    where the whole model's test, which has half of the budget, is promised 100,000 labels."""
    enough, few = said(base(20_000), alarms=2), said(base(450), alarms=2)
    assert enough.delays["5"] == pytest.approx(558, rel=0.15)
    assert few.delays["5"] == pytest.approx(1_818, rel=0.25)
    assert enough.warnings == ()
    assert few.warnings[0].startswith("only 450 base rows: a 5-point drop takes about")


def test_delays_are_told_in_time_where_the_rate_is_known() -> None:
    sentences = said(base(20_000), WEEK, alarms=2).sentences
    assert any("labels, 13" in s and "hours at your rate" in s for s in sentences), sentences
    slow = replace(WEEK, labels=100)
    assert any("days at your rate" in s for s in said(base(20_000), slow).sentences)


def test_it_says_what_the_tests_of_slices_can_see() -> None:
    rng = np.random.default_rng(0)
    wrong = (rng.random(20_000) < 0.1).astype(int)
    region = Codes(rng.choice(3, 20_000, p=[0.9, 0.09, 0.01]).astype(np.int32), ("a", "b", "c"))
    expected = ExpectedError.fit(wrong, {"region": region})
    prepared = PreparedModel(
        spec=SPEC,
        profile=None,
        base=BaseError.from_errors(wrong),
        warnings=(),
        contents=(),
        expected=expected,
    )
    found = explain(prepared, Settings.load({"home": "/nowhere"}), None, now=NOW).sentences
    (sentence,) = [s for s in found if "slices of region have tests of their own" in s]
    assert sentence.startswith("3 slices of region")
    large, small = re.findall(r"region=(\w) \(([\d,]+) reference rows\) a rise of (\d+)", sentence)
    assert (large[0], small[0]) == ("a", "c")
    assert 5 <= int(large[2]) < int(small[2]) < 30


def test_slices_without_tests_are_told_with_the_reason() -> None:
    (sentence,) = [s for s in said(base(20_000)).sentences if "slices have no tests" in s]
    assert sentence.endswith("the model has no columns of slices ([schema] slices)")


def test_without_a_base_error_it_says_what_will_be_learned() -> None:
    found = said(None)
    assert "first 1,000 labelled" in found.sentences[0]
    assert found.delays == {}


def test_a_repair_that_cannot_be_judged_in_time_is_warned_of() -> None:
    assert said(base(20_000), WEEK).warnings == ()
    rare = replace(WEEK, gate_rows=20)
    assert said(base(20_000), rare).warnings == (
        "100 gate rows take 120.0 hours, a repair waits 24: raise [repair] wait_hours, or label more rows",
    )
    none = replace(WEEK, gate_rows=0)
    assert "could not be judged" in said(base(20_000), none).warnings[0]


def test_a_drop_below_the_tolerance_is_never_found() -> None:
    prepared = PreparedModel(
        spec=replace(SPEC, watch=replace(SPEC.watch, tolerance_points=7.0)),
        profile=None,
        base=base(20_000),
        warnings=(),
        contents=(),
    )
    found = explain(prepared, Settings.load({"home": "/nowhere"}), None, now=NOW)
    assert found.delays["5"] is None
    assert any("5-point drop is within the tolerance" in s for s in found.sentences)


def test_the_next_scheduled_run_is_told_with_its_day_of_the_week() -> None:
    spec = replace(SPEC, repair=RepairSection(schedule="0 3 * * 0"))
    wanted = "next scheduled recompression: Sunday 29 November 2026, 03:00 UTC (0 3 * * 0)"
    assert next_run(spec, NOW) == wanted
    prepared = PreparedModel(spec=spec, profile=None, base=None, warnings=(), contents=())
    settings = Settings.load({"home": "/nowhere"})
    assert wanted in explain(prepared, settings, None, now=NOW).sentences
    watched = replace(prepared, spec=replace(spec, level="watch"))
    (warning,) = explain(watched, settings, None, now=NOW).warnings
    assert warning.startswith("[repair] schedule: nothing is recompressed at level watch")
    assert next_run(SPEC, NOW) is None
    odd = replace(SPEC, repair=RepairSection(schedule="*/100 * * * *"))
    assert str(next_run(odd, NOW)).startswith("the schedule '*/100 * * * *' is not kept: minute")


def test_what_the_trusted_rows_can_show_is_said_and_too_few_are_warned_of() -> None:
    few = {"trusted_judging_rows": 360.0, "trusted_ranking_rows": 90.0}
    prepared = PreparedModel(
        spec=replace(SPEC, measured=few), profile=None, base=base(20_000), warnings=(), contents=()
    )
    settings = Settings.load({"home": "/nowhere"})
    found = explain(prepared, settings, None, now=NOW)
    assert any(
        s.startswith("450 trusted rows (90 of them only rank): 360 show") for s in found.sentences
    )
    assert [w for w in found.warnings if w.startswith("trusted rows are too few")]
    calm = explain(prepared, settings, None, now=NOW, churn=0.01)
    assert not [w for w in calm.warnings if w.startswith("trusted rows are too few")]
    rollback = replace(prepared, spec=replace(prepared.spec, level="rollback"))
    assert explain(rollback, settings, None, now=NOW).warnings == ()
