"""What a batch counted that somebody should hear of: in SQL, as a metric, and as one warning."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

__all__ = ["by_name", "warn"]

log = structlog.get_logger(__name__)

_FAULTS = ("invalid_", "versions_", "labels_version", "labels_null")
"""Counters whose growth is worth a warning; others are told where they are counted."""


def by_name(counters: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """All models together: names of models are no labels of a metric, there may be many.

    Examples
    --------
    >>> by_name({("a", "rows_unknown"): 2, ("b", "rows_unknown"): 3})
    {'rows_unknown': 5}
    """
    out: dict[str, int] = {}
    for (_, name), n in counters.items():
        out[name] = out.get(name, 0) + n
    return out


def warn(counters: Mapping[tuple[str, str], int]) -> None:
    """Say once a batch what was wrong with rows that were read all the same, or left out."""
    faults: dict[str, dict[str, int]] = {}
    for (model, name), n in sorted(counters.items()):
        if name.startswith(_FAULTS):
            faults.setdefault(model, {})[name] = n
    for model, found in faults.items():
        log.warning("rows_at_fault", action="rows_at_fault", model=model, **found)
