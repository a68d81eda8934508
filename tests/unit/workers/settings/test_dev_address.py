"""A dev broker's address that stays is made whole by the home that started it."""

from __future__ import annotations

from pathlib import Path

import pytest

from redistill.workers.errors import SettingsError
from redistill.workers.settings import dev_address
from redistill.workers.settings.settings import Settings

SHORT = "dev://127.0.0.1:19092"


def test_short_address_is_that_of_the_last_start(tmp_path: Path) -> None:
    settings = Settings.load({"home": tmp_path, "servers": SHORT})
    with pytest.raises(SettingsError, match="redistill up --broker-port 19092"):
        settings.broker()
    dev_address.keep(tmp_path, f"{SHORT}?start=one")
    dev_address.keep(tmp_path, f"{SHORT}?start=two")
    assert settings.broker().dev_start == "two"


def test_dev_broker_at_another_port_is_not_meant(tmp_path: Path) -> None:
    dev_address.keep(tmp_path, "dev://127.0.0.1:1?start=one")
    with pytest.raises(SettingsError, match="no dev broker of the home"):
        dev_address.whole(tmp_path, SHORT)


def test_whole_address_is_left_alone(tmp_path: Path) -> None:
    settings = Settings.load({"home": tmp_path, "servers": f"{SHORT}?start=x"})
    assert settings.broker().dev_start == "x"
