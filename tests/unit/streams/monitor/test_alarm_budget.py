"""Alarm budget: shares of one budget, and what is realised of it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from sliced_errors import REFERENCE_ROWS, World, findings, reference

from redistill.streams.monitor import alarm_budget
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.wire.block import Schema

CONFIG = WatchConfig(model="credit", schema=Schema(features=()))


def test_shares_are_one_budget() -> None:
    assert sum(alarm_budget.SHARES.values()) == 1


def test_settings_document_has_the_same_shares() -> None:
    text = (Path(__file__).parents[4] / "docs" / "settings.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| ([a-z ]+) \| (\d+)/(\d+) \|", text, re.MULTILINE)
    assert {name: int(a) / int(b) for name, a, b in told} == alarm_budget.SHARES
    assert f"at least {alarm_budget.LEAST:,.0f}" in text


def test_thresholds_are_the_labels_per_alarm_over_the_share_of_each() -> None:
    a = alarm_budget.labels_per_alarm(CONFIG, 0.2)
    assert a == 2e5
    assert alarm_budget.whole_model(CONFIG, 0.2) == 2 * a
    four = alarm_budget.slice_tests(CONFIG, 0.2, 4)
    assert four == pytest.approx(a * 8 / 3 * 4)
    assert alarm_budget.slice_tests(CONFIG, 0.2, 0) == alarm_budget.slice_tests(CONFIG, 0.2, 1)
    rare = dataclasses.replace(CONFIG, rows_per_alarm=10.0)
    assert alarm_budget.labels_per_alarm(rare, 0.2) == alarm_budget.LEAST == 1_000
    assert alarm_budget.whole_model(rare, 0.2) == 2_000


def test_alarms_on_stationary_traffic_stay_within_the_budget() -> None:
    """At 2,000 labels per alarm 240,000 labels may bring 120; the mixture is far more careful."""
    opened = labels = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        world = World.drawn(rng, 0.1)
        base, expected = reference(world.rows(rng, REFERENCE_ROWS))
        rows = world.rows(rng, 60_000)
        labels += 60_000
        said = findings(
            rows, base, expected, rng, label_share=1.0, rows_per_alarm=2_000, call_rows=5_000
        )
        opened += sum(f.status == "open" for _, f in said)
    assert 0 < opened <= 1.2 * labels / 2_000
