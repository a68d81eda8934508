"""Findings as all detectors of this room make them: their ids, the rows they are about, and how
they end with their version."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

from redistill.streams.wire.events import DriftFound, Window
from redistill.times import utc

__all__ = ["Span", "finding_id", "superseded"]

NAMESPACE = uuid5(NAMESPACE_URL, "https://redistill.dev/finding")


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


class Span(NamedTuple):
    """The rows that a finding is about, by when they were served: microseconds since 1970."""

    first: int
    last: int
    rows: int

    @property
    def window(self) -> Window:
        """As the event has it."""
        return Window(start=utc(self.first), end=utc(self.last), rows=self.rows)


def superseded(finding: DriftFound, at: int, *, why: str | None = None) -> DriftFound:
    """End an open finding that nobody follows any more.

    Parameters
    ----------
    finding
        The last state of the finding, open or updated.
    at
        Microseconds since 1970.
    why
        ``None``: its version no longer serves.
    """
    why = why or f"version {finding.version} was replaced"
    return dataclasses.replace(
        finding,
        status="resolved",
        resolution="superseded",
        severity="info",
        revision=finding.revision + 1,
        at=utc(at),
        reason=f"{why}; last seen: {finding.reason}",
    )
