"""SVG charts of a report, as text: a measured share over rows with its interval, and two histograms
beside each other. Colours come from the page's style sheet. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from redistill import svg
from redistill.streams.wire import sentences
from redistill.svg import BOTTOM, LEFT, RIGHT, TOP, WIDTH

__all__ = ["Mark", "Measured", "histograms", "over_rows"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A share of the rows ``first`` to ``last``, with its 95% interval."""

    first: int
    last: int
    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """Something that was said at a row."""

    row: int
    style: str
    """Class of the style sheet: ``harm``, ``resolved`` or ``note``."""
    text: str


def over_rows(
    points: Sequence[Measured],
    marks: Sequence[Mark],
    *,
    rows: int,
    reference: float | None,
    title: str,
    height: int = 240,
) -> str:
    """A measured share over the rows of a stream.

    Parameters
    ----------
    points
        In the order of their rows.
    marks
        Vertical lines; their texts show where the pointer rests.
    rows
        Of the stream: the right end.
    reference
        Share in the reference, a dashed line; ``None``: not known.
    """
    shown = [v for p in points for v in (p.low, p.high)] + ([reference] if reference else [])
    bottom, top = _range(shown)

    def x(row: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * row / max(1, rows)

    def y(value: float) -> float:
        return TOP + (height - TOP - BOTTOM) * (top - value) / (top - bottom)

    parts = [svg.begin(title, height)]
    for i in range(5):
        value = bottom + (top - bottom) * i / 4
        parts.append(svg.line("grid", LEFT, y(value), WIDTH - RIGHT, y(value)))
        parts.append(svg.text(LEFT - 6, y(value) + 4, f"{value:.1%}", "end"))
    for i in range(5):
        anchor = "end" if i == 4 else "start" if i == 0 else "middle"
        parts.append(svg.text(x(rows * i / 4), height - 8, f"{round(rows * i / 4):,}", anchor))
    if points:
        upper = [(x((p.first + p.last) / 2), y(p.high)) for p in points]
        lower = [(x((p.first + p.last) / 2), y(p.low)) for p in points]
        parts.append(f'<polygon class="band" points="{svg.points(upper + lower[::-1])}"/>')
        middle = [(x((p.first + p.last) / 2), y(p.value)) for p in points]
        parts.append(f'<polyline class="line" points="{svg.points(middle)}"/>')
    if reference is not None:
        parts.append(svg.line("base", LEFT, y(reference), WIDTH - RIGHT, y(reference)))
    parts += [
        f'<g class="{escape(mark.style)}"><title>{escape(mark.text)}</title>'
        + svg.line("mark", x(mark.row), TOP, x(mark.row), height - BOTTOM)
        + f'<circle cx="{x(mark.row):.1f}" cy="{TOP}" r="4"/></g>'
        for mark in marks
    ]
    for (cx, cy), p in zip(
        [(x((p.first + p.last) / 2), y(p.value)) for p in points], points, strict=True
    ):
        measured = sentences.measured(p.value, p.low, p.high, p.n)
        said = f"rows {p.first:,} to {p.last:,}: {measured}"
        parts.append(
            f'<circle class="dot" cx="{cx:.1f}" cy="{cy:.1f}" r="2.5"><title>{escape(said)}</title>'
            "</circle>"
        )
    return "".join([*parts, "</svg>"])


def histograms(
    reference: Sequence[float],
    current: Sequence[float],
    labels: Sequence[str],
    *,
    title: str,
    height: int = 150,
) -> str:
    """Two histograms beside each other, bin by bin.

    Parameters
    ----------
    reference, current
        Shares of the bins.
    labels
        Of the bins; where there are many, only some are written.
    """
    n = max(1, len(reference))
    top = max([*reference, *current, 1e-9])
    step = (WIDTH - LEFT - RIGHT) / n

    def y(value: float) -> float:
        return TOP + (height - TOP - BOTTOM) * (1 - value / top)

    parts = [svg.begin(title, height)]
    for value in (0.0, top):
        parts.append(svg.line("grid", LEFT, y(value), WIDTH - RIGHT, y(value)))
        parts.append(svg.text(LEFT - 6, y(value) + 4, f"{value:.0%}", "end"))
    every = max(1, -(-n // 5))
    for i, (usual, now, label) in enumerate(zip(reference, current, labels, strict=True)):
        at = LEFT + i * step
        said = escape(f"{label}: {usual:.1%} in the reference, {now:.1%} now")
        parts.append(
            f"<g><title>{said}</title>"
            + svg.bar("usual", at + 0.08 * step, y(usual), 0.4 * step, y(0) - y(usual))
            + svg.bar("now", at + 0.52 * step, y(now), 0.4 * step, y(0) - y(now))
            + "</g>"
        )
        if i % every == 0:
            parts.append(svg.text(at + step / 2, height - 8, svg.short(label, 13), "middle"))
    return "".join([*parts, "</svg>"])


def _range(shown: Sequence[float]) -> tuple[float, float]:
    """Bounds of an axis of shares, with room above and below."""
    low, high = min(shown, default=0.0), max(shown, default=1.0)
    room = max(0.01, 0.08 * (high - low))
    low, high = max(0.0, low - room), min(1.0, high + room)
    return (low, high) if high > low else (0.0, 1.0)
