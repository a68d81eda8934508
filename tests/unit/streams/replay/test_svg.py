"""Charts of a report: well-formed, within their frame, every text escaped."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from redistill.streams.replay.svg import Mark, Measured, histograms, over_rows

EVIL = "</title><script>alert(1)</script>\"'&"


def points(*values: float) -> list[Measured]:
    return [
        Measured(first=100 * i, last=100 * i + 99, value=v, low=v - 0.05, high=v + 0.05, n=40)
        for i, v in enumerate(values)
    ]


def test_measured_shares_have_a_band_a_line_and_a_dot_each_that_says_its_figures() -> None:
    drawn = ET.fromstring(
        over_rows(points(0.9, 0.8, 0.6), [], rows=300, reference=0.9, title="accuracy")
    )
    (line,) = drawn.iterfind("polyline")
    heights = [float(p.split(",")[1]) for p in line.attrib["points"].split()]
    assert heights == sorted(heights)  # it falls
    dots = [c.findtext("title") for c in drawn.iterfind("circle")]
    assert dots[1] == "rows 100 to 199: 80.0% [75.0, 85.0], measured on 40 labels"
    assert len(drawn.find("polygon").attrib["points"].split()) == 6  # type: ignore[union-attr]


def test_everything_lies_within_the_frame() -> None:
    marks = [Mark(row=r, style="harm", text="t") for r in (0, 150, 300)]
    drawn = over_rows(points(0.0, 1.0, 0.5), marks, rows=300, reference=0.999, title="t")
    width, height = map(float, re.findall(r'viewBox="0 0 (\d+) (\d+)"', drawn)[0])
    assert all(0 <= float(x) <= width for x in re.findall(r' (?:c?x|x1|x2)="([-\d.]+)"', drawn))
    for y in re.findall(r' (?:c?y|y1|y2)="([-\d.]+)"', drawn):
        assert -20 <= float(y) <= height + 10  # an interval may pass the axis by a hair


def test_histograms_have_two_bars_a_bin_as_high_as_their_shares() -> None:
    drawn = ET.fromstring(histograms([0.25, 0.75], [0.5, 0.5], ["a", "b"], title="x"))
    bars = {
        (r.attrib["class"], i): float(r.attrib["height"])
        for i, g in enumerate(drawn.iterfind("g"))
        for r in g.iterfind("rect")
    }
    assert bars["usual", 1] == pytest.approx(3 * bars["usual", 0], abs=0.2)
    assert bars["now", 0] == pytest.approx(bars["now", 1])
    assert drawn.find("g").findtext("title") == "a: 25.0% in the reference, 50.0% now"  # type: ignore[union-attr]


def test_nothing_to_draw_is_a_frame() -> None:
    ET.fromstring(over_rows([], [], rows=0, reference=None, title="t"))
    ET.fromstring(histograms([], [], [], title="t"))


def test_foreign_text_is_text() -> None:
    mark = Mark(row=5, style=EVIL, text=EVIL)
    drawn = over_rows(points(0.5), [mark], rows=100, reference=None, title=EVIL)
    both = drawn + histograms([1.0], [1.0], [EVIL], title=EVIL)
    assert "<script" not in both
    ET.fromstring(drawn)
    assert ET.fromstring(drawn).findtext("g/title") == EVIL
