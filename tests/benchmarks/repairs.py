"""``make bench-repair``: incidents of twelve scenarios in generated worlds, each answered by redistill
(diagnose, and repair where the cause calls for it), by a repair on every alarm, by the calendar, by
River's ``DriftRetrainingClassifier`` and by nobody, beside an oracle.

    python tests/benchmarks/repairs.py [PART OF A SCENARIO'S NAME] [--seeds 3] [--json FILE] [--kept FILE]

The alarm is given: how well it comes is measured by ``make bench-detection``. Each incident is kept
as soon as it is there, so that a run that was stopped goes on; another ``--kept`` file begins anew:
results do not know of a changed program. Exit status 1: a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

import torch  # noqa: E402
from compressbench import incidents  # noqa: E402
from compressbench.incidents import Incident  # noqa: E402
from diagnosis_worlds import SCENARIOS  # noqa: E402
from rich.box import SIMPLE  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.markup import escape  # noqa: E402
from rich.table import Table  # noqa: E402

from redistill.compress import pipeline  # noqa: E402

MOST_LOST, MOST_CPU = 1.2, 0.5
"""Of redistill, as a share of the oracle's loss and of the CPU of a repair on every alarm."""


def known(path: Path) -> list[Incident]:
    """Results of earlier runs."""
    if not path.is_file():
        return []
    return [Incident(**json.loads(line)) for line in path.read_text().splitlines()]


def said(measure: dict[str, float | None] | None) -> str:
    """A figure with its interval."""
    if measure is None:
        return "-"
    low, high = measure["low"], measure["high"]
    interval = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    return f"{measure['value']:.2f}{interval}"


def show(found: list[Incident], lines: list[dict[str, Any]], console: Console) -> None:
    """A table of incidents, and one of policies."""
    names = ("oracle", *incidents.POLICIES)
    table = Table("scenario", "seed", "cause found", "published", "before", *names, box=SIMPLE)
    for i in found:
        after = (f"{i.after[p]:.1f}" for p in names)
        table.add_row(i.scenario, str(i.seed), i.cause, "yes" if i.repaired else "no",
                      f"{i.before:.1f}", *after)  # fmt: skip
    console.print(table)
    for i in found:
        if i.why:
            console.print(escape(f"{i.scenario}, seed {i.seed}: {i.why}"))
    table = Table("policy", "points lost", "lost / oracle's", "CPU / every alarm", box=SIMPLE)
    for line in lines:
        values = (said(line[k]) for k in ("points_lost", "lost_to_oracle", "cpu_to_every_alarm"))
        table.add_row(line["policy"], *(escape(v) for v in values))
    console.print(table)


def bars(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is asked of redistill, and whether it is met by what was measured."""
    ours = next(line for line in lines if line["policy"] == "redistill")
    lost = None if ours["lost_to_oracle"] is None else ours["lost_to_oracle"]["value"]
    cpu = ours["cpu_to_every_alarm"]["value"]
    return [
        {"what": "accuracy lost / an oracle's", "found": lost, "bar": MOST_LOST,
         "met": lost is not None and bool(lost <= MOST_LOST)},
        {"what": "CPU / a repair on every alarm", "found": cpu, "bar": MOST_CPU,
         "met": bool(cpu <= MOST_CPU)},
    ]  # fmt: skip


def main(words: list[str] | None = None) -> int:
    """Run, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", nargs="?", default="", help="part of the names of scenarios")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=2_000, help="others judged the diagnosis")
    parser.add_argument("--json", type=Path, default=Path("build/bench/repairs.json"))
    parser.add_argument("--kept", type=Path, default=Path("build/bench/repairs.jsonl"))
    args = parser.parse_args(words)
    scenarios = {s.name: s for s in SCENARIOS if args.name in s.name}
    if not scenarios:
        parser.error(f"no such scenario; of {', '.join(s.name for s in SCENARIOS)}")
    for path in (args.json, args.kept):
        path.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    pipeline.warm()
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    done = {(i.scenario, i.seed): i for i in known(args.kept)}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in seeds:
            for name, scenario in scenarios.items():
                if (name, seed) in done:
                    continue
                print(f"{name}, seed {seed} ...", file=sys.stderr, flush=True)
                found = incidents.incident(scenario, seed, Path(scratch))
                if found is not None:
                    done[name, seed] = found
                    with args.kept.open("a") as file:
                        file.write(json.dumps(incidents.plain(found)) + "\n")
    mine = [i for (name, seed), i in done.items() if name in scenarios and seed in seeds]
    if not mine:
        print("no world of these seeds can be harmed so")
        return 1
    lines = incidents.totals(mine)
    told = bars(lines)
    show(mine, lines, Console(width=180, highlight=False))
    args.json.write_text(
        json.dumps(
            {"incidents": [incidents.plain(i) for i in mine], "policies": lines, "bars": told},
            indent=1,
        )
    )
    for bar in told:
        verdict = "met" if bar["met"] else "MISSED"
        found = "an oracle loses nothing" if bar["found"] is None else f"{bar['found']:.2f}"
        print(f"{bar['what']}: {found}, the bar is <= {bar['bar']}: {verdict}")
    print(f"written to {args.json}")
    return 0 if all(bar["met"] for bar in told) else 1


if __name__ == "__main__":
    sys.exit(main())
