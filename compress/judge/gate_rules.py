"""Gate rules: each turns evidence into a ``Gate``, and says what an open one waits for. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from redistill.compress.judge import intervals
from redistill.compress.judge.evidence import Evidence, rows_of
from redistill.compress.judge.measures import rows_to_decide
from redistill.compress.plan import Comparison, Gate, Limits, Undecidable
from redistill.stats import margin_e_value

__all__ = [
    "Requirement",
    "Ruling",
    "agreement",
    "f1",
    "fresh_beat",
    "fresh_keep",
    "gain",
    "loads",
    "really_quantized",
    "size",
    "speed",
    "trusted",
    "verified",
    "worst_slice",
]

Requirement = Literal["beat", "keep", "admit", "first"]
"""What a candidate has to show. ``beat``: repairs after an incident; better than the incumbent on
fresh rows, not worse on trusted ones. ``keep``: scheduled and manual jobs; not worse on either, and
better, smaller or faster. ``admit``: a version that a person added; not worse where there are rows.
``first``: the first model, which has nothing to be compared with."""

MARGIN_E_VALUE = 20.0
"""Evidence for "not worse by the margin": the 95% of the trusted gate, but anytime valid."""
ONE_SIDED = 0.90
"""A two-sided 90% interval has the two one-sided 95% bounds of a test of non-inferiority."""
POINTS = 100.0

Ruling = tuple[Gate, Undecidable | None]
"""A gate, and what it waits for if it is open."""


def _said(c: Comparison) -> str:
    return (
        f"{c.wins} rows that only the candidate got right, {c.losses} that only the incumbent did,"
        f" of {rows_of(c)}"
    )


def loads(e: Evidence) -> Gate:
    failed = e.load_error
    return Gate(
        name="loads",
        value=None,
        limit=None,
        passed=failed is None,
        why=failed or "loads and answers in a child with little memory and time",
    )


def size(e: Evidence, limits: Limits) -> Gate | None:
    if limits.max_bytes is None:
        return None
    return Gate(
        name="size_bytes",
        value=float(e.bytes),
        limit=float(limits.max_bytes),
        passed=e.bytes <= limits.max_bytes,
        why=f"{e.bytes:,} bytes, {limits.max_bytes:,} are allowed",
    )


def really_quantized(e: Evidence, limits: Limits) -> list[Gate]:
    if not e.quantized or e.fp32_bytes is None:
        return []
    ratio = e.bytes / e.fp32_bytes
    operators = ", ".join(e.integer_operators)
    return [
        Gate(
            name="quantized_size_ratio",
            value=ratio,
            limit=limits.max_size_ratio_noop,
            passed=ratio < limits.max_size_ratio_noop,
            why=f"{ratio:.2f} of the fp32 student's size; a no-op leaves about 1",
        ),
        Gate(
            name="integer_operators",
            value=float(len(e.integer_operators)),
            limit=1.0,
            passed=bool(e.integer_operators),
            why=f"the graph computes on integers with {operators}"
            if operators
            else "ONNX Runtime made no integer operator of it: the quantization does nothing",
        ),
    ]


def speed(e: Evidence, limits: Limits) -> list[Gate]:
    out = []
    if e.quantized and e.p50_ms is not None and e.fp32_p50_ms:
        ratio = e.p50_ms / e.fp32_p50_ms
        out.append(
            Gate(
                name="latency_ratio",
                value=ratio,
                limit=limits.max_latency_ratio,
                passed=ratio <= limits.max_latency_ratio,
                why=f"p50 {e.p50_ms:.4f} ms of CPU time, the fp32 student's is"
                f" {e.fp32_p50_ms:.4f} ms",
            )
        )
    if limits.max_p95_ms is not None and e.p95_ms is not None:
        out.append(
            Gate(
                name="p95_ms",
                value=e.p95_ms,
                limit=limits.max_p95_ms,
                passed=e.p95_ms <= limits.max_p95_ms,
                why=f"p95 {e.p95_ms:.4f} ms of CPU time at the serving batch",
            )
        )
    return out


def agreement(e: Evidence, limits: Limits) -> Gate | None:
    """Trusted rows are judged by their share, fresh ones by the upper bound of it: of the few that
    decide the fresh gate one flip in twenty says nothing against 97%."""
    measured = [
        (where, m, m.value if where == "trusted" or m.high is None else m.high)
        for where, m in (("trusted", e.agreement), ("fresh", e.fresh_agreement))
        if m is not None and m.n
    ]
    if not e.quantized or not measured:
        return None
    where, worst, judged = min(measured, key=lambda share: share[2])
    return Gate(
        name="agreement",
        value=judged,
        limit=limits.min_agreement,
        passed=judged >= limits.min_agreement,
        why=f"same class as the fp32 student on {worst.value:.1%} of {worst.n} {where} rows"
        f" [{worst.low:.1%}, {worst.high:.1%}]",
    )


def trusted(e: Evidence, limits: Limits, margin_points: float) -> Ruling:
    c, n, margin = e.trusted, rows_of(e.trusted), margin_points / POINTS
    if c is None or n == 0:
        raise ValueError("the trusted gate needs a comparison on trusted rows")
    low, high = intervals.paired_difference(c.wins, c.losses, n, confidence=ONE_SIDED)
    passed = True if low > -margin else False if high < -margin else None
    why = (
        f"difference {(c.wins - c.losses) / n * POINTS:+.2f} points, one-sided 95% bounds"
        f" [{low * POINTS:+.2f}, {high * POINTS:+.2f}]: {_said(c)} trusted rows"
    )
    gate = Gate(
        name="trusted_points", value=low * POINTS, limit=-margin_points, passed=passed, why=why
    )
    if passed is not None:
        return gate, None

    def enough(rows: int) -> bool:
        wins, losses = round(c.wins * rows / n), round(c.losses * rows / n)
        bounds = intervals.paired_difference(wins, losses, rows, confidence=ONE_SIDED)
        return bounds[0] > -margin or bounds[1] < -margin

    return gate, Undecidable(gate="trusted_points", have=n, need=_grow(n, enough), why=why)


def _grow(n: int, enough: Callable[[int], bool]) -> int | None:
    """Smallest multiple of ``n`` (in steps of a tenth) that is enough; ``None`` beyond 100
    times."""
    return next((n * k // 10 for k in range(11, 1_001) if enough(n * k // 10)), None)


def f1(e: Evidence, limits: Limits) -> Gate | None:
    if e.f1 is None:
        return None
    interval = (
        "no interval"
        if e.f1.low is None or e.f1.high is None
        else f"95% interval [{e.f1.low * POINTS:+.2f}, {e.f1.high * POINTS:+.2f}]"
    )
    return Gate(
        name="f1_points",
        value=e.f1.value * POINTS,
        limit=-limits.max_f1_loss_points,
        passed=e.f1.value * POINTS >= -limits.max_f1_loss_points,
        why=f"macro F1 {e.f1.value * POINTS:+.2f} points against the incumbent, {interval}, on"
        f" {e.f1.n} trusted rows",
    )


def worst_slice(e: Evidence, limits: Limits) -> Ruling | None:
    if not e.slices:
        return None
    # Small slices vary: a slice fails when its loss is too large *and* no accident, with the error
    # divided among all slices; too large but possibly an accident is open.
    confidence = 1.0 - 2 * 0.05 / len(e.slices)
    limit = limits.max_worst_slice_loss_points / POINTS
    worst = e.slices[0]
    suspects = [s for s in e.slices if s.loss > limit]
    shown = [s for s in suspects if s.bounds(confidence)[0] > 0.0]
    if shown:
        worst = shown[0]
    low, high = worst.bounds(confidence)
    why = (
        f"{worst.name} loses {worst.loss * POINTS:+.1f} points"
        f" [{low * POINTS:+.1f}, {high * POINTS:+.1f}] on {worst.n} rows, the most of"
        f" {len(e.slices)} slices and classes (bounds allow for looking at all of them)"
    )
    gate = Gate(
        name="worst_slice_points",
        value=worst.loss * POINTS,
        limit=limits.max_worst_slice_loss_points,
        passed=False if shown else None if suspects else True,
        why=why,
    )
    if gate.passed is not None:
        return gate, None
    return gate, Undecidable(gate=gate.name, have=worst.n, need=None, why=why)


def fresh_beat(e: Evidence, limits: Limits) -> Ruling:
    c = e.verified if e.blind_at(limits.domain_auc_blind) else e.fresh
    n = rows_of(c)
    if c is None or n == 0:
        why = "no labelled fresh rows yet"
        gate = Gate(
            name="fresh_e_value", value=None, limit=limits.min_e_value, passed=None, why=why
        )
        return gate, Undecidable(gate=gate.name, have=0, need=None, why=why)
    better, worse = c.e_better >= limits.min_e_value, c.e_worse >= limits.min_e_value
    why = f"{_said(c)} labelled fresh rows: e-value {c.e_better:.3g} that the candidate is better"
    if worse:
        why += f", {c.e_worse:.3g} that it is worse"
    passed = True if better else False if worse else None
    gate = Gate(
        name="fresh_e_value", value=c.e_better, limit=limits.min_e_value, passed=passed, why=why
    )
    if passed is not None:
        return gate, None
    need = rows_to_decide(c.wins, c.losses, c.ties, threshold=limits.min_e_value)
    return gate, Undecidable(gate=gate.name, have=n, need=need, why=why)


def fresh_keep(e: Evidence, limits: Limits, rule: Requirement) -> Ruling:
    c = e.verified if e.blind_at(limits.domain_auc_blind) else e.fresh
    n, name = rows_of(c), "fresh_margin_e_value"
    margin = limits.scheduled_margin_points / POINTS
    if c is None or n == 0:
        optional = rule == "admit"
        why = "no labelled fresh rows" + (": judged on trusted rows alone" if optional else " yet")
        gate = Gate(
            name=name,
            value=None,
            limit=MARGIN_E_VALUE,
            passed=True if optional else None,
            why=why,
        )
        return gate, None if optional else Undecidable(gate=name, have=0, need=None, why=why)
    kept, worse = margin_e_value(c.wins, c.losses, c.ties, margin=margin)
    passed = True if kept >= MARGIN_E_VALUE else False if worse >= MARGIN_E_VALUE else None
    why = (
        f"{_said(c)} labelled fresh rows: e-value {kept:.3g} that the candidate is not worse by"
        f" {limits.scheduled_margin_points:g} points, {worse:.3g} that it is"
    )
    gate = Gate(name=name, value=kept, limit=MARGIN_E_VALUE, passed=passed, why=why)
    if passed is not None:
        return gate, None

    def enough(rows: int) -> bool:
        k = rows / n
        pair = margin_e_value(c.wins * k, c.losses * k, c.ties * k, margin=margin)
        return max(pair) >= MARGIN_E_VALUE

    return gate, Undecidable(gate=name, have=n, need=_grow(n, enough), why=why)


def verified(e: Evidence, limits: Limits) -> Ruling | None:
    if not e.labels_in_loss or e.domain_auc is None:
        return None
    auc, have, need = e.domain_auc, rows_of(e.verified), limits.min_verified_rows
    told = f"a linear classifier tells fresh from trusted rows with AUC {auc.value:.2f}"
    if not e.blind_at(limits.domain_auc_blind):
        why = f"{told}, at most {limits.domain_auc_blind:g}: the trusted rows can judge the labels"
        return Gate(name="verified_rows", value=float(have), limit=None, passed=True, why=why), None
    why = (
        f"labels entered the loss and {told}, so the trusted rows cannot tell whether the labels"
        f" are right: {have} of {need} fresh rows are labelled by another source"
    )
    passed = True if have >= need else None
    gate = Gate(name="verified_rows", value=float(have), limit=float(need), passed=passed, why=why)
    return gate, None if passed else Undecidable(
        gate="verified_rows", have=have, need=need, why=why
    )


def gain(e: Evidence, limits: Limits) -> Gate:
    least = 1.0 - limits.scheduled_min_gain
    gains = []
    if e.fresh is not None and e.fresh.e_better >= limits.min_e_value:
        gains.append(f"better on fresh rows (e-value {e.fresh.e_better:.3g})")
    if e.trusted is not None and rows_of(e.trusted):
        c = e.trusted
        low, _ = intervals.paired_difference(c.wins, c.losses, rows_of(c), confidence=ONE_SIDED)
        if low > 0.0:
            gains.append(f"better on trusted rows (at least {low * POINTS:+.2f} points)")
    ratios = []
    if e.incumbent_bytes:
        ratios.append(e.bytes / e.incumbent_bytes)
        if ratios[-1] <= least:
            gains.append(f"smaller ({ratios[-1]:.2f} of the incumbent's size)")
    if e.incumbent_p50_ms and e.p50_ms is not None:
        ratios.append(e.p50_ms / e.incumbent_p50_ms)
        if ratios[-1] <= least:
            gains.append(f"faster ({ratios[-1]:.2f} of the incumbent's CPU time)")
    return Gate(
        name="gain",
        value=min(ratios) if ratios else None,
        limit=least,
        passed=bool(gains),
        why=", ".join(gains)
        if gains
        else f"no gain: neither better nor smaller or faster by {limits.scheduled_min_gain:.0%}",
    )
