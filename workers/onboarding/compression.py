"""Compression of a model from its ``model.toml``, with files alone: for people and notebooks."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from redistill import files
from redistill.compress import pipeline
from redistill.compress.documents import front
from redistill.compress.errors import BadJob, CompressError
from redistill.compress.plan import Accepted, GraphSpec, JobSpec, Report, Variant, to_json
from redistill.compress.steps import Progress, nothing
from redistill.modes import as_the_user_has_it
from redistill.workers.errors import SpecError, UsageError
from redistill.workers.models import dataset, scoring, spec_file
from redistill.workers.models.spec import ModelSection, ModelSpec, TeacherSection

__all__ = ["JOB", "Compressed", "Compression"]

DEADLINE_SECONDS = 7 * 86_400.0
"""Of all of it; what limits the search is the budget."""
ROLES = {"teacher": "teacher", "incumbent": "model"}
"""Folder of the job -> section of model.toml."""
JOB = ".job"
"""Where the work is kept below the output until it is done: it goes on there when it is run
again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compression:
    """A model that is to be made smaller: ``read``, ``run``, ``save``.

    Examples
    --------
    A teacher of two numbers, and rows that it was not trained on:

    >>> import numpy as np, onnx.parser, pyarrow as pa, pyarrow.parquet as pq, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> teacher = onnx.parser.parse_model('''
    ...     <ir_version: 9, opset_import: ["" : 18]>
    ...     teacher (float[n, 2] x) => (float[n, 2] y)
    ...     <float[2, 2] w = {-2.0, 2.0, -2.0, 2.0}> { y = MatMul(x, w) }''')
    >>> onnx.save(teacher, folder / "teacher.onnx")
    >>> x = np.random.default_rng(0).normal(size=(1_500, 2))
    >>> label = np.where(x.sum(axis=1) > 0, "yes", "no")
    >>> table = pa.table({"a": x[:, 0], "b": x[:, 1], "label": label})
    >>> pq.write_table(table[:1_000], folder / "reference.parquet")
    >>> pq.write_table(table[1_000:], folder / "trusted.parquet")
    >>> text = '''
    ...     name = "sums"
    ...     [teacher]
    ...     onnx = "teacher.onnx"
    ...     [schema]
    ...     features = { a = "float", b = "float" }
    ...     classes = ["no", "yes"]
    ...     [data]
    ...     reference = "reference.parquet"
    ...     trusted = "trusted.parquet"
    ...     [model]
    ...     version = "1"'''
    >>> _ = (folder / "model.toml").write_text(text)

    The three calls:

    >>> from redistill import Compression
    >>> job = Compression.read(folder / "model.toml")
    >>> found = job.run(seconds=60)
    >>> found.save(folder / "out").name
    'candidate'
    >>> best = found.best
    >>> best.trusted_accuracy.value > 0.95
    True
    """

    spec: ModelSpec
    notes: tuple[str, ...] = ()
    """What was found odd about the files, a sentence each."""
    contents: Mapping[str, bytes]
    """Files of the job's folder, by their names in it."""

    @classmethod
    def read(cls, path: Path | str) -> Compression:
        """Read ``model.toml`` and the files that it names; everything wrong is said at once.

        Parameters
        ----------
        path
            The file, or its folder. It needs ``[teacher] onnx``, ``[data] reference`` and
            ``trusted``. Without ``[model] onnx`` the students are compared with their teacher.

        Raises
        ------
        SpecError
        """
        spec = spec_file.read(Path(path))
        problems = [f"{told} is missing: {why}" for told, why in _missing(spec)]
        contents: dict[str, bytes] = {}
        notes: list[str] = []
        for role in ("reference", "trusted"):
            source = getattr(spec.data, role)
            if source is None:
                continue
            rows, wrong = dataset.read(Path(source), spec, role, need_labels=role == "trusted")
            problems += wrong
            if rows is not None:
                contents[f"{role}.parquet"] = rows.to_parquet(spec)
                notes += rows.warnings
        for role, section in ROLES.items():
            given: ModelSection | TeacherSection | None = getattr(spec, section)
            if given is None or given.onnx is None:
                continue
            try:
                call = scoring.inspect(
                    Path(given.onnx),
                    spec.schema,
                    output=given.output,
                    kind=given.output_kind,
                    place=f"[{section}] onnx",
                )
            except SpecError as error:
                problems.append(str(error))
            else:
                contents[f"{role}/model.onnx"] = call.data
                notes += call.changes
        if problems:
            listed = "".join(f"\n  {p}" for p in problems)
            raise SpecError(f"{spec.name} cannot be compressed:{listed}")
        contents.setdefault("incumbent/model.onnx", contents["teacher/model.onnx"])
        return cls(spec=spec, notes=tuple(dict.fromkeys(notes)), contents=contents)

    def run(
        self,
        *,
        seconds: float | None = None,
        seed: int = 0,
        folder: Path | None = None,
        progress: Progress = nothing,
    ) -> Compressed:
        """Make and measure students of every family.

        Parameters
        ----------
        seconds
            Time for making them; what is finished by then is measured. ``None``: as long as it
            takes.
        seed
            Of everything that is drawn.
        folder
            Where work is kept and gone on with; ``None``: a folder of its own, which goes with
            what is returned.
        progress
            Called with each step and the share of it that is done.

        Raises
        ------
        UsageError
            The files or the budget do not allow it; the message says why.
        """
        kept = None
        if folder is None:
            kept = _Scratch()
            folder = kept.path
        try:
            for name, content in self.contents.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                files.write(folder / name, content)
            files.write(folder / "job.json", to_json(self._job(seconds, seed)))
            report = pipeline.run(folder, progress=progress)
        except CompressError as error:
            raise UsageError(f"{self.spec.name} cannot be compressed: {error}") from error
        except OSError as error:
            raise UsageError(f"{folder} cannot be written: {error.strerror}") from error
        return Compressed(report=report, folder=folder, notes=self.notes, kept=kept)

    def _job(self, seconds: float | None, seed: int) -> JobSpec:
        graph: GraphSpec = self.spec.graph()
        if self.spec.model.onnx is None:  # the teacher stands in for what serves
            graph = replace(
                graph, output=graph.teacher_output, output_kind=graph.teacher_output_kind
            )
        return JobSpec(
            job_id="compress",
            model=self.spec.name,
            mode="compress",
            trigger="actor",
            graph=graph,
            policy=self.spec.policy(),
            training=self.spec.training,
            serving_batch=self.spec.serving.batch,
            tolerance_points=self.spec.watch.tolerance_points,
            seed=seed,
            budget_s=seconds,
            deadline_s=DEADLINE_SECONDS,
        )


class _Scratch:
    """A folder that goes when nobody holds it, or the process ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="redistill-compress-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Compressed:
    """What came of it."""

    report: Report
    """Every variant with what it is worth and costs, the gates of the one that was chosen."""
    folder: Path
    """Of the job."""
    notes: tuple[str, ...] = ()
    kept: _Scratch | None = None
    """What removes the folder when nobody holds this any more; ``None``: it is the caller's."""

    @property
    def best(self) -> Variant:
        """The variant that was chosen, by trusted rows that no gate looks at."""
        return next(v for v in self.report.variants if v.name == self.report.chosen)

    @property
    def passed(self) -> bool:
        """Whether it passes every gate."""
        return isinstance(self.report.decision, Accepted)

    def front(self) -> str:
        """One HTML page of all variants: accuracy against size and latency."""
        return front.page(self.report)

    def save(self, out: Path | str) -> Path:
        """Copy the chosen variant, with its report and golden rows, into ``out/candidate``.

        Raises
        ------
        UsageError
            It cannot be written.
        """
        target = Path(out) / "candidate"
        part = target.with_name(f".candidate-{os.getpid()}")
        try:
            with as_the_user_has_it():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(self.folder / "candidate", part, copy_function=shutil.copyfile)
            files.put(part, target)
        except OSError as error:
            raise UsageError(f"{target} cannot be written: {error.strerror}") from error
        except BadJob as error:
            raise UsageError(str(error)) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return target


def _missing(spec: ModelSpec) -> list[tuple[str, str]]:
    needs = (
        (spec.teacher is None, "[teacher] onnx", "what students are distilled from"),
        (spec.data.reference is None, "[data] reference", "rows that students learn on"),
        (spec.data.trusted is None, "[data] trusted", "labelled rows that measure them"),
    )
    return [(key, why) for lacks, key, why in needs if lacks]
