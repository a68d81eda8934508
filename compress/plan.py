"""Plan of a job and its report: ``job.json`` in, ``report.json`` out, both plain dataclasses.

A job folder holds (all Parquet feature columns are float32, named and ordered as in ``schema``;
categories are indices; one with the name of another column is ``feature.NAME``)::

    job.json                      Job
    fresh.parquet                 id_hash int64, served_at timestamp[us, UTC], FEATURES,
                                  label utf8?, source utf8?, p_include float64?,
                                  split utf8 ("train" | "gate"), prediction utf8?
    reference.parquet             FEATURES, label utf8?    pool for replay
    trusted.parquet               FEATURES, label utf8     never trained on, never served
    incumbent/model.onnx          what serves now
    incumbent/training/           architecture.json, weights.safetensors, where they are known
    teacher/model.onnx            absent in modes that do not need it
    predecessor/model.onnx        only for mode "compare"

and what is written here::

    steps.json                    finished steps with the hashes of what they made (resume)
    work/                         intermediate files, named by their content
    candidate/                    model.onnx, report.json, golden.npz, reference_rows.parquet,
                                  training/
    report.json                   Report
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

__all__ = [
    "Accepted",
    "Comparison",
    "Decision",
    "Diagnosis",
    "Gate",
    "GraphSpec",
    "JobSpec",
    "Limits",
    "Measure",
    "Mode",
    "Rejected",
    "Report",
    "Training",
    "Undecidable",
    "Variant",
    "column_of",
    "read_job_spec",
    "read_report",
    "to_json",
]

OWN_COLUMNS = frozenset(
    (
        *("id_hash", "served_at", "label", "source", "p_include", "split"),
        *("prediction", "scores"),
    )
)
"""Columns of a job's tables that are neither features nor slices."""

Mode = Literal["repair", "gate", "diagnose", "compare", "baseline"]
"""``repair``: train, shrink, judge. ``gate``: judge the finished candidate again, with more rows.
``diagnose``: how much teacher and incumbent lost on the fresh labelled rows. ``compare``: incumbent
against predecessor, paired. ``baseline``: what the first model, or an added one, is worth on
trusted rows (and, for an added one, against the incumbent)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a candidate must satisfy. The hash of this object's JSON is the *policy hash* of a
    release."""

    min_e_value: float = 100.0
    """Fresh gate: anytime-valid paired e-value that the candidate beats the incumbent (Ville: error
    <= 1/e)."""
    trusted_margin_points: float = 1.0
    """Trusted gate: the lower 95% bound of the paired difference must be above minus this."""
    max_worst_slice_loss_points: float = 5.0
    """Largest loss that any slice with at least ``min_slice_rows`` rows may show (upper bound of
    the loss)."""
    min_slice_rows: int = 50
    """Labelled rows that a slice needs before it is judged."""
    max_f1_loss_points: float = 2.0
    """Largest loss of macro F1 on trusted rows, against the incumbent."""
    max_bytes: int | None = None
    """Largest model file; written as ``[repair] max_bytes``."""
    max_p95_ms: float | None = None
    """Largest latency at the serving batch, thread CPU time; written as ``[repair] max_p95_ms``."""
    max_latency_ratio: float = 1.05
    """Largest p50 of thread CPU time at the serving batch, as a share of the fp32 student's."""
    max_size_ratio_noop: float = 0.9
    """A "quantized" file larger than this share of the fp32 file is no quantization."""
    min_agreement: float = 0.97
    """Least share of trusted rows on which the int8 student's class equals the fp32 student's."""
    domain_auc_blind: float = 0.8
    """Where labels enter the loss and fresh rows are this separable from trusted ones, the trusted
    gate is blind."""
    min_verified_rows: int = 100
    """Where it is blind: fresh rows that a second source, or a person, has labelled as well."""
    scheduled_margin_points: float = 1.0
    """Scheduled and manual jobs: fresh and trusted rows may not show a larger loss than this."""
    scheduled_min_gain: float = 0.10
    """A scheduled candidate must be better, or smaller or faster by this share."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How a student is re-distilled (figures of a small tabular MLP; measured, see
    docs/decisions.md)."""

    epochs: int = 16
    """Passes over the training rows; twice as many where a student starts from scratch."""
    batch: int = 64
    """Rows of one step."""
    learning_rate: float = 2e-3
    """Largest step size, of AdamW; a short warm-up, then a cosine to zero."""
    weight_decay: float = 1e-4
    """Of AdamW."""
    temperature: float = 2.0
    """Of the softmax in the distillation loss (Hinton, Vinyals, Dean 2015)."""
    kd_weight: float = 0.0
    """With ``recompress --train-on labels``: the teacher's share of the loss, the rest is
    cross-entropy on the labels. Otherwise it has no say: the teacher is all of the loss."""
    max_fresh_rows: int = 1_500
    """Fresh rows that are trained on; of more the latest are."""
    replay_ratio: float = 1.0
    """Replay rows per fresh row."""
    min_replay_rows: int = 1_500
    """Replay rows at least, as far as there are any: a handful of fresh rows must not make a
    student forget."""
    max_repeats: int = 8
    """A fresh row is seen at most so often an epoch where there are fewer of them than
    ``replay_ratio`` asks for."""
    hidden: tuple[int, ...] = (384, 384)
    """Layers of the built-in student, when the incumbent brings no training folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphSpec:
    """How the graphs are called."""

    features: tuple[str, ...]
    classes: tuple[str, ...]
    output: str | None = None
    """Name of the output that is read; ``None``: the only one."""
    output_kind: Literal["logits", "probabilities"] = "logits"
    teacher_output: str | None = None
    teacher_output_kind: Literal["logits", "probabilities"] = "logits"
    slices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Categorical feature -> its values, or segment key -> (), for accuracy by slice; segments
    stand in columns of their own."""
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobSpec:
    """``job.json``."""

    format: int = 1
    job_id: str
    model: str
    mode: Mode = "repair"
    trigger: Literal["incident", "schedule", "actor"] = "incident"
    train_on: Literal["teacher", "labels"] = "teacher"
    candidates: tuple[str, ...] = ("fp32", "static_int8", "dynamic_int8")
    graph: GraphSpec
    made_here: tuple[str, ...] = ()
    """Roles whose graph a job like this made: one output, of logits, whatever ``graph`` says."""
    limits: Limits = field(default_factory=Limits)
    training: Training = field(default_factory=Training)
    serving_batch: int = 1
    tolerance_points: float = 1.0
    base_error: float | None = None
    """Error of the incumbent on trusted rows at its release, for the diagnosis."""
    teacher_base_error: float | None = None
    data_bug_columns: tuple[str, ...] = ()
    """Columns with an open contract finding."""
    seed: int = 0
    deadline_s: float = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """An estimate with its 95% interval and the rows behind it."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """One condition; the same fields as ``redistill.streams.wire.events.GateResult``."""

    name: str
    value: float | None
    limit: float | None
    passed: bool | None
    why: str


class Accepted(msgspec.Struct, frozen=True, kw_only=True, tag="accepted", tag_field="decision"):
    """Every gate passed."""

    variant: str


class Rejected(msgspec.Struct, frozen=True, kw_only=True, tag="rejected", tag_field="decision"):
    """A gate failed. ``reasons``: one sentence per failed gate."""

    reasons: tuple[str, ...]


class Undecidable(
    msgspec.Struct, frozen=True, kw_only=True, tag="undecidable", tag_field="decision"
):
    """Too few rows to decide."""

    gate: str
    have: int
    need: int | None
    """Rows that would decide if the difference stays as it is; ``None``: not known."""
    why: str


Decision = Accepted | Rejected | Undecidable


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One candidate as judged: measured in this job, on this machine."""

    name: str
    """``fp32``, ``static_int8``, ``dynamic_int8``."""
    sha256: str
    bytes: int
    p50_ms: float
    """Thread CPU time of one call at the serving batch."""
    p95_ms: float
    trusted_accuracy: Measure
    fresh_accuracy: Measure | None
    """On labelled gate rows; ``None`` without any."""
    agreement: float | None
    """Same class as the fp32 student, share of trusted rows."""
    gates: tuple[Gate, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """What student and teacher lost since the change point, on the same labelled fresh rows, in
    points."""

    cause: Literal["data_bug", "compression_gap", "world_changed", "harmless", "undecided"]
    why: str
    student_loss_points: Measure | None
    teacher_loss_points: Measure | None
    disagreement: Measure | None
    """Share of fresh rows where student and teacher differ: bounds what compression can be blamed
    for."""
    labelled: int
    """Labelled fresh rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two models on the same labelled rows."""

    wins: int
    losses: int
    ties: int
    e_better: float
    e_worse: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """``report.json``: everything that was found, measured in this job; the gate report of a
    release."""

    format: int = 1
    job_id: str
    model: str
    mode: Mode
    decision: Accepted | Rejected | Undecidable | None
    """``None`` in modes that decide nothing (``diagnose``, ``compare``)."""
    chosen: str | None = None
    """Name of the variant in ``candidate/``."""
    gates: tuple[Gate, ...] = ()
    """Those of the chosen variant."""
    variants: tuple[Variant, ...] = ()
    incumbent: Variant | None = None
    teacher: Variant | None = None
    fresh: Comparison | None = None
    trusted: Comparison | None = None
    domain_auc: Measure | None = None
    """How well fresh rows can be told from trusted ones; measured when labels entered the loss."""
    diagnosis: Diagnosis | None = None
    policy_sha256: str
    rows: dict[str, int] = field(default_factory=dict)
    """Rows per role: train, gate, gate_labelled, replay, trusted, dropped_duplicates, ..."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall-clock seconds per step; ``cpu`` holds the process's CPU seconds."""
    environment: dict[str, Any] = field(default_factory=dict)
    """Versions of the libraries and CPU flags."""
    warnings: tuple[str, ...] = ()
    seed: int = 0


def to_json(value: JobSpec | Report | Limits) -> bytes:
    """Canonical JSON (sorted keys): the same value gives the same bytes, so that its hash means
    something."""
    return msgspec.json.encode(value, order="sorted")


def column_of(name: str) -> str:
    """Column of a feature, or of a slice, in a job's tables: people call features ``source`` and
    ``label``, too.

    Examples
    --------
    >>> column_of("age"), column_of("source"), column_of("feature.source")
    ('age', 'feature.source', 'feature.feature.source')
    """
    return f"feature.{name}" if name in OWN_COLUMNS or name.startswith("feature.") else name


def read_job_spec(data: bytes) -> JobSpec:
    """Parse ``job.json``.

    Raises
    ------
    msgspec.ValidationError
        Naming the key and what was expected of it.
    """
    return msgspec.json.decode(data, type=JobSpec)


def read_report(data: bytes) -> Report:
    """Parse ``report.json``."""
    return msgspec.json.decode(data, type=Report)
