"""An alert is told from its earlier states by its digest."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from redistill.workers.alerts.alert import Alert, digest

ALERT = Alert(
    key="incident:3f2a81c0-0000-4000-8000-000000000000",
    kind="incident",
    state="firing",
    severity="page",
    alert_class="harm",
    model="credit",
    version="r38",
    title="credit r38: error 4.4% → 18.7%",
    opened_at=1,
)


@pytest.mark.parametrize("name", [f.name for f in fields(Alert)])
def test_every_field_tells(name: str) -> None:
    old: Any = getattr(ALERT, name)
    new: Any = {int: 9, tuple: ("x",)}.get(type(old), "x")
    assert digest(replace(ALERT, **{name: new})) != digest(ALERT)


def test_alert_that_uses_no_later_field_is_not_told_once_more_after_an_upgrade() -> None:
    full = replace(
        ALERT, key="operational:1", kind="operational", severity="warn", alert_class="disk_full",
        model=None, version=None, title="the disk is full", where="/data", commands=("df",),
        opened_at=5,
    )  # fmt: skip
    stored_by_the_first_release = "f9930a55e5f37b9641956f0944536127c447f1aa98867eed629940f6f293b0b4"
    assert digest(full) == stored_by_the_first_release
