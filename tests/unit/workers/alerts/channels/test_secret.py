from __future__ import annotations

from pathlib import Path

import pytest

from redistill.workers.alerts.channels.secret import Secret, secret_of


def test_value_comes_from_the_environment_or_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PAGERDUTY_KEY", " hunter2\n")
    assert secret_of("env:PAGERDUTY_KEY").read() == "hunter2"
    file = tmp_path / "key"
    file.write_text("hunter2\n")
    found = secret_of(f"file:{file}")
    assert found.read() == "hunter2"
    file.write_text("changed")
    assert found.read() == "changed"


def test_what_is_shown_is_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGERDUTY_KEY", "hunter2")
    assert repr(secret_of("env:PAGERDUTY_KEY")) == "Secret(place='env:PAGERDUTY_KEY')"


@pytest.mark.parametrize(
    "value",
    ["hunter2", "hunter2:env", "env:hunter2-with-dash", "env:", "file:hunter2", 7, None, ["env:X"]],
)
def test_value_itself_is_refused_and_not_repeated(value: object) -> None:
    with pytest.raises(ValueError, match="never the value itself") as caught:
        secret_of(value)
    assert "hunter2" not in str(caught.value)


def test_settings_of_ours_are_no_secrets_of_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDISTILL_KEY_PASSPHRASE", "hunter2")
    with pytest.raises(ValueError, match="redistill's own") as caught:
        secret_of("env:REDISTILL_KEY_PASSPHRASE")
    assert "hunter2" not in str(caught.value)


def test_secret_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no NOT_THERE: set it"):
        secret_of("env:NOT_THERE")
    monkeypatch.setenv("EMPTY_ONE", "  ")
    with pytest.raises(ValueError, match="env:EMPTY_ONE is empty"):
        secret_of("env:EMPTY_ONE")
    with pytest.raises(ValueError, match="No such file"):
        secret_of(f"file:{tmp_path / 'gone'}")
    (tmp_path / "big").write_bytes(b"x" * 70_000)
    with pytest.raises(ValueError, match="more than"):
        Secret(f"file:{tmp_path / 'big'}").read()
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="no text"):
        Secret(f"file:{tmp_path / 'binary'}").read()
