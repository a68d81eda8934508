"""Words of a message: figures with their doubt, and names that somebody else chose. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from redistill.times import utc

__all__ = ["between", "impact_text", "impact_title", "one_line", "where_text"]

LONGEST = 600
"""Characters of one field: a reason may list many columns."""
NAMED = 3
"""Slices, and columns, that a message names; the page has all."""


def one_line(text: str, longest: int = LONGEST) -> str:
    """A text on one line, without characters that steer a terminal or turn a text around, cut at
    its length.

    Examples
    --------
    >>> one_line("region\\n\\u202eEU  ok"), one_line("abcdef", 4)
    ('region EU ok', 'abc…')
    """
    shown = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in text)
    shown = " ".join(shown.split())
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def between(low: int | None, high: int | None) -> str:
    """When a change began, by its bounds; empty where that is not known.

    Examples
    --------
    >>> between(0, 60_000_000), between(0, 0), between(None, 1)
    ('between 1970-01-01 00:00 and 1970-01-01 00:01 UTC', '1970-01-01 00:00 UTC', '')
    """
    if low is None or high is None:
        return ""
    first, last = (f"{utc(at):%Y-%m-%d %H:%M}" for at in (low, high))
    return f"{first} UTC" if first == last else f"between {first} and {last} UTC"


def impact_title(impact: Mapping[str, Any]) -> str:
    """What became of a figure, for a title; empty where there is none.

    Examples
    --------
    >>> impact_title({"metric": "accuracy", "reference": .956, "current": .813})
    'error 4.4% → 18.7%'
    >>> impact_title({"metric": "missing_rate", "reference": None, "current": .5})
    'missing rate 50.0%'
    """
    name, now = _shown(impact, "current")
    if now is None:
        return ""
    _, before = _shown(impact, "reference")
    return f"{name} {'' if before is None else f'{before:.1%} → '}{now:.1%}"


def impact_text(impact: Mapping[str, Any]) -> str:
    """How bad it is: value, interval, basis, and how many rows it stands on.

    Examples
    --------
    >>> impact_text({"metric": "accuracy", "reference": .956, "current": .813, "low": .776,
    ...              "high": .847, "basis": "measured", "n": 1492, "harmful": True})
    'error 4.4% → 18.7% [15.3, 22.4], measured on 1,492 labels'
    """
    title = impact_title(impact)
    if not title:
        return ""
    _, low = _shown(impact, "low")
    _, high = _shown(impact, "high")
    bounds = ""
    if low is not None and high is not None:
        bounds = f" [{100 * min(low, high):.1f}, {100 * max(low, high):.1f}]"
    measured = impact.get("basis") == "measured"
    rows = f"{impact.get('n', 0):,} {'labels' if measured else 'rows'}"
    text = f"{title}{bounds}, {'measured' if measured else 'estimated'} on {rows}"
    if impact.get("metric") != "accuracy":
        return f"{text}; its effect on accuracy is not measured"
    return text if impact.get("harmful") else f"{text}; whether that is harm is not known"


def _shown(impact: Mapping[str, Any], key: str) -> tuple[str, float | None]:
    """A figure as people read it: of accuracy, how much is wrong."""
    metric, value = str(impact.get("metric", "")), impact.get(key)
    if metric == "accuracy":
        return "error", None if value is None else 1.0 - float(value)
    return metric.replace("_", " "), None if value is None else float(value)


def where_text(findings: Sequence[Mapping[str, Any]]) -> str:
    """Slices that are worst and columns that moved most, of findings; the columns explain, they
    do not accuse."""
    slices = [s for f in findings for s in f.get("slices") or []]
    slices.sort(key=lambda s: float(s["current"]))
    worst = [
        f"{one_line(s['key'], 60)}={one_line(s['value'], 60)} error {1 - s['current']:.1%}"
        f" [{100 * (1 - s['high']):.1f}, {100 * (1 - s['low']):.1f}] on {s['n']:,} labels"
        for s in slices
        if s["reference"] is not None and s["high"] < s["reference"]
    ]
    columns = {c["column"]: c for f in findings for c in f.get("contributors") or []}
    moved = [
        f"{one_line(c['column'], 60)} ({one_line(c['distance'], 20)} {c['value']:.3g},"
        f" chance gives {c['noise_floor']:.3g})"
        for c in columns.values()
    ]
    parts = [", ".join(worst[:NAMED])] if worst else []
    if moved:
        parts.append("moved: " + ", ".join(moved[:NAMED]))
    return "; ".join(parts)
