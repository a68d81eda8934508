"""Ids of findings, the rows they are about, and how they end with their version."""

from __future__ import annotations

from datetime import UTC, datetime

from redistill.streams.monitor.findings import Span, finding_id, superseded
from redistill.streams.monitor.reports import Origin, drift_impact, opened
from redistill.streams.wire.events import Statistic


def test_the_same_finding_has_the_same_id_and_each_part_of_it_counts() -> None:
    parts = ("credit", "7", "quality", "contract.missing", "income", 0)
    assert str(finding_id(*parts)) == "12b527c2-8a42-5939-baea-a5830d4b056d"
    others = {finding_id(*(*parts[:i], "x", *parts[i + 1 :])) for i in range(5)}
    others.add(finding_id(*parts[:5], 1))
    assert len(others | {finding_id(*parts)}) == 7


def test_a_span_is_told_as_a_window() -> None:
    window = Span(1_000_000, 2_500_000, 7).window
    assert (window.start, window.end, window.rows) == (
        datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC),
        datetime(1970, 1, 1, 0, 0, 2, 500_000, tzinfo=UTC),
        7,
    )


def test_superseded_ends_a_finding_of_an_old_version() -> None:
    finding = opened(
        Origin(model="credit", version="7", partition=("t", 0), provisional=False),
        Span(0, 1, 1),
        kind="input",
        scope="all",
        name="psi",
        count=0,
        severity="warning",
        parameters={},
        statistic=Statistic(value=1.0, threshold=0.5),
        impact=drift_impact(1.0, 1),
        contributors=(),
        reason="x0 is far",
    )
    ended = superseded(finding, 9_000_000_000)
    assert (ended.status, ended.resolution, ended.severity) == ("resolved", "superseded", "info")
    assert (ended.finding_id, ended.revision) == (finding.finding_id, 1)
    assert ended.at.timestamp() == 9_000
    assert ended.reason == "version 7 was replaced; last seen: x0 is far"
