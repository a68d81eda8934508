"""What a repair finds: models of a case on disk, rows as services logged them, and rows that measure,
which nobody else sees."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from compressbench.cases import Case
from compressbench.drawing import DRAWS, F32, Draw, Drawn, Ints, mnist
from environments import SECONDS, last_words, python_of

from redistill.compress.judge.graph import Graph, GraphCall
from redistill.compress.plan import GraphSpec, Training
from redistill.compress.shrink import distill, export, quantize, students
from redistill.compress.shrink.trained import default_architecture

__all__ = ["FRESH", "TEACHERS", "World", "make", "teacher_of"]

TEACHERS = (
    "scikit-learn>=1.5",
    "xgboost-cpu",
    "lightgbm",
    "catboost",
    "skl2onnx",
    "onnxmltools",
    "mlxtend",
    "onnxruntime",
)
"""What makes teachers and converts them."""
SCRIPT = Path(__file__).with_name("teacher_tools.py")
REFERENCE, FRESH, TEST = 4_000, 3_000, 4_000
"""Rows."""
TEACHING = Training(epochs=12, batch=128)
SERVING = Training(epochs=16, batch=64)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class World:
    """A case, drawn."""

    case: Case
    folder: Path
    """``teacher``, ``incumbent``, ``reference.parquet``, ``trusted.parquet``."""
    graph: GraphSpec
    fresh: Drawn
    test: Drawn
    """New rows that measure."""
    test_old: Drawn
    seed: int

    def graph_of(self, path: Path, role: str = "student") -> Graph:
        """A model, as it is called; ``teacher``: it answers probabilities."""
        kind = "probabilities" if role == "teacher" else "logits"
        call = GraphCall(
            features=self.graph.features, classes=len(self.graph.classes), output_kind=kind
        )
        return Graph(path, call)

    def right(self, path: Path, role: str = "student", *, old: bool = False) -> F32:
        """Whether a model is right, on each row that measures, 1 or 0."""
        x, y = self.test_old if old else self.test
        return (self.graph_of(path, role).classes(x) == y).astype(np.float32)


def _draw_of(case: Case, place: Path) -> Draw:
    """How rows of a case are drawn.

    Raises
    ------
    RuntimeError
        Its data cannot be had; it says why.
    """
    if case.rows != "mnist":
        return DRAWS[case.rows]
    file = place / "mnist.npz"
    if not file.is_file():
        _ask("mnist", file)
    return mnist(file)


def _ask(what: str, place: Path) -> None:
    """Let the teachers' environment do something."""
    python = python_of("teachers", TEACHERS)
    if isinstance(python, str):
        raise RuntimeError(f"no environment for teachers: {python}")
    done = subprocess.run(
        [str(python), str(SCRIPT), what, str(place.resolve())],
        capture_output=True, text=True, timeout=SECONDS, cwd=place.parent,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{what}: {last_words(done.stderr)}")


def teacher_of(case: Case, x: F32, y: Ints, folder: Path, *, seed: int) -> Path:
    """``teacher.onnx`` of a folder, trained unless it is there."""
    path = folder / "teacher.onnx"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        if case.teacher == "torch":
            from compressbench.pixels import convolutional

            convolutional(x, y, path, training=TEACHING, seed=seed)
        else:
            np.savez(folder / "train.npz", x=x, y=y)
            _ask(case.teacher, folder)
            (folder / "train.npz").unlink()
    return path


def make(case: Case, folder: Path, *, kept: Path, seed: int) -> World:
    """Draw a case, and make its models.

    Parameters
    ----------
    folder
        Where the world's files are written; must not be there.
    kept
        Where teachers are kept from run to run: they are no part of what is measured.
    """
    draw, rng = _draw_of(case, kept), np.random.default_rng([seed, 14])
    n = case.teacher_rows
    old, both = draw("train", False, n, rng), draw("train", True, n, rng)
    x, y = (np.concatenate(parts) for parts in zip(old, both, strict=True))
    name = "".join(c if c.isalnum() else "-" for c in case.name)
    teacher = teacher_of(case, x, y, kept / f"{name}-{seed}", seed=seed)

    features = tuple(f"f{j}" for j in range(x.shape[1]))
    graph = GraphSpec(
        features=features,
        classes=tuple(f"c{k}" for k in range(int(y.max()) + 1)),
        teacher_output_kind="probabilities",
        categories={
            features[j]: tuple(f"v{v}" for v in range(size))
            for j, size in enumerate(case.categories)
        },
    )
    folder.mkdir(parents=True)
    (folder / "teacher").mkdir()
    shutil.copy(teacher, folder / "teacher" / "model.onnx")
    world = World(
        case=case,
        folder=folder,
        graph=graph,
        fresh=draw("traffic", True, FRESH, rng),
        test=draw("test", True, TEST, rng),
        test_old=draw("test", False, TEST, rng),
        seed=seed,
    )
    _serve(world, draw("train", False, REFERENCE, rng))
    _write(world, "trusted", draw("trusted", False, case.trusted, rng))
    return world


def _serve(world: World, reference: Drawn) -> None:
    """The student that serves: distilled on rows of the old domain, static int8."""
    x, _ = reference
    case, folder, graph = world.case, world.folder, world.graph
    student = students.build(
        default_architecture(
            len(graph.features),
            len(graph.classes),
            hidden=case.hidden,
            categories=tuple(enumerate(case.categories)),
        ),
        seed=world.seed,
    )
    student.fit_inputs(x)
    logits = world.graph_of(folder / "teacher" / "model.onnx", "teacher").logits(x)
    distill.distill(student, x, logits, training=SERVING, seed=world.seed)
    served = folder / "incumbent"
    served.mkdir()
    arrays = students.arrays(student)
    arrays.save(served / "training")
    export.to_onnx(arrays, folder / "fp32.onnx")
    quantize.static_int8(folder / "fp32.onnx", served / "model.onnx", x[:512])
    _write(world, "reference", reference)


def _write(world: World, role: str, rows: Drawn) -> None:
    x, y = rows
    columns: dict[str, object] = {n: x[:, j] for j, n in enumerate(world.graph.features)}
    columns["label"] = [world.graph.classes[k] for k in y]
    pq.write_table(pa.table(columns), world.folder / f"{role}.parquet")
