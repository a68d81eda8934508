"""Registry of the channels: a file, a line of the table and a test for each, and nothing beside."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from redistill.workers.alerts.alert import Kind
from redistill.workers.alerts.channels.kind import ALERTS, HEARTBEAT, ChannelKind
from redistill.workers.alerts.channels.table import KINDS, carries, keys, make
from redistill.workers.errors import SettingsError

ROOT = Path(__file__).resolve().parents[5]
HELPERS = {
    "__init__", "address", "apprise_child", "called", "channel", "egress", "exchange", "kind",
    "option", "secret", "table", "text",
}  # fmt: skip


def stem(kind: ChannelKind) -> str:
    """Name of a kind's file: that of a library is not ours to take."""
    return "apprise_channel" if kind.name == "apprise" else kind.name


def test_every_channel_is_a_file_a_line_and_a_test() -> None:
    files = {p.stem for p in (ROOT / "workers/alerts/channels").glob("*.py")} - HELPERS
    tests = {p.stem.removeprefix("test_") for p in Path(__file__).parent.glob("test_*.py")}
    names = [stem(kind) for kind in KINDS]
    assert names == sorted(set(names))
    assert set(names) == files
    assert files <= tests


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_line_says_what_a_channel_is(kind: ChannelKind) -> None:
    assert kind.options.__module__.endswith(f".{stem(kind)}"), "its keys stand in its file"
    assert kind.options.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert {f.name for f in dataclasses.fields(kind.options)} == set(keys(kind.name))
    assert all(keys(kind.name).values()), "each key says what it means"
    assert kind.said
    assert kind.carries <= ALERTS | HEARTBEAT
    assert kind.carries & ALERTS in (ALERTS, frozenset()), "all alerts, or none: routes choose"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_is_wrong_is_told_by_its_key(kind: ChannelKind) -> None:
    with pytest.raises(SettingsError, match=r"channels\.x\.unheard: there is no such key"):
        make("x", {"kind": kind.name, "unheard": 1})
    values = [3, [], "hunter2", {"hunter2": 3}, True, None]
    for key in keys(kind.name):
        for value in values:
            with pytest.raises(SettingsError) as caught:
                make("x", {"kind": kind.name, key: value, "unheard": 1})
            if key in ("secret", "old_secret", "routing_key", "url", "authorization"):
                assert f"channels.x.{key}: " in str(caught.value)
                assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "channels.x.kind is missing: one of alertmanager, apprise, pagerduty, ping, webhook"),
        (
            {"kind": "pager-duty"},
            "channels.x.kind: there is no 'pager-duty'; did you mean pagerduty?",
        ),
        ({"kind": 3}, "channels.x.kind: there is no 3; there are alertmanager,"),
    ],
)
def test_kind_that_is_unknown_is_told(given: dict[str, object], said: str) -> None:
    for called in (make, carries):
        with pytest.raises(SettingsError) as caught:
            called("x", given)  # type: ignore[operator]
        assert str(caught.value).startswith(said)


def test_what_a_channel_carries_is_known_before_it_is_made() -> None:
    beat: Kind = "heartbeat"
    assert beat in carries("x", {"kind": "ping"})
    assert beat not in carries("x", {"kind": "pagerduty"})
