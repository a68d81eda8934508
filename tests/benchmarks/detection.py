"""``make bench-detection``: how well harm is found, beside others.

On generated streams and on real rows, beside never, chance, River's ADWIN and, where they can be
installed, Evidently, NannyML and alibi-detect.

    python tests/benchmarks/detection.py [--suites scenarios,real] [--only PART] [--seeds 10]
                                         [--ablation] [--peers] [--costs] [--json FILE]

Streams are drawn anew for each seed; each result is kept in a file beside the table as soon as it is
there, so that a run that was stopped goes on. Another ``--kept`` file, or none of that name, begins
anew: results do not know of a changed program.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

from detectbench import costs, peers  # noqa: E402
from detectbench.cases import SUITES, Case  # noqa: E402
from detectbench.detectors import ABLATION, DETECTORS  # noqa: E402
from detectbench.scores import Record, line, record  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

COLUMNS = (
    "recall",
    "precision",
    "f1",
    "median_delay_rows",
    "delay_over_floor",
    "false_alarms_per_million",
    "coverage",
    "label_share",
    "slice_right",
    "slice_named",
    "rows_per_second",
    "carried",
    "benign_rows",
)


def kept(path: Path) -> list[Record]:
    """Results of earlier runs."""
    if not path.exists():
        return []
    return [Record(**json.loads(text)) for text in path.read_text().splitlines()]


def measured(
    cases: list[Case], names: list[str], seeds: range, path: Path, known: list[Record]
) -> Iterator[Record]:
    """Run what is not known yet; streams are drawn once for all detectors."""
    done = {(r.configuration, r.suite, r.case, r.seed) for r in known}
    for seed in seeds:
        for case in cases:
            missing = [n for n in names if (n, case.suite, case.name, seed) not in done]
            if not missing:
                continue
            drawn = case.draw(seed)
            for name in missing:
                result = record(name, case, drawn, DETECTORS[name](case, drawn, seed), seed)
                with path.open("a") as file:
                    file.write(json.dumps(result.json()) + "\n")
                yield result


def show(lines: list[dict[str, Any]], console: Console) -> None:
    """The tables, one per suite."""
    for suite in dict.fromkeys(entry["suite"] for entry in lines):
        table = Table(title=suite, title_justify="left", box=None, pad_edge=False)
        table.add_column("configuration")
        for column in (*COLUMNS, "worst recall", "worst false"):
            table.add_column(column.replace("_", " "), justify="right")
        for entry in lines:
            if entry["suite"] != suite:
                continue
            worst = entry["worst_seed"]
            cells = [entry[c] for c in COLUMNS]
            cells += [worst["recall"], worst["false_alarms_per_million"]]
            table.add_row(entry["configuration"], *("-" if c is None else f"{c:,g}" for c in cells))
        console.print(table)


def main(words: list[str] | None = None) -> int:
    """Run, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--suites", default=",".join(SUITES), help="some of them, by comma")
    parser.add_argument("--only", default="", help="part of the name of a case")
    parser.add_argument("--detectors", default="", help="part of the name of a configuration")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--ablation", action="store_true", help="also with parts taken away")
    parser.add_argument("--peers", action="store_true", help="also other tools, by uv")
    parser.add_argument("--costs", action="store_true", help="also what a row costs, by layer")
    parser.add_argument("--json", type=Path, default=Path("build/bench/detection.json"))
    parser.add_argument("--kept", type=Path, default=Path("build/bench/detection.jsonl"))
    args = parser.parse_args(words)
    if unknown := set(args.suites.split(",")) - set(SUITES):
        parser.error(f"no such suite: {', '.join(sorted(unknown))}; of {', '.join(SUITES)}")
    names = [n for n in DETECTORS if args.detectors in n and (args.ablation or n not in ABLATION)]
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.kept.parent.mkdir(parents=True, exist_ok=True)
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    cases = [c for s in args.suites.split(",") for c in SUITES[s] if args.only in c.name]
    records = kept(args.kept)
    for result in measured(cases, names, seeds, args.kept, records):
        records.append(result)
        print(f"{result.suite} / {result.case} {result.seed}: {result.configuration}",
              file=sys.stderr)  # fmt: skip
    asked = {(c.suite, c.name) for c in cases}
    mine = [r for r in records if (r.suite, r.case) in asked and r.seed in seeds]
    lines = [
        line(name, suite, some)
        for suite in args.suites.split(",")
        for name in names
        if (some := [r for r in mine if (r.suite, r.configuration) == (suite, name)])
    ]
    console = Console(width=230, highlight=False)
    show(lines, console)
    if args.peers:
        for entry in peers.lines(cases, seeds):
            lines.append(entry)
            console.print(entry)
    if args.costs:
        for cost in costs.lines():
            lines.append(cost)
            console.print(cost)
    args.json.write_text(json.dumps(lines, indent=1))
    print(f"written to {args.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
