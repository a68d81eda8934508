"""SVG charts of a candidate: variants by accuracy and cost, a gate against its limit, measures of
classes beside each other, confidence against truth, and evidence over rows. Pure."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from redistill import svg
from redistill.compress.plan import CalibrationBin, Gate, Measure
from redistill.oneline import one_line
from redistill.svg import BOTTOM, LEFT, RIGHT, TOP, WIDTH

__all__ = ["Spot", "against_limit", "over_rows", "reliability", "side_by_side", "trade"]

LONGEST_NAME = 60
NAME_WIDTH = 190
"""For names of classes and slices, left of their measures."""
ROW_HEIGHT = 15
LEAST, MOST_EXPONENT = sys.float_info.min, sys.float_info.max_10_exp
"""Of a logarithmic scale: the least value, and the largest power of ten that is a float."""
COLOURS = 3
"""Of models that are drawn beside each other: ``m0``, ``m1``, ``m2``."""

Place = Callable[[float], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Spot:
    """A model in a chart of accuracy against cost."""

    name: str
    cost: float
    """Bytes, or milliseconds: above 0."""
    accuracy: Measure
    style: str
    """Class of the style sheet: ``resolved``, ``harm``, ``open`` or ``note``."""
    on_front: bool = False
    """No other costs less and is as accurate: joined by a line."""


def trade(spots: Sequence[Spot], *, unit: str, title: str, height: int = 260) -> str:
    """Accuracy with its interval against what it costs, on a logarithmic scale.

    Parameters
    ----------
    unit
        Of the cost, as it is written behind a number.
    """
    shown = [v for s in spots for v in _ends(s.accuracy)]
    y = _shares(shown, height)
    costs = [s.cost for s in spots] or [1.0, 10.0]
    room = max(0.05, 0.1 * (math.log10(max(costs)) - math.log10(min(costs))))
    low, high = math.log10(min(costs)) - room, math.log10(max(costs)) + room

    def x(cost: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log10(cost) - low) / (high - low)

    parts = [svg.begin(title, height), *_share_grid(y, shown)]
    for k in range(5):
        value = 10 ** (low + (high - low) * k / 4)
        anchor = "start" if k == 0 else "end" if k == 4 else "middle"
        parts.append(svg.text(x(value), height - 8, f"{value:,.3g} {unit}", anchor))
    front = sorted((s for s in spots if s.on_front), key=lambda s: s.cost)
    if len(front) > 1:
        corners = [(x(s.cost), y(s.accuracy.value)) for s in front]
        parts.append(f'<polyline class="line" points="{svg.points(corners)}"/>')
    for s in spots:
        at, (bottom, top) = x(s.cost), _ends(s.accuracy)
        said = f"{one_line(s.name, LONGEST_NAME)}: {_share(s.accuracy)}, {s.cost:,.4g} {unit}"
        right = at > WIDTH * 0.75
        parts.append(
            f'<g class="{s.style}"><title>{escape(said)}</title>'
            + svg.line("mark", at, y(top), at, y(bottom))
            + f'<circle cx="{at:.1f}" cy="{y(s.accuracy.value):.1f}" r="4"/>'
            + svg.text(
                at + (-8 if right else 8),
                y(s.accuracy.value) - 6,
                one_line(s.name, 24),
                "end" if right else "start",
            )
            + "</g>"
        )
    return "".join([*parts, "</svg>"])


def against_limit(gate: Gate, *, height: int = 44) -> str:
    """A gate's value, with its interval where it has one, against its limit; each on a scale of its
    own. Empty where there is nothing to compare."""
    if gate.value is None or gate.limit is None:
        return ""
    ends = [v for v in (gate.low, gate.high) if v is not None]
    shown = [gate.value, gate.limit, *ends]
    low, high = min(shown), max(shown)
    room = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
    low, high = low - room, high + room

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)

    style = {True: "resolved", False: "harm", None: "note"}[gate.passed]
    said = f"{gate.name}: {gate.value:.4g}, limit {gate.limit:.4g}"
    if len(ends) == 2:
        said += f", interval {ends[0]:.4g} to {ends[1]:.4g}"
    middle = 14.0
    parts = [
        svg.begin(said, height),
        svg.line("grid", LEFT, middle, WIDTH - RIGHT, middle),
        svg.line("base", x(gate.limit), 2.0, x(gate.limit), 26.0),
        svg.text(x(gate.limit), 40.0, f"limit {gate.limit:.4g}", _anchor(x(gate.limit))),
        f'<g class="{style}"><title>{escape(said)}</title>',
    ]
    if len(ends) == 2:
        parts.append(svg.line("mark", x(ends[0]), middle, x(ends[1]), middle))
    parts.append(f'<circle cx="{x(gate.value):.1f}" cy="{middle}" r="5"/></g>')
    return "".join([*parts, "</svg>"])


def side_by_side(rows: Mapping[str, Mapping[str, Measure]], *, title: str) -> str:
    """Shares of classes, slices or groups, of several models each, with their intervals.

    Parameters
    ----------
    rows
        By name, then by model.
    """
    models = list(dict.fromkeys(model for found in rows.values() for model in found))
    shown = [v for found in rows.values() for m in found.values() for v in _ends(m)]
    low, high = _bounds(shown)
    step = ROW_HEIGHT * max(1, len(models)) + 8
    height = TOP + step * len(rows) + BOTTOM

    def x(value: float) -> float:
        left = LEFT + NAME_WIDTH
        return left + (WIDTH - left - RIGHT) * (value - low) / (high - low)

    parts = [svg.begin(title, height)]
    for k in range(5):
        value = low + (high - low) * k / 4
        parts.append(svg.line("grid", x(value), TOP, x(value), height - BOTTOM))
        parts.append(svg.text(x(value), height - 8, f"{value:.0%}", _anchor(x(value))))
    for k, (name, found) in enumerate(rows.items()):
        top = TOP + step * k
        label = one_line(name, 32)
        parts.append(svg.text(LEFT + NAME_WIDTH - 8, top + step / 2, label, "end"))
        for j, model in enumerate(models):
            if (m := found.get(model)) is None:
                continue
            y, (a, b) = top + ROW_HEIGHT * (j + 0.75), _ends(m)
            said = f"{one_line(name, LONGEST_NAME)}, {model}: {_share(m)}"
            parts.append(
                f'<g class="m{j % COLOURS}"><title>{escape(said)}</title>'
                + svg.line("mark", x(a), y, x(b), y)
                + f'<circle cx="{x(m.value):.1f}" cy="{y:.1f}" r="3.5"/></g>'
            )
    return "".join([*parts, "</svg>"])


def reliability(
    models: Mapping[str, Sequence[CalibrationBin]], *, title: str, height: int = 300
) -> str:
    """Share of right answers against confidence, in bins of equal mass: honest is the diagonal."""
    bins = [b for found in models.values() for b in found]
    shown = [v for b in bins for v in (*_ends(b.right), b.confidence)]
    y, (low, high) = _shares(shown, height), _bounds(shown)

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)

    parts = [svg.begin(title, height), *_share_grid(y, shown)]
    parts.append(svg.line("base", x(low), y(low), x(high), y(high)))
    for k in range(5):
        value = low + (high - low) * k / 4
        parts.append(svg.text(x(value), height - 8, f"{value:.0%}", _anchor(x(value))))
    for j, (name, found) in enumerate(models.items()):
        for b in found:
            at, (bottom, top) = x(b.confidence), _ends(b.right)
            said = f"{name}, confidence {b.confidence:.1%}: right {_share(b.right)}"
            parts.append(
                f'<g class="m{j % COLOURS}"><title>{escape(said)}</title>'
                + svg.line("mark", at, y(top), at, y(bottom))
                + f'<circle cx="{at:.1f}" cy="{y(b.right.value):.1f}" r="3.5"/></g>'
            )
    return "".join([*parts, "</svg>"])


def over_rows(
    looks: Sequence[tuple[int, Measure]],
    *,
    limit: float,
    title: str,
    logarithmic: bool = False,
    height: int = 220,
) -> str:
    """A quantity after so many rows, with its interval where it has one, against a limit.

    Parameters
    ----------
    looks
        Rows seen, and what was found, in this order.
    logarithmic
        For e-values: those that floats round to 0 stand at the least float above it.
    """

    def scaled(value: float) -> float:
        return math.log10(max(value, LEAST)) if logarithmic else value

    shown = [scaled(v) for _, m in looks for v in _ends(m)] + [scaled(limit)]
    low, high = min(shown), max(shown)
    room = 0.08 * (high - low) or 1.0
    low, high = low - room, high + room
    most = max((rows for rows, _ in looks), default=1)

    def x(rows: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * rows / most

    def place(at: float) -> float:
        return TOP + (height - TOP - BOTTOM) * (high - at) / (high - low)

    def y(value: float) -> float:
        return place(scaled(value))

    parts = [svg.begin(title, height)]
    for k in range(5):
        at = low + (high - low) * k / 4
        parts.append(svg.line("grid", LEFT, place(at), WIDTH - RIGHT, place(at)))
        said = _power(at) if logarithmic else f"{at:.3g}"
        parts.append(svg.text(LEFT - 6, place(at) + 4, said, "end"))
        rows = round(most * k / 4)
        parts.append(svg.text(x(rows), height - 8, f"{rows:,}", _anchor(x(rows))))
    if len(looks) > 1:
        if any(m.low is not None for _, m in looks):
            upper = [(x(rows), y(_ends(m)[1])) for rows, m in looks]
            lower = [(x(rows), y(_ends(m)[0])) for rows, m in looks]
            parts.append(f'<polygon class="band" points="{svg.points(upper + lower[::-1])}"/>')
        middle = [(x(rows), y(m.value)) for rows, m in looks]
        parts.append(f'<polyline class="line" points="{svg.points(middle)}"/>')
    parts.append(svg.line("base", LEFT, y(limit), WIDTH - RIGHT, y(limit)))
    for rows, m in looks:
        said = f"after {rows:,} rows: {m.value:.4g}"
        if m.low is not None and m.high is not None:
            said += f" [{m.low:.4g}, {m.high:.4g}]"
        parts.append(
            f'<circle class="dot" cx="{x(rows):.1f}" cy="{y(m.value):.1f}" r="2.5">'
            f"<title>{escape(said)}</title></circle>"
        )
    return "".join([*parts, "</svg>"])


def _power(exponent: float) -> str:
    """A power of ten, also one that no float holds: the axis reaches beyond what is drawn."""
    return f"{10.0**exponent:.3g}" if abs(exponent) < MOST_EXPONENT else f"1e{exponent:+.0f}"


def _ends(m: Measure) -> tuple[float, float]:
    """Bounds of an interval; the value itself where there are none."""
    return (m.value if m.low is None else m.low), (m.value if m.high is None else m.high)


def _share(m: Measure) -> str:
    low, high = _ends(m)
    return f"{m.value:.1%} [{100 * low:.1f}, {100 * high:.1f}] of {m.n:,} rows"


def _bounds(shown: Sequence[float]) -> tuple[float, float]:
    """Of an axis of shares, with room on both sides."""
    low, high = min(shown, default=0.0), max(shown, default=1.0)
    room = max(0.01, 0.08 * (high - low))
    low, high = max(0.0, low - room), min(1.0, high + room)
    return (low, high) if high > low else (0.0, 1.0)


def _shares(shown: Sequence[float], height: int) -> Place:
    low, high = _bounds(shown)
    return lambda value: TOP + (height - TOP - BOTTOM) * (high - value) / (high - low)


def _share_grid(y: Place, shown: Sequence[float]) -> list[str]:
    low, high = _bounds(shown)
    out = []
    for k in range(5):
        value = low + (high - low) * k / 4
        out.append(svg.line("grid", LEFT, y(value), WIDTH - RIGHT, y(value)))
        out.append(svg.text(LEFT - 6, y(value) + 4, f"{value:.1%}", "end"))
    return out


def _anchor(at: float) -> str:
    return "start" if at < LEFT + 40 else "end" if at > WIDTH - RIGHT - 40 else "middle"
