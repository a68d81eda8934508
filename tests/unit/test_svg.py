"""Pieces of charts: well-formed, and every text is text."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from redistill import svg

EVIL = "</title><script>alert(1)</script>\"'&"


def test_pieces_make_a_well_formed_chart() -> None:
    drawn = ET.fromstring(
        svg.begin("shares", 120)
        + svg.line("grid", 0, 1, 2, 3)
        + svg.bar("now", 1, 2, 3, -4)
        + svg.text(1, 2, "said", "end")
        + f'<polyline points="{svg.points([(1, 2), (3.04, 4)])}"/></svg>'
    )
    assert drawn.attrib["viewBox"] == f"0 0 {svg.WIDTH} 120"
    assert drawn.attrib["aria-label"] == drawn.findtext("title") == "shares"
    assert drawn.find("rect").attrib["height"] == "0.0"  # type: ignore[union-attr]
    assert drawn.find("polyline").attrib["points"] == "1.0,2.0 3.0,4.0"  # type: ignore[union-attr]


def test_foreign_text_is_text() -> None:
    drawn = svg.begin(EVIL, 100) + svg.text(0, 0, EVIL, "start") + "</svg>"
    assert "<script" not in drawn
    assert ET.fromstring(drawn).findtext("text") == EVIL
