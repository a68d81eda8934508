"""``make bench-compression``: ten models with teachers of other libraries, each harmed by drift that
its teacher copes with, repaired as a worker does it; beside plain ONNX Runtime and, with
``--peers``, Neural Compressor, NNCF and Olive on the very graphs that were made.

    python tests/benchmarks/compression.py [PART OF A CASE'S NAME ...] [--seeds 1] [--peers]
                                           [--json FILE] [--kept FILE] [--list]

Teachers are made in an environment of their own (scikit-learn, XGBoost, LightGBM, CatBoost and their
converters), which uv installs below ``build/bench``; they are kept there, as are the results of
cases, so that a run that was stopped goes on. Another ``--kept`` file begins anew: results do not
know of a changed program. Exit status 1: a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

import torch  # noqa: E402
from compressbench import outcomes, repairing, world  # noqa: E402
from compressbench.cases import CASES, Case  # noqa: E402
from compressbench.outcomes import Outcome  # noqa: E402
from rich.box import SIMPLE  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.markup import escape  # noqa: E402
from rich.table import Table  # noqa: E402

from redistill.compress import pipeline  # noqa: E402
from redistill.compress.errors import CompressError  # noqa: E402

COLUMNS = (
    "seed", "published", "how", "teacher", "before", "after", "to teacher [95%]",
    "old rows [95%]", "labels", "CPU s", "kB", "agree", "p50 / best", "bytes / least",
)  # fmt: skip


def run(case: Case, seed: int, kept: Path, *, tools: bool) -> Outcome:
    """One case, in a folder that goes away."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        try:
            made = world.make(case, place / "world", kept=kept, seed=seed)
            done = repairing.repair(made, place / "job")
        except (CompressError, RuntimeError) as error:
            return outcomes.failed(case, seed, error)
        return outcomes.outcome(made, done, place / "peers", tools=tools)


def known(path: Path) -> list[Outcome]:
    """Results of earlier runs."""
    if not path.is_file():
        return []
    return [Outcome.read(json.loads(line)) for line in path.read_text().splitlines()]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def show(found: Sequence[Outcome], console: Console) -> None:
    """The table of cases, why some were not published, and the table of bars."""
    table = Table("case", *COLUMNS, box=SIMPLE, title="repairs", title_justify="left")
    for o in found:
        table.add_row(
            o.case,
            str(o.seed),
            ("yes" if o.near else "yes, not near") if o.published else "no",
            "-" if o.recipe is None else f"{o.recipe}/{o.variant or '-'}",
            *(_number(v, ".1f") for v in (o.teacher, o.incumbent, o.candidate)),
            *(escape("-" if v is None else str(v)) for v in (o.to_teacher, o.old)),
            _number(o.labels, "d"),
            _number(o.cpu_seconds, ".1f"),
            _number(None if o.bytes is None else o.bytes / 1e3, ".1f"),
            _number(o.agreement, ".1%"),
            _number(o.p50_to_best, ".2f"),
            _number(o.bytes_to_smallest, ".2f"),
        )
    console.print(table)
    for o in found:
        if o.why:
            console.print(escape(f"{o.case}, seed {o.seed}: {o.why}"))
    for tool in dict.fromkeys(name for o in found for name in o.not_run or {}):
        why = next(o.not_run[tool] for o in found if o.not_run and tool in o.not_run)
        console.print(escape(f"{tool} did not run: {why}"))
    bars = Table("what", "found", "bar", "met", box=SIMPLE)
    for line in outcomes.bars(found):
        bars.add_row(*(escape(str(line[k])) for k in ("what", "found", "bar")),
                     "yes" if line["met"] else "NO")  # fmt: skip
    console.print(bars)


def main(words: list[str] | None = None) -> int:
    """Run, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="parts of names of cases; default: all")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--peers", action="store_true", help="also other tools, by uv")
    parser.add_argument("--json", type=Path, default=Path("build/bench/compression.json"))
    parser.add_argument("--kept", type=Path, default=Path("build/bench/compression.jsonl"))
    parser.add_argument("--teachers", type=Path, default=Path("build/bench/teachers"))
    parser.add_argument("--list", action="store_true", help="list the cases and exit")
    args = parser.parse_args(words)
    chosen = [c for c in CASES if not args.names or any(n in c.name for n in args.names)]
    if args.list or not chosen:
        print("\n".join(c.name for c in CASES) if args.list else "no such case")
        return 0 if args.list else 2
    for folder in (args.json.parent, args.kept.parent, args.teachers):
        folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    pipeline.warm()
    done = {(o.case, o.seed): o for o in known(args.kept)}
    asked = [(c, s) for s in range(args.first_seed, args.first_seed + args.seeds) for c in chosen]
    for case, seed in asked:
        if (case.name, seed) in done:
            continue
        print(f"{case.name}, seed {seed} ...", file=sys.stderr, flush=True)
        found = run(case, seed, args.teachers.resolve(), tools=args.peers)
        done[case.name, seed] = found
        with args.kept.open("a") as file:
            file.write(json.dumps(found.json()) + "\n")
    mine = [done[c.name, s] for c, s in asked]
    lines = outcomes.bars(mine)
    show(mine, Console(width=210, highlight=False))
    args.json.write_text(json.dumps({"cases": [o.json() for o in mine], "bars": lines}, indent=1))
    print(f"written to {args.json}")
    return 0 if all(line["met"] for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
