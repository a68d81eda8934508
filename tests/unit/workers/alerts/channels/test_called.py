from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from redistill.workers.alerts.channels.called import Url, revealed
from redistill.workers.alerts.channels.channel import DeliveryFailed
from redistill.workers.alerts.channels.option import read
from redistill.workers.alerts.channels.secret import Secret
from redistill.workers.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class Options(Url):
    pass


def options(**given: Any) -> Options:
    return read(Options, given, at="channels.x")


def test_url_behind_a_secret_needs_its_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_URL", "https://hooks.example/hunter2")
    with pytest.raises(SettingsError, match="`hosts` is missing"):
        options(url="env:HOOK_URL")
    made = options(url="env:HOOK_URL", hosts=["HOOKS.example"])
    assert made.address().target == "/hunter2"
    monkeypatch.setenv("HOOK_URL", "https://evil.example/hunter2")
    with pytest.raises(DeliveryFailed, match=r"evil\.example is none of `hosts`") as caught:
        made.address()
    assert not caught.value.retriable
    monkeypatch.delenv("HOOK_URL")
    with pytest.raises(DeliveryFailed, match="no HOOK_URL"):
        made.address()
    assert "hunter2" not in repr(made)


def test_url_that_is_written_out_is_held_to_the_hosts_as_well() -> None:
    assert options(url="https://hooks.example/x").address().host == "hooks.example"
    with pytest.raises(SettingsError, match="none of `hosts`"):
        options(url="https://hooks.example/x", hosts=["other.example"])


def test_authorization_is_a_header_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_TOKEN", "Bearer hunter2")
    made = options(url="https://hooks.example/x", authorization="env:HOOK_TOKEN")
    assert made.credentials() == {"Authorization": "Bearer hunter2"}
    assert options(url="https://hooks.example/x").credentials() == {}
    monkeypatch.setenv("HOOK_TOKEN", "Bearer\r\nhunter2: x")
    with pytest.raises(DeliveryFailed) as caught:
        revealed(Secret("env:HOOK_TOKEN"))
    assert "hunter2" not in str(caught.value)


def test_authorities_are_a_file_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"channels\.x\.ca: the absolute path"):
        options(url="https://hooks.example/x", ca=str(tmp_path / "gone.pem"))


@pytest.mark.parametrize(
    "value",
    ["https://proxy:3128", "http://proxy:3128/x", "proxy:3128", "http://me:hunter2@proxy", 3],
)
def test_proxy_that_is_none_is_told(value: object) -> None:
    with pytest.raises(SettingsError, match=r"channels\.x\.proxy: ") as caught:
        options(url="https://hooks.example/x", proxy=value)
    assert "hunter2" not in str(caught.value)
    assert options(url="https://hooks.example/x", proxy="http://proxy:3128").proxy is not None
