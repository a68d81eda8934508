"""Pages that ask nothing of anybody: strict, and foreign text is text."""

from __future__ import annotations

from strict_pages import want_strict

from redistill import htmlpage

EVIL = "<script>alert('x')</script>\n\u202e&"


def test_a_page_is_strict_and_has_its_parts() -> None:
    rows = [htmlpage.row(("a", ""), ("1", "number")), htmlpage.row(("b", ""), ("2", "number"))]
    text = htmlpage.document("A title", ["<p>said</p>", htmlpage.table(("x", "y"), rows, (1,))])
    page = want_strict(text)
    assert page.tags.count("tr") == 3
    assert "A title" in page.text
    assert text.endswith("</html>\n")


def test_foreign_text_is_text() -> None:
    parts = [f"<p>{htmlpage.said(EVIL)}</p>", f"<p>{htmlpage.named(EVIL)}</p>"]
    rows = [htmlpage.row((htmlpage.named(EVIL), "text"))]
    page = want_strict(
        htmlpage.document(htmlpage.named(EVIL), [*parts, htmlpage.table((EVIL,), rows)])
    )
    assert page.text.count("<script>alert('x')</script> &") >= 4
    assert "\u202e" not in htmlpage.said(EVIL)


def test_names_are_cut_and_rows_that_were_asked_for_stand_out() -> None:
    assert len(htmlpage.named("a" * 500)) == 120
    assert htmlpage.row(("a", ""), asked=True).startswith('<tr class="asked">')
