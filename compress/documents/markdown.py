"""Markdown of a model card: foreign text is text, whatever it is made of. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from redistill.compress.documents.model_card import Figure, ModelCard
from redistill.compress.plan import Cost, DataSource, Measure
from redistill.oneline import one_line

__all__ = ["card"]

UNKNOWN = "*unknown*"
LONGEST, LONGEST_NAME = 2_000, 120
MARKS = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&:@$^=\"'/])")
"""All of CommonMark's punctuation that begins or ends anything in it or in GitHub's additions:
headings, lists, tables, links (bare ones by ``:``, ``/``, ``.`` and ``@``), HTML, entities."""
PASSED = {True: "passed", False: "**failed**", None: "undecided"}


def text(said: str, longest: int = LONGEST) -> str:
    """Foreign text on one line that Markdown shows as it is.

    Examples
    --------
    >>> print(text("<b>|`x`|\\n# y"))
    \\<b\\>\\|\\`x\\`\\| \\# y
    """
    return MARKS.sub(r"\\\1", one_line(said, longest))


def card(model: ModelCard) -> str:
    """The card as Markdown, in the sections of Mitchell et al. 2019."""
    lines = [
        f"# Model card of {_name(model.details.name)}",
        "",
        "Written by the job that made or judged this file. What nobody told or measured is"
        f" {UNKNOWN}. Measured figures stand on labelled rows and have 95% intervals; estimates"
        " stand apart.",
        *_section("Model details", _details(model)),
        *_section("Intended use", _intended(model)),
        *_section("Factors", _factors(model)),
        *_section("Metrics", _metrics(model)),
        *_section("Evaluation data", _data(model.evaluation_data, "none was looked at")),
        *_section("Training data", _training(model)),
        *_section("Quantitative analyses", _quantitative(model)),
        *_section("Gates", _gates(model)),
        *_section("Cost", _cost(model)),
        *_section("Ethical considerations", [_or_unknown(model.ethical_considerations)]),
        *_section("Caveats and recommendations", _caveats(model)),
    ]
    return "\n".join(lines) + "\n"


def _section(head: str, lines: Sequence[str] | Iterator[str]) -> list[str]:
    return ["", f"## {head}", "", *lines]


def _name(said: str) -> str:
    return text(said, LONGEST_NAME)


def _or_unknown(said: str | None) -> str:
    return UNKNOWN if not said else text(said)


def _names(names: Sequence[str]) -> str:
    return ", ".join(map(_name, names)) if names else "none"


def _details(m: ModelCard) -> Iterator[str]:
    d = m.details
    yield f"- File: SHA-256 `{d.sha256}`, {d.bytes:,} bytes"
    yield f"- Made: {_or_unknown(d.kind)}" + (f" ({_name(d.variant)})" if d.variant else "")
    operators = ", ".join(f"{_name(name)} {n}" for name, n in d.operators.items())
    yield f"- Graph: {operators or 'no nodes'}; {d.parameters:,} numbers in tensors"
    yield f"- Inputs ({len(d.inputs)}): {_names(d.inputs)}"
    yield f"- Classes ({len(d.outputs)}): {_names(d.outputs)}"
    if (t := d.temperature) is not None:
        how = "matched to what it was made from" if t.low is None else f"fitted to {t.n:,} labels"
        yield f"- Scores were divided by {t.value:.4g}{_interval(t)} ({how})"
    yield f"- License: {_or_unknown(d.license)}"
    yield f"- Contact: {_or_unknown(d.contact)}"


def _intended(m: ModelCard) -> Iterator[str]:
    yield f"- Primary uses: {_or_unknown(m.intended_use.primary_uses)}"
    yield f"- Primary users: {_or_unknown(m.intended_use.primary_users)}"
    yield f"- Out of scope: {_or_unknown(m.intended_use.out_of_scope)}"


def _factors(m: ModelCard) -> Iterator[str]:
    yield f"- Slices that were looked at: {_names(m.factors.slices)}"
    yield f"- Groups of people that were declared: {_names(m.factors.groups)}"
    yield f"- Speed and rounding were measured on: {text(m.factors.machine)}"


def _metrics(m: ModelCard) -> Iterator[str]:
    yield f"- Measured: {_names([n.replace('_', ' ') for n in m.metrics.names])}"
    yield f"- Decision: {text(m.metrics.decision)}"
    yield f"- Uncertainty: {text(m.metrics.uncertainty)}"


def _data(sources: Sequence[DataSource], none: str) -> Iterator[str]:
    for s in sources:
        when = "times unknown" if s.first is None else f"served {s.first} to {s.last}"
        yield f"- {_name(s.role)}: {s.rows:,} rows, {when}, SHA-256 `{s.sha256}`"
    if not sources:
        yield none


def _training(m: ModelCard) -> Iterator[str]:
    yield from _data(m.training_data, UNKNOWN)
    if m.labels_in_loss is not None:
        learned = "labels, beside its teacher" if m.labels_in_loss else "its teacher's answers"
        yield f"- Learned from {learned}"


def _quantitative(m: ModelCard) -> Iterator[str]:
    q = m.quantitative
    yield "### Measured"
    yield ""
    rows = [
        [
            _name(f.name.replace("_", " ")),
            f.model,
            f.rows,
            _name(f.part or "all"),
            _measured(f),
            f"{f.measure.n:,}",
        ]
        for f in q.measured
    ]
    yield from _table(("metric", "model", "rows", "part", "value", "n"), rows)
    for gap in q.groups:
        yield ""
        yield (
            f"Gap between the groups of {_name(gap.key)} (largest minus smallest {gap.what};"
            f" chance alone would show {gap.chance:.1%}):"
        )
        yield ""
        for role, found in gap.accuracy.items():
            for value, share in found.items():
                yield f"- {_name(role)}, {_name(value)}: {_share(share)} of {share.n:,} rows"
        for role, share in gap.gap.items():
            yield f"- gap of the {_name(role)}: {_share(share)}"
        for role, share in gap.added.items():
            yield f"- added to that of the {_name(role)}: {_share(share)}"
    yield ""
    yield f"Intersections: {text(q.intersectional)}."
    yield ""
    yield "### Estimated"
    yield ""
    for e in q.estimated:
        yield f"- {text(e.what)}: about {e.value:,.4g} {e.unit}"
    if not q.estimated:
        yield "Nothing."


def _gates(m: ModelCard) -> Iterator[str]:
    rows = [
        [
            _name(g.name),
            _number(g.value) + _bounds(g.low, g.high),
            _number(g.limit),
            "waived" if g.name in m.caveats.waived else PASSED[g.passed],
            text(g.why),
        ]
        for g in m.gates
    ]
    yield from _table(("gate", "value", "limit", "", "why"), rows)


def _cost(m: ModelCard) -> Iterator[str]:
    for model, (p50, p95) in m.latency.items():
        yield f"- Latency of the {_name(model)}: p50 {p50:.4f} ms, p95 {p95:.4f} ms (measured once)"
    if m.cost is None:
        yield f"- Cost of the job: {UNKNOWN}"
    else:
        yield from _job_cost(m.cost)


def _job_cost(c: Cost) -> Iterator[str]:
    before = f", and {c.earlier_cpu_seconds:.4g} s before" if c.earlier_cpu_seconds else ""
    yield f"- CPU: {c.cpu_seconds:.4g} s{before}; wall time {c.wall_seconds:.4g} s (measured)"
    if c.peak_bytes is not None:
        yield f"- Peak memory: {c.peak_bytes / 1e6:.0f} MB (measured)"
    if c.package_joules is not None:
        yield (
            f"- Energy of all CPU packages meanwhile, other work included: {c.package_joules:.4g} J"
            " (measured)"
        )
    else:
        yield f"- Energy: {UNKNOWN}: {text(c.no_energy or '')}"


def _caveats(m: ModelCard) -> Iterator[str]:
    c = m.caveats
    yield f"- From the owner: {_or_unknown(c.from_owner)}"
    for gate, who in c.waived.items():
        yield f"- Gate {_name(gate)} did not pass and was waived: {text(who)}"
    for told in c.open:
        yield f"- Undecided: {text(told)}"
    for told in c.warnings:
        yield f"- {text(told)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if not rows:
        yield "Nothing."
        return
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _measured(f: Figure) -> str:
    m = f.measure
    if f.name == "accuracy":
        return _share(m)
    return f"{m.value:.4g}{_interval(m)}"


def _share(m: Measure) -> str:
    bounds = "" if m.low is None or m.high is None else f" [{100 * m.low:.1f}, {100 * m.high:.1f}]"
    return f"{m.value:.1%}{bounds}"


def _interval(m: Measure) -> str:
    return _bounds(m.low, m.high)


def _bounds(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" [{low:.4g}, {high:.4g}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
