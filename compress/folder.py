"""Job folder: ``job.json`` read and checked, its models found, its surroundings described."""

from __future__ import annotations

import hashlib
import platform
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from redistill.compress.errors import BadJob, BadModel
from redistill.compress.judge.graph import Graph, GraphCall, check_file
from redistill.compress.plan import JobSpec, Report, read_job_spec, to_json
from redistill.compress.rows import Rows, read_rows, read_trusted
from redistill.compress.steps import Deadline, Steps

__all__ = ["CANDIDATE", "REPORT", "JobContext", "environment", "read"]

JOB, REPORT, CANDIDATE = "job.json", "report.json", "candidate"
VARIANTS = ("fp32", "static_int8", "dynamic_int8")

CPU_FLAGS = frozenset(
    {"amx_int8", "asimd", "asimddp", "avx2", "avx512_vnni", "avx512f", "avx_vnni"}
)
"""What decides how fast, and how exactly, int8 is computed."""


@dataclass(kw_only=True)
class JobContext:
    """What every mode needs."""

    folder: Path
    job: JobSpec
    steps: Steps
    deadline: Deadline
    warnings: list[str] = field(default_factory=list)
    """Said in the report."""
    began: tuple[float, float] = field(
        default_factory=lambda: (time.perf_counter(), time.process_time())
    )
    """Wall clock and CPU seconds at the start, for the report's costs."""

    def path(self, role: str) -> Path:
        """``model.onnx`` of a role: ``incumbent``, ``teacher``, ``predecessor``, ``added``."""
        return self.folder / role / "model.onnx"

    def call(self, role: str) -> GraphCall:
        """How the model of a role is called."""
        if role == "teacher":
            return GraphCall.teacher(self.job.graph)
        made = role == CANDIDATE or role in self.job.made_here
        return GraphCall.made(self.job.graph) if made else GraphCall.student(self.job.graph)

    def graph(self, role: str) -> Graph:
        """Load the model of a role.

        Raises
        ------
        BadJob
            The folder has none.
        BadModel
            It cannot be used.
        """
        path = self.path(role)
        if not path.is_file():
            raise BadJob(f"mode {self.job.mode!r} needs {role}/model.onnx in the job's folder")
        try:
            check_file(path)
            return Graph(path, self.call(role), name=f"{role}/model.onnx")
        except BadModel as error:
            raise BadModel(f"{role}: {error}") from error

    def read(self, role: str) -> Rows:
        """Rows of ``fresh``, ``reference`` or ``trusted`` (every row of the last has a label).

        Raises
        ------
        BadJob, BadData
            The file is missing, or its rows cannot be used.
        """
        path = self.folder / f"{role}.parquet"
        read = read_trusted if role == "trusted" else read_rows
        rows, warnings = read(path, self.job.graph)
        self.warnings += warnings
        return rows

    def has(self, role: str) -> bool:
        """Whether the job brought such rows."""
        return (self.folder / f"{role}.parquet").is_file()

    def report(self, counts: dict[str, int], **fields: Any) -> Report:
        """A report of this job, with its costs and surroundings.

        Parameters
        ----------
        counts
            Rows per role.
        fields
            Further fields of ``Report``.
        """
        wall, cpu = self.began
        seconds = dict(self.steps.seconds)
        seconds["total"] = time.perf_counter() - wall
        seconds["cpu"] = time.process_time() - cpu
        return Report(
            job_id=self.job.job_id,
            model=self.job.model,
            mode=self.job.mode,
            policy_sha256=hashlib.sha256(to_json(self.job.limits)).hexdigest(),
            rows=counts,
            seconds={k: round(v, 4) for k, v in seconds.items()},
            environment=environment(),
            warnings=tuple(dict.fromkeys(self.warnings)),
            seed=self.job.seed,
            **{"decision": None, **fields},
        )


def _problems(job: JobSpec) -> list[str]:
    g, t = job.graph, job.training
    out = []
    if job.format != 1:
        out.append(f"format = {job.format}: this program reads 1, a newer one wrote it")
    if not g.features or len(set(g.features)) != len(g.features):
        out.append("graph.features must name each input once")
    if len(g.classes) < 2 or len(set(g.classes)) != len(g.classes):
        out.append(f"graph.classes = {list(g.classes)}: at least two different ones are needed")
    if wrong := [c for c in g.categories if c not in g.features]:
        out.append(f"graph.categories names {wrong}, which are no features")
    if wrong := [c for c in job.candidates if c not in VARIANTS]:
        out.append(f"candidates = {wrong}: known are {', '.join(VARIANTS)}")
    if not job.candidates:
        out.append("candidates is empty")
    if job.serving_batch < 1:
        out.append(f"serving_batch = {job.serving_batch}: must be at least 1")
    if not job.deadline_s > 0:
        out.append(f"deadline_s = {job.deadline_s}: must be positive")
    if t.epochs < 1 or t.batch < 2 or t.max_fresh_rows < 1:
        out.append("training: epochs, batch (>= 2) and max_fresh_rows must be positive")
    if not (t.learning_rate > 0 and t.temperature > 0 and t.replay_ratio >= 0):
        out.append("training: learning_rate and temperature must be positive, replay_ratio >= 0")
    if not 0 <= t.kd_weight <= 1:
        out.append(f"training.kd_weight = {t.kd_weight}: must be in [0, 1]")
    return out


def read(folder: Path) -> JobSpec:
    """Read and check ``job.json``.

    Raises
    ------
    BadJob
        Every problem is named.
    """
    path = folder / JOB
    if not path.is_file():
        raise BadJob(f"{path} is missing: a job is a folder with {JOB} in it")
    try:
        job = read_job_spec(path.read_bytes())
    except msgspec.DecodeError as error:
        raise BadJob(f"{JOB}: {error}") from error
    if problems := _problems(job):
        raise BadJob(f"{JOB}: " + "; ".join(problems))
    return job


def environment() -> dict[str, Any]:
    """Versions and CPU flags: what a candidate's bytes and its speed depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    words = set(cpuinfo.read_text().split()) if cpuinfo.is_file() else set()
    names = ("numpy", "onnx", "onnxruntime", "torch")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu_flags": sorted(words & CPU_FLAGS),
        **{name: _version(name) for name in names},
    }


def _version(name: str) -> str | None:
    """Version of a library, ``None`` where it is not installed: judging needs no torch."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
