"""Page of a report: one file that asks nothing of anybody, whatever stands in the data."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest
from replay_tables import OPTIONS, REFERENCE, STREAM, lines_of

from redistill.streams.replay.report import ReportData, gather
from redistill.streams.replay.report_page import page

VOID = {"meta"}
EVIL = "<script>alert('x')</script>\"&\u202e\x1b[2J<img src=x onerror=y>"


class Reader(HTMLParser):
    """Tags that are open, all tags, and all attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def report() -> ReportData:
    options = dataclasses.replace(OPTIONS, slices=("region",), label_rate=0.5)
    return gather(STREAM, REFERENCE, options, lines_of(STREAM, REFERENCE, options))


def test_first_lines_say_how_bad_since_when_and_on_how_many_labels(report: ReportData) -> None:
    text = read(page(report)).text
    lead = text[text.index("Harm found once") :].splitlines()[0]
    assert re.search(
        r"still going on at the end: error \d+\.\d% → \d+\.\d% \[[\d., ]+\],"
        r" measured on [\d,]+ labels, since row \d+\.$",
        lead,
    )


def test_harm_that_goes_on_is_told_when_that_of_a_slice_is_over(report: ReportData) -> None:
    (whole, *_) = [f for f in report.findings if f["impact"]["harmful"] and f["scope"] == "all"]
    part = whole | {"scope": "slice:region=EU", "id": "part", "reason": "only the slice"}
    ended = part | {"status": "resolved", "reason": "the slice is back"}
    data = dataclasses.replace(report, findings=(whole, part, ended))
    text = read(page(data)).text
    assert "Harm found 2 times, still going on at the end" in text
    lead = text[text.index("Harm found 2 times") :].splitlines()[0]
    assert whole["reason"].partition("; ")[0] in lead


def test_each_question_has_its_part(report: ReportData) -> None:
    reader = read(page(report))
    for head in (
        "Accuracy and findings over time",
        "Slices",
        "What moved",
        "Labels",
        "What each tolerance would have cost",
    ):
        assert head in reader.text
    assert "region = EU" in reader.text
    assert "2 (asked for)" in reader.text
    assert reader.seen.count("polyline") == 1


def test_page_asks_nothing_of_anybody(report: ReportData) -> None:
    text = page(report)
    reader = read(text)
    assert not {"script", "link", "img", "iframe", "object", "form", "a"} & set(reader.seen)
    names = {name for name, _ in reader.attributes}
    assert not {"src", "href", "srcset", "action", "data"} & names
    assert not [name for name in names if name.startswith("on")]
    assert "url(" not in text
    assert "@import" not in text
    assert "http://" not in text
    assert "https://" not in text
    assert "default-src 'none'" in text
    assert "prefers-color-scheme:dark" in text


def test_names_and_sentences_of_the_files_are_text(report: ReportData) -> None:
    (finding, *_) = [f for f in report.findings if f["impact"]["harmful"]]
    effect = {
        "key": EVIL, "value": EVIL, "n": 9, "reference": 0.9, "current": 0.5, "low": 0.4, "high": 0.6,
    }  # fmt: skip
    hostile = finding | {"reason": EVIL, "scope": EVIL, "kind": EVIL, "slices": [effect]}
    column = {
        "column": EVIL, "labels": (EVIL,), "reference": (1.0,), "current": (1.0,), "said": EVIL,
    }  # fmt: skip
    from redistill.streams.replay.report import Distribution

    summary = report.summary | {
        "notes": [EVIL],
        "slices": [s | {"key": EVIL, "value": EVIL} for s in report.summary["slices"]],
    }
    text = page(
        dataclasses.replace(
            report,
            name=EVIL,
            findings=(hostile,),
            summary=summary,
            distributions=(Distribution(**column),),  # type: ignore[arg-type]
        )
    )
    reader = read(text)
    assert not {"script", "img"} & set(reader.seen)
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert "<script>alert('x')</script>" in reader.text
    assert not {"\u202e", "\x1b"} & set(text)


def test_column_names_of_a_stream_are_text() -> None:
    stream = STREAM.rename_columns([EVIL if n == "x1" else n for n in STREAM.column_names])
    reference = REFERENCE.rename_columns([EVIL if n == "x1" else n for n in STREAM.column_names])
    x = stream[EVIL].to_numpy().copy()
    x[6_000:] += 2
    stream = stream.set_column(stream.column_names.index(EVIL), EVIL, [x])
    report = gather(stream, reference, OPTIONS, lines_of(stream, reference))
    assert report.distributions[0].column == EVIL
    reader = read(page(report))
    assert not {"script", "img"} & set(reader.seen)


def test_a_stream_without_harm_or_labels_says_so() -> None:
    options = dataclasses.replace(OPTIONS, label_rate=0.0)
    report = gather(STREAM, REFERENCE, options, lines_of(STREAM, REFERENCE, options))
    text = read(page(report)).text
    assert "No harm found." in text
    assert "accuracy is not known" in text


def test_what_was_asked_for_stands_beside_what_was_answered(report: ReportData) -> None:
    part = {"budget_rows": 840, "asked": 500, "answered": 498}
    asked = part | {"earned_row_by_row": part | {"budget_rows": None, "asked": 300}}
    told = read(
        page(dataclasses.replace(report, summary=report.summary | {"label_requests": asked}))
    )
    assert "asked for on suspicion500300" in told.text
    assert "rows that may be asked for840–" in told.text


def test_labels_asked_for_are_not_said_to_be_the_same_for_each_tolerance(
    report: ReportData,
) -> None:
    asking = dataclasses.replace(
        report, options=dataclasses.replace(report.options, label_requests=0.1)
    )
    assert "with the same labels. A larger" in read(page(report)).text
    assert "with the same labels at random; those on suspicion" in read(page(asking)).text


def test_accuracy_of_the_whole_stream_has_an_interval_and_its_labels(report: ReportData) -> None:
    text = read(page(report)).text
    n = report.summary["accuracy_labels"]
    assert re.search(rf"labels, accuracy [\d.]+% \[[\d., ]+\], measured on {n:,} labels", text)
