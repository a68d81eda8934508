"""Alerts, and channels that remember what they were told, for tests of who is told what."""

from __future__ import annotations

import threading
from typing import Any

from redistill.times import SECOND
from redistill.workers.alerts.alert import Alert
from redistill.workers.alerts.channels.channel import DeliveryFailed

NOW = 1_764_000_000 * SECOND
"""November 2025, in microseconds."""


def alert(name: str = "1", **changed: Any) -> Alert:
    """An incident's alert: by default, of harm that redistill repairs."""
    given: dict[str, Any] = {
        "key": f"incident:{name}",
        "kind": "incident",
        "state": "firing",
        "severity": "warn",
        "alert_class": "harm",
        "model": "credit",
        "version": "v1",
        "title": "error 4.4% → 18.7%",
        "opened_at": NOW,
    }
    return Alert(**(given | changed))


class Recorder:
    """A channel that remembers what it was told, and fails while ``broken`` is set."""

    def __init__(self, *, in_place: bool = True) -> None:
        self.in_place = in_place
        self.told: list[Alert] = []
        self.broken: DeliveryFailed | None = None
        self.gate = threading.Event()
        """While it is clear, the channel hangs."""
        self.gate.set()
        self.busy = 0
        """How many threads it is being told by."""

    def send(self, alert: Alert, *, seconds: float) -> None:
        """Remember it."""
        self.busy += 1
        try:
            if not self.gate.wait(seconds):
                raise DeliveryFailed(f"no answer within {seconds:g} s")
            if self.broken is not None:
                raise self.broken
            self.told.append(alert)
        finally:
            self.busy -= 1
