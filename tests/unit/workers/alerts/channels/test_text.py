from __future__ import annotations

import re

import pytest
from told_alerts import EVIL, told

from redistill.workers.alerts.channels import text

WANTED = (
    "credit r38: error 4.4% → 18.7%",
    "error 18.7% [15.3, 22.4], measured on 492 labels",
    "2023-11-14 22:13:20 UTC",
    "between 21:58 and 22:04 UTC",
    "region=EU",
    "a repair waits for 35 more labels",
    "redistill rollback credit",
    "https://redistill.example/incidents/3f2a81c0",
)


def test_plain_text_answers_what_is_asked_at_night() -> None:
    assert text.plain(told()).splitlines() == [
        "[page] credit r38: error 4.4% → 18.7%",
        "",
        "How bad: error 18.7% [15.3, 22.4], measured on 492 labels; normal 4.4%",
        "Since: between 21:58 and 22:04 UTC, found 2023-11-14 22:13:20 UTC",
        "Where: region=EU; income shifted up, PSI 1.42",
        "Done: a repair waits for 35 more labels",
        "Type:",
        "  redistill incidents show 3f2a81c0",
        "  redistill rollback credit",
        "https://redistill.example/incidents/3f2a81c0",
    ]


def test_each_rendering_has_all_of_it() -> None:
    html = text.html(told())
    markdown = re.sub(r"\\(.)", r"\1", text.markdown(told()))
    for wanted in WANTED:
        assert wanted in text.plain(told())
        assert wanted in html
        assert wanted in markdown


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"state": "acknowledged"}, "[acknowledged] t"),
        ({"state": "resolved"}, "[resolved] t"),
        ({"severity": "warn"}, "[warn] t"),
        ({"kind": "change", "severity": "info"}, "[change] t"),
        ({"kind": "test"}, "[test] t"),
    ],
)
def test_title_says_how_urgent(changes: dict[str, str], title: str) -> None:
    assert text.title(told(title="t", **changes)) == title


def test_fields_that_say_nothing_are_left_out() -> None:
    bare = told(how_bad="", where="", done="", commands=(), url=None, began="")
    assert text.plain(bare).splitlines()[2:] == ["Since: 2023-11-14 22:13:20 UTC"]
    assert "Type" not in text.markdown(bare) + text.html(bare)


def hostile() -> object:
    return told(title=EVIL, how_bad=EVIL, where=EVIL, done=EVIL, began=EVIL, members=(EVIL, EVIL))


def test_foreign_text_is_neither_markup_nor_mention_nor_line_in_html() -> None:
    html = text.html(hostile())  # type: ignore[arg-type]
    assert set(re.findall(r"<(\w+)", html)) == {"h3", "p", "b", "ul", "li", "pre", "a"}
    assert "@everyone" not in html
    assert "http://evil" not in html
    assert "\u202e" not in html


def test_foreign_text_is_neither_markup_nor_mention_nor_line_in_markdown() -> None:
    markdown = text.markdown(hostile())  # type: ignore[arg-type]
    unescaped = re.sub(r"\\.", "", markdown)
    own = re.sub(
        r"\*\*[^*\n]*\*\*|^- |```[^`]*```|^<https://redistill\S*>$", "", unescaped, flags=re.M
    )
    assert not re.search(r"[`*_\[\]<>~|&#]", own)
    assert "@everyone" not in markdown
    assert "http://evil" not in markdown
    assert not re.search(r"^\s*\\?# no", markdown, re.M)


def test_foreign_text_makes_no_line_in_plain_text() -> None:
    plain = text.plain(hostile())  # type: ignore[arg-type]
    assert len(plain.splitlines()) == 13
    assert "@everyone" not in plain


def test_commands_stay_as_they_are_typed() -> None:
    commands = ("redistill x 'a_b' && echo `y`", "say ```")
    markdown = text.markdown(told(commands=commands))
    assert "````\n" + "\n".join(commands) + "\n````" in markdown
    assert "redistill x &#x27;a_b&#x27; &amp;&amp; echo `y`" in text.html(told(commands=commands))


def test_storm_names_its_alerts_and_how_many_more() -> None:
    members = tuple(f"m{i}: error 5% → 20%" for i in range(50))
    for rendered in (text.plain, text.markdown, text.html):
        said = rendered(told(kind="storm", members=members))
        assert "m19: error" in said
        assert "m20: error" not in said
        assert "and 30 more" in said


def test_text_without_an_end_ends() -> None:
    huge = "x" * 1_000_000
    alert = told(title=huge, how_bad=huge, where=huge, done=huge, began=huge)
    for rendered in (text.plain, text.markdown, text.html):
        assert len(rendered(alert)) < 20_000
