from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from redistill.workers.errors import SettingsError
from redistill.workers.settings.settings import Settings, env_name

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
    monkeypatch.setenv("REDISTILL_DATABASE", "postgresql://me:hunter2@db/x")
    assert "hunter2" not in repr(Settings.load()) + str(Settings.load())
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
        ({"servers": "dev://127.0.0.1"}, "start=UUID"),
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


def test_state_key_that_is_not_here_is_not_made(tmp_path: Path) -> None:
    settings = Settings.load({"home": tmp_path})
    assert settings.state_key_here() is None
    assert not settings.keys_folder.exists()
    assert settings.state_key_bytes() == settings.state_key_here()


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


def test_no_representation_of_settings_shows_a_secret() -> None:
    settings = Settings.load(
        {
            "database": "postgresql://ann:canary-1@db/x?password=canary-2",
            "web_token": "canary-3" * 4,
            "metrics_token": "canary-6" * 4,
            "key_passphrase": "canary-4",
            "kafka_username": "ann",
            "kafka_password": "canary-5",
            "state_key": "ca0a51" * 8,
        }
    )
    for shown in (repr(settings), str(settings), f"{settings}", repr(settings.broker)):
        assert "canary" not in shown
        assert "ca0a51" not in shown


@pytest.mark.parametrize(
    ("given", "served"),
    [
        ({}, False),
        ({"metrics_host": "0.0.0.0"}, False),
        ({"metrics_port": 9_100}, True),
        ({"metrics_port": 9_100, "metrics_host": "::1"}, True),
        ({"metrics_port": 9_100, "metrics_host": "10.0.0.1", "metrics_token": "t" * 32}, True),
        ({"metrics_port": 0, "metrics_host": "0.0.0.0", "metrics_allow_insecure": True}, True),
    ],
)
def test_metrics_are_served_on_loopback_or_to_whoever_shows_a_token(
    given: dict[str, object], served: bool
) -> None:
    address = Settings.load(given).metrics_address()
    assert (address is not None) == served
    assert address is None or address.token == given.get("metrics_token")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "metrics.example"])
def test_metrics_are_not_told_to_a_network(host: str) -> None:
    with pytest.raises(SettingsError, match=r"REDISTILL_METRICS_HOST = .* is not on loopback"):
        Settings.load({"metrics_port": 0, "metrics_host": host}).metrics_address()
    with pytest.raises(SettingsError, match=r"REDISTILL_METRICS_TOKEN.*32 characters or more"):
        Settings.load({"metrics_token": "short"})
