"""Page of a report: one HTML file that asks nothing of anybody. No script, no link, no file beside
it; styles and charts stand in it. Every name of the files is foreign text. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from redistill import htmlpage
from redistill.streams.replay.lines import Line
from redistill.streams.replay.report import Distribution, ReportData, ToleranceCost
from redistill.streams.replay.svg import Mark, Measured, histograms, over_rows
from redistill.streams.wire import sentences

__all__ = ["page"]

MOST_MARKS = 200
"""Findings that are drawn and listed; the file of JSON lines has all."""
LONGEST = 2_000
"""Characters of a sentence."""


def page(data: ReportData) -> str:
    """The report as one HTML document.

    Parameters
    ----------
    data
        As ``report.gather`` made it.
    """
    title = f"redistill replay of {htmlpage.named(data.name)}"
    parts = [
        *_lead(data),
        "<h2>Accuracy and findings over time</h2>",
        _accuracy(data),
        *_findings(data.findings),
        "<h2>Slices</h2>",
        *_slices(data),
        "<h2>What moved</h2>",
        *_moved(data),
        "<h2>Labels</h2>",
        *_labels(data),
        "<h2>What each tolerance would have cost</h2>",
        *_tolerances(data.tolerances, asking=bool(data.options.label_requests)),
        "<h2>How it was made</h2>",
        *_made(data),
    ]
    return htmlpage.document(title, parts)


def _lead(data: ReportData) -> list[str]:
    """How bad, since when, where."""
    harm = [f for f in data.findings if f["impact"]["harmful"]]
    s = data.summary
    overall = f"{sentences.counted(s['rows'], 'row')}, {sentences.counted(s['labels'], 'label')}"
    if s["accuracy"] is not None:
        overall += ", accuracy " + sentences.measured(
            s["accuracy"], s["accuracy_low"], s["accuracy_high"], s["accuracy_labels"]
        )
    if not harm:
        return ['<p class="lead good">No harm found.</p>', f'<p class="faint">{overall}</p>']
    opened = [f for f in harm if f["status"] == "open"]
    state = "still going on at the end" if data.summary["harm"]["open"] else "over"
    times = "once" if len(opened) == 1 else f"{len(opened)} times"
    bad, _, more = _worst(harm)["reason"].partition("; ")  # more: where, and what it is made of
    told = [f'<p class="lead bad">Harm found {times}, {state}: {htmlpage.said(bad)}.</p>']
    told += [f"<p>{htmlpage.said(more)}.</p>"] if more else []
    return [*told, f'<p class="faint">{overall}</p>']


def _worst(harm: Sequence[Line]) -> Mapping[str, Any]:
    """The newest word on the harm that says most, of what goes on; else of what did."""
    ended = {f["id"] for f in harm if f["status"] == "resolved"}
    told = [f for f in reversed(harm) if f["status"] != "resolved"]
    going = [f for f in told if f["id"] not in ended]
    return sentences.main_finding(going or told or harm)


def _accuracy(data: ReportData) -> str:
    points = [
        Measured(
            first=line["from"],
            last=line["to"],
            value=a["current"],
            low=a["low"],
            high=a["high"],
            n=a["n"],
        )
        for line in data.windows
        if (a := line["accuracy"])["current"] is not None
    ]
    if not points:
        return '<p class="faint">No window has labels: accuracy is not known.</p>'
    base = data.summary["base_error"]
    drawn = over_rows(
        points,
        [_mark(f) for f in data.findings[:MOST_MARKS]],
        rows=data.summary["rows"],
        reference=None if base is None else 1 - base["rate"],
        title="Measured accuracy over rows, with its 95% interval",
    )
    said = (
        '<span class="key lines"></span>accuracy of a window with its 95% interval, by row'
        '<span class="key bases"></span>reference <span class="key harms"></span>harm'
        '<span class="key ends"></span>resolved <span class="key notes"></span>other findings'
    )
    return f'<figure><div class="wide">{drawn}</div><figcaption>{said}</figcaption></figure>'


def _mark(finding: Line) -> Mark:
    style = "note"
    if finding["status"] == "resolved":
        style = "resolved"
    elif finding["impact"]["harmful"]:
        style = "harm"
    said = sentences.name(finding["reason"], LONGEST)
    return Mark(row=finding["row"], style=style, text=f"row {finding['row']:,}: {said}")


def _findings(findings: Sequence[Line]) -> list[str]:
    if not findings:
        return ['<p class="faint">No finding.</p>']
    rows = [
        htmlpage.row(
            (f"{f['row']:,}", "number"),
            (_kind(f), ""),
            (htmlpage.named(f["status"]), ""),
            (htmlpage.said(f["reason"]), "text"),
        )
        for f in findings[:MOST_MARKS]
    ]
    more = len(findings) - MOST_MARKS
    told = [htmlpage.table(("row", "what", "status", "why"), rows, (0,))]
    if more > 0:
        told.append(f'<p class="faint">{more:,} more are in the lines of --json.</p>')
    return told


def _kind(finding: Line) -> str:
    scope = "" if finding["scope"] == "all" else f" {htmlpage.named(finding['scope'])}"
    harm = ' <span class="bad">harm</span>' if finding["impact"]["harmful"] else ""
    return f"{htmlpage.named(finding['kind'])}{scope}{harm}"


def _slices(data: ReportData) -> list[str]:
    told: dict[tuple[str, str], Line] = {}
    for finding in data.findings:
        for s in finding.get("slices") or []:
            told[s["key"], s["value"]] = s
    parts = []
    if told:
        rows = [
            htmlpage.row(
                (f"{htmlpage.named(s['key'])} = {htmlpage.named(s['value'])}", "text"),
                (_share(s["reference"]), "number"),
                (
                    f"{sentences.percent(s['current'])} {sentences.interval(s['low'], s['high'])}",
                    "number",
                ),
                (f"{s['n']:,}", "number"),
            )
            for s in sorted(told.values(), key=lambda s: float(s["current"]))
        ]
        parts.append("<p>As findings name them, since the change:</p>")
        parts.append(
            htmlpage.table(("slice", "accuracy in the reference", "now", "labels"), rows, (1, 2, 3))
        )
    if data.summary["slices"]:
        rows = [
            htmlpage.row(
                (f"{htmlpage.named(s['key'])} = {htmlpage.named(s['value'])}", "text"),
                (
                    f"{sentences.percent(s['accuracy'])} {sentences.interval(s['low'], s['high'])}",
                    "number",
                ),
                (f"{s['n']:,}", "number"),
            )
            for s in sorted(data.summary["slices"], key=lambda s: float(s["accuracy"]))
        ]
        parts.append("<p>Over the whole stream, worst first:</p>")
        parts.append(htmlpage.table(("slice", "accuracy", "labels"), rows, (1, 2)))
    return parts or ['<p class="faint">None: --slices names columns to break accuracy down by.</p>']


def _moved(data: ReportData) -> list[str]:
    first, last = data.current
    said = f"rows {first:,} to {last:,} beside the reference"
    if not data.distributions:
        return [f'<p class="faint">No column is clearly beyond chance in {said}.</p>']
    return [
        f"<p>Columns with the largest part in the shift, {said}. That a column moved says nothing"
        " about accuracy.</p>",
        *(_distribution(d) for d in data.distributions),
    ]


def _distribution(d: Distribution) -> str:
    name = sentences.name(d.column)
    labels = [sentences.name(label) for label in d.labels]
    drawn = histograms(d.reference, d.current, labels, title=f"Distribution of {name}")
    keys = '<span class="key usual"></span>reference<span class="key now"></span>current'
    return (
        f'<h3>{escape(name)}</h3><figure><div class="wide">{drawn}</div>'
        f"<figcaption>{keys} · {htmlpage.said(d.said)}</figcaption></figure>"
    )


def _labels(data: ReportData) -> list[str]:
    s, o = data.summary, data.options
    share = s["labels"] / s["rows"] if s["rows"] else 0.0
    told = [
        f"<p>{s['labels']:,} labels of {s['rows']:,} rows ({sentences.percent(share)}) were used;"
        f" {sentences.percent(o.label_rate)} of those there are were drawn at random, and came"
        f" {o.label_delay:,} rows late.</p>"
    ]
    asked = s.get("label_requests")
    if asked:
        earned = asked.get("earned_row_by_row") or {}
        rows = [
            htmlpage.row(
                (what, ""), *((_number(part.get(key)), "number") for part in (asked, earned))
            )
            for what, key in (
                ("rows that may be asked for", "budget_rows"),
                ("asked for on suspicion", "asked"),
                ("answered", "answered"),
            )
        ]
        told.append(
            htmlpage.table(("requests", "budget up front", "earned row by row"), rows, (1, 2))
        )
    return told


def _tolerances(tolerances: Sequence[ToleranceCost], *, asking: bool) -> list[str]:
    rows = [
        htmlpage.row(
            (f"{t.points:g}{' (asked for)' if t.asked else ''}", ""),
            (f"{t.alarms:,}", "number"),
            (_number(t.first), "number"),
            (_number(t.delay), "number"),
            (f"{t.rows_in_alarm:,}", "number"),
            asked=t.asked,
        )
        for t in tolerances
    ]
    own = " at random; those on suspicion each asks for itself" if asking else ""
    head = ("points", "alarms of harm", "first at row", "rows after the change", "rows in alarm")
    return [
        f"<p>The same stream with the same labels{own}. A larger tolerance is told of less, and"
        " later; a dash: nothing was told.</p>",
        htmlpage.table(head, rows, (1, 2, 3, 4)),
    ]


def _made(data: ReportData) -> list[str]:
    s, o = data.summary, data.options
    base = s["base_error"]
    known = "not known"
    if base is not None:
        known = (
            f"{sentences.percent(base['rate'])}, upper bound {sentences.percent(base['upper'])},"
            f" measured on {base['n']:,} labels"
        )
    told = [
        f"<p>Base error {known}. Tolerance {o.tolerance_points:g} points, one false alarm in"
        f" {s['rows_per_alarm']:,.0f} rows accepted, seed {o.seed}. Intervals hold with 95%.</p>"
    ]
    return told + [f'<p class="faint">{htmlpage.said(note)}</p>' for note in s["notes"]]


def _number(x: Any) -> str:
    return "–" if x is None else f"{x:,}"


def _share(x: float | None) -> str:
    return "–" if x is None else sentences.percent(x)
