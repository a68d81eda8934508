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


AM = '[channels.am]\nkind = "alertmanager"\nurl = "https://am.example"\n'
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


PING = '[channels.ping]\nkind = "ping"\nurl = "https://ping.example"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEAM + '[[routes]]\nchannels = ["team"]\nclasses = ["harmm"]',
         "[[routes]] 1: classes: nothing is 'harmm'; did you mean harm?"),
        (TEAM + '[[routes]]\nchannels = ["team"]\nclasses = ["x*"]',
         "[[routes]] 1: classes: nothing is 'x*'; there are incident, operational, change"),
        (PING + '[[routes]]\nchannels = ["ping"]',
         "[[routes]] 1: ping carries heartbeats only, and would tell nobody: write another channel"),
        (TEAM + PING + '[[routes]]\nchannels = ["team"]\nescalate_after_minutes = 5\nescalate_to = ["ping"]',
         "[[routes]] 1: ping carries heartbeats only"),
        (PING.replace("https:", "http:"),
         "channels.ping: url: http is spoken to networks of `allow_private` only: write https"),
        (PING.replace("https:", "http:") + 'proxy = "http://proxy.example:3128"\nallow_private = ["10.0.0.0/8"]',
         "channels.ping: url: http cannot be called through a proxy: write https"),
        (PING.replace("ping.example", "169.254.169.254"),
         "channels.ping: url: 169.254.169.254 is where a cloud keeps credentials"),
        (PING.replace("ping.example", "[::ffff:10.0.0.1]"),
         "is no public address; `allow_private` names what may be called"),
        (PING.replace("ping.example", "ping.example:0"), "channels.ping.url: there is no port 0"),
        (PING.replace("https://ping.example", "env:PING_URL") + 'hosts = ["other.example"]',
         "channels.ping: url: its host ping.example is none of `hosts`"),
        (PING + 'authorization = "env:TWO_LINES"',
         "channels.ping.authorization: env:TWO_LINES holds more than one line of ASCII"),
        (PING + 'authorization = "env:NOWHERE"', "the environment of this process has no NOWHERE: set it"),
        (PING + f'ca = "{__file__}"', "test_channel_set.py holds no certificates in PEM"),
        ('[channels.pd]\nkind = "pagerduty"\nrouting_key = "env:KEY"\nurl = "http://events.example"',
         "channels.pd: http is spoken to networks"),
    ],
)  # fmt: skip
def test_what_could_never_tell_anybody_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.setenv("TEAM_SECRET", "whsec_" + "QUFB" * 12)
    monkeypatch.setenv("KEY", "k")
    monkeypatch.setenv("PING_URL", "https://ping.example/token")
    monkeypatch.setenv("TWO_LINES", "Bearer a\r\nX-Other: b")
    path = tmp_path / "alerts.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        ChannelSet.read(path)
    assert said in str(caught.value)


def test_classes_that_there_are_may_be_named_by_patterns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_SECRET", "whsec_" + "QUFB" * 12)
    path = tmp_path / "alerts.toml"
    words = '["*", "data_*", "harm", "operational", "disk", "rollback", "channel_failing"]'
    path.write_text(TEAM + f'[[routes]]\nchannels = ["team"]\nclasses = {words}')
    assert len(ChannelSet.read(path).config.routes) == 1
