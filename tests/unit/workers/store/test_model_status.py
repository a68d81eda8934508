from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from redistill.times import HOUR
from redistill.workers.store.model_status import STATES, accuracy, state, worst_first
from redistill.workers.store.queries import Overview

NOW = 1_790_000_000_000_000
CALM = Overview(
    model="credit",
    level="repair",
    version="v1",
    correct=90,
    labelled=100,
    labels_waiting=0,
    gate_rows_per_day=25.0,
    last_served_at=NOW,
    last_label_at=NOW,
    label_lag_us=HOUR,
    has_base_error=True,
    incident=None,
    job=None,
    open_findings=0,
    paused_until=None,
    last_change="publish",
)


@pytest.mark.parametrize(
    ("expected", "change"),
    [
        ("healthy", {}),
        ("learning", {"has_base_error": False}),
        ("no data", {"last_served_at": NOW - 2 * HOUR}),
        ("no data", {"last_served_at": None}),
        ("labels late", {"last_label_at": NOW - 25 * HOUR}),
        ("healthy", {"last_served_at": NOW - 2 * HOUR, "row_gap_us": HOUR}),
        ("no data", {"last_served_at": NOW - 2 * HOUR - 1, "row_gap_us": HOUR}),
        ("healthy", {"last_label_at": NOW - 48 * HOUR, "label_gap_us": 24 * HOUR}),
        ("labels late", {"last_label_at": NOW - 3 * HOUR, "label_gap_us": HOUR}),
        ("healthy", {"last_label_at": None}),
        ("rolled back", {"last_change": "automatic_rollback"}),
        ("rolled back", {"last_change": "rollback"}),
        ("repairing", {"job": "running"}),
        ("waiting for labels", {"job": "waiting_labels"}),
        ("drifting", {"incident": ("harm", "detected", "why")}),
        ("drifting", {"incident": ("harm", "diagnosing", "why")}),
        ("data bug", {"incident": ("data_bug", "detected", "why")}),
        ("awaiting a person", {"incident": ("data_bug", "awaiting_person", "why")}),
        ("waiting for labels", {"incident": ("harm", "waiting_labels", "why")}),
        ("repairing", {"incident": ("harm", "repairing", "why"), "job": "running"}),
        ("guarding", {"incident": ("harm", "guarding", "why")}),
    ],
)
def test_the_state_says_what_matters_most(expected: str, change: dict[str, Any]) -> None:
    assert state(replace(CALM, **change), NOW) == expected
    assert expected in STATES


def test_the_worst_model_comes_first() -> None:
    broken = replace(CALM, model="zebra", incident=("harm", "awaiting_person", "why"))
    silent = replace(CALM, model="aardvark", last_served_at=None)
    assert [o.model for o in worst_first([CALM, silent, broken], NOW)] == [
        "zebra",
        "aardvark",
        "credit",
    ]


def test_accuracy_has_its_exact_interval_and_is_never_made_up() -> None:
    measured = accuracy(CALM)
    assert measured is not None
    assert (measured.value, measured.n) == (0.9, 100)
    assert (round(measured.low, 3), round(measured.high, 3)) == (0.824, 0.951)
    assert accuracy(replace(CALM, correct=0, labelled=0)) is None
