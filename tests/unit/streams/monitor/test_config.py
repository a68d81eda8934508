"""Settings of one model: they survive JSON, and older and newer ones can be read."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest
from monitor_blocks import CONFIG

from redistill.streams.monitor.config import WatchConfig


def test_settings_survive_json() -> None:
    config = dataclasses.replace(CONFIG, window_rows=500, label_sources=("ledger",))
    assert WatchConfig.from_json(config.to_json()) == config


def test_what_is_not_stored_has_its_default_and_what_is_unknown_is_ignored() -> None:
    stored = '{"model": "credit", "schema": {"features": []}, "later": 1}'
    config = WatchConfig.from_json(stored)
    assert (config.window_rows, config.level, config.schema.names) == (2_000, "watch", ())


def test_a_wrong_value_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="window_rows"):
        WatchConfig.from_json('{"model": "m", "schema": {"features": []}, "window_rows": "x"}')
