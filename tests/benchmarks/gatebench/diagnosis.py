"""The twelve scenarios of ``bench_diagnosis``: whether the cause is named, and repairs where nothing is
to be repaired."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bench_diagnosis
from gatebench.lines import Bar, Line, Share, progress

LABELS = 300


def lines(*, seeds: int, first_seed: int) -> Iterator[Line]:
    """Over all scenarios and worlds; beside: always saying the compression gap, and the rule of
    0.1 on the same measurements."""
    done = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in progress("diagnosis, worlds", range(first_seed, first_seed + seeds)):
            done += bench_diagnosis.cases(Path(scratch), [seed], LABELS)
    found = bench_diagnosis.summary(done)
    detail = {name: _short(row) for name, row in found["table"].items()}
    every = {name: Share(hits=s["hits"], runs=s["n"]) for name, s in found["all"].items()}
    for what, name, bar, beside in (
        ("cause named", "right", Bar(least=0.65), ("old_right", "always_gap_right")),
        ("unclear", "unclear", Bar(most=0.3), ("old_unclear",)),
        ("data bug, nothing, poisoned labels: repaired", "wrong_repair", Bar(most=0.02), ("old_wrong_repair",)),
    ):  # fmt: skip
        yield Line(
            part="diagnosis",
            what=f"12 scenarios, {LABELS} labels: {what}",
            found=every[name],
            bar=bar,
            beside={NAMES[b]: every[b] for b in beside},
            detail=detail,
        )


NAMES = {
    "old_right": "rule of 0.1",
    "old_unclear": "rule of 0.1",
    "old_wrong_repair": "rule of 0.1",
    "always_gap_right": "always the gap",
}


def _short(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "truth": row["truth"],
        "right": row["right"]["share"],
        "runs": row["right"]["n"],
        "repairs": row["repairs"]["hits"],
        "causes": row["causes"],
    }
