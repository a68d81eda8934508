"""What all detectors of this room share when they make a ``drift.v1``: ids, times, and ending
somebody else's finding."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

from redistill.streams.wire.events import DriftFound, Window

NAMESPACE = uuid5(NAMESPACE_URL, "https://redistill.dev/finding")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = int((datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH).total_seconds()) * 1_000_000


def finding_id(model: str, version: str, kind: str, detector: str, scope: str, opened: int) -> UUID:
    """Id of a finding: the same rows counted again give the same id.

    Parameters
    ----------
    detector
        Name of the detector; detectors that exist once per partition append
        ``@topic_id/partition``.
    opened
        How many findings of this detector and scope were opened before.

    Examples
    --------
    >>> finding_id("credit", "7", "accuracy", "harm", "all", 0)
    UUID('...')
    """
    return uuid5(NAMESPACE, f"{model}|{version}|{kind}|{detector}|{scope}|{opened}")


def utc(microseconds: int) -> datetime:
    """A block's time as an event's time; what no calendar can hold is moved to its nearest end.

    Examples
    --------
    >>> utc(1_500_000).isoformat()
    '1970-01-01T00:00:01.500000+00:00'
    """
    return _EPOCH + timedelta(microseconds=min(max(int(microseconds), 0), _LAST))


class Span(NamedTuple):
    """The rows that a finding is about, by when they were served: microseconds since 1970."""

    first: int
    last: int
    rows: int

    @property
    def window(self) -> Window:
        """As the event has it."""
        return Window(start=utc(self.first), end=utc(self.last), rows=self.rows)


def superseded(found: DriftFound, at: int) -> DriftFound:
    """End an open finding because its version no longer serves.

    Parameters
    ----------
    found
        The last state of the finding, open or updated.
    at
        Microseconds since 1970.
    """
    return dataclasses.replace(
        found,
        status="resolved",
        resolution="superseded",
        severity="info",
        revision=found.revision + 1,
        at=utc(at),
        reason=f"version {found.version} was replaced; last seen: {found.reason}",
    )
