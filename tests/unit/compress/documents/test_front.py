"""Front of a search: which variants are joined, and a page that anybody may open."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree as ET

from judged_reports import report, variant
from strict_pages import want_strict

from redistill.compress.documents import front
from redistill.compress.plan import Gate

EVIL = "<script>alert('x')</script>"


def joined(text: str) -> list[int]:
    """How many variants the line of each chart joins."""
    drawn = [ET.fromstring(s) for s in re.findall(r"<svg.*?</svg>", text)]
    lines = [d.find("polyline") for d in drawn]
    return [0 if x is None else len(x.attrib["points"].split()) for x in lines]


def test_page_is_strict_and_tells_every_variant_with_interval_and_cost() -> None:
    page = want_strict(front.page(report()))
    for said in (
        "static_int8",
        "teacher",
        "incumbent",
        "94.5% [92.5%, 96.5%]",
        "110,000",
        "0.0800",
    ):
        assert said in page.text


def test_only_variants_that_no_other_beats_are_joined() -> None:
    given = report(
        variants=(
            variant("a", 0.95, 400_000, 0.2),
            variant("b", 0.94, 100_000, 0.3),  # the slowest
            variant("c", 0.90, 300_000, 0.1),  # larger and worse than b
        )
    )
    assert joined("".join(front.sections(given))) == [2, 2]


def test_equal_variants_are_both_on_the_front_and_one_that_was_not_timed_on_none() -> None:
    same = (variant("a", 0.95, 400_000, 0.2), variant("b", 0.95, 400_000, 0.2))
    untimed = variant("c", 0.99, 300_000, 0.0)
    assert joined("".join(front.sections(report(variants=same)))) == [2, 2]
    assert joined("".join(front.sections(report(variants=(*same, untimed))))) == [0, 2]


def test_a_refused_variant_is_marked_and_named_with_its_gates() -> None:
    refused = Gate(name="latency", value=2.0, limit=1.0, passed=False, why="slow")
    given = report(variants=(replace(variant("a", 0.95, 4, 0.2), gates=(refused,)),))
    text = "".join(front.sections(given))
    assert 'class="harm"' in text
    assert ">latency<" in text


def test_without_variants_it_says_so() -> None:
    assert "No variant was measured" in want_strict(front.page(report(variants=()))).text


def test_names_are_text() -> None:
    given = report(model=EVIL, variants=(variant(EVIL, 0.9, 5, 0.1),))
    assert EVIL in want_strict(front.page(given)).text
