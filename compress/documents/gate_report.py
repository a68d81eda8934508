"""Gate report: one HTML page about a judged candidate, for whoever has to answer for it. No script,
no link; what was measured, against which limit, how sure, and what it cost. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redistill import htmlpage
from redistill.compress.documents import charts, front
from redistill.compress.plan import (
    Accepted,
    Cost,
    Figures,
    Gate,
    GroupGap,
    Measure,
    NeedsPerson,
    Rejected,
    Report,
    Undecidable,
)

__all__ = ["page"]

WORDS = {
    True: '<span class="good">passed</span>',
    False: '<span class="bad">failed</span>',
    None: "undecided",
}
WHERE = {"trusted": "trusted rows", "fresh": "labelled fresh rows"}
POINTS = 100.0


def page(report: Report) -> str:
    """The report as one HTML document.

    Parameters
    ----------
    report
        Of a job that judged a candidate.
    """
    title = f"Gate report of {htmlpage.named(report.model)}"
    parts = [
        *_lead(report),
        "<h2>Gates</h2>",
        *_gates(report),
        "<h2>Candidate against incumbent on fresh rows</h2>",
        *_looks(report),
        "<h2>Accuracy, size and latency</h2>",
        *front.sections(report),
        *_figures(report.figures),
        "<h2>Groups</h2>",
        *_groups(report.gaps),
        "<h2>How it was made and judged</h2>",
        *_made(report),
    ]
    return htmlpage.document(title, parts)


def _lead(report: Report) -> list[str]:
    said = htmlpage.said
    match report.decision:
        case Accepted(variant=variant):
            told = f'<p class="lead good">Accepted: {htmlpage.named(variant)}.</p>'
        case Rejected(reasons=reasons):
            listed = "".join(f"<li>{said(r)}</li>" for r in reasons)
            told = f'<p class="lead bad">Refused.</p><ul>{listed}</ul>'
        case Undecidable(gate=gate, why=why) | NeedsPerson(gate=gate, why=why):
            told = f'<p class="lead">Undecided at gate {said(gate)}: {said(why)}.</p>'
        case None:
            told = '<p class="lead">Nothing was decided.</p>'
    chosen = next((v for v in report.variants if v.name == report.chosen), None)
    if chosen is None:
        return [told]
    m, before = chosen.trusted_accuracy, report.incumbent
    line = f"Accuracy {_share(m)}, measured on {m.n:,} trusted rows"
    if before is not None:
        line += f"; the incumbent {_share(before.trusted_accuracy)}"
    return [
        told,
        f'<p class="faint">{line}. Intervals hold with 95%; a gate has bounds at a level of its own'
        " (<em>trusted</em>: 95% on each side alone).</p>",
    ]


def _gates(report: Report) -> list[str]:
    if not report.gates:
        return ['<p class="faint">No gate was asked.</p>']
    waived = {g.name for g in report.gates if g.name in report.waived and _is_waived(g)}
    rows = [
        htmlpage.row(
            (htmlpage.named(g.name), ""),
            (WHERE.get(g.split or "", "no label"), ""),
            (_number(g.value), "number"),
            (_bounds(g.low, g.high), "number"),
            (_number(g.limit), "number"),
            ("waived" if g.name in waived else WORDS[g.passed], ""),
            (htmlpage.said(g.why), "text"),
        )
        for g in report.gates
    ]
    head = ("gate", "looks at", "value", "interval", "limit", "", "why")
    parts = [htmlpage.table(head, rows, (2, 3, 4))]
    parts += [
        f'<figure><div class="wide">{drawn}</div>'
        f"<figcaption>{htmlpage.named(g.name)}: {WORDS[g.passed]}</figcaption></figure>"
        for g in report.gates
        if (drawn := charts.against_limit(g))
    ]
    return parts + [
        f"<p>Gate {htmlpage.named(name)} was waived: {htmlpage.said(report.waived[name])}</p>"
        for name in sorted(waived)
    ]


def _is_waived(gate: Gate) -> bool:
    return gate.passed is True and gate.why.startswith("waived by ")


def _looks(report: Report) -> list[str]:
    looks = report.figures.looks if report.figures is not None else ()
    if not looks:
        return ['<p class="faint">No labelled fresh row was looked at.</p>']
    # the limit of gate `kept` is of other evidence: that it is not worse by a margin
    needed = next((g.limit for g in report.gates if g.name == "fresh"), None)
    points = charts.over_rows(
        [(x.rows, x.points) for x in looks],
        limit=0.0,
        title="Mean paired difference in points over labelled fresh rows",
    )
    evidence = charts.over_rows(
        [(x.rows, Measure(value=x.e_value, low=None, high=None, n=x.rows)) for x in looks],
        limit=1.0 if needed is None else needed,
        title="E-value that the candidate is better, over labelled fresh rows",
        logarithmic=True,
    )
    return [
        f'<figure><div class="wide">{points}</div><figcaption>Points by which the candidate is'
        " better than the incumbent, after so many rows; the interval is of each look alone."
        "</figcaption></figure>",
        f'<figure><div class="wide">{evidence}</div><figcaption>Evidence that it is better at all'
        " (e-value, over all looks together)"
        + ("" if needed is None else f"; dashed: what its gate asks for, {needed:g}")
        + ".</figcaption></figure>",
    ]


def _figures(figures: Figures | None) -> list[str]:
    if figures is None:
        return []
    parts = ["<h2>Accuracy by class</h2>", *_side_by_side(figures.classes, "class")]
    parts += ["<h2>Accuracy by slice</h2>", *_side_by_side(figures.slices, "slice")]
    parts.append("<h2>Calibration</h2>")
    for sample, models in figures.calibration.items():
        if not models:
            continue
        drawn = charts.reliability(models, title=f"Right answers by confidence, {WHERE[sample]}")
        parts.append(
            f'<figure><div class="wide">{drawn}</div><figcaption>{_keys(list(models))}: share of'
            f" right answers against confidence, {WHERE[sample]}; dashed: honest.</figcaption>"
            "</figure>"
        )
    if not any(figures.calibration.values()):
        parts.append('<p class="faint">Too few labelled rows.</p>')
    return parts


def _side_by_side(
    samples: Mapping[str, Mapping[str, Mapping[str, Measure]]], what: str
) -> list[str]:
    parts = []
    for sample, rows in samples.items():
        if not rows:
            continue
        models = list(dict.fromkeys(model for found in rows.values() for model in found))
        drawn = charts.side_by_side(rows, title=f"Accuracy by {what}, {WHERE[sample]}")
        told = [
            htmlpage.row(
                (htmlpage.named(name), "text"),
                *((_share(found[m]) if m in found else "–", "number") for m in models),
                (f"{max(m.n for m in found.values()):,}", "number"),
            )
            for name, found in rows.items()
        ]
        numbers = range(1, len(models) + 2)
        parts.append(
            f'<figure><div class="wide">{drawn}</div><figcaption>{_keys(models)}, {WHERE[sample]}'
            "</figcaption></figure>"
        )
        parts.append(htmlpage.table((what, *models, "n"), told, list(numbers)))
    return parts or ['<p class="faint">None with rows enough.</p>']


def _keys(models: Sequence[str]) -> str:
    return "".join(f'<span class="key m{k % 3}"></span>{m} ' for k, m in enumerate(models))


def _groups(gaps: Sequence[GroupGap]) -> list[str]:
    if not gaps:
        return ['<p class="faint">No groups were declared, or none has rows enough.</p>']
    rows = []
    for gap in gaps:
        key = htmlpage.named(gap.key)
        for role, found in gap.accuracy.items():
            for value, m in found.items():
                told = f"{key} = {htmlpage.named(value)}: {gap.what}"
                rows.append(htmlpage.row((told, "text"), (role, ""), (_share(m), "number")))
        for role, m in gap.gap.items():
            said = f"{key}: largest minus smallest (chance alone: {gap.chance:.1%})"
            rows.append(htmlpage.row((said, "text"), (role, ""), (_share(m), "number")))
        for role, m in gap.added.items():
            said = f"{key}: added to that of the {role}"
            rows.append(htmlpage.row((said, "text"), ("candidate", ""), (_share(m), "number")))
    return [htmlpage.table(("group", "model", "measured"), rows, (2,))]


def _made(report: Report) -> list[str]:
    said = htmlpage.said
    counts = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in report.rows.items())
    how = said(report.recipe_name) if report.recipe_name else "elsewhere"
    sources = ", ".join(map(htmlpage.named, report.label_sources)) or "nobody, or not known"
    flags = " ".join(map(str, report.environment.get("cpu_flags", ())))
    parts = [
        f"<p>Made: {how}. Seed {report.seed}. Rows: {said(counts)}.</p>",
        f"<p>Fresh labels that were looked at came from: {sources}.</p>",
        f"<p>Speed was measured on {said(report.environment.get('machine', 'an unknown machine'))}"
        f" ({said(flags)}), once: it has no interval.</p>",
        *_cost(report.cost),
        f'<p class="faint">Limits: SHA-256 {said(report.policy_sha256)}.</p>',
    ]
    return parts + [f'<p class="faint">{said(told)}</p>' for told in report.warnings]


def _cost(cost: Cost | None) -> list[str]:
    if cost is None:
        return ['<p class="faint">What the job has cost is not known.</p>']
    told = f"Measured: {cost.cpu_seconds:.3g} s of CPU in {cost.wall_seconds:.3g} s"
    if cost.earlier_cpu_seconds:
        told += f", and {cost.earlier_cpu_seconds:.3g} s of CPU before"
    if cost.peak_bytes is not None:
        told += f"; {cost.peak_bytes / 1e6:.0f} MB of memory at the peak"
    parts = [f"<p>{told}.</p>"]
    if cost.package_joules is None:
        return [*parts, f"<p>Energy is not known: {htmlpage.said(cost.no_energy or '')}.</p>"]
    parts.append(
        f"<p>Measured: {cost.package_joules:.3g} J of all CPU packages, other work included.</p>"
    )
    if cost.estimated_joules is not None:
        parts.append(
            f"<p>Estimated: {cost.estimated_joules:.3g} J of it for this job, by its share of the"
            " CPU time.</p>"
        )
    return parts


def _share(m: Measure) -> str:
    if m.low is None or m.high is None:
        return f"{m.value:.1%}"
    return f"{m.value:.1%} [{POINTS * m.low:.1f}, {POINTS * m.high:.1f}]"


def _bounds(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"[{low:.4g}, {high:.4g}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
