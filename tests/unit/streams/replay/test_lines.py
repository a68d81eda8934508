"""Lines of a replay: findings, windows and the summary of both."""

from __future__ import annotations

import dataclasses
import json

import loop
import numpy as np
import pytest
from loop import NOW

from redistill.streams.monitor.base_error import BaseError
from redistill.streams.replay.label_flow import LabelUse
from redistill.streams.replay.lines import Replay
from redistill.streams.replay.windows import ReplayWindow
from redistill.times import SECOND


def test_a_finding_is_told_as_it_is_published_with_row_and_id() -> None:
    found = loop.finding()
    line = Replay().finding(7, found, timed=True)
    assert (line["row"], line["id"]) == (7, str(found.finding_id))
    assert (line["kind"], line["status"], line["reason"]) == ("accuracy", "open", found.reason)
    assert json.loads(json.dumps(line)) == line


def test_without_times_a_moment_is_a_row() -> None:
    reason = "error 5% -> 60% since 1970-01-01 01:00:02 UTC, known since 1970-01-02 00:00:00 UTC"
    found = dataclasses.replace(loop.finding(), reason=reason)
    assert Replay().finding(0, found, timed=True)["reason"] == reason
    said = Replay().finding(0, found, timed=False)["reason"]
    assert said == "error 5% -> 60% since row 3602, known since row 86400"


def test_opened_findings_are_counted_by_kind_and_updates_are_events_only() -> None:
    replay = Replay()
    for kind, status, harmful in (
        ("input", "open", False),
        ("accuracy", "open", True),
        ("accuracy", "open", True),
        ("accuracy", "update", True),
    ):
        replay.finding(0, loop.finding(kind=kind, status=status, harmful=harmful), timed=True)
    assert replay.opened == {"input": 1, "accuracy": 2}
    assert (replay.events, replay.harm_opened, replay.harm_open) == (4, 2, True)
    assert len(replay.findings) == 4


def test_harm_is_over_when_its_finding_is_resolved() -> None:
    replay = Replay()
    found = loop.finding()
    replay.finding(0, found, timed=True)
    replay.finding(5, loop.finding(kind="input", status="open", harmful=False), timed=True)
    assert replay.harm_open
    replay.finding(9, dataclasses.replace(found, status="resolved"), timed=True)
    assert (replay.harm_opened, replay.harm_open) == (1, False)


def test_harm_goes_on_when_that_of_a_slice_alone_is_over() -> None:
    replay = Replay()
    whole, part = loop.finding(), loop.finding(scope="slice:region=EU")
    ended = dataclasses.replace(part, status="resolved")
    for row, found in enumerate((whole, part, ended)):
        replay.finding(row, found, timed=True)
        replay.count_beside([(row, found)])
    assert replay.harm_open
    used = LabelUse(10, 5, 5)
    replay.requests = replay.requests_beside = used
    told = replay.summary(1.0, None)["summary"]
    assert told["harm"] == {"opened": 2, "open": True}
    assert told["label_requests"]["earned_row_by_row"]["harm"]["open"] is True
    replay.finding(9, dataclasses.replace(whole, status="resolved"), timed=True)
    assert not replay.harm_open


def test_a_window_whose_every_row_is_labelled_is_measured_exactly() -> None:
    line = Replay().window(20, ReplayWindow(0, 9), [(8, 10, 10)])
    assert (line["row"], line["from"], line["to"]) == (20, 0, 9)
    assert line["accuracy"] == {
        "basis": "measured", "current": 0.8, "low": 0.8, "high": 0.8, "n": 10,
    }  # fmt: skip


def test_a_window_with_few_labels_has_a_wide_interval_and_one_without_has_none() -> None:
    replay = Replay()
    few = replay.window(0, ReplayWindow(0, 99), [(18, 20, 100)])["accuracy"]
    assert few["low"] < few["current"] < few["high"]
    assert few["current"] == 0.9
    none = replay.window(0, ReplayWindow(0, 99), [(0, 0, 100)])["accuracy"]
    assert (none["current"], none["low"], none["high"], none["n"]) == (None, None, None, 0)
    assert replay.windows == 2


def test_parts_of_a_window_count_for_their_rows() -> None:
    line = Replay().window(0, ReplayWindow(0, 99), [(18, 20, 80), (10, 20, 20)])["accuracy"]
    assert line["current"] == pytest.approx(0.8 * 0.9 + 0.2 * 0.5)
    assert line["low"] < line["current"] < line["high"]
    assert line["n"] == 40


def test_what_was_asked_for_stands_beside_what_a_budget_earned_row_by_row_gives() -> None:
    replay = Replay(rows=1_000, requests=LabelUse(70, 40, 30), requests_beside=LabelUse(70, 20, 5))
    replay.count_beside(
        [
            (400, loop.finding(status="open")),
            (500, loop.finding(kind="input", status="open", harmful=False)),
        ]
    )
    told = replay.summary(1.0, None)["summary"]["label_requests"]
    assert told == {
        "budget_rows": 70,
        "asked": 40,
        "asked_share": 0.04,
        "answered": 30,
        "earned_row_by_row": {
            "budget_rows": 70,
            "asked": 20,
            "asked_share": 0.02,
            "answered": 5,
            "harm": {"opened": 1, "open": True, "rows": [400]},
        },
    }


def test_the_summary_adds_up() -> None:
    base = BaseError.from_errors(np.tile([0] * 9 + [1], 100))
    replay = Replay(
        rows=500, labels=60, wrong=30, random=[40, 10], notes=["odd"], base_note="small"
    )
    replay.rows_per_alarm, replay.budget = 5e4, "fleet"
    replay.slices[("region", "EU")] = [20, 5]
    replay.finding(0, loop.finding(at=NOW + SECOND), timed=True)
    told = replay.summary(2.0, base)["summary"]
    assert (told["rows"], told["rows_per_second"], told["accuracy"]) == (500, 250, 0.75)
    assert told["accuracy_labels"] == 40
    assert (told["accuracy_low"], told["accuracy_high"]) == pytest.approx((0.588, 0.873), abs=1e-3)
    assert (told["labels"], told["label_share"]) == (60, 0.12)  # asked for where it was bad: 20
    assert told["findings"] == {"accuracy": 1}
    assert told["label_requests"] is None
    assert told["harm"] == {"opened": 1, "open": True}
    assert (told["base_error"]["rate"], told["base_error"]["n"]) == (0.1, 1_000)
    assert (told["rows_per_alarm"], told["rows_per_alarm_from"]) == (5e4, "fleet")
    assert told["notes"] == ["odd", "small"]
    (region,) = told["slices"]
    assert (region["key"], region["value"], region["accuracy"]) == ("region", "EU", 0.75)
    assert 0.4 < region["low"] < 0.75 < region["high"] < 0.95


def test_the_summary_of_nothing_claims_nothing() -> None:
    told = Replay().summary(0.0, None)["summary"]
    for key in ("accuracy", "accuracy_low", "accuracy_high", "rows_per_second", "base_error"):
        assert told[key] is None
    assert (told["slices"], told["notes"]) == ([], [])
