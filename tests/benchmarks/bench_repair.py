"""A repair at the demo's size, step by step, beside distilling the same student from scratch in the
same run.

    python tests/benchmarks/bench_repair.py [--seeds N]

Digits under a grey veil, a teacher of 728k parameters, a student of 177k, 1,500 fresh rows and as
many replayed. The process is warm, as the one is from which jobs are forked
(``redistill.compress.pipeline.warm``). *Drifted* and *old* are accuracies on rows that nothing was
trained or judged on; rows of traffic come from source images that may also be among the repair's
rows with another jitter, which flatters *drifted* by about .1 points.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from job_folder import World, job_of, make_digits, new_job, veiled, write_fresh
from rich.console import Console
from rich.table import Table

from redistill.compress import pipeline
from redistill.compress.judge.graph import Graph, GraphCall
from redistill.compress.plan import Accepted, Report
from redistill.workers.demo import data as digits

ROWS, LABELLED = 3_000, 100
STEPS = (
    "teacher_logits",
    "train",
    "export",
    "static_int8",
    "dynamic_int8",
    "probe",
    "total",
    "cpu",
)


def accuracy(model: Path, x: np.ndarray, y: np.ndarray) -> float:
    """Accuracy in percent."""
    graph = Graph(model, GraphCall(features=digits.FEATURES, classes=10))
    return 100.0 * float((graph.classes(x) == y).mean())


def repair(world: World, folder: Path, *, warm: bool) -> Report:
    """One job; without the incumbent's training folder it starts from scratch."""
    new_job(world, folder, job_of(seed=world.seed))
    if not warm:
        shutil.rmtree(folder / "incumbent" / "training")
    x, y = veiled(world, ROWS, seed=1)
    gate = np.arange(ROWS) % 2 == 1
    labels = np.full(ROWS, -1)
    shown = np.flatnonzero(gate)[:LABELLED]
    labels[shown] = y[shown]
    write_fresh(folder, x, labels, gate)
    return pipeline.run(folder)


def columns(world: World, root: Path) -> tuple[dict[str, dict[str, str]], Report]:
    """Measures of each model as text: {column: {row: cell}}, and the warm repair's report."""
    drifted, old = veiled(world, 4_000, seed=99), veiled(world, 4_000, seed=98, veil=0.0)
    out: dict[str, dict[str, str]] = {}
    reports = {}
    for name, warm in (("warm repair", True), ("from scratch", False)):
        reports[name] = report = repair(world, root / name, warm=warm)
        out[name] = {f"{s}, s": f"{report.seconds[s]:.2f}" for s in STEPS}
        out[name] |= {
            "decision": type(report.decision).__name__.lower(),
            "variant": report.chosen or "-",
        }
    report = reports["warm repair"]
    if report.teacher is None or report.incumbent is None:
        raise RuntimeError("the job had a teacher and an incumbent")
    chosen = {n: next(v for v in r.variants if v.name == r.chosen) for n, r in reports.items()}
    models = {
        **{n: (root / n / "candidate" / "model.onnx", chosen[n]) for n in reports},
        "incumbent": (world.folder / "incumbent" / "model.onnx", report.incumbent),
        "teacher": (world.folder / "teacher" / "model.onnx", report.teacher),
    }
    for name, (path, variant) in models.items():
        # latencies of one run only: each ratio is to the teacher that took turns with it
        teacher = reports.get(name, report).teacher or report.teacher
        out[name] = out.get(name, {}) | {
            "drifted, %": f"{accuracy(path, *drifted):.1f}",
            "old, %": f"{accuracy(path, *old):.1f}",
            "size / teacher": f"{variant.bytes / teacher.bytes:.3f}",
            "p50 / teacher": f"{variant.p50_ms / teacher.p50_ms:.2f}",
        }
    return out, report


def main() -> int:
    """Run and print; 1 if a warm repair was not accepted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    console = Console(width=110, highlight=False)
    pipeline.warm()
    began = time.perf_counter()
    warm = "import time; from compress import pipeline; pipeline.warm(); print(time.process_time())"
    cpu = subprocess.check_output([sys.executable, "-c", warm], text=True)
    console.print(
        f"starting a warm process, once per repair worker: {time.perf_counter() - began:.1f} s,"
        f" {float(cpu):.1f} s of CPU"
    )
    failed = 0
    for seed in range(args.seeds):
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch)
            world = make_digits(
                root / "world", seed=seed, teacher_hidden=(1024, 640), hidden=(384, 384), jitters=6
            )
            found, report = columns(world, root)
        table = Table("", *found, title=f"seed {seed}")
        for row in found["warm repair"]:
            table.add_row(row, *(cells.get(row, "") for cells in found.values()))
        console.print(table)
        for g in report.gates:
            if g.name in ("fresh", "trusted"):
                console.print(f"  {g.name}: {g.why}")
        failed += not isinstance(report.decision, Accepted)
    console.print(
        "p50: thread CPU time of a call of 32 rows. A busy machine stretches seconds, not cpu."
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
