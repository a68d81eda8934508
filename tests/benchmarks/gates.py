"""``make bench-gates``: what the gates let through and what they hold up, on simulated candidates whose
worth is known, beside the bars.

    python tests/benchmarks/gates.py [PART ...] [--seed 0] [--effort 1.0] [--json FILE]

Everything is decided by ``gate.decide`` with the policy's defaults, on ``Evidence`` whose rows are
drawn here. What is drawn is who is right on a row, and not how sure: gates that judge confidence are
left out (``gatebench.streams.LEFT_OUT``). Exit status 1: a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

from gatebench import diagnosis, fresh_rows, incidents, rare_class, trusted_rows, weighted_rows  # noqa: E402
from gatebench.lines import Line, show  # noqa: E402
from gatebench.streams import LEFT_OUT  # noqa: E402
from rich.console import Console  # noqa: E402

from redistill.compress.judge import policy as policies  # noqa: E402
from redistill.compress.judge.policy import Policy  # noqa: E402

Part = Callable[[Policy, float, int], Iterator[Line]]
"""Policy, effort (1: the usual number of runs), seed -> lines."""


UNSEEN = 1_000
"""Worlds below are those that the diagnosis was made with."""


def runs(usual: int, effort: float) -> int:
    """So many, or a share of them."""
    return max(1, round(usual * effort))


PARTS: Mapping[str, Part] = {
    "trusted": lambda policy, effort, seed: trusted_rows.lines(
        policy, runs=runs(500, effort), alone=runs(4_000, effort), seed=seed
    ),
    "fresh": lambda policy, effort, seed: fresh_rows.lines(
        policy, runs=runs(1_000, effort), incidents=runs(2_000, effort), seed=seed
    ),
    "weighted": lambda policy, effort, seed: weighted_rows.lines(
        policy, runs=runs(600, effort), seed=seed
    ),
    "rare": lambda policy, effort, seed: rare_class.lines(
        policy, runs=runs(200, effort), seed=seed
    ),
    "diagnosis": lambda policy, effort, seed: diagnosis.lines(
        seeds=runs(20, effort), first_seed=UNSEEN + 20 * seed
    ),
    "incidents": lambda policy, effort, seed: incidents.lines(
        policy, incidents=runs(1_000, effort), seed=seed
    ),
}


def main(words: list[str] | None = None) -> int:
    """Run, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--effort", type=float, default=1.0, help="share of the usual runs")
    parser.add_argument("--json", type=Path, default=Path("build/bench/gates.json"))
    args = parser.parse_args(words)
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    policy = policies.of({})
    lines: list[Line] = []
    seconds: dict[str, float] = {}
    for name in args.parts or PARTS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        began = time.process_time()
        lines += PARTS[name](policy, args.effort, args.seed)
        seconds[name] = round(time.process_time() - began, 1)
    show(lines, Console(width=178, highlight=False))
    missed = [line for line in lines if line.missed]
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(
        json.dumps(
            {
                "seed": args.seed,
                "effort": args.effort,
                "gates_left_out": list(LEFT_OUT),
                "policy_sha256": policies.sha256(policy),
                "policy": policies.complete(policy),
                "cpu_seconds": seconds,
                "bars_met": not missed,
                "lines": [line.json() for line in lines],
            },
            indent=1,
        )
    )
    took = ", ".join(f"{name} {s:.0f}" for name, s in seconds.items())
    print(f"seconds of CPU: {took}; written to {args.json}")
    for line in missed:
        print(f"missed: {line.what}: {line.found}, the bar is {line.bar}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
