"""Lineage of a model file: what it was made from, by hash. The same making gives the same bytes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from redistill import files, onnxwalk
from redistill.compress.plan import DataSource, JobSpec, Report
from redistill.compress.recipes import RECIPES
from redistill.files import sha256_of, sha256_of_tree
from redistill.times import utc

__all__ = ["Ancestor", "Code", "Lineage", "gather", "source", "to_json"]

LIBRARIES = ("numpy", "onnx", "onnxruntime", "torch")
TAKEN = "reuse"
"""The step of a recipe that makes nothing."""
ROOT = Path(files.__file__).parent
OWN = ("", "compress")
"""Folders below the package whose code makes a model file: the common ground, and ``compress``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ancestor:
    """A model that this one was made from, or compared with."""

    sha256: str
    version: str | None = None
    """``None``: it has none, or nobody said it."""
    training_sha256: str | None = None
    """Of the folder with its weights, where it is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """The program that made it."""

    version: str
    sha256: str
    """Of its own source files, each by its path and content."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lineage:
    """``lineage.json``."""

    format: int = 1
    model: str
    sha256: str
    """Of ``model.onnx``."""
    bytes: int
    operators: dict[str, int]
    """How many nodes of each type its graph has."""
    parameters: int
    """Numbers in its tensors; trees hold theirs in attributes, which do not count."""
    variant: str | None
    """``fp32``, ``static_int8``, ...; ``None``: this job did not make it."""
    recipe: str | None
    """How it came to be a candidate: by a recipe, or ``reuse`` of an earlier release; ``None``: a
    person brought it."""
    parent: Ancestor | None
    """What served when it was made; ``None``: nothing did."""
    teacher: Ancestor | None
    trained_on: tuple[DataSource, ...]
    """Empty: it was not made by this job, which does not know."""
    judged_on: tuple[DataSource, ...]
    seed: int
    training: dict[str, Any] = field(default_factory=dict)
    """Settings of the training; empty where this job trained nothing."""
    labels_in_loss: bool | None = None
    """``None``: not known."""
    policy_sha256: str
    code: Code
    libraries: dict[str, str | None]
    """``None``: not installed, and not needed."""
    python: str
    machine: str
    cpu_flags: tuple[str, ...]
    """Of those that decide how int8 is computed."""


def source(role: str, path: Path) -> DataSource | None:
    """What is told of a file of rows: its hash, how many there are, and of when; no row, and no
    value of a column but the first and the last time.

    Parameters
    ----------
    role
        What the rows were for.
    path
        Parquet; ``served_at`` has times, where there is such a column.

    Returns
    -------
    DataSource or None
        ``None``: there is no such file.
    """
    if not path.is_file():
        return None
    first = last = None
    with pq.ParquetFile(path) as file:
        rows = file.metadata.num_rows
        if "served_at" in file.schema_arrow.names:
            times = pc.cast(file.read(["served_at"])["served_at"], pa.int64())
            ends = pc.min_max(times).as_py()
            first, last = (None if t is None else utc(t).isoformat() for t in ends.values())
    return DataSource(role=role, sha256=sha256_of(path), rows=rows, first=first, last=last)


def gather(
    folder: Path,
    job: JobSpec,
    report: Report,
    *,
    model: Path,
    trained_on: tuple[DataSource, ...],
    labels_in_loss: bool | None,
) -> Lineage:
    """The lineage of a candidate.

    Parameters
    ----------
    folder
        Of the job.
    report
        The job's own, with recipe, variant and environment.
    model
        The candidate's ONNX file.
    trained_on, labels_in_loss
        As the making noted them; nothing and ``None`` where it was not made here.
    """
    recipe = RECIPES.get(report.recipe_name or "")
    made = recipe is not None and recipe.step != TAKEN
    graph = onnxwalk.parse(model.name, model.read_bytes())
    operators: dict[str, int] = {}
    for node in onnxwalk.nodes(graph):
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        operators[name] = operators.get(name, 0) + 1
    judged = [source(r, folder / f"{r}.parquet") for r in ("fresh", "trusted")]
    environment: Mapping[str, Any] = report.environment
    return Lineage(
        model=job.model,
        sha256=sha256_of(model),
        bytes=model.stat().st_size,
        operators=dict(sorted(operators.items())),
        parameters=sum(math.prod(t.dims) for t in onnxwalk.tensors(graph)),
        variant=report.chosen if made else None,
        recipe=report.recipe_name,
        parent=_ancestor(folder / "incumbent", sha256_of(model), version=job.parent, warm=made),
        teacher=_ancestor(folder / "teacher", None, version=None, warm=False),
        trained_on=trained_on,
        judged_on=tuple(s for s in judged if s is not None),
        seed=job.seed,
        training=msgspec.to_builtins(job.training) if made else {},
        labels_in_loss=labels_in_loss,
        policy_sha256=report.policy_sha256,
        code=code(),
        libraries={name: environment.get(name) for name in LIBRARIES},
        python=str(environment.get("python", "")),
        machine=str(environment.get("machine", "")),
        cpu_flags=tuple(environment.get("cpu_flags", ())),
    )


def to_json(lineage: Lineage) -> bytes:
    """Canonical JSON (sorted keys): the same lineage gives the same bytes."""
    return msgspec.json.encode(lineage, order="sorted")


@cache
def code() -> Code:
    """This program's version, and the hash of the source files that make a model."""
    digest = hashlib.sha256()
    for name in OWN:
        pattern = "**/*.py" if name else "*.py"
        for path in sorted((ROOT / name).glob(pattern), key=lambda p: p.as_posix()):
            told = path.relative_to(ROOT).as_posix()
            digest.update(f"{told}\0{sha256_of(path)}\n".encode())
    return Code(version=metadata.version("redistill"), sha256=digest.hexdigest())


def _ancestor(folder: Path, own: str | None, *, version: str | None, warm: bool) -> Ancestor | None:
    """A model of the job's folder, unless it is the very one that is told of."""
    path = folder / "model.onnx"
    if not path.is_file() or (sha256 := sha256_of(path)) == own:
        return None
    training = folder / "training"
    return Ancestor(
        sha256=sha256,
        version=version,
        training_sha256=sha256_of_tree(training) if warm and training.is_dir() else None,
    )
