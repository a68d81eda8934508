"""Job folder: ``job.json`` read and checked, its models found, its surroundings described."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from redistill.compress import recipes, trusted_rows
from redistill.compress.cost import Meter
from redistill.compress.errors import BadJob, BadModel
from redistill.compress.judge import policy, task
from redistill.compress.judge.gates.table import RULES
from redistill.compress.judge.graph import Graph, GraphCall, check_file
from redistill.compress.judge.task import Task
from redistill.compress.plan import JobSpec, Report, read_job_spec
from redistill.compress.rows import Rows, read_rows, read_trusted
from redistill.compress.shrink.quantizers import QUANTIZERS
from redistill.compress.shrink.trained import ARCHITECTURE_FILE
from redistill.compress.steps import Deadline, Steps
from redistill.files import sha256_of

__all__ = ["CANDIDATE", "REPORT", "JobContext", "environment", "read"]

JOB, REPORT, CANDIDATE = "job.json", "report.json", "candidate"

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
    meter: Meter = field(default_factory=Meter.start)
    """The clocks at the start, for the report's costs."""

    @property
    def policy(self) -> policy.Policy:
        """The limits of the gates."""
        return policy.of(self.job.policy)

    @property
    def task(self) -> Task:
        """What the scores mean."""
        return task.of(self.job.graph)

    @property
    def recipe(self) -> str:
        """How the candidate of this run is made."""
        weights = self.folder / "incumbent" / "training" / ARCHITECTURE_FILE
        return recipes.used(self.job, weights=weights.is_file())

    def path(self, role: str) -> Path:
        """``model.onnx`` of a role: ``incumbent``, ``teacher``, ``predecessor``, ``added``,
        ``best/1``."""
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
        if role == "trusted":
            rows, repeated = trusted_rows.distinct(rows)
            if repeated:
                self.warnings.append(
                    f"{path.name}: {repeated} rows repeat others, left out: a row is evidence once"
                )
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
        cost = self.meter.cost(earlier_cpu_seconds=self.steps.earlier_cpu_seconds)
        seconds = dict(self.steps.seconds)
        seconds |= {"total": cost.wall_seconds, "cpu": cost.cpu_seconds}
        trusted = self.folder / "trusted.parquet"
        return Report(
            job_id=self.job.job_id,
            model=self.job.model,
            mode=self.job.mode,
            policy_sha256=policy.sha256(self.policy),
            trusted_sha256=sha256_of(trusted) if trusted.is_file() else None,
            waived=dict(self.job.waived),
            rows=counts,
            seconds={k: round(v, 4) for k, v in seconds.items()},
            cost=cost,
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
    if wrong := [c for c in job.candidates if c not in QUANTIZERS]:
        out.append(f"candidates = {wrong}: known are {', '.join(QUANTIZERS)}")
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
    out += _recipe_problems(job)
    if g.costs is not None:
        out += [f"graph.{told}" for told in task.wrong_costs(g.costs, len(g.classes))]
    try:
        policy.of(job.policy)
    except ValueError as error:
        out.append(f"policy: {error}")
    gates = [r.name for r in RULES]
    if wrong := [w for w in job.waived if w not in gates]:
        out.append(f"waived = {wrong}: gates are {', '.join(gates)}")
    if not 0 <= t.kd_weight <= 1:
        out.append(f"training.kd_weight = {t.kd_weight}: must be in [0, 1]")
    return out


def _recipe_problems(job: JobSpec) -> list[str]:
    out = []
    if job.recipe < 1 or any(k < 1 for k in job.faced.values()):
        out.append(f"recipe = {job.recipe}, faced = {job.faced}: the first is 1")
    if wrong := [r for r in job.recipes if r not in recipes.RECIPES]:
        out.append(f"recipes = {wrong}: known are {', '.join(recipes.RECIPES)}")
    if job.again is not None and job.again not in job.recipes:
        out.append(f"again = {job.again!r}: is none of {list(job.recipes)}")
    others = tuple(r for r in job.recipes if r != job.again)
    if tuple(t.name for t in job.tried) != others[: len(job.tried)]:
        out.append(f"tried names other recipes than the first of {list(job.recipes)}")
    elif len(job.tried) >= len(job.recipes):
        out.append(f"recipes = {list(job.recipes)}: none is left to be tried")
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
    content = path.read_bytes()
    try:
        job = read_job_spec(content)
        if not job.policy:
            job = replace(job, policy=_older_policy(content))
    except msgspec.DecodeError as error:
        raise BadJob(f"{JOB}: {error}") from error
    if problems := _problems(job):
        raise BadJob(f"{JOB}: " + "; ".join(problems))
    return job


def _older_policy(content: bytes) -> dict[str, dict[str, Any]]:
    """What ``limits`` was, in which older releases told a job its limits."""
    limits = msgspec.json.decode(content).get("limits")
    return policy.migrated(policy.wished(limits)) if isinstance(limits, dict) else {}


def environment() -> dict[str, Any]:
    """Versions and CPU flags: what a candidate's bytes and its speed depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    words = set(cpuinfo.read_text().split()) if cpuinfo.is_file() else set()
    names = ("lightgbm", "numpy", "onnx", "onnxruntime", "torch")
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
