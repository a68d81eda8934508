from __future__ import annotations

from pathlib import Path

import pytest

from redistill.workers.alerts.channel_set import ChannelSet
from redistill.workers.errors import SettingsError

TEAM = """
[channels.team]
kind = "webhook"
url = "https://team.example/alerts"
secret = "env:TEAM_SECRET"
"""


def test_channels_are_made_with_what_a_plan_has_to_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_SECRET", "whsec_" + "QUFB" * 12)
    path = tmp_path / "alerts.toml"
    path.write_text(TEAM)
    made = ChannelSet.read(path)
    assert list(made.channels) == ["team"]
    assert made.traits["team"].in_place
    assert made.config.ways[0].channels == ("team",)


def test_all_that_is_wrong_with_channels_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "alerts.toml"
    path.write_text(TEAM + '[channels.other]\nkind = "pigeon"\n')
    with pytest.raises(SettingsError) as caught:
        ChannelSet.read(path)
    assert "channels.team" in str(caught.value)
    assert "channels.other.kind" in str(caught.value)


def test_file_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert ChannelSet.read(tmp_path / "alerts.toml").channels == {}


AM = '[channels.am]\nkind = "alertmanager"\nurl = "http://127.0.0.1:9093"\n'
PD = '[channels.pd]\nkind = "pagerduty"\nrouting_key = "env:PAGERDUTY_KEY"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PD + '[heartbeat]\nchannel = "pd"', "'pd': its kind carries no heartbeat"),
        (AM + '[heartbeat]\nchannel = "am"\nevery_seconds = 61', "not told every 60 s; beat as"),
        (AM + '[heartbeat]\nchannel = "am"', None),
    ],
)
def test_heartbeat_needs_a_channel_that_can_carry_it_as_often(
    text: str, said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAGERDUTY_KEY", "a" * 32)
    path = tmp_path / "alerts.toml"
    path.write_text(text)
    if said is None:
        assert ChannelSet.read(path).config.heartbeat is not None
        return
    with pytest.raises(SettingsError) as caught:
        ChannelSet.read(path)
    assert said in str(caught.value)
