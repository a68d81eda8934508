from __future__ import annotations

from pathlib import Path

import pytest

from redistill.workers.alerts import alerts_file
from redistill.workers.alerts.alerts_file import AlertsConfig, Quiet, Route
from redistill.workers.errors import SettingsError

PATH = Path("alerts.toml")
WHOLE = """
[channels.oncall]
kind = "pagerduty"
routing_key = "env:PAGERDUTY_KEY"
[channels.team]
kind = "apprise"
url = "env:SLACK_URL"
[channels.dead-mans-switch]
kind = "webhook"
[[routes]]
models = ["credit*"]
classes = ["harm"]
min_severity = "page"
channels = ["oncall"]
escalate_after_minutes = 15
escalate_to = ["team"]
[quiet]
from = "22:00"
to = "07:00"
timezone = "Europe/Berlin"
[storm]
within_seconds = 60
alerts = 10
[heartbeat]
channel = "dead-mans-switch"
every_seconds = 60
"""
CHANNEL = '[channels.team]\nkind = "webhook"\n'


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        alerts_file.parse(text, PATH)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_whole_file_is_read() -> None:
    made = alerts_file.parse(WHOLE, PATH)
    assert made.channels["oncall"] == {"kind": "pagerduty", "routing_key": "env:PAGERDUTY_KEY"}
    assert made.ways == (
        Route(
            models=("credit*",),
            classes=("harm",),
            min_severity="page",
            channels=("oncall",),
            escalate_after_minutes=15,
            escalate_to=("team",),
        ),
    )
    assert made.quiet == Quiet(begin="22:00", end="07:00", timezone="Europe/Berlin")
    assert made.heartbeat is not None
    assert (made.heartbeat.channel, made.heartbeat.every_seconds) == ("dead-mans-switch", 60)
    assert (made.storm.within_seconds, made.storm.alerts) == (60, 10)


def test_without_routes_every_channel_but_the_heartbeats_is_told() -> None:
    made = alerts_file.parse(
        WHOLE.replace(WHOLE[WHOLE.index("[[") : WHOLE.index("[quiet]")], ""), PATH
    )
    assert [(r.channels, r.min_severity) for r in made.ways] == [(("oncall", "team"), "warn")]


def test_file_that_is_not_there_tells_nobody(tmp_path: Path) -> None:
    assert alerts_file.read(tmp_path / "alerts.toml") == AlertsConfig()
    assert AlertsConfig().ways == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[channel.x]\nkind = "webhook"', "channel: there is no such key; did you mean channels?"),
        ('[[routes]]\nmodels = ["*"]', "[[routes]] 1: channels is missing"),
        (
            CHANNEL + '[[routes]]\nchannels = ["taem"]',
            "[[routes]] 1: channels names 'taem': there is no [channels.taem]; did you mean team?",
        ),
        (
            CHANNEL + '[[routes]]\nchannels = ["team"]\nmin_severity = "pages"',
            "[[routes]] 1: min_severity = 'pages': input should be 'page', 'warn' or 'info'",
        ),
        (
            CHANNEL + '[[routes]]\nchannels = ["team"]\nescalate_after_minutes = 5',
            "[[routes]] 1: escalate_after_minutes and escalate_to: set both or neither",
        ),
        ('[quiet]\nfrom = "22:00"', "[quiet] to is missing"),
        ('[quiet]\nfrom = "22"\nto = "7h"', "[quiet] to = '7h': a time of day like '22:00' was expected, of `timezone`"),
        (
            '[quiet]\nfrom = "22:00"\nto = "07:00"\ntimezone = "Berlin"',
            "[quiet] timezone = 'Berlin': there is no such time zone: write one like 'Europe/Berlin'",
        ),
        ("[storm]\nalert = 3", "[storm] alert: there is no such key; did you mean alerts?"),
        ("[storm]\nalerts = 1", "[storm] alerts = 1: input should be greater than or equal to 2"),
        # a comparison with a time of another zone would end every round of the planner
        ('[quiet]\nfrom = "22:00+02:00"\nto = "07:00"', "[quiet] from = '22:00+02:00': a time of day like '22:00' was expected, of `timezone`"),
        ('[quiet]\nfrom = 22:00:00\nto = "07:00"', "[quiet] from = datetime.time(22, 0): a time of day like '22:00' was expected, of `timezone`"),
        ('[quiet]\nfrom = "7:00:00"\nto = "07:00"', "[quiet] from = '7:00:00': a time of day like '22:00' was expected, of `timezone`"),
        ('[quiet]\nfrom = "07:00"\nto = "07:00:00"', "[quiet] from and to are the same: which hours are quiet?"),
        # and so would these
        ("[storm]\nwithin_seconds = inf", "[storm] within_seconds = inf: input should be less than or equal to 86400"),
        (
            CHANNEL + '[[routes]]\nchannels = ["team"]\nescalate_after_minutes = inf\nescalate_to = ["team"]',
            "[[routes]] 1: escalate_after_minutes = inf: input should be less than or equal to 10080",
        ),
        (CHANNEL + '[heartbeat]\nchannel = "team"\nevery_seconds = inf', "[heartbeat] every_seconds = inf: input should be less than or equal to 86400"),
        # what was written in the place of a channel may be a secret
        ('channels = "hunter2"', "channels: [channels.NAME] was expected"),
        ('[channels]\nteam = "hunter2"', "[channels] team: [channels.NAME] was expected"),
        ('[[channels]]\nsecret = "hunter2"', "channels: [channels.NAME] was expected"),
        ('[channels."a b"]\nkind = "ping"', "channels: 'a b' is no name of a channel: it has 1 to 64 letters, digits, _ and -"),
        ('routes = "team"', "routes: [[routes]] was expected"),
        ('[routes]\nchannels = ["team"]', "routes: [[routes]] was expected"),
        ("[[storm]]\nalerts = 3", "storm: [storm] was expected"),
        (CHANNEL + '[[routes]]\nchannels = "team"', "[[routes]] 1: channels = 'team': a list like [\"one\", \"two\"] was expected"),
        ("[[routes]]\nchannels = []", "[[routes]] 1: channels = []: at least one was expected"),
        ('[heartbeat]\nchannel = 3', "[heartbeat] channel = 3: a text in quotes was expected"),
        ('[heartbeat]\nchannel = "x"', "[heartbeat] channel names 'x': there is no [channels.x]"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(text: str, said: str) -> None:
    assert problems(text) == [said]


def test_variables_that_hold_secrets_are_known_wherever_they_stand() -> None:
    text = (
        '[channels.a]\nkind = "webhook"\nsecret = "env:HOOK"\nheaders = { token = "env:TOKEN" }\n'
        '[channels.b]\nkind = "apprise"\nurl = "file:/run/url"\nmore = ["env:MORE"]\n'
    )
    assert alerts_file.parse(text, PATH).variables == {"HOOK", "TOKEN", "MORE"}


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert len(problems('[storm]\nalerts = 1\nwithin_seconds = 0\n[quiet]\nfrom = "1"')) == 4


def test_file_that_is_no_toml_or_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"alerts\.toml is not TOML"):
        alerts_file.parse("[", PATH)
    with pytest.raises(SettingsError, match="cannot be read"):
        alerts_file.read(tmp_path)
    with pytest.raises(SettingsError, match="nested too deep"):
        alerts_file.parse("a = " + "[" * 9_000 + "]" * 9_000, PATH)


def test_file_of_an_editor_of_windows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "alerts.toml"
    path.write_bytes(b"\xef\xbb\xbf[storm]\r\nalerts = 3\r\n")
    assert alerts_file.read(path).storm.alerts == 3
