"""How well harm is found: generated scenarios with 10% random labels that come 500 rows late,
through ``redistill replay``.

Beside it, on the same labels: River's ADWIN with its defaults, ADWIN with every label, an alarm
every 5,000 rows, and never.

    python tests/benchmarks/bench_detection.py [--seeds 8] [--rate 0.1] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from river import drift
from scenarios import SCENARIOS, START, Drawn, Scenario, make

from streams.monitor.intervals import upper_bound
from streams.replay import ReplayOptions, run_replay

TOLERANCE = 2.0


@dataclass
class Score:
    """What one detector did over all streams."""

    episodes: int = 0
    found: int = 0
    reachable: int = 0
    reachable_found: int = 0
    alarms: int = 0
    true_alarms: int = 0
    false_benign: int = 0
    benign_rows: int = 0
    delays: list[float] = field(default_factory=list)
    by: dict[str, list[tuple[int, int, float]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, scenario: Scenario, drawn: Drawn, alarms: list[int], rate: float) -> None:
        """Score the rows at which a detector alarmed on one stream."""
        late = scenario.label_delay
        n = len(drawn.wrong)
        hits = 0
        for first, end in scenario.harm:
            self.episodes += 1
            inside = [a for a in alarms if first <= a < end + late]
            can = floor_rows(drawn, first, min(end, n), rate) + late <= 0.5 * (min(end, n) - first)
            self.reachable += can
            self.reachable_found += can and bool(inside)
            if inside:
                self.found += 1
                self.delays.append(inside[0] - first)
                hits += 1
            self.by[scenario.name].append(
                (1, int(bool(inside)), inside[0] - first if inside else math.nan)
            )
        changed = [(min(START, f), e + late) for f, e in scenario.harm]
        true = sum(any(f <= a < e for f, e in changed) for a in alarms)
        self.alarms += len(alarms)
        self.true_alarms += true
        clean = n - sum(min(e, n) - f for f, e in scenario.harm)
        self.false_benign += len(alarms) - true
        self.benign_rows += clean
        if not scenario.harm:
            self.by[scenario.name].append((0, len(alarms), math.nan))

    def row(self) -> list[str]:
        """Cells of the table."""
        return [
            f"{self.found / self.episodes:.2f}",
            f"{self.reachable_found / max(1, self.reachable):.2f}",
            f"{self.true_alarms / self.alarms:.3f}" if self.alarms else "-",
            f"{np.median(self.delays):.0f}" if self.delays else "-",
            f"{self.false_benign / self.benign_rows * 1e6:.1f}",
        ]


def floor_rows(drawn: Drawn, first: int, end: int, rate: float) -> float:
    """Rows that the best possible test (CUSUM with both rates known) needs in the mean."""
    p0 = float(drawn.reference_wrong.mean())
    p1 = float(drawn.wrong[first:end].mean())
    return floor_labels(p0, p1, 1e6 * rate) / rate


def floor_labels(p0: float, p1: float, run_length: float) -> float:
    """Labelled rows: Moustakides 1986."""
    if p1 <= p0:
        return math.inf
    up = p1 * math.log(p1 / p0) + (1 - p1) * math.log((1 - p1) / (1 - p0))
    down = p0 * math.log(p0 / p1) + (1 - p0) * math.log((1 - p0) / (1 - p1))
    h = 1.0
    for _ in range(100):
        h = math.log(1 + h + run_length * down)
    return (h - 1 + math.exp(-h)) / up


def ours(scenario: Scenario, drawn: Drawn, rate: float, seed: int) -> list[dict[str, object]]:
    """Lines of ``redistill replay``."""
    lines: list[dict[str, object]] = []
    run_replay(
        drawn.stream,
        drawn.reference,
        ReplayOptions(
            scores=("score_a", "score_b"),
            label_rate=rate,
            label_delay=scenario.label_delay,
            seed=seed,
            tolerance_points=TOLERANCE,
        ),
        write=lines.append,
    )
    return lines


def adwin(scenario: Scenario, drawn: Drawn, rate: float, seed: int) -> list[int]:
    """Rows at which River's ADWIN, as it comes, sees the error rise."""
    detector = drift.ADWIN()
    drawn_labels = np.flatnonzero(np.random.default_rng(seed).random(len(drawn.wrong)) < rate)
    alarms, before = [], 0.0
    for i in drawn_labels.tolist():
        detector.update(int(drawn.wrong[i]))
        if detector.drift_detected and detector.estimation > before:
            alarms.append(i + scenario.label_delay)
        if detector.width % 32 == 0:
            before = detector.estimation
    return [a for a in alarms if a < len(drawn.wrong) + scenario.label_delay]


def main() -> None:
    """Run all scenarios and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--json", default=None)
    args = parser.parse_args()
    names = [
        "redistill: harm",
        "redistill: harm or broken contract",
        "River ADWIN, defaults, same labels",
        "River ADWIN, defaults, all labels",
        "chance: every 5,000 rows",
        "never",
    ]
    scores = {name: Score() for name in names}
    kinds: dict[str, int] = defaultdict(int)
    covered = windows = 0
    benign_quality = 0
    for scenario in SCENARIOS:
        for seed in range(args.seeds):
            drawn = make(scenario, seed)
            lines = ours(scenario, drawn, args.rate, seed)
            harm, contract = [], []
            for line in lines:
                if line.get("status") == "open":
                    kinds[f"{scenario.group} {line['kind']}"] += 1
                    if line["impact"]["harmful"]:
                        harm.append(line["row"])
                    elif line["kind"] == "quality":
                        contract.append(line["row"])
                        benign_quality += scenario.group != "harmful"
                elif "from" in line and line["accuracy"]["n"]:
                    truth = 1 - drawn.wrong[line["from"] : line["to"] + 1].mean()
                    windows += 1
                    covered += (
                        line["accuracy"]["low"] - 1e-9 <= truth <= line["accuracy"]["high"] + 1e-9
                    )
            n = len(drawn.wrong)
            alarms = [
                harm,
                sorted(harm + contract),
                adwin(scenario, drawn, args.rate, seed),
                adwin(scenario, drawn, 1.0, seed),
                list(range(5_000, n + 1, 5_000)),
                [],
            ]
            for name, rows in zip(names, alarms, strict=True):
                scores[name].add(scenario, drawn, [int(r) for r in rows], args.rate)
    print(
        f"{len(SCENARIOS)} scenarios x {args.seeds} seeds, {args.rate:.0%} labels, tolerance {TOLERANCE:g} points"
    )
    head = ["", "recall", "of reachable", "precision", "median delay", "false / 1M benign rows"]
    print(f"{head[0]:36}" + "".join(f"{h:>16}" for h in head[1:-1]) + f"{head[-1]:>24}")
    for name in names:
        cells = scores[name].row()
        print(f"{name:36}" + "".join(f"{c:>16}" for c in cells[:-1]) + f"{cells[-1]:>24}")
    print(
        "\nby scenario: found of episodes (median delay), or false alarms; harm | with contract | ADWIN"
    )
    for scenario in SCENARIOS:
        cells = []
        for name in names[:3]:
            rows = scores[name].by[scenario.name]
            hits = sum(h for _, h, _ in rows)
            delays = [d for _, _, d in rows if not math.isnan(d)]
            cells.append(
                f"{hits}/{len(rows)}" + (f" ({np.median(delays):.0f})" if delays else "")
                if scenario.harm
                else f"{hits} false"
            )
        print(f"  {scenario.group:9}{scenario.name:26}" + "".join(f"{c:>18}" for c in cells))
    for name in ("abrupt +5", "abrupt +10"):
        rows = scores[names[0]].by[name]
        delays = [d - 500 for _, _, d in rows if not math.isnan(d)]
        scenario = next(s for s in SCENARIOS if s.name == name)
        drawn = make(scenario, 0)
        floor = floor_rows(drawn, START, len(drawn.wrong), args.rate)
        u = upper_bound(int(drawn.reference_wrong.sum()), len(drawn.reference_wrong))
        print(
            f"{name}: mean delay {np.mean(delays):.0f} rows without the labels' own, floor {floor:.0f}:"
            f" {np.mean(delays) / floor:.2f} (base error {drawn.reference_wrong.mean():.3f}, bound {u:.3f})"
        )
    print(f"windows whose interval holds the truth: {covered}/{windows} = {covered / windows:.3f}")
    print(f"broken contracts told on benign and harmless streams: {benign_quality}")
    print("findings opened:", dict(sorted(kinds.items())))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({name: scores[name].row() for name in names}, file)


if __name__ == "__main__":
    main()
