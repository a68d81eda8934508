"""Charts of a candidate: well-formed, within their frame, every text escaped, figures in words."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from redistill.compress.documents import charts
from redistill.compress.documents.charts import Spot
from redistill.compress.plan import CalibrationBin, Gate, Measure

EVIL = "</title><script>alert(1)</script>\"'&\u202e"


def m(value: float, half: float = 0.02, n: int = 500) -> Measure:
    return Measure(value=value, low=value - half, high=value + half, n=n)


def spot(name: str, cost: float, accuracy: float, **fields: object) -> Spot:
    return Spot(name=name, cost=cost, accuracy=m(accuracy), style="open", **fields)  # type: ignore[arg-type]


SPOTS = [
    spot("fp32", 400_000.0, 0.95, on_front=True),
    spot("static_int8", 110_000.0, 0.94, on_front=True),
    spot("teacher", 3_000_000.0, 0.97),
]
BINS = [CalibrationBin(confidence=0.1 * k, right=m(0.1 * k)) for k in range(5, 10)]
LOOKS = [(10, m(1.0, 3.0)), (20, m(2.0, 2.0)), (40, m(1.5, 1.0))]
ROWS = {"class 0": {"candidate": m(0.9), "incumbent": m(0.8)}, "class 1": {"candidate": m(0.7)}}


def test_models_stand_by_their_cost_and_a_line_joins_the_front() -> None:
    drawn = ET.fromstring(charts.trade(SPOTS, unit="bytes", title="t"))
    groups = {(g.findtext("title") or "").split(":")[0]: g for g in drawn.iterfind("g")}
    assert groups["fp32"].findtext("title") == "fp32: 95.0% [93.0, 97.0] of 500 rows, 4e+05 bytes"
    x = {n: float(g.find("circle").attrib["cx"]) for n, g in groups.items()}  # type: ignore[union-attr]
    assert x["static_int8"] < x["fp32"] < x["teacher"]
    (line,) = drawn.iterfind("polyline")
    assert len(line.attrib["points"].split()) == 2


@pytest.mark.parametrize("passed", [True, False, None])
def test_a_gate_is_drawn_with_its_interval_and_its_limit(passed: bool | None) -> None:
    gate = Gate(name="trusted", value=-0.4, limit=-2.0, passed=passed, why="", low=-0.4, high=1.0)
    drawn = ET.fromstring(charts.against_limit(gate))
    (group,) = drawn.iterfind("g")
    assert group.attrib["class"] == {True: "resolved", False: "harm", None: "note"}[passed]
    assert group.findtext("title") == "trusted: -0.4, limit -2, interval -0.4 to 1"
    limit = next(line for line in drawn.iterfind("line") if line.attrib["class"] == "base")
    circle = group.find("circle")
    assert circle is not None
    assert float(limit.attrib["x1"]) < float(circle.attrib["cx"])


@pytest.mark.parametrize(("value", "limit"), [(None, 1.0), (1.0, None)])
def test_a_gate_without_numbers_is_not_drawn(value: float | None, limit: float | None) -> None:
    assert not charts.against_limit(Gate(name="g", value=value, limit=limit, passed=None, why=""))


def test_a_gate_whose_value_is_its_limit_is_drawn() -> None:
    drawn = charts.against_limit(Gate(name="g", value=0.0, limit=0.0, passed=True, why=""))
    ET.fromstring(drawn)
    assert "nan" not in drawn


def test_classes_have_a_mark_for_each_model_that_has_rows() -> None:
    drawn = ET.fromstring(charts.side_by_side(ROWS, title="t"))
    said = [g.findtext("title") for g in drawn.iterfind("g")]
    assert said == [
        "class 0, candidate: 90.0% [88.0, 92.0] of 500 rows",
        "class 0, incumbent: 80.0% [78.0, 82.0] of 500 rows",
        "class 1, candidate: 70.0% [68.0, 72.0] of 500 rows",
    ]


def test_the_ends_of_an_axis_stay_within_the_frame() -> None:
    drawn = ET.fromstring(charts.side_by_side({"a": {"candidate": m(0.99, 0.2)}}, title="t"))
    last = [x for x in drawn.iterfind("text") if (x.text or "") == "100%"]
    assert [x.attrib["text-anchor"] for x in last] == ["end"]


def test_bins_of_confidence_stand_beside_the_diagonal() -> None:
    drawn = ET.fromstring(charts.reliability({"candidate": BINS}, title="t"))
    assert len(list(drawn.iterfind("g"))) == len(BINS)
    (diagonal,) = [x for x in drawn.iterfind("line") if x.attrib["class"] == "base"]
    left, right = float(diagonal.attrib["x1"]), float(diagonal.attrib["x2"])
    low, high = float(diagonal.attrib["y1"]), float(diagonal.attrib["y2"])
    for circle in drawn.iterfind("g/circle"):  # honest: all of them lie on it
        share = (float(circle.attrib["cx"]) - left) / (right - left)
        assert float(circle.attrib["cy"]) == pytest.approx(low + share * (high - low), abs=0.2)


def test_a_path_has_a_band_where_it_has_intervals() -> None:
    drawn = ET.fromstring(charts.over_rows(LOOKS, limit=0.0, title="t"))
    assert len(drawn.find("polygon").attrib["points"].split()) == 6  # type: ignore[union-attr]
    said = [c.findtext("title") for c in drawn.iterfind("circle")]
    assert said[1] == "after 20 rows: 2 [0, 4]"


def test_e_values_rise_evenly_on_a_scale_of_factors() -> None:
    looks = [(k, Measure(value=10.0**k, low=None, high=None, n=k)) for k in (1, 2, 3)]
    drawn = ET.fromstring(charts.over_rows(looks, limit=200.0, title="t", logarithmic=True))
    assert drawn.find("polygon") is None
    y = [float(c.attrib["cy"]) for c in drawn.iterfind("circle")]
    assert y[0] > y[1]
    assert y[0] - y[1] == pytest.approx(y[1] - y[2], abs=0.2)


@pytest.mark.parametrize("values", [(1.0, 1e150, 1e304), (1.0, 1e-200, 0.0), (0.0, 1.0, 1e304)])
def test_e_values_at_the_ends_of_the_floats_are_drawn(values: tuple[float, ...]) -> None:
    """A candidate that is much better reaches the first with 2,500 labelled rows."""
    looks = [(k, Measure(value=v, low=None, high=None, n=k)) for k, v in enumerate(values, 1)]
    drawn = ET.fromstring(charts.over_rows(looks, limit=200.0, title="t", logarithmic=True))
    y = [float(c.attrib["cy"]) for c in drawn.iterfind("circle")]
    assert sorted(y, reverse=values[0] < values[-1]) == y
    assert all(0.0 <= at <= 220.0 for at in y)
    assert len({t.text for t in drawn.iterfind("text")}) >= 8, "each line of the grid has its own"


def every_chart(name: str) -> list[str]:
    gate = Gate(name=name, value=0.5, limit=1.0, passed=True, why=name)
    return [
        charts.trade([spot(name, 5.0, 0.5)], unit="ms", title=name),
        charts.against_limit(gate),
        charts.side_by_side({name: {name: m(0.5)}}, title=name),
        charts.reliability({name: BINS}, title=name),
        charts.over_rows(LOOKS, limit=1.0, title=name),
    ]


def test_foreign_names_are_text() -> None:
    for drawn in every_chart(EVIL):
        assert "<script" not in drawn
        ET.fromstring(drawn)


def test_everything_lies_within_the_frame() -> None:
    for drawn in [*every_chart("n"), charts.trade(SPOTS, unit="bytes", title="t")]:
        width, height = map(float, re.findall(r'viewBox="0 0 (\d+) (\d+)"', drawn)[0])
        for x in re.findall(r' (?:c?x|x1|x2)="([-\d.]+)"', drawn):
            assert 0 <= float(x) <= width
        for y in re.findall(r' (?:c?y|y1|y2)="([-\d.]+)"', drawn):
            assert -20 <= float(y) <= height + 10


def test_nothing_to_draw_is_a_frame() -> None:
    for drawn in (
        charts.trade([], unit="ms", title="t"),
        charts.side_by_side({}, title="t"),
        charts.reliability({}, title="t"),
        charts.over_rows([], limit=1.0, title="t"),
    ):
        ET.fromstring(drawn)
