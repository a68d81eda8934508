"""Front of a search: what its variants are worth against what they cost, as charts, a table and a
page. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from redistill import htmlpage
from redistill.compress.documents import charts
from redistill.compress.documents.charts import Spot
from redistill.compress.plan import Report, Variant

__all__ = ["page", "sections"]

KEY = (
    '<span class="key ends"></span>passes every gate that was asked '
    '<span class="key harms"></span>refused <span class="key lines"></span>not decided '
    '<span class="key notes"></span>teacher and incumbent; the line joins variants that no other'
    " beats in both. Bars are 95% intervals."
)
COSTS: tuple[tuple[str, str, Callable[[Variant], float]], ...] = (
    ("size", "bytes", lambda v: float(v.bytes)),
    ("latency", "ms", lambda v: v.p50_ms),
)


def page(report: Report) -> str:
    """One HTML page, without script or link, of all variants of a report beside teacher and
    incumbent.

    Parameters
    ----------
    report
        Of a job that made candidates; its models were measured on the same rows and machine.
    """
    title = f"Variants of {htmlpage.named(report.model)}"
    return htmlpage.document(title, sections(report))


def sections(report: Report) -> list[str]:
    """The charts of accuracy against size and latency, and a table of the same figures."""
    if not report.variants:
        return ['<p class="faint">No variant was measured.</p>']
    beside = [v for v in (report.teacher, report.incumbent) if v is not None]
    parts = []
    for name, unit, cost in COSTS:
        spots = _spots(report, cost, beside)
        drawn = charts.trade(spots, unit=unit, title=f"Accuracy on trusted rows against {name}")
        parts.append(
            f'<h3>Accuracy against {name}</h3><figure><div class="wide">{drawn}</div>'
            f"<figcaption>{KEY}</figcaption></figure>"
        )
    return [*parts, _table(report, beside)]


def _spots(
    report: Report, cost: Callable[[Variant], float], beside: Sequence[Variant]
) -> list[Spot]:
    own = [v for v in report.variants if cost(v) > 0.0]  # nothing costs 0: it was not measured
    front = {v.name for v in own if not any(_beats(w, v, cost) for w in own)}
    spots = [
        Spot(
            name=v.name,
            cost=cost(v),
            accuracy=v.trusted_accuracy,
            style=_style(v),
            on_front=v.name in front,
        )
        for v in own
    ]
    return spots + [
        Spot(name=v.name, cost=cost(v), accuracy=v.trusted_accuracy, style="note")
        for v in beside
        if cost(v) > 0.0
    ]


def _beats(first: Variant, second: Variant, cost: Callable[[Variant], float]) -> bool:
    """Whether the first is at least as good in both, and better in one; by the measured values,
    whatever their intervals."""
    ours = (first.trusted_accuracy.value, -cost(first))
    theirs = (second.trusted_accuracy.value, -cost(second))
    return ours != theirs and ours[0] >= theirs[0] and ours[1] >= theirs[1]


def _style(v: Variant) -> str:
    passed = [g.passed for g in v.gates]
    if False in passed:
        return "harm"
    return "resolved" if passed and None not in passed else "open"


def _table(report: Report, beside: Sequence[Variant]) -> str:
    rows = []
    for v in (*report.variants, *beside):
        m = v.trusted_accuracy
        interval = "" if m.low is None or m.high is None else f" [{m.low:.1%}, {m.high:.1%}]"
        refused = ", ".join(g.name for g in v.gates if g.passed is False)
        rows.append(
            htmlpage.row(
                (htmlpage.named(v.name), "text"),
                (f"{m.value:.1%}{interval}", "number"),
                (f"{m.n:,}", "number"),
                (f"{v.bytes:,}", "number"),
                (f"{v.p50_ms:.4f}", "number"),
                (f"{v.p95_ms:.4f}", "number"),
                (htmlpage.named(refused) if refused else "–", "text"),
                asked=v.name == report.chosen,
            )
        )
    head = ("model", "accuracy, trusted rows", "n", "bytes", "p50 ms", "p95 ms", "refused by")
    return htmlpage.table(head, rows, (1, 2, 3, 4, 5))
