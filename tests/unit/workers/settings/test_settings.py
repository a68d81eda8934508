from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from redistill.workers.cli import common
from redistill.workers.errors import SettingsError
from redistill.workers.settings.settings import Settings, env_name, environment, unknown_variables

DOCS = Path(__file__).parents[4] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in list(os.environ):
        if key.startswith("REDISTILL_"):
            monkeypatch.delenv(key)


def test_defaults_need_no_environment(tmp_path: Path) -> None:
    settings = Settings.load({"home": tmp_path})
    assert settings.database_url == f"sqlite:///{tmp_path}/redistill.db"
    assert settings.alarms_per_week == 1.0
    with pytest.raises(SettingsError, match="REDISTILL_BROKER"):
        settings.broker()


def test_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDISTILL_BROKER", "127.0.0.1:9092")
    monkeypatch.setenv("REDISTILL_NAMESPACE", "staging")
    monkeypatch.setenv("REDISTILL_DATABASE", "postgresql://u:p@db/x")
    settings = Settings.load()
    assert settings.broker().topic("drift") == "staging.drift"
    assert settings.consumer_group == "staging.redistill"
    assert settings.database_url == "postgresql+psycopg://u:p@db/x"


def test_overrides_win_and_none_means_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDISTILL_BROKER", "127.0.0.1:1")
    assert Settings.load({"servers": "127.0.0.1:2"}).broker().servers == "127.0.0.1:2"
    assert Settings.load({"servers": None}).broker().servers == "127.0.0.1:1"


def test_every_bad_value_is_named_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDISTILL_BROKER", "kafka")
    monkeypatch.setenv("REDISTILL_ALARMS_PER_WEEK", "often")
    monkeypatch.setenv("REDISTILL_FLUSH_SECONDS", "0")
    monkeypatch.setenv("REDISTILL_NAMESPACE", "Über")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    text = str(caught.value)
    for part in (
        "REDISTILL_BROKER = 'kafka': host:port",
        "REDISTILL_ALARMS_PER_WEEK = 'often'",
        "REDISTILL_FLUSH_SECONDS = '0'",
        "REDISTILL_NAMESPACE = 'Über'",
    ):
        assert part in text


def test_a_variable_that_is_no_setting_is_told_once_and_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDISTILL_DATABSE", "sqlite:///x")
    monkeypatch.setenv("REDISTILL_OF_SOMEBODY_ELSE", "x")
    monkeypatch.setenv("REDISTILL_GROUP", "known")
    assert unknown_variables() == [
        "REDISTILL_DATABSE: there is no such setting; did you mean REDISTILL_DATABASE?",
        "REDISTILL_OF_SOMEBODY_ELSE: there is no such setting",
    ]
    common._tell_unknown.cache_clear()
    for _ in range(2):
        assert common.load().group == "known"
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.splitlines() == [f"redistill: warning: {x}" for x in unknown_variables()]
    assert not {"REDISTILL_DATABSE", "REDISTILL_OF_SOMEBODY_ELSE"} & set(environment({}))
    assert environment({})["REDISTILL_GROUP"] == "known"


def test_secrets_never_appear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDISTILL_STATE_KEY", "my-secret-key")
    monkeypatch.setenv("REDISTILL_DATABASE", "mysql://me:hunter2@db/x")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    assert "my-secret-key" not in str(caught.value)
    assert "hunter2" not in str(caught.value)
    monkeypatch.delenv("REDISTILL_DATABASE")
    monkeypatch.setenv("REDISTILL_STATE_KEY", "ab" * 32)
    monkeypatch.setenv("REDISTILL_KAFKA_USERNAME", "me")
    monkeypatch.setenv("REDISTILL_KAFKA_PASSWORD", "hunter2")
    monkeypatch.setenv("REDISTILL_BROKER", "kafka:9093")
    settings = Settings.load()
    assert "hunter2" not in repr(settings) + repr(settings.broker())
    assert "abab" not in repr(settings)
    security = settings.broker().security
    assert security is not None
    assert (security.protocol, security.password) == ("SASL_SSL", "hunter2")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"servers": "kafka:9092", "kafka_security_protocol": "PLAINTEXT"}, "not encrypted"),
        ({"servers": "127.0.0.1:1,kafka:9092", "kafka_security_protocol": "PLAINTEXT"}, "kafka"),
        (
            {
                "servers": "kafka:9092",
                "kafka_security_protocol": "SASL_PLAINTEXT",
                "kafka_username": "a",
                "kafka_password": "b",
            },
            "SASL_PLAINTEXT is not encrypted",
        ),
        ({"kafka_username": "me"}, "set both or neither"),
        ({"kafka_security_protocol": "SASL_SSL"}, "needs REDISTILL_KAFKA_USERNAME"),
        ({"kafka_ca": "/no/such/ca.pem"}, "no such file"),
        ({"web_tls_cert": "x.pem"}, "set both or neither"),
        ({"servers": "dev://127.0.0.1:9"}, "start=UUID"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, str], expected: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(expected)):
        Settings.load(changes)


def test_plaintext_off_loopback_is_possible_when_allowed() -> None:
    settings = Settings.load({"servers": "kafka:9092", "allow_plaintext": True})
    assert settings.broker().security is None


def test_a_broker_off_loopback_defaults_to_tls() -> None:
    security = Settings.load({"servers": "kafka:9093"}).broker().security
    assert security is not None
    assert security.protocol == "SSL"


def test_an_unknown_override_is_an_error() -> None:
    with pytest.raises(SettingsError, match="unknown settings: databse"):
        Settings.load({"databse": "x"})


def test_state_key_is_made_once_and_private(tmp_path: Path) -> None:
    first = Settings.load({"home": tmp_path}).state_key_bytes()
    assert len(first) == 32
    assert Settings.load({"home": tmp_path}).state_key_bytes() == first
    path = tmp_path / "keys" / "state.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["state.key"]
    assert Settings.load({"home": tmp_path, "state_key": "00" * 16}).state_key_bytes() == bytes(16)


def test_a_broken_state_key_is_said(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "state.key").write_text("not hex")
    with pytest.raises(SettingsError, match="does not hold a hexadecimal key"):
        Settings.load({"home": tmp_path}).state_key_bytes()


def test_docs_list_exactly_the_settings() -> None:
    rows = re.findall(r"^\| `(REDISTILL_[A-Z_]+)` \| (.*?) \| (.*?) \|$", DOCS.read_text(), re.M)
    documented = {name: (default, text) for name, default, text in rows}
    assert list(documented) == [env_name(name) for name in Settings.model_fields]
    for name, field in Settings.model_fields.items():
        default, text = documented[env_name(name)]
        shown = "" if field.default in (None, "") else f"`{field.default}`"
        assert (name, default.strip(), text) == (name, shown, field.description)
