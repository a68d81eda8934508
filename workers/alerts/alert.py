"""Alert: what a person is told of an incident, of trouble with the installation, or of a storm."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

from redistill.workers.incidents.broken_feeds import Breakage

__all__ = ["CHANNEL_FAILING", "SEVERITIES", "Alert", "Kind", "Severity", "State", "digest"]

Severity = Literal["page", "warn", "info"]
"""``page``: a person is needed now; ``warn``: look when awake; ``info``: for the record."""
SEVERITIES: tuple[Severity, ...] = ("info", "warn", "page")
"""From the least to the most."""

Kind = Literal["incident", "storm", "operational", "change", "heartbeat", "test"]
State = Literal["firing", "acknowledged", "resolved"]

CHANNEL_FAILING = "channel_failing"
"""Class of the operational alert about a channel that takes nothing; ``where`` is its name. No
message on that channel could tell it."""


LATER = ("breakages",)
"""Fields that alerts of the first release did not have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """One alert in its present state; every field is a sentence or a figure that a person reads.

    Times are microseconds since 1970 by the database's clock. A field that has nothing to say is
    empty, and is left out by channels.
    """

    key: str
    """The same over its whole life, by which a channel finds what it was told before:
    ``incident:ID``, ``operational:ID``, ``storm:ID``, ``feed:ID``, ``change:MODEL:EPOCH``."""
    kind: Kind
    state: State
    severity: Severity
    alert_class: str
    """Class of the incident (``harm``, ``data_bug``, ...), or kind of the operational alert."""
    model: str | None
    version: str | None
    title: str
    """What is wrong, with the figure in it; one line without a full stop."""
    how_bad: str = ""
    """With its interval, basis and number of labels, or why that is not known."""
    where: str = ""
    """Slices and contributors."""
    done: str = ""
    """What redistill did, or is doing."""
    commands: tuple[str, ...] = ()
    """What to type, most useful first."""
    url: str | None = None
    """Of its page, where ``REDISTILL_PUBLIC_URL`` is set."""
    opened_at: int
    """When it was found."""
    began: str = ""
    """Since when it is so, with its bounds, where that is known to differ from ``opened_at``."""
    resolved_at: int | None = None
    members: tuple[str, ...] = ()
    """Of a storm: a line about each alert in it."""
    breakages: tuple[Breakage, ...] = ()
    """Of an incident: columns that break the contract, or did since it was opened."""


def digest(alert: Alert) -> str:
    """What tells one state of an alert from another: SHA-256 (hex) of all its fields. A later one
    that is empty does not count: what is open is not told once more because of an upgrade.

    Examples
    --------
    >>> one = Alert(key="test:1", kind="test", state="firing", severity="info", alert_class="test",
    ...             model=None, version=None, title="a test", opened_at=0)
    >>> digest(one) == digest(one), len(digest(one))
    (True, 64)
    """
    told = {name: value for name, value in asdict(alert).items() if value or name not in LATER}
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
