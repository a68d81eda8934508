"""Gate report: strict HTML, every gate with its value, limit, interval and reason."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from judged_reports import report
from strict_pages import want_strict

from redistill.compress.documents import gate_report
from redistill.compress.plan import Gate, NeedsPerson, Rejected, Report, Undecidable

EVIL = "<script>alert('x')</script>\u202e"
HEADS = (
    "Gates",
    "Candidate against incumbent on fresh rows",
    "Accuracy, size and latency",
    "Accuracy by class",
    "Accuracy by slice",
    "Calibration",
    "Groups",
    "How it was made and judged",
)


def charts(given: Report) -> list[ET.Element]:
    return [ET.fromstring(s) for s in re.findall(r"<svg.*?</svg>", gate_report.page(given))]


def test_page_is_strict_and_has_its_parts() -> None:
    page = want_strict(gate_report.page(report()))
    for head in HEADS:
        assert head in page.text
    assert page.tags.count("h1") == 1


def test_gates_stand_with_value_limit_interval_and_why() -> None:
    text = want_strict(gate_report.page(report(name="ann: known"))).text
    assert "[-0.4, 1.1]" in text
    assert "512" in text
    assert "waived by ann: known" in text
    assert "Gate trusted was waived: ann: known" in text
    assert "a gate has bounds at a level of its own (trusted: 95% on each side alone)" in text


def test_every_chart_is_there() -> None:
    labels = [d.attrib["aria-label"] for d in charts(report())]
    for said in (
        "trusted: -0.4, limit -2, interval -0.4 to 1.1",
        "Mean paired difference in points over labelled fresh rows",
        "E-value that the candidate is better, over labelled fresh rows",
        "Accuracy on trusted rows against size",
        "Accuracy on trusted rows against latency",
        "Accuracy by class, trusted rows",
        "Accuracy by class, labelled fresh rows",
        "Accuracy by slice, trusted rows",
        "Right answers by confidence, trusted rows",
    ):
        assert said in labels


def test_limit_of_evidence_is_drawn_for_the_gate_that_asks_for_it_only() -> None:
    """Gate ``kept`` asks for another e-value: that a candidate is not worse by a margin."""
    fresh, kept = (
        Gate(name=name, value=512.0, limit=20.0, passed=True, why="", split="fresh")
        for name in ("fresh", "kept")
    )
    said = "dashed: what its gate asks for, 20"
    assert said in gate_report.page(report(gates=(fresh,)))
    assert said not in gate_report.page(report(gates=(kept,)))


def test_gaps_say_what_they_are_of() -> None:
    (gap,) = report().gaps
    weighed = replace(gap, what="1 minus the mean loss (points of the largest cost)")
    page = want_strict(gate_report.page(report(gaps=(weighed,)))).text
    assert "region=EU = m: 1 minus the mean loss (points of the largest cost)" in page
    assert "share of right answers" not in page.partition("Groups")[2]
    assert "region=EU = m: share of right answers" in gate_report.page(report())


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (
            Rejected(reasons=("fresh: worse", "size: large")),
            ("Refused", "fresh: worse", "size: large"),
        ),
        (Undecidable(gate="fresh", have=3, need=90, why="few"), ("Undecided at gate fresh: few",)),
        (
            NeedsPerson(gate="trusted", have=3, need=None, why="old", ask="rows"),
            ("Undecided at gate trusted: old",),
        ),
        (None, ("Nothing was decided",)),
    ],
)
def test_each_decision_is_told(decision: object, said: tuple[str, ...]) -> None:
    page = want_strict(gate_report.page(report(decision=decision)))
    for words in said:
        assert words in page.text


def test_cost_says_what_was_measured_and_what_estimated() -> None:
    page = want_strict(gate_report.page(report())).text
    assert "Measured: 90 J of all CPU packages" in page
    assert "Estimated: 40 J of it" in page
    cost = report().cost
    assert cost is not None
    unknown = replace(cost, package_joules=None, estimated_joules=None, no_energy=f"no {EVIL}")
    page = want_strict(gate_report.page(report(cost=unknown))).text
    assert "Energy is not known: no <script>" in page


def test_a_bare_report_of_an_older_program_is_shown() -> None:
    bare = report(
        figures=None, cost=None, gates=(), variants=(), gaps=(), incumbent=None, teacher=None,
        decision=None, chosen=None,
    )  # fmt: skip
    page = want_strict(gate_report.page(bare))
    assert "No gate was asked" in page.text
    assert "What the job has cost is not known" in page.text


def test_names_and_reasons_are_text() -> None:
    page = want_strict(gate_report.page(report(name=EVIL, model=EVIL)))
    assert "<script>alert('x')</script>" in page.text
    assert "\u202e" not in page.text
