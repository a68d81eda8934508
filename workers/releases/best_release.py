"""Best release so far of a model: the few releases among which it must be, by what was measured of
each when it was judged.

Accuracies that were measured on other trusted rows than today's cannot be compared with those that
were. So a job is given up to three releases, runs all of them over today's rows, and knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from redistill.streams.store.tables import specs
from redistill.workers.releases import publication_history, versions
from redistill.workers.releases.versions import Version
from redistill.workers.store.tables import pointers

__all__ = ["contenders"]

MAX_RELEASES = 3
"""Releases that a job measures beside the incumbent."""


def contenders(conn: sa.Connection, model: str) -> list[Version]:
    """Releases that may be better on trusted rows than what serves, the likeliest first.

    First the best of those that were measured on today's trusted rows, then the best of those that
    were measured on others, then the next ones of today's. Each served once, its files are kept,
    its bytes are not barred, and they are not those that serve now. Retention keeps the files of
    these: a release that is gone cannot be compared with, and losses would add up.

    Returns
    -------
    list of Version
        At most ``MAX_RELEASES``.
    """
    text = conn.execute(sa.select(specs.c.spec).where(specs.c.model == model)).scalar_one_or_none()
    today = json.loads(text or "{}").get("objects", {}).get("trusted")
    serving = conn.execute(
        sa.select(pointers.c.stable).where(pointers.c.model == model)
    ).scalar_one_or_none()
    servable = {v.version for v in publication_history.servable(conn, model)}
    every = versions.all_versions(conn, model)  # newest first
    seen = {v.sha256 for v in every if v.version == serving}
    same: list[tuple[float, Version]] = []
    other: list[tuple[float, Version]] = []
    for version in every:
        accuracy = recorded_accuracy(version.report)
        if version.version not in servable or version.sha256 in seen or accuracy is None:
            continue
        seen.add(version.sha256)
        measured_on = version.report.get("trusted_sha256")
        (same if measured_on is not None and measured_on == today else other).append(
            (accuracy, version)
        )
    for group in (same, other):
        group.sort(key=lambda found: -found[0])
    ordered = [*same[:1], *other, *same[1:]]
    return [version for _, version in ordered[:MAX_RELEASES]]


def recorded_accuracy(report: Mapping[str, Any]) -> float | None:
    """Accuracy of a release on trusted rows, as its gate report says; rather on those that only
    rank: whoever is chosen by rows that judge looks better on them than it is.

    Examples
    --------
    >>> variant = {"name": "fp32", "trusted_accuracy": {"value": 0.9}}
    >>> recorded_accuracy({"chosen": "fp32", "variants": [variant]})
    0.9
    >>> recorded_accuracy({}) is None
    True
    """
    for variant in report.get("variants", ()):
        if variant.get("name") == report.get("chosen"):
            measured = variant.get("ranking_accuracy") or variant.get("trusted_accuracy") or {}
            value = measured.get("value")
            return None if value is None else float(value)
    return None
