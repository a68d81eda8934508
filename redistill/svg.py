"""SVG as text: the pieces that charts are drawn of. Colours come from the page's style sheet, every
text is escaped. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = [
    "BOTTOM",
    "LEFT",
    "RIGHT",
    "TOP",
    "WIDTH",
    "bar",
    "begin",
    "line",
    "points",
    "short",
    "text",
]

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 760, 74, 12, 14, 34
"""Of a chart and its margins, in its own units; the page scales it."""


def begin(title: str, height: int) -> str:
    """The opening tag of a chart, with what it shows for who cannot see it; ``</svg>`` ends it."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>"
    )


def points(places: Sequence[tuple[float, float]]) -> str:
    """Corners of a line or an area, for its attribute ``points``."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def line(style: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """A straight line, of a class of the style sheet."""
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def bar(style: str, x: float, y: float, width: float, height: float) -> str:
    """A rectangle; one of no height where that is below 0."""
    return (
        f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}"'
        f' height="{max(0.0, height):.1f}"/>'
    )


def text(x: float, y: float, said: str, anchor: str) -> str:
    """A text; ``anchor``: ``start``, ``middle`` or ``end`` of it is at ``x``."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(said)}</text>'


def short(said: str, longest: int) -> str:
    """A text, cut at its length.

    Examples
    --------
    >>> short("abcdef", 4)
    'abc…'
    """
    return said if len(said) <= longest else said[: longest - 1] + "…"
