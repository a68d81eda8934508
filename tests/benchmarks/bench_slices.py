"""Where a loss is: how many harmed slices are found and named, and how many healthy ones are blamed.

Episodes: one slice of 1 to 50% of the rows is flipped, or errs 20 points more, from row 10,000 on; a
finding of the whole model or of a slice within 5,000 rows counts. *Named*: the newest finding then
says a slice; *right*: it is the harmed one. Beside it stand the test of the whole model alone (the
same without a table of expected errors), and never. Stationary streams: findings of slices per 1M
rows, which are all false. Then what a label costs.

    python tests/benchmarks/bench_slices.py [--seeds 2] [--rows 200000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from sliced_errors import REFERENCE_ROWS, Rows, World, findings, reference

from redistill.streams.monitor.localisation import localise
from redistill.streams.monitor.slice_memory import LabelledRows
from redistill.streams.monitor.slice_run import SliceRun
from redistill.streams.monitor.slice_tests import SliceTests

START, PATIENCE = 10_000, 5_000
BASES = (0.02, 0.1, 0.2)
SLICES = (("small", 0), ("small", 2), ("twentieth", 3), ("tenth", 4), ("fifth", 1), ("half", 0))
LABELS = 0.08


@dataclass
class Tally:
    """Episodes of one kind."""

    episodes: int = 0
    found: int = 0
    named: int = 0
    right: int = 0
    delays: list[int] | None = None

    def line(self, configuration: str) -> dict[str, Any]:
        """As ``make bench-detection`` tells it."""
        delays = self.delays or []
        return {
            "configuration": configuration,
            "recall": round(self.found / self.episodes, 3),
            "median_delay_rows": float(np.median(delays)) if delays else None,
            "label_share": LABELS,
            "slice_named": round(self.named / self.found, 3) if self.found else None,
            "slice_right": round(self.right / self.named, 3) if self.named else None,
        }


def episodes(harm: str, seeds: int, *, whole_only: bool) -> Tally:
    """Harm of one slice at a time."""
    tally = Tally(delays=[])
    for seed in range(seeds):
        for base_rate in BASES:
            for k, slice_ in enumerate(SLICES):
                rng = np.random.default_rng([seed, round(1000 * base_rate), k])
                world = World.drawn(rng, base_rate)
                base, expected = reference(world.rows(rng, REFERENCE_ROWS))
                rows = world.rows(
                    rng, START + PATIENCE + 500, harmed=slice_, harm=harm, since=START
                )
                _judge(tally, rows, base, None if whole_only else expected, rng, slice_)
    return tally


def _judge(
    tally: Tally, rows: Rows, base: Any, expected: Any, rng: Any, harmed: tuple[str, int] | None
) -> None:
    tally.episodes += 1
    first, last = None, None
    for row, f in findings(rows, base, expected, rng, label_share=LABELS):
        if START <= row <= START + PATIENCE and f.status != "resolved":
            first = row if first is None and f.status == "open" else first
            last = f
    if first is None or last is None:
        return
    tally.found += 1
    assert tally.delays is not None
    tally.delays.append(first - START)
    if last.localised_to is not None:
        tally.named += 1
        name = None if harmed is None else f"{harmed[0]}=v{harmed[1]}"
        tally.right += last.localised_to == name


def stationary(kind: str, seeds: int, n: int, share: float) -> dict[str, Any]:
    """Findings of slices in rows whose slices are all as they were."""
    false = whole = 0
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 77])
        world = World.drawn(rng, 0.1)
        given: dict[str, Any] = {}
        if kind.startswith("runs"):
            given["runs"] = int(kind.split()[-1])
        elif kind == "daily wave":
            given["wave"] = 0.6
        base, expected = reference(world.rows(rng, REFERENCE_ROWS, **given))
        if kind == "a hard slice grows":
            hard = int(np.argmax(world.effects["twentieth"]))
            given["grown"] = ("twentieth", hard, 0.4)
        for _, f in findings(world.rows(rng, n, **given), base, expected, rng, label_share=share):
            if f.status == "open":
                false += f.scope != "all"
                whole += f.scope == "all"
    return {
        "configuration": f"{kind}, {share:.0%} labels",
        "false_alarms_per_million": round(1e6 * false / (seeds * n), 2),
        "whole_model_per_million": round(1e6 * whole / (seeds * n), 2),
        "label_share": share,
    }


def everywhere(seeds: int) -> dict[str, Any]:
    """Slices that are named where all rows got worse."""
    tally = Tally(delays=[])
    for seed in range(6 * seeds):
        rng = np.random.default_rng([seed, 5])
        world = World.drawn(rng, BASES[seed % 3])
        base, expected = reference(world.rows(rng, REFERENCE_ROWS))
        rows = world.rows(rng, START + PATIENCE + 500, harm="+20", since=START)
        _judge(tally, rows, base, expected, rng, None)
    return {**tally.line("everywhere +20 points"), "slice_right": None}


def cost(columns: int = 5, labels: int = 20_000, call: int = 2_000) -> dict[str, Any]:
    """Microseconds per label of the tests of 50 slices."""
    rng = np.random.default_rng(0)
    world = World.drawn(rng, 0.1)
    base, expected = reference(world.rows(rng, REFERENCE_ROWS))
    rows = world.rows(rng, labels)
    every = np.arange(labels)
    mu = expected.of(rows.codes(every), rows.confidence, rows=labels).astype(np.float32)
    ids = expected.tested(rows.codes(every), rows=labels)
    new = LabelledRows(rows.wrong, every, mu, ids, np.full(labels, -1, np.int8))
    best = float("inf")
    for _ in range(3):
        tests = SliceTests(expected, base, labels_per_alarm=1e6, share=LABELS)
        began = time.process_time()  # of the processor: others may be at work
        for i in range(0, labels, call):
            run = SliceRun(tests, new[i : i + call])
            run.advance(call, may_open=True)
            run.end()
        best = min(best, time.process_time() - began)
    began = time.process_time()
    localise(tests.memory.rows, len(expected.slices))
    return {
        "configuration": f"{len(expected.slices)} slices of {columns} columns, {call} labels a call",
        "us_per_label": round(1e6 * best / labels, 2),
        "localise_ms": round(1e3 * (time.process_time() - began), 2),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--json")
    args = parser.parse_args()
    lines: list[dict[str, Any]] = []

    def tell(line: dict[str, Any]) -> None:
        lines.append(line)
        print("  ".join(f"{k}={v}" for k, v in line.items()), flush=True)

    tell(cost())
    for harm in ("flip", "+20"):
        for whole_only in (True, False):
            tally = episodes(harm, args.seeds, whole_only=whole_only)
            what = "whole model only" if whole_only else "slices"
            tell(tally.line(f"slices of 1-50%, {harm}: {what}"))
    tell(everywhere(args.seeds))
    for kind in ("independent", "runs 8", "runs 30", "daily wave", "a hard slice grows"):
        for share in (0.08, 1.0):
            tell(stationary(kind, args.seeds, args.rows, share))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(lines, file, indent=2)


if __name__ == "__main__":
    main()
