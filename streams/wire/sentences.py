"""Sentences about findings: how bad it is, since when, where, and what moved. One wording for
events, commands, alerts and reports.

Figures follow one rule: percent with one decimal, the 95% interval in brackets, and beside it how
many labels (rows) they stand on. *Measured* stands on labels, *estimated* on anything else. A
finding is taken as the JSON object that it is on the wire: what was stored years ago is told, too.
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from redistill.oneline import one_line

__all__ = [
    "EVERYWHERE",
    "change",
    "counted",
    "figure",
    "headline",
    "how_bad",
    "interval",
    "loss",
    "main_finding",
    "measured",
    "moved",
    "name",
    "parts",
    "percent",
    "recovery",
    "since",
    "where",
]

Finding = Mapping[str, Any]
LONGEST_NAME = 60
"""Characters of a name that somebody else chose."""
NAMED = 3
"""Slices, and columns, that a sentence names; pages and files have all."""
EVERYWHERE = "everywhere, or not localised yet"


def name(text: str, longest: int = LONGEST_NAME) -> str:
    """A foreign name on one line, without characters that steer a terminal or turn a text around,
    cut at its length.

    Examples
    --------
    >>> name("region\\n\\u202eEU  ok"), name("abcdef", 4)
    ('region EU ok', 'abc…')
    """
    return one_line(text, longest)


def percent(x: float) -> str:
    """A share.

    Examples
    --------
    >>> percent(0.18734)
    '18.7%'
    """
    return f"{x:.1%}"


def interval(low: float, high: float) -> str:
    """A 95% interval of a share, in percent.

    Examples
    --------
    >>> interval(0.153, 0.2243)
    '[15.3, 22.4]'
    """
    return f"[{100 * min(low, high):.1f}, {100 * max(low, high):.1f}]"


def counted(n: int, noun: str) -> str:
    """So many of something; the plural ends in s.

    Examples
    --------
    >>> counted(1, "label"), counted(1_492, "label"), counted(0, "row")
    ('1 label', '1,492 labels', '0 rows')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def measured(value: float, low: float, high: float, n: int) -> str:
    """A share that labels tell, with its 95% interval.

    Examples
    --------
    >>> measured(.956, .944, .966, 1_492)
    '95.6% [94.4, 96.6], measured on 1,492 labels'
    """
    return f"{percent(value)} {interval(low, high)}, measured on {counted(n, 'label')}"


def figure(x: float) -> str:
    """A number that is no share: three digits, without an exponent where there is no need.

    Examples
    --------
    >>> figure(1024.3), figure(0.0098), figure(2.541), figure(3.2e-7)
    ('1,024', '0.0098', '2.54', '3.2e-07')
    """
    return f"{x:,.0f}" if 100 <= abs(x) < 1e7 else f"{x:.3g}"


def loss(
    reference: float, current: float, bounds: tuple[float, float] | None, n: int, began: str = ""
) -> str:
    """A loss of accuracy, in errors, as all tell it.

    Examples
    --------
    >>> loss(.044, .187, (.153, .224), 1_492, "2026-03-01 02:10 UTC")
    'error 4.4% → 18.7% [15.3, 22.4], measured on 1,492 labels, since 2026-03-01 02:10 UTC'
    """
    held = f" {interval(*bounds)}" if bounds else ""
    text = (
        f"error {percent(reference)} → {percent(current)}{held}, measured on {counted(n, 'label')}"
    )
    return f"{text}, since {began}" if began else text


def recovery(reference: float, current: float, bounds: tuple[float, float], n: int) -> str:
    """The end of a loss.

    Examples
    --------
    >>> recovery(.044, .05, (.031, .076), 400)
    'error back to 5.0% [3.1, 7.6], measured on 400 labels; 4.4% in the reference'
    """
    return f"error back to {measured(current, *bounds, n)}; {percent(reference)} in the reference"


def change(impact: Finding) -> str:
    """What became of a figure, for a title; empty where there is none.

    Examples
    --------
    >>> change({"metric": "accuracy", "reference": .956, "current": .813})
    'error 4.4% → 18.7%'
    >>> change({"metric": "missing_rate", "reference": None, "current": .5})
    'missing rate 50.0%'
    >>> change({"metric": "scale_ratio", "reference": 1.0, "current": 1024.0})
    'values x 1,024'
    """
    now, before = _shown(impact, "current"), _shown(impact, "reference")
    if now is None:
        return ""
    match impact.get("metric"):
        case "scale_ratio":
            return f"values x {figure(now)}"
        case "psi":
            return f"PSI {figure(now)}"
        case "confidence" | "error_rate":
            label = str(impact["metric"]).replace("_rate", "")
        case "accuracy":
            label = "error"
        case metric:
            label = str(metric).replace("_", " ")
    return f"{label} {'' if before is None else f'{percent(before)} → '}{percent(now)}"


def how_bad(impact: Finding) -> str:
    """How bad it is: value, interval, basis, and how many rows it stands on.

    Examples
    --------
    >>> how_bad({"metric": "accuracy", "reference": .956, "current": .813, "low": .776,
    ...          "high": .847, "basis": "measured", "n": 1492, "harmful": True})
    'error 4.4% → 18.7% [15.3, 22.4], measured on 1,492 labels'
    """
    title = change(impact)
    if not title:
        return ""
    low, high = _shown(impact, "low"), _shown(impact, "high")
    held = ""
    if low is not None and high is not None:
        plain = impact.get("metric") in ("scale_ratio", "psi")
        held = f" [{figure(low)}, {figure(high)}]" if plain else f" {interval(low, high)}"
    of_labels = impact.get("metric") == "accuracy"
    basis = "measured" if impact.get("basis") == "measured" else "estimated"
    stands = counted(impact.get("n", 0), "label" if of_labels else "row")
    text = f"{title}{held}, {basis} on {stands}"
    if not of_labels:
        return f"{text}; its effect on accuracy is not measured"
    return text if impact.get("harmful") else f"{text}; whether that is harm is not known"


def since(finding: Finding) -> str:
    """When it began, as far as that is known: ``since ...``; empty where nothing is."""
    point = finding.get("change_point") or {}
    began = point.get("high") or (finding.get("window") or {}).get("start")
    if not began:
        return ""
    when = datetime.fromisoformat(str(began).replace("Z", "+00:00"))
    return f"since {when:%Y-%m-%d %H:%M} UTC"


def headline(finding: Finding) -> str:
    """The first line: how bad it is, and since when."""
    bad = how_bad(finding.get("impact") or {})
    return f"{bad}, {since(finding)}" if bad and since(finding) else bad


def where(finding: Finding) -> str:
    """In which slice a loss is, and what is outside it; empty for what is no loss."""
    if (finding.get("impact") or {}).get("metric") != "accuracy":
        return ""
    named = finding.get("localised_to")
    slices = finding.get("slices") or []
    if named is None:
        worse = [s for s in slices if s.get("reference") is not None and s["high"] < s["reference"]]
        worst = ", ".join(_slice(s) for s in worse[:NAMED])
        return f"{EVERYWHERE}; worst: {worst}" if worst else EVERYWHERE
    mine = [s for s in slices if f"{s['key']}={s['value']}" == named]
    text = f"in {_slice(mine[0]) if mine else name(named, 2 * LONGEST_NAME)}"
    rest = finding.get("outside")
    if rest is None:
        return text
    return f"{text}; outside it {_points(rest)} beyond what was expected"


def _slice(s: Finding) -> str:
    text = f"{name(s['key'])}={name(s['value'])}: error {percent(1 - s['current'])}"
    text += f" {interval(1 - s['high'], 1 - s['low'])} on {counted(s['n'], 'label')}"
    if s.get("expected") is not None:
        text += f", {percent(1 - s['expected'])} expected"
    return text


def parts(finding: Finding) -> str:
    """How much of a loss is a mix of harder rows, and how much is the model; empty where that is
    not known."""
    mix, worse = finding.get("mix_moved"), finding.get("got_worse")
    if mix is None or worse is None:
        return ""
    return (
        f"of that {_points(mix)} because harder rows came ({mix['basis']}), {_points(worse)}"
        f" because it got worse on like rows ({worse['basis']})"
    )


def _points(part: Finding) -> str:
    low, high = 100 * part["low"], 100 * part["high"]
    return f"{100 * part['value']:+.1f} points [{low:+.1f}, {high:+.1f}]"


def moved(findings: Sequence[Finding]) -> str:
    """The columns with the largest part in the shift, of findings; they explain, they do not
    accuse. Empty where none moved."""
    columns = {c["column"]: c for f in findings for c in f.get("contributors") or []}
    told = [
        f"{name(c['column'])} ({_distance(c['distance'])} {figure(c['value'])}, chance gives"
        f" {figure(c['noise_floor'])})"
        for c in columns.values()
    ]
    return "moved: " + ", ".join(told[:NAMED]) if told else ""


def _distance(distance: str) -> str:
    words = {"psi": "PSI", "js": "Jensen-Shannon", "ks": "KS", "wasserstein": "Wasserstein"}
    return words.get(distance, name(distance.replace("_", " "), 20))


def main_finding(findings: Sequence[Finding]) -> Finding:
    """The finding that says most: measured harm first, of everything rather than of a slice; empty
    where there is none."""

    def order(finding: Finding) -> tuple[bool, bool, bool]:
        impact = finding.get("impact") or {}
        return (
            not impact.get("harmful"),
            impact.get("basis") != "measured",
            finding.get("scope") != "all",
        )

    return min(findings, key=order, default={})


def _shown(impact: Finding, key: str) -> float | None:
    """A figure as people read it: of accuracy, how much is wrong."""
    value = impact.get(key)
    if value is None:
        return None
    return 1.0 - float(value) if impact.get("metric") == "accuracy" else float(value)
