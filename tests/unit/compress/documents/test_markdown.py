"""Model card as Markdown: sections of Mitchell et al. 2019, and foreign text that stays text."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from judged_reports import carded, report

from redistill.compress.documents import markdown
from redistill.compress.plan import CardText

EVIL = "a|b`c`\n# head <script>x</script> [l](http://e) ![i](j) *s* _u_ &amp; ~~d~~ \\| @me\u202e"
SECTIONS = (
    "Model details",
    "Intended use",
    "Factors",
    "Metrics",
    "Evaluation data",
    "Training data",
    "Quantitative analyses",
    "Gates",
    "Cost",
    "Ethical considerations",
    "Caveats and recommendations",
)


def plain(text: str) -> str:
    """Without escaped characters and code spans of hashes: what is left means something."""
    return re.sub(r"`[0-9a-f]{64}`", "", re.sub(r"\\.", "", text))


def test_sections_stand_in_the_order_of_the_paper() -> None:
    lines = markdown.card(carded()[0]).splitlines()
    assert [line[3:] for line in lines if line.startswith("## ")] == list(SECTIONS)


def test_what_nobody_told_is_unknown() -> None:
    text = markdown.card(carded(text=CardText())[0])
    for what in ("Primary uses", "Primary users", "Out of scope", "License", "Contact"):
        assert f"- {what}: *unknown*" in text
    assert "## Ethical considerations\n\n*unknown*" in text


def test_what_the_owner_told_stands_there() -> None:
    text = CardText(intended_use="Ranking of requests", out_of_scope="Refusing them")
    shown = markdown.card(carded(text=text)[0])
    assert "- Primary uses: Ranking of requests" in shown
    assert "- Out of scope: Refusing them" in shown


def test_measured_and_estimated_stand_apart() -> None:
    text = markdown.card(carded()[0])
    measured, estimated = text.split("### Estimated")
    assert "94.5% [92.5, 96.5] | 500 |" in measured
    assert "about 40 J" in estimated
    assert "about" not in measured.split("### Measured")[1]


def test_gaps_say_what_they_are_of() -> None:
    (gap,) = report().gaps
    card, _ = carded(gaps=(replace(gap, what="1 minus the mean loss"),))
    assert "(largest minus smallest 1 minus the mean loss; chance" in markdown.card(card)
    assert "(largest minus smallest share of right answers; chance" in markdown.card(carded()[0])


def test_waived_gates_are_told_with_who_and_why() -> None:
    text = markdown.card(carded(name="cli:ann: we know")[0])
    assert "| trusted | \\-0\\.4".replace("\\", "") in text.replace("\\", "")
    assert "Gate trusted did not pass and was waived: cli:ann: we know" in text.replace("\\", "")
    assert "| waived |" in text


@pytest.mark.parametrize("longest", [20, 2_000])
def test_foreign_text_means_nothing(longest: int) -> None:
    shown = markdown.text(EVIL, longest)
    assert "\n" not in shown
    assert "\u202e" not in shown
    assert not re.search(r"[|`#<>\[\]()!*_&~\\@:/]", re.sub(r"\\.", "", shown))


def test_a_card_full_of_foreign_text_has_the_structure_of_any_other() -> None:
    text = CardText(
        intended_use=EVIL, users=EVIL, out_of_scope=EVIL, ethical_considerations=EVIL, caveats=EVIL,
        license=EVIL, contact=EVIL,
    )  # fmt: skip
    usual = CardText(
        intended_use="a", users="a", out_of_scope="a", ethical_considerations="a", caveats="a",
        license="a", contact="a",
    )  # fmt: skip
    evil = plain(markdown.card(carded(name=EVIL, text=text)[0]))
    other = plain(markdown.card(carded(name="a", text=usual)[0]))
    for mark in ("|", "`", "#", "<", "[", "![", "*", "&", "~", "@"):
        assert evil.count(mark) == other.count(mark), mark
    assert len(evil.splitlines()) == len(other.splitlines())


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    widths: list[int] = []
    for line in plain(markdown.card(carded(name=EVIL)[0])).splitlines():
        if not line.startswith("|"):
            widths = []
            continue
        widths.append(line.count("|"))
        assert widths[0] == widths[-1]
