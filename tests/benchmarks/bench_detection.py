"""How well harm is found: generated scenarios with 10% random labels that come 500 rows late,
through ``redistill replay``.

Beside it, on the same labels: River's ADWIN with its defaults, ADWIN with every label, an alarm
every 5,000 rows, never, and the floor: the mean delay of the best test of labels that there can be,
which knows the error before and after. Two tables: the mix for which the bars were set, and with
scenarios that are harder or of a known drop.

    python tests/benchmarks/bench_detection.py [--seeds 8] [--rate 0.1] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from river import drift
from scenarios import EXTRA, SCENARIOS, START, Drawn, Scenario, make

from redistill.streams.replay.options import ReplayOptions
from redistill.streams.replay.run import run_replay

TOLERANCE = 2.0
LONG = START + 50_000
"""Rows of a stream in which a drop of 5 points is found for certain, nearly."""
Line = dict[str, Any]


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


def ours(scenario: Scenario, drawn: Drawn, rate: float, seed: int) -> list[Line]:
    """Lines of ``redistill replay``."""
    lines: list[Line] = []
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


def open_at(row: int, lines: list[Line]) -> bool:
    """Whether a finding of harm, opened before, is open at a row."""
    said = [
        line["status"]
        for line in lines
        if line.get("kind") == "accuracy" and line["impact"]["harmful"] and line["row"] < row
    ]
    return bool(said) and said[-1] != "resolved"


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


def floor(scenario: Scenario, drawn: Drawn, rate: float, seed: int) -> list[int]:
    """Rows at which labels alone could tell at best, in the mean; a slow drop counts as its mean
    from the start, so that its floor is too low."""
    late, n = scenario.label_delay, len(drawn.wrong)
    ideal = [
        (first + floor_rows(drawn, first, min(end, n), rate) + late, min(end, n) + late)
        for first, end in scenario.harm
    ]
    return [int(row) for row, end in ideal if row < end]


HARM, CONTRACT, LAYERED = (
    "redistill: harm",
    "redistill: harm or broken contract",
    "redistill: these or doubt",
)
ADWIN = "River ADWIN, defaults, same labels"
FLOOR = "floor: CUSUM that knows both rates"
NAMES = (
    HARM,
    CONTRACT,
    LAYERED,
    ADWIN,
    "River ADWIN, defaults, all labels",
    "chance: every 5,000 rows",
    "never",
    FLOOR,
)


@dataclass
class Tally:
    """All detectors over a set of scenarios."""

    scores: dict[str, Score] = field(default_factory=lambda: {name: Score() for name in NAMES})
    kinds: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    covered: int = 0
    windows: int = 0
    benign_quality: int = 0
    carried: int = 0
    """Episodes that began while a finding of harm was open: nothing opens, and none is missed."""

    def add(
        self, scenario: Scenario, drawn: Drawn, rate: float, lines: list[Line], seed: int
    ) -> None:
        """Score what all detectors say on one stream."""
        told: dict[str, list[int]] = {HARM: [], CONTRACT: [], LAYERED: []}
        self.carried += sum(open_at(first, lines) for first, _ in scenario.harm)
        for line in lines:
            if line.get("status") == "open":
                self.kinds[f"{scenario.group} {line['kind']}"] += 1
                harmful, kind = bool(line["impact"]["harmful"]), line["kind"]
                self.benign_quality += kind == "quality" and scenario.group != "harmful"
                for name, counts in (
                    (HARM, harmful),
                    (CONTRACT, harmful or kind == "quality"),
                    (LAYERED, harmful or kind in ("quality", "confidence")),
                ):
                    if counts:
                        told[name].append(line["row"])
            elif "from" in line and line["accuracy"]["n"]:
                truth = 1 - drawn.wrong[line["from"] : line["to"] + 1].mean()
                low, high = line["accuracy"]["low"], line["accuracy"]["high"]
                self.windows += 1
                self.covered += low - 1e-9 <= truth <= high + 1e-9
        alarms = [
            *told.values(),
            adwin(scenario, drawn, rate, seed),
            adwin(scenario, drawn, 1.0, seed),
            list(range(5_000, len(drawn.wrong) + 1, 5_000)),
            [],
            floor(scenario, drawn, rate, seed),
        ]
        for name, rows in zip(NAMES, alarms, strict=True):
            self.scores[name].add(scenario, drawn, rows, rate)

    def show(self, title: str) -> None:
        """Print the table."""
        print(f"\n{title}")
        head = ["recall", "of reachable", "precision", "median delay", "false / 1M benign rows"]
        print(f"{'':36}" + "".join(f"{h:>16}" for h in head[:-1]) + f"{head[-1]:>24}")
        for name, score in self.scores.items():
            cells = score.row()
            print(f"{name:36}" + "".join(f"{c:>16}" for c in cells[:-1]) + f"{cells[-1]:>24}")
        print(
            f"episodes that began while harm was still open, among those not found: {self.carried}"
        )
        print(
            "windows whose interval holds the truth:"
            f" {self.covered}/{self.windows} = {self.covered / self.windows:.3f}"
        )

    def show_scenarios(self) -> None:
        """Print a line for each scenario."""
        shown = (HARM, CONTRACT, LAYERED, ADWIN, FLOOR)
        print(
            "\nby scenario, found of episodes (median delay) or false alarms:"
            " harm | with contract | with doubt | ADWIN | floor"
        )
        for scenario in SCENARIOS:
            cells = []
            for name in shown:
                rows = self.scores[name].by[scenario.name]
                hits = sum(h for _, h, _ in rows)
                delays = [d for _, _, d in rows if not math.isnan(d)]
                cells.append(
                    f"{hits}/{len(rows)}" + (f" ({np.median(delays):.0f})" if delays else "")
                    if scenario.harm
                    else f"{hits} false"
                )
            print(f"  {scenario.group:9}{scenario.name:26}" + "".join(f"{c:>15}" for c in cells))


def against_floor(name: str, rate: float, seeds: int) -> str:
    """The mean delay beside the floor, on streams so long that nothing is missed."""
    scenario = next(s for s in SCENARIOS if s.name == name)
    delays, floors, early = [], [], 0
    for seed in range(seeds):
        drawn = make(scenario, seed, rows=LONG)
        told = [
            int(line["row"])
            for line in ours(scenario, drawn, rate, seed)
            if line.get("status") == "open" and line["impact"]["harmful"]
        ]
        late = [row for row in told if row >= START]
        early += len(told) - len(late)
        delays.append((late[0] if late else LONG) - START - scenario.label_delay)
        floors.append(floor_rows(drawn, START, LONG, rate))
    return (
        f"{name}: mean delay {np.mean(delays):.0f} rows without the labels' own, floor"
        f" {np.mean(floors):.0f}: {np.mean(delays) / np.mean(floors):.2f}"
        f" ({seeds} streams, {early} alarm(s) too early)"
    )


def main() -> None:
    """Run all scenarios and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--json", default=None)
    args = parser.parse_args()
    everything, mix = Tally(), Tally()
    for scenario in SCENARIOS:
        for seed in range(args.seeds):
            drawn = make(scenario, seed)
            lines = ours(scenario, drawn, args.rate, seed)
            for tally in (everything,) if scenario.name in EXTRA else (everything, mix):
                tally.add(scenario, drawn, args.rate, lines, seed)
    asked = f"{args.seeds} seeds, {args.rate:.0%} labels, tolerance {TOLERANCE:g} points"
    mix.show(f"the mix of the bars: {len(SCENARIOS) - len(EXTRA)} scenarios x {asked}")
    everything.show(f"with errors in runs and known drops: {len(SCENARIOS)} scenarios x {asked}")
    everything.show_scenarios()
    for name in ("abrupt +5", "abrupt +10"):
        print(against_floor(name, args.rate, 4 * args.seeds))
    print(f"broken contracts told on benign and harmless streams: {everything.benign_quality}")
    print("findings opened:", dict(sorted(everything.kinds.items())))
    if args.json:
        tables = {"mix": mix, "all": everything}
        told = {t: {n: s.row() for n, s in tally.scores.items()} for t, tally in tables.items()}
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(told, file)


if __name__ == "__main__":
    main()
