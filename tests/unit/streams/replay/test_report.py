"""Report of a replay as values: which rows are compared, what moved, what each tolerance costs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from replay_tables import OPTIONS, REFERENCE, STREAM, lines_of, opened, with_column

from redistill.streams.replay.options import ReplayOptions
from redistill.streams.replay.report import TOLERANCES, ReportData, gather


def made(
    stream: pa.Table = STREAM, options: ReplayOptions = OPTIONS, lines: Any = None
) -> ReportData:
    return gather(stream, REFERENCE, options, lines or lines_of(stream, REFERENCE, options))


def shifted(first: int) -> pa.Table:
    x1 = STREAM["x1"].to_numpy().copy()
    x1[first:] += 1.5
    region = np.array(STREAM["region"].to_pylist())
    region[first::2] = "EU"
    return with_column(with_column(STREAM, "x1", x1), "region", region.tolist())


@pytest.fixture(scope="module")
def report() -> ReportData:
    return made(shifted(6_000))


def test_rows_since_the_harm_are_compared_with_the_reference(report: ReportData) -> None:
    first, last = report.current
    assert 5_700 <= first <= 6_300
    assert last == 11_999


def test_columns_that_moved_are_shown_by_their_part_with_bins_that_say_what_they_hold(
    report: ReportData,
) -> None:
    assert [d.column for d in report.distributions][:2] == ["x1", "region"]
    assert {d.column for d in report.distributions} <= {"x1", "region", "prediction", "score"}
    number, category = report.distributions[:2]
    assert "values rose" in number.said
    assert sum(number.reference) == pytest.approx(1)
    assert sum(number.current) == pytest.approx(1)
    assert number.current[-1] > 4 * number.reference[-1]
    assert number.labels[0].startswith("below -")
    assert number.labels[-1].endswith(" or more")
    assert len(number.labels) == len(number.reference)
    shares = dict(zip(category.labels, category.current, strict=True))
    assert set(shares) == {"other", "EU", "US", "APAC"}
    assert shares["EU"] == pytest.approx(2 / 3, abs=0.03)


def test_each_tolerance_has_its_price_on_the_same_labels(report: ReportData) -> None:
    assert [t.points for t in report.tolerances] == sorted({*TOLERANCES, 2.0})
    (asked,) = [t for t in report.tolerances if t.asked]
    assert asked.points == 2.0
    opened = [f for f in report.findings if f["impact"]["harmful"] and f["status"] == "open"]
    assert (asked.alarms, asked.first) == (len(opened), opened[0]["row"])
    assert asked.delay == opened[0]["row"] - report.current[0]
    assert asked.rows_in_alarm == 12_000 - opened[0]["row"]
    again = made(shifted(6_000), dataclasses.replace(OPTIONS, tolerance_points=5.0))
    mine = {t.points: dataclasses.replace(t, asked=False, delay=None) for t in report.tolerances}
    for t in again.tolerances:
        assert dataclasses.replace(t, asked=False, delay=None) == mine[t.points]


def test_rows_in_alarm_count_once_while_the_whole_model_and_a_slice_are() -> None:
    lines = lines_of(shifted(6_000))
    (whole,) = opened(lines, "accuracy")
    part = whole | {"scope": "slice:region=EU", "id": "part", "row": whole["row"] + 100}
    ended = part | {"status": "resolved", "row": whole["row"] + 900}
    summary = [line for line in lines if "summary" in line]
    report = made(shifted(6_000), lines=[whole, part, ended, *summary])
    (asked,) = [t for t in report.tolerances if t.asked]
    assert (asked.alarms, asked.rows_in_alarm) == (2, 12_000 - whole["row"])


def test_a_loss_that_a_tolerance_allows_has_no_alarm() -> None:
    rng = np.random.default_rng(3)
    label = np.array(STREAM["prediction"].to_pylist())
    wrong = rng.random(12_000) < np.where(np.arange(12_000) < 6_000, 0.08, 0.10)
    lasting = with_column(STREAM, "label", np.where(wrong, 1 - label, label))
    found = {t.points: t for t in made(lasting).tolerances}
    assert found[0.5].alarms > found[5.0].alarms == 0
    assert (found[5.0].first, found[5.0].delay, found[5.0].rows_in_alarm) == (None, None, 0)


def test_without_a_finding_the_last_window_is_compared() -> None:
    report = made(pa.table(STREAM.slice(0, 5_000)))
    assert report.current == (3_000, 4_999)
    assert report.distributions == ()


def test_an_empty_stream_has_a_report() -> None:
    report = made(STREAM.slice(0, 0))
    assert (report.distributions, report.windows, report.current) == ((), (), (0, 0))


def test_rows_of_a_stream_with_times_are_rows() -> None:
    at = np.arange(12_000) * 60.0 + 1.7e9
    stream = shifted(6_000).append_column("at", pa.array(at))
    reference = REFERENCE.append_column("at", pa.array(at[:6_000] - 1e6))
    options = dataclasses.replace(OPTIONS, time="at")
    lines = lines_of(stream, reference, options)
    report = gather(stream, reference, options, lines)
    assert 5_700 <= report.current[0] <= 6_300
