"""Explanation of a registration in plain words: what is normal, what is harm, when it is found."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from redistill.stats import clopper_pearson, upper_bound
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.delay import delay
from redistill.streams.monitor.expected_error import ExpectedError, SliceReference
from redistill.streams.monitor.slice_delay import LABELS, smallest_change
from redistill.times import utc
from redistill.workers.models import cron, slice_tests, trusted_power
from redistill.workers.models.registration import PreparedModel
from redistill.workers.models.spec import ModelSpec
from redistill.workers.settings.settings import Settings
from redistill.workers.store.queries import Traffic

__all__ = ["Said", "explain", "next_run"]

DROPS = (5.0, 10.0)
"""Losses of accuracy, in points, for which the delay is said."""
USUAL_LABEL_SHARE = 0.1
"""Assumed where no traffic is known yet."""
MANY_ROWS = 20_000
"""Base rows beyond which more of them hardly make detection faster."""
SLOWER = 1.5
"""Worth a warning: the delay is so many times what it would be with ``MANY_ROWS`` base rows."""
GATE_ROWS = 100
"""Labelled rows with features that a gate needs, roughly."""


@dataclass(frozen=True, slots=True)
class Said:
    """Sentences for a person, and the figures behind them."""

    sentences: tuple[str, ...]
    warnings: tuple[str, ...]
    delays: dict[str, float | None]
    """Labelled rows until a drop is found, by points; ``None``: never."""


def explain(
    prepared: PreparedModel,
    settings: Settings,
    traffic: Traffic | None,
    *,
    now: int,
    churn: float | None = None,
) -> Said:
    """Say what the thresholds and the schedule of a specification mean.

    Parameters
    ----------
    traffic
        What the model's last days looked like; ``None``: not known.
    now
        Microseconds since 1970.
    churn
        Share of trusted rows on which the newest candidate differed; ``None``: not known.
    """
    config = prepared.spec.watch_config(settings)
    sentences: list[str] = []
    warnings: list[str] = []
    delays: dict[str, float | None] = {}
    base = prepared.base
    if base is None:
        sentences.append(
            "what is normal is learned from traffic: the profile from the first 10,000 rows, the"
            " base error from the first 1,000 labelled ones; until then findings are provisional"
        )
    else:
        share = _label_share(traffic)
        sentences.append(_normal(base, config))
        for drop in DROPS:
            found = delay(base, config, drop, share)
            delays[f"{drop:g}"] = None if math.isinf(found) else round(found, 1)
            sentences.append(_found(drop, found, share, traffic, config.tolerance_points))
        if prepared.expected is not None:
            sentences.append(_slices(prepared.expected, base, config, share))
        else:
            sentences.append(f"slices have no tests: {slice_tests.why_none(prepared.spec, base)}")
        warnings += _slow(base, config, share)
    if prepared.spec.level == "repair":
        warnings += _gates(prepared.spec.repair.wait_hours, traffic, sentences)
    if (rows := trusted_power.of_spec(prepared.spec)) is not None:
        sentences.append(trusted_power.shown(rows, prepared.spec, churn))
        if prepared.spec.level == "repair":
            few = trusted_power.too_few(rows, prepared.spec, churn)
            warnings += [] if few is None else [few]
    if (planned := next_run(prepared.spec, now)) is not None:
        sentences.append(planned)
    elif prepared.spec.repair.schedule is not None:
        warnings.append(
            f"[repair] schedule: nothing is recompressed at level {prepared.spec.level};"
            ' level = "repair" does it'
        )
    return Said(tuple(sentences), tuple(warnings), delays)


def next_run(spec: ModelSpec, now: int) -> str | None:
    """When a schedule is due next, with the day of the week; ``None``: there is no schedule that
    is kept.
    """
    if spec.repair.schedule is None or spec.level != "repair":
        return None
    try:
        due = cron.parse(spec.repair.schedule).after(utc(now))
    except ValueError as error:  # an earlier release let it in
        return f"the schedule {spec.repair.schedule!r} is not kept: {error}"
    when = "never" if due is None else cron.in_words(due)
    return f"next scheduled recompression: {when} ({spec.repair.schedule})"


def _label_share(traffic: Traffic | None) -> float:
    if traffic is None or not traffic.labels or not traffic.rows:
        return USUAL_LABEL_SHARE
    return min(1.0, traffic.labels / traffic.rows)


def _normal(base: BaseError, config: WatchConfig) -> str:
    low, high = clopper_pearson(base.errors, base.n)
    return (
        f"error {base.rate:.1%} on {base.n:,} rows (95% interval {low:.1%} to {high:.1%});"
        f" harm is an error above {base.rate + config.tolerance_points / 100:.1%}"
        f" (tolerance {config.tolerance_points:g} points)"
    )


def _found(
    drop: float, labels: float, share: float, traffic: Traffic | None, tolerance: float
) -> str:
    if drop < tolerance:
        return f"a {drop:g}-point drop is within the tolerance: nobody is called for it"
    if math.isinf(labels):
        return f"a {drop:g}-point drop is below what this reference can show: it is never found"
    count = f"about {labels:,.0f} labels"
    if traffic is not None and traffic.labels:
        days = labels / traffic.labels
        when = f"{days:.1f} days" if days >= 1 else f"{days * 24:.1f} hours"
        return f"a {drop:g}-point drop is found after {count}, {when} at your rate"
    return (
        f"a {drop:g}-point drop is found after {count}"
        f" ({labels / share:,.0f} rows if {share:.0%} of them get a label)"
    )


def _slices(expected: ExpectedError, base: BaseError, config: WatchConfig, share: float) -> str:
    """What the tests of slices can see: of the largest and of the smallest."""

    def seen(s: SliceReference) -> str:
        points = smallest_change(s, expected, base, config, share)
        what = "no rise" if points is None else f"a rise of {points:g} points or more"
        return f"{s.name} ({s.n:,} reference rows) {what}"

    largest, smallest = expected.slices[0], expected.slices[-1]
    told = seen(largest) if largest is smallest else f"{seen(largest)}, {seen(smallest)}"
    return (
        f"{len(expected.slices)} slices of {', '.join(expected.columns)} have tests of their own,"
        f" which see within {LABELS:,} labels of the slice: {told}"
    )


def _slow(base: BaseError, config: WatchConfig, share: float) -> list[str]:
    """Few base rows make the bound on the base error loose, and detection slow."""
    if base.n >= MANY_ROWS:
        return []
    errors = round(base.rate * MANY_ROWS)
    ideal = replace(
        base, n=MANY_ROWS, errors=errors, upper=max(base.rate, upper_bound(errors, MANY_ROWS))
    )
    mine, best = (delay(b, config, DROPS[0], share) for b in (base, ideal))
    if mine <= SLOWER * best:
        return []
    takes = "is never found" if math.isinf(mine) else f"takes about {mine:,.0f} labels"
    return [
        f"only {base.n:,} base rows: a {DROPS[0]:g}-point drop {takes}; with {MANY_ROWS:,} rows it"
        f" would take about {best:,.0f}"
    ]


def _gates(wait_hours: float, traffic: Traffic | None, sentences: list[str]) -> list[str]:
    """Whether a repair can be judged before its deadline."""
    if traffic is None or traffic.days < 1:
        sentences.append(
            f"a repair is judged on about {GATE_ROWS} labelled rows, for which it waits"
            f" {wait_hours:g} hours ([repair] wait_hours)"
        )
        return []
    if not traffic.gate_rows:
        return [
            "no labelled rows with stored features in the last week: a repair could not be judged"
        ]
    hours = GATE_ROWS / traffic.gate_rows * 24
    sentences.append(
        f"{traffic.gate_rows:,.0f} gate rows a day: a repair can be judged in {hours:,.1f} hours"
    )
    if hours <= wait_hours:
        return []
    return [
        f"{GATE_ROWS} gate rows take {hours:,.1f} hours, a repair waits {wait_hours:g}: raise"
        " [repair] wait_hours, or label more rows"
    ]
