"""How often harm that stands is called over, and how soon harm that is over is called so.

Labels of a model whose error rose and stays where it is: each "resolved" is false. Then the error
returns, and labels are counted until that is said, where it had not been before. Errors are
independent, come in runs, or follow the hour of the day, as in the reference, which is in time
order and has times where that is said ("day"). Beside the rule stand the one before it (a hundredth
of the alarm's threshold, inflation read to 64 rows, no least number of labels, no day), and
chance: a finding that closes after each 1,000 labels. *Judge* is the same question about a version
that was published against harm and is as bad as the one before: false ones among versions of 8,192
labels each.

    python tests/benchmarks/bench_recovery.py [--seeds 1] [--labels 50000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from standing_harm import RISES, Before, drawn, judged_before, said_by, timed

from redistill.stats import clopper_pearson
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.harm import HarmTest
from redistill.workers.incidents.recovery import judge

REFERENCE = 20_000
HARM_FIRST = 2_880
"""Labels of harm before the error returns."""
PATIENCE = 12_000
"""Labels after which it is not waited any longer."""
ALARMS = (1_000, 7_000, 20_000)
"""Labels per promised false alarm."""
TOLERANCE = 0.01
VERSION = 8_192
"""Labels of a version that is judged."""
KINDS = (
    ("independent", False),
    ("runs of 8", False),
    ("runs of 30", False),
    ("daily +-60%", False),
    ("daily +-60%", True),
)
RULES: dict[str, type[HarmTest]] = {"before": Before, "now": HarmTest}


@dataclass(frozen=True)
class Stream:
    """Errors of one kind with one rise."""

    kind: str
    timed: bool
    base: float
    harmed: float

    def monitor(self, rule: type[HarmTest], labels_per_alarm: float, seed: int) -> HarmTest:
        """A test over a reference of this kind."""
        return rule(self.reference(seed), tolerance=TOLERANCE, labels_per_alarm=labels_per_alarm)

    def reference(self, seed: int) -> BaseError:
        """What is normal."""
        errors = drawn(self.kind, np.full(REFERENCE, self.base), seed)
        return BaseError.from_errors(errors, times=timed(REFERENCE) if self.timed else None)

    def false(self, test: HarmTest, labels: int, seed: int) -> int:
        """Times that harm is called over while it stands."""
        errors = drawn(self.kind, np.full(labels, self.harmed), 1_000 + seed)
        return said_by(test, errors).count("resolved")

    def wait(self, test: HarmTest, seed: int) -> float:
        """Labels from the return of health until it is said; NaN where nothing was open then."""
        rate = np.repeat([self.harmed, self.base], [HARM_FIRST, PATIENCE])
        errors = drawn(self.kind, rate, 3_000 + seed)
        said_by(test, errors[:HARM_FIRST])
        if not test.open:
            return np.nan
        said = said_by(test, errors[HARM_FIRST:], after=HARM_FIRST)
        return said.index("resolved") if "resolved" in said else PATIENCE

    def judged(self, ask: Callable[..., Any], labels: int, seed: int) -> int:
        """Versions that are as bad as before and called recovered."""
        base = self.reference(seed)
        opening = HarmTest(base, tolerance=TOLERANCE, labels_per_alarm=1_000)
        errors = drawn(self.kind, np.full(labels, self.harmed), 2_000 + seed)
        said_by(opening, errors[:VERSION])
        n, wrong = opening.since_n, opening.since_errors
        harmed = wrong / n if ask is judged_before else clopper_pearson(wrong, n)[0]
        return sum(
            ask(
                errors[i : i + VERSION].astype(np.uint8),
                timed(VERSION),
                base=base,
                harmed=harmed,
                tolerance=TOLERANCE,
            ).recovered
            for i in range(0, labels - VERSION + 1, VERSION)
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--labels", type=int, default=50_000)
    parser.add_argument("--json", default=None)
    args = parser.parse_args()
    seeds, per = range(args.seeds), args.seeds * args.labels / 100_000
    told: dict[str, dict[str, list[str]]] = {}

    def table(title: str, cell: Callable[[Stream, str], str]) -> None:
        head = [f"{base:.0%} -> {harmed:.0%}" for base, harmed in RISES]
        print(f"\n{title:32}" + "".join(h.rjust(22) for h in head))
        rows = told.setdefault(title, {})
        for kind, hours in KINDS:
            for rule in RULES:
                name = f"{kind}{', day' if hours else ''}: {rule}"
                rows[name] = [cell(Stream(kind, hours, *rise), rule) for rise in RISES]
                print(f"{name:32}" + "".join(c.rjust(22) for c in rows[name]), flush=True)

    def false(stream: Stream, rule: str) -> str:
        def ends(alarm: float) -> float:
            tests = [stream.monitor(RULES[rule], alarm, s) for s in seeds]
            found = [stream.false(t, args.labels, s) for t, s in zip(tests, seeds, strict=True)]
            return sum(found) / per

        return " / ".join(f"{ends(alarm):.3g}" for alarm in ALARMS)

    def waits(stream: Stream, rule: str) -> str:
        many: Sequence[int] = range(8 * args.seeds)
        found = [stream.wait(stream.monitor(RULES[rule], 7_000, s), s) for s in many]
        open_ = [w for w in found if w == w]
        return f"{np.median(open_):,.0f} ({len(open_)})" if open_ else "-"

    def versions(stream: Stream, rule: str) -> str:
        ask = judge if rule == "now" else judged_before
        found = sum(stream.judged(ask, args.labels, s) for s in seeds)
        return f"{found} / {args.seeds * (args.labels // VERSION)}"

    print(
        f"{args.labels:,} labels x {args.seeds} seeds, tolerance 1 point; 1,000 / 7,000 / 20,000"
        " labels per alarm; chance: 100 false"
    )
    table("false per 100k labels of harm", false)
    table("labels until it is called (of)", waits)
    table("judge: false among versions", versions)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(told, file)


if __name__ == "__main__":
    main()
