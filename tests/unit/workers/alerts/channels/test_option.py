from __future__ import annotations

from dataclasses import dataclass

import pytest

from redistill.workers.alerts.channels.option import number, option, read, texts
from redistill.workers.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class Some:
    seconds: float = option(number(1, 60), "how long")
    share: float = option(number(0, 1), "how much", default=0.5)

    def __post_init__(self) -> None:
        if self.seconds < self.share:
            raise ValueError("seconds are below share")


def test_options_are_read() -> None:
    assert read(Some, {"seconds": 7}, at="channels.x") == Some(seconds=7.0, share=0.5)
    assert texts(Some) == {"seconds": "how long", "share": "how much"}


def test_every_wrong_key_is_told_with_what_to_write() -> None:
    with pytest.raises(SettingsError) as caught:
        read(Some, {"second": 7, "share": True, "wholly": 1}, at="channels.x")
    assert str(caught.value).split("; ") == [
        "channels.x.second: there is no such key",
        "did you mean seconds?",
        "channels.x.wholly: there is no such key",
        "there are seconds, share",
        "channels.x.seconds is missing: how long",
        "channels.x.share: a number was expected",
    ]


@pytest.mark.parametrize("value", [0, 61, float("nan"), float("inf"), "7", None])
def test_number_out_of_bounds_is_refused(value: object) -> None:
    with pytest.raises(SettingsError, match=r"channels\.x\.seconds"):
        read(Some, {"seconds": value}, at="channels.x")


def test_keys_that_contradict_each_other_are_told() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Never(Some):
        def __post_init__(self) -> None:
            raise ValueError("this and that")

    with pytest.raises(SettingsError, match=r"^channels\.x: this and that$"):
        read(Never, {"seconds": 7}, at="channels.x")
