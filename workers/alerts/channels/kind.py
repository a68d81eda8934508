"""Kind of channel: what a line of the table says about one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redistill.workers.alerts import alert
from redistill.workers.alerts.channels.channel import Channel

__all__ = ["ALERTS", "HEARTBEAT", "ChannelKind"]

ALERTS: frozenset[alert.Kind] = frozenset(("incident", "storm", "operational", "change", "test"))
HEARTBEAT: frozenset[alert.Kind] = frozenset(("heartbeat",))


@dataclass(frozen=True, kw_only=True)
class ChannelKind:
    """What ``kind = "NAME"`` stands for in ``[channels.*]``."""

    name: str
    said: str
    """What it is for, in a line."""
    options: type
    """Frozen dataclass of its keys, each an ``option``."""
    make: Callable[[Any], Channel]
    """From these options to the channel; it asks nobody."""
    carries: frozenset[alert.Kind]
    """What may be sent on it: ``ALERTS``, ``HEARTBEAT`` or both."""
