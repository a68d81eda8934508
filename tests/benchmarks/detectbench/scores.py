"""Scores of detectors: what a table line says, from what they said of each stream."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from detectbench.cases import Case
from detectbench.detectors import Told
from scenarios import Drawn

__all__ = ["Record", "line", "record"]

LEAST = 0.02
"""Harm of less than two points is none: such a stretch is left out of everything. (Where one slice is
harmed, that slice is.)"""


@dataclass
class Record:
    """What one detector was worth on one stream."""

    configuration: str
    suite: str
    case: str
    seed: int
    rows: int
    benign_rows: int
    episodes: int = 0
    found: int = 0
    carried: int = 0
    """Episodes that began while harm stood open, which nothing opens again."""
    delays: list[float] = field(default_factory=list)
    over_floor: list[float] = field(default_factory=list)
    alarms: int = 0
    false: int = 0
    covered: int = 0
    windows: int = 0
    label_share: float | None = None
    seconds: float | None = None
    cause: bool = False
    """One slice was the cause, and harm was found."""
    named: bool = False
    """Some finding then blamed a slice."""
    blamed: int = 0
    """Findings that blamed one."""
    right: int = 0
    """Those that blamed the right one."""

    def json(self) -> dict[str, Any]:
        """As kept between runs."""
        return asdict(self)


def floor_labels(p0: float, p1: float, run_length: float) -> float:
    """Mean delay, in labels, of the best test, which knows both rates: Moustakides 1986."""
    if p1 <= p0:
        return math.inf
    up = p1 * math.log(p1 / p0) + (1 - p1) * math.log((1 - p1) / (1 - p0))
    down = p0 * math.log(p0 / p1) + (1 - p0) * math.log((1 - p0) / (1 - p1))
    h = 1.0
    for _ in range(100):
        h = math.log(1 + h + run_length * down)
    return (h - 1 + math.exp(-h)) / up


def record(name: str, case: Case, drawn: Drawn, told: Told, seed: int) -> Record:
    """Compare what was said with the truth."""
    n, late = len(drawn.wrong), case.label_delay
    usual = float(drawn.reference_wrong.mean())
    harm = [(first, min(end, n)) for first, end in case.harm]
    real = [h for h in harm if case.cause or drawn.wrong[h[0] : h[1]].mean() >= usual + LEAST]
    out = Record(name, case.suite, case.name, seed, n, n - sum(e - f for f, e in harm))
    out.label_share, out.seconds = told.label_share, told.seconds
    out.covered, out.windows = told.covered, told.windows
    for first, end in real:
        out.episodes += 1
        inside = [a for a in told.alarms if first <= a < end + late]
        out.found += bool(inside)
        if not inside:
            out.carried += any(a < first < b for a, b in told.open_from)
            continue
        out.delays.append(inside[0] - first)
        rate = max(told.label_share or 0.0, 1e-3)
        p1 = float(np.mean(drawn.wrong[first:end]))
        least = floor_labels(usual, p1, 1e6 * rate) / rate + late
        out.over_floor.append((inside[0] - first) / least)
    changed = [(min(case.start, first), end + late) for first, end in harm]
    out.alarms = len(told.alarms)
    out.false = sum(not any(f <= a < e for f, e in changed) for a in told.alarms)
    if case.cause is not None and out.found:
        names = [name for name in told.blamed if name is not None]
        out.cause, out.named, out.blamed = True, bool(names), len(names)
        out.right = names.count(case.cause)
    return out


def _ratio(a: float, b: float, digits: int = 3) -> float | None:
    return round(a / b, digits) if b else None


def line(configuration: str, suite: str, records: Iterable[Record]) -> dict[str, Any]:
    """A line of the table; ``worst_seed`` has the lowest recall, the lowest precision and the most
    false alarms of any seed."""
    some = list(records)

    def told(these: list[Record]) -> dict[str, Any]:
        def total(name: str) -> int:
            return sum(getattr(r, name) for r in these)

        episodes, found, alarms, false = map(total, ("episodes", "found", "alarms", "false"))
        recall, precision = _ratio(found, episodes), _ratio(alarms - false, alarms)
        both = recall is not None and precision is not None and recall + precision > 0
        return {
            "recall": recall,
            "precision": precision,
            "f1": round(2 * recall * precision / (recall + precision), 3) if both else None,
            "false_alarms_per_million": _ratio(false * 1e6, total("benign_rows"), 2),
        }

    def of(name: str) -> list[float]:
        return [v for r in some for v in getattr(r, name)]

    def sums(name: str) -> float:
        return sum(getattr(r, name) or 0 for r in some)

    seeds = sorted({r.seed for r in some})
    each = [told([r for r in some if r.seed == seed]) for seed in seeds]
    shares = [r.label_share * r.rows for r in some if r.label_share is not None]
    worst = {
        key: pick([e[key] for e in each if e[key] is not None], default=None)
        for key, pick in (("recall", min), ("precision", min), ("false_alarms_per_million", max))
    }
    timed = [r for r in some if r.seconds is not None]
    return {
        "configuration": configuration,
        "suite": suite,
        **told(some),
        "median_delay_rows": float(np.median(of("delays"))) if of("delays") else None,
        "delay_over_floor": round(float(np.median(of("over_floor"))), 2)
        if of("over_floor")
        else None,
        "coverage": _ratio(sums("covered"), sums("windows")),
        "label_share": _ratio(sum(shares), sums("rows")) if shares else None,
        "slice_right": _ratio(sums("right"), sums("blamed")),
        "slice_named": _ratio(sums("named"), sums("cause")),
        "rows_per_second": round(sum(r.rows for r in timed) / sum(r.seconds for r in timed))
        if timed
        else None,
        "episodes": int(sums("episodes")),
        "carried": int(sums("carried")),
        "benign_rows": int(sums("benign_rows")),
        "seeds": len(seeds),
        "worst_seed": worst,
    }
