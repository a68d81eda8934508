"""Tables of what judged a model: its gates, its costs, and how differently it serves groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from redistill.workers.cli import common

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["WORDS", "cost_line", "gap_lines", "gate_table", "measured_lines", "number"]

POINTS = 100.0
WHOSE = {"candidate": "this model", "incumbent": "the one before", "teacher": "its teacher"}
WORDS = {True: "passed", False: "FAILED", None: "undecided"}


def gate_table(gates: Sequence[Mapping[str, Any]]) -> Table:
    """Each gate with its value against its limit, and why."""
    table = common.table("GATE", "VALUE", "LIMIT", "", "WHY")
    for gate in gates:
        table.add_row(
            gate["name"],
            number(gate.get("value")),
            number(gate.get("limit")),
            WORDS[gate.get("passed")],
            gate.get("why", ""),
        )
    return table


def gap_lines(gaps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Accuracy of each declared group, the gap between the best and the worst served, and what
    compression and this release added to it.

    Examples
    --------
    >>> m = lambda v: {"value": v, "low": v - 0.01, "high": v + 0.01, "n": 200}
    >>> gap = {"key": "sex", "chance": 0.02}
    >>> gap |= {"accuracy": {"candidate": {"f": m(0.8), "m": m(0.9)}}}
    >>> gap |= {"gap": {"candidate": m(0.1)}, "added": {"teacher": m(0.04)}}
    >>> print(*gap_lines([gap]), sep=chr(10))
    sex: f 80.0% [79.0, 81.0] of 200 rows, m 90.0% [89.0, 91.0] of 200 rows
      gap of this model: 10.0 points [9.0, 11.0] (chance alone: 2.0)
      added to that of its teacher: +4.0 points [+3.0, +5.0]
    """
    lines = []
    for gap in gaps:
        own = gap["accuracy"]["candidate"]
        each = [
            f"{v} {m['value']:.1%} [{m['low'] * POINTS:.1f}, {m['high'] * POINTS:.1f}] of"
            f" {m['n']:,} rows"
            for v, m in own.items()
        ]
        lines.append(f"{gap['key']}: {', '.join(each)}")
        for role, m in gap["gap"].items():
            low, high = m["low"] * POINTS, m["high"] * POINTS
            text = (
                f"  gap of {WHOSE[role]}: {m['value'] * POINTS:.1f} points [{low:.1f}, {high:.1f}]"
            )
            if role == "candidate":
                text += f" (chance alone: {gap['chance'] * POINTS:.1f})"
            lines.append(text)
        for role, m in gap["added"].items():
            low, high = m["low"] * POINTS, m["high"] * POINTS
            lines.append(
                f"  added to that of {WHOSE[role]}: {m['value'] * POINTS:+.1f} points [{low:+.1f},"
                f" {high:+.1f}]"
            )
    return lines


def cost_line(cost: Mapping[str, Any]) -> str:
    """What the run of a job that judged it has cost.

    Examples
    --------
    >>> cost = {"cpu_seconds": 2.5, "earlier_cpu_seconds": 0.0, "peak_bytes": 410_000_000}
    >>> cost |= {"package_joules": 90.0, "estimated_joules": 40.0, "no_energy": None}
    >>> cost_line(cost)
    'cost: 2.5 s of CPU, 410 MB at the peak, about 40 J (estimated by its share of 90 J measured)'
    """
    told = [f"{cost['cpu_seconds']:.3g} s of CPU"]
    if cost["earlier_cpu_seconds"]:
        told[0] += f" ({cost['earlier_cpu_seconds']:.3g} s before)"
    if cost["peak_bytes"] is not None:
        told.append(f"{cost['peak_bytes'] / 1e6:.0f} MB at the peak")
    if cost["package_joules"] is None:
        told.append(f"energy not known: {cost['no_energy']}")
    elif cost["estimated_joules"] is None:
        told.append(f"{cost['package_joules']:.3g} J of the whole machine")
    else:
        told.append(
            f"about {cost['estimated_joules']:.3g} J (estimated by its share of"
            f" {cost['package_joules']:.3g} J measured)"
        )
    return "cost: " + ", ".join(told)


def measured_lines(variant: Mapping[str, Any]) -> list[str]:
    """What a judged file costs and is worth; nothing of what its report does not say.

    Examples
    --------
    >>> m = {"value": 0.9, "low": 0.88, "high": 0.92, "n": 800}
    >>> cost = {"bytes": 30_000, "p50_ms": 0.05, "rows_per_s": 18_000.0, "peak_bytes": 4_000_000}
    >>> told = {"measures": {"accuracy": m}, "temperature": m | {"value": 1.4, "low": None}}
    >>> print(*measured_lines(cost | told), sep=chr(10))
    30,000 bytes, p50 0.0500 ms, 18,000 rows a second, 4.0 MB of memory
    accuracy 0.9 [0.88, 0.92] on 800 trusted rows
    temperature 1.4 (matched to the confidence of its teacher)
    """
    if not variant:
        return []
    cost = [f"{variant['bytes']:,} bytes", f"p50 {variant['p50_ms']:.4f} ms"]
    if variant.get("rows_per_s"):
        cost.append(f"{variant['rows_per_s']:,.0f} rows a second")
    if variant.get("peak_bytes") is not None:
        cost.append(f"{variant['peak_bytes'] / 1e6:.1f} MB of memory")
    lines = [", ".join(cost)]
    for name, m in (variant.get("measures") or {}).items():
        low, high = number(m["low"]), number(m["high"])
        lines.append(
            f"{name.replace('_', ' ')} {number(m['value'])} [{low}, {high}] on {m['n']:,} trusted"
            " rows"
        )
    if t := variant.get("temperature"):
        how = "matched to the confidence of its teacher"
        if t["low"] is not None:
            how = f"[{number(t['low'])}, {number(t['high'])}], fitted to {t['n']:,} labels"
        lines.append(f"temperature {number(t['value'])} ({how})")
    return lines


def number(value: float | None) -> str:
    """A number in a cell."""
    return "-" if value is None else f"{value:.4g}"
