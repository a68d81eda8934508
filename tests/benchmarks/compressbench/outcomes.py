"""Outcome of a case: what the repair did, beside the teacher, the student that served and plain
ONNX Runtime; and what is asked of all cases together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from compressbench import peers
from compressbench.cases import Case
from compressbench.drawing import F32
from compressbench.repairing import BATCH, Repaired
from compressbench.world import World

from redistill.compress.judge import intervals
from redistill.compress.judge.graph import GraphCall
from redistill.compress.recipes import RECIPES
from redistill.files import sha256_of

__all__ = ["NEAR", "Outcome", "Paired", "bars", "failed", "outcome"]

NEAR = 2.0
"""Points below its teacher that a student may be."""
LEAST_CASES, MOST_SECONDS, MOST_P50 = 0.8, 10.0, 1.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """Difference of two models on the same rows, in points, with its 95% interval (Tango 1998)."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, right: F32, other: F32) -> Paired:
        """The first minus the other."""
        d = (right - other).astype(np.float64)
        low, high = intervals.paired_mean(d)
        return cls(value=100.0 * float(d.mean()), low=100.0 * low, high=100.0 * high)

    def __str__(self) -> str:
        return f"{self.value:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a case. Accuracies in percent, of rows that nobody trained or judged on."""

    case: str
    seed: int
    published: bool
    why: str = ""
    """Why nothing was published, or could be tried."""
    cause: str | None = None
    """What the diagnosis found."""
    recipe: str | None = None
    """How the last candidate was made."""
    family: str | None = None
    variant: str | None = None
    teacher: float | None = None
    incumbent: float | None = None
    candidate: float | None = None
    """On new rows."""
    to_teacher: Paired | None = None
    """Candidate minus teacher on new rows."""
    old: Paired | None = None
    """Candidate minus incumbent on old rows."""
    labels: int | None = None
    """Labelled rows of the window when it was decided."""
    cpu_seconds: float | None = None
    bytes: int | None = None
    agreement: float | None = None
    """Same class as its fp32 student, share of trusted rows."""
    p50_to_best: float | None = None
    """CPU time of a call, as a share of the fastest true setting of plain ONNX Runtime."""
    bytes_to_smallest: float | None = None
    """Bytes, as a share of the smallest true setting of any peer."""
    settings: tuple[dict[str, Any], ...] = ()
    """Peers on the same fp32 student."""
    not_run: dict[str, str] | None = None
    """Peers that did not run, and why."""

    @property
    def near(self) -> bool:
        """Whether it was published and is as good as its teacher but for two points."""
        return self.published and self.to_teacher is not None and self.to_teacher.value >= -NEAR

    def json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"near": self.near}

    @classmethod
    def read(cls, told: dict[str, Any]) -> Outcome:
        """Of ``json``."""
        values = {k: v for k, v in told.items() if k != "near"}
        for name in ("to_teacher", "old"):
            values[name] = None if values[name] is None else Paired(**values[name])
        return cls(**values | {"settings": tuple(values["settings"])})


def failed(case: Case, seed: int, error: Exception) -> Outcome:
    """A case that could not be run."""
    return Outcome(
        case=case.name, seed=seed, published=False, why=f"{type(error).__name__}: {error}"[:500]
    )


def outcome(world: World, done: Repaired, place: Path, *, tools: bool) -> Outcome:
    """Measure what a repair did.

    Parameters
    ----------
    place
        A folder for what peers write.
    tools
        Whether other tools than ONNX Runtime are asked.
    """
    teacher = world.right(world.folder / "teacher" / "model.onnx", "teacher")
    incumbent_path = world.folder / "incumbent" / "model.onnx"
    incumbent = world.right(incumbent_path)
    told: dict[str, Any] = {
        "case": world.case.name,
        "seed": world.seed,
        "published": done.published,
        "why": done.why,
        "cause": None if done.diagnosis is None else done.diagnosis.cause,
        "recipe": done.report.recipe_name,
        "family": _family(done.report.recipe_name),
        "teacher": 100.0 * float(teacher.mean()),
        "incumbent": 100.0 * float(incumbent.mean()),
        "labels": done.labels,
        "cpu_seconds": done.cpu_seconds,
    }
    variants = {v.name: v for v in done.report.variants}
    if done.report.chosen is None or not done.model.is_file():
        return Outcome(**told)
    chosen = variants[done.report.chosen]
    candidate = world.right(done.model)
    old = Paired.of(world.right(done.model, old=True), world.right(incumbent_path, old=True))
    told |= {
        "variant": chosen.name,
        "bytes": chosen.bytes,
        "agreement": chosen.agreement,
        "candidate": 100.0 * float(candidate.mean()),
        "to_teacher": Paired.of(candidate, teacher),
        "old": old,
    }
    if fp32 := _file_of(done.folder, variants["fp32"].sha256):
        told |= _beside(world, done.model, fp32, place, tools=tools)
    return Outcome(**told)


def _family(recipe: str | None) -> str | None:
    return None if recipe is None else getattr(RECIPES.get(recipe), "family", None)


def _file_of(folder: Path, sha256: str) -> Path | None:
    """A file of a job, by its content."""
    return next((f for f in sorted(folder.rglob("*.onnx")) if sha256_of(f) == sha256), None)


def _beside(world: World, model: Path, fp32: Path, place: Path, *, tools: bool) -> dict[str, Any]:
    """The candidate among what other tools make of its fp32 graph."""
    place.mkdir(parents=True, exist_ok=True)
    made = peers.made(fp32, place, world.fresh[0][::2], tools=tools)
    files = {name: path for name, path in made.items() if isinstance(path, Path)}
    call = GraphCall.made(world.graph)
    x = world.test[0]
    found, broken = peers.graded({"ours": model} | files, fp32, x, call, batch=BATCH)
    ours, *others = found
    plain, _ = peers.best([g for g in others if g.name.startswith(peers.PLAIN)])
    _, smallest = peers.best(others)
    return {
        "p50_to_best": ours.p50_ms / plain.p50_ms,
        "bytes_to_smallest": ours.bytes / smallest.bytes,
        "settings": tuple(asdict(g) for g in found),
        "not_run": broken | {n: why for n, why in made.items() if isinstance(why, str)},
    }


def bars(found: Sequence[Outcome]) -> list[dict[str, Any]]:
    """What is asked of the cases together: name, what was found, the bar, whether it is met."""
    near = sum(o.near for o in found)
    low, high = intervals.wilson(near / max(1, len(found)), len(found))
    seconds = [o.cpu_seconds for o in found if o.cpu_seconds is not None]
    ratios = [o.p50_to_best for o in found if o.p50_to_best is not None]
    sizes = [o.bytes_to_smallest for o in found if o.bytes_to_smallest is not None]
    agreed = [o.agreement for o in found if o.agreement is not None]
    lines: list[dict[str, Any]] = [
        {
            "what": f"published and within {NEAR:g} points of the teacher",
            "found": f"{near} of {len(found)}; share [{low:.0%}, {high:.0%}]",
            "bar": f">= {LEAST_CASES:.0%}",
            "met": near >= LEAST_CASES * len(found),
        }
    ]
    for what, values, bar, met in (
        ("CPU seconds of a repair, largest", seconds, f"<= {MOST_SECONDS:g}",
         lambda v: max(v) <= MOST_SECONDS),
        ("p50 / plain ONNX Runtime's best, largest", ratios, f"<= {MOST_P50}",
         lambda v: max(v) <= MOST_P50),
        ("bytes / the smallest peer's, largest", sizes, "<= 1", lambda v: max(v) <= 1.0),
        ("agreement with its fp32 student, least", agreed, ">= 99%", lambda v: min(v) >= 0.99),
    ):  # fmt: skip
        if values:
            worst = min(values) if "least" in what else max(values)
            lines.append(
                {
                    "what": what,
                    "found": f"{worst:.3g}; median {np.median(values):.3g} of {len(values)}",
                    "bar": bar,
                    "met": met(values),
                }
            )
    return lines
