"""Plan of a job and its report: ``job.json`` in, ``report.json`` out, both plain dataclasses.

A job folder holds (all Parquet feature columns are float32, named and ordered as in ``schema``;
categories are indices; one with the name of another column is ``feature.NAME``)::

    job.json                      JobSpec
    fresh.parquet                 id_hash int64, served_at timestamp[us, UTC], FEATURES,
                                  label utf8?, source utf8?, p_include float64?,
                                  split utf8 ("train" | "gate"), prediction utf8?,
                                  second_label utf8? (of another source than ``source``)
    reference.parquet             FEATURES, label utf8?    pool for replay
    trusted.parquet               FEATURES, label utf8     never trained on, never served
    incumbent/model.onnx          what serves now
    incumbent/training/           architecture.json, weights.safetensors, where they are known
    teacher/model.onnx            absent in modes that do not need it
    predecessor/model.onnx        only for mode "compare"
    best/1/model.onnx             earlier releases, up to three: the best of them, or the incumbent,
                                  is what trusted rows compare with

and what is written here::

    steps.json                    finished steps with the hashes of what they made (resume)
    work/                         intermediate files, named by their content
    candidate/                    model.onnx, report.json, golden.npz, reference_rows.parquet,
                                  training/, documents/ (``redistill.compress.documents.shipped``)
    error_rows.parquet            FEATURES, segments, prediction, scores, label: the rows on which
                                  the candidate's base error is measured, with its answers
    report.json                   Report
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from redistill.decodable import decodable

__all__ = [
    "DOCUMENTS",
    "ERROR_ROWS",
    "Accepted",
    "CalibrationBin",
    "CardText",
    "Cause",
    "ColumnCheck",
    "Comparison",
    "Cost",
    "DataSource",
    "Decision",
    "Diagnosis",
    "Figures",
    "Gate",
    "GraphSpec",
    "GroupGap",
    "JobSpec",
    "Look",
    "Measure",
    "Mode",
    "NeedsPerson",
    "Rejected",
    "Report",
    "Split",
    "Training",
    "Tried",
    "Undecidable",
    "Variant",
    "column_of",
    "read_job_spec",
    "read_report",
    "to_json",
]

ERROR_ROWS = "error_rows.parquet"
DOCUMENTS = "documents"
"""Folder of a candidate, and of a release, with what is told of it."""
OWN_COLUMNS = frozenset(
    (
        *("id_hash", "served_at", "label", "source", "p_include", "split"),
        *("prediction", "scores", "second_label"),
    )
)
"""Columns of a job's tables that are neither features nor slices."""

Mode = Literal["repair", "gate", "diagnose", "compare", "baseline", "compress"]
"""``repair``: train, shrink, judge. ``gate``: judge the finished candidate again, with more rows.
``diagnose``: how much teacher and incumbent lost on the fresh labelled rows. ``compare``: incumbent
against predecessor, paired. ``baseline``: what the first model, or an added one, is worth on
trusted rows (and, for an added one, against the incumbent). ``compress``: students of every family
and quantizer beside each other, without traffic."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """An estimate with its 95% interval and the rows behind it."""

    value: float
    low: float | None
    high: float | None
    n: int


Split = Literal["fresh", "trusted", "machine"]
"""What a gate looks at. ``machine``: no label at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """One condition; the first fields are ``redistill.streams.wire.events.GateResult``'s."""

    name: str
    value: float | None
    limit: float | None
    passed: bool | None
    """``None``: the rows at hand do not decide it."""
    why: str
    split: Split | None = None
    """Which rows it looked at; ``None``: an older report."""
    have: int | None = None
    """Labelled rows that it was judged on."""
    need: int | None = None
    """Rows that would decide it if the difference stays as it is; ``None``: not known."""
    ask: str | None = None
    """What only a person can bring, where it is open; ``None``: labels that come in decide it."""
    low: float | None = None
    """Bounds of what it measured, in the unit of ``value``, those that ``why`` tells; ``None``: an
    e-value, which needs none, or a quantity of one machine, measured once."""
    high: float | None = None


@decodable
@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """A recipe whose candidate was refused, or was left open for a person."""

    name: str
    """Of the recipe."""
    number: int | None
    """Which of the incident's candidates that faced fresh rows it was; ``None``: it did not."""
    sha256: str | None
    """Of the candidate; ``None``: there was none that loads."""
    reasons: tuple[str, ...]
    gates: tuple[Gate, ...] = ()
    open: bool = False
    """Whether it was not refused, and only a person can bring what decides about it."""
    ranking_loss: float | None = None
    """``Report.ranking_loss`` of the candidate."""


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
    """Layers of the built-in student, which is distilled from scratch; narrower where gate `size`
    would refuse what becomes of it."""


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
    stand in columns of their own. A feature that is a number is cut into bands."""
    groups: tuple[str, ...] = ()
    """Those of the slices whose groups are declared: no gap between them may grow unseen."""
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    costs: tuple[tuple[float, ...], ...] | None = None
    """What each mistake costs, ``costs[true class][answer]``; ``None``: all the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnCheck:
    """One column of the fresh rows against the profile of the version that served them."""

    column: str
    rule: Literal[
        "missing",
        "wrong_type",
        "out_of_range",
        "unseen_category",
        "constant",
        "repeated",
        "unit_change",
        "rescaled",
        "drifted",
        "finding",
    ]
    """A broken rule of the contract; ``repeated``: one value in many rows of a column that hardly
    repeats any; ``rescaled``: another scale or offset with the shape kept,
    below what the contract calls a change of unit; ``drifted``: another distribution, no rule is
    broken; ``finding``: these rows break no rule, but a finding about it is open."""
    value: float
    """Share of rows that break the rule; for a change of unit, rescaling or drift the PSI."""
    slope: float | None = None
    """Values are about ``slope`` x the usual ones + ``intercept``; ``None``: no such line. A value
    that is repeated is a line of slope 0."""
    intercept: float | None = None
    share: float = 1.0
    """Share of rows that the line is about."""
    beyond: tuple[float, float] | None = None
    """Only values outside these bounds are meant by the line; ``None``: all."""
    contributes: bool = False
    """Its distance from the profile is above the noise of all columns together, or its share above
    the rule's six standard errors."""
    open: bool = False
    """A contract finding about the column is open."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CardText:
    """What only the owner of a model can say in its model card; not set: the card says that it is
    unknown."""

    intended_use: str | None = None
    """What it is for."""
    users: str | None = None
    """Whom it is for."""
    out_of_scope: str | None = None
    """What it should not be used for."""
    ethical_considerations: str | None = None
    """Risks for people, and what is done about them."""
    caveats: str | None = None
    """What to know before using it."""
    license: str | None = None
    """Of the model."""
    contact: str | None = None
    """Whom to ask about it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSource:
    """A file of rows, by its hash: no row of it, and no value but the times of the first and the
    last."""

    role: str
    """What the rows were for."""
    sha256: str
    """Of the file, as the job was given it."""
    rows: int
    first: str | None
    """When they were served, ISO 8601 in UTC; ``None``: not known."""
    last: str | None


@decodable
@dataclass(frozen=True, kw_only=True, slots=True)
class JobSpec:
    """``job.json``."""

    format: int = 1
    job_id: str
    model: str
    mode: Mode = "repair"
    trigger: Literal["incident", "schedule", "actor"] = "incident"
    train_on: Literal["teacher", "labels"] = "teacher"
    source: str | None = None
    """With labels: the source that was asked for. Where rows are too many, its rows stay."""
    candidates: tuple[str, ...] = ("fp32", "fp16", "static_int8", "dynamic_int8")
    """Of ``redistill.compress.shrink.quantizers``: what is made of a student, where its family
    allows it."""
    graph: GraphSpec
    made_here: tuple[str, ...] = ()
    """Roles whose graph a job like this made: one output, of logits, whatever ``graph`` says."""
    policy: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Limits by gate (``redistill.compress.judge.policy``); what is missing has its default."""
    recipes: tuple[str, ...] = ("warm",)
    """Ways to make a candidate (``redistill.compress.recipes``), in the order in which they are
    tried."""
    tried: tuple[Tried, ...] = ()
    """The first of them, whose candidates were refused or left open: this run is about the one
    after, or about ``again``, which is not among them."""
    again: str | None = None
    """Name of a recipe whose candidate, left open before others were tried, is judged again."""
    recipe: int = 1
    """Number of a candidate that has not faced fresh rows of its incident yet: 1, 2 or 3."""
    faced: dict[str, int] = field(default_factory=dict)
    """Candidates that have faced these fresh rows before, with their numbers, by SHA-256."""
    incident_loss: Measure | None = None
    """Points that the incumbent has lost and a candidate can give back, as the diagnosis measured
    them."""
    cause: str | None = None
    """What the diagnosis found."""
    releases: tuple[str, ...] = ()
    """Versions of the earlier releases in ``best/1``, ``best/2``, ..."""
    waived: dict[str, str] = field(default_factory=dict)
    """Gates that a person takes upon themselves: who and why, by gate."""
    training: Training = field(default_factory=Training)
    serving_batch: int = 1
    tolerance_points: float = 1.0
    base_error: float | None = None
    """Error of the incumbent on trusted rows at its release, for the diagnosis."""
    base_rows: int | None = None
    """Labelled rows behind it; ``None``: not said, then as many as there are trusted rows."""
    teacher_base_error: float | None = None
    checks: tuple[ColumnCheck, ...] = ()
    """What is wrong, or merely different, with columns of the very rows in ``fresh.parquet``."""
    second_labels_before: tuple[int, int] | None = None
    """(rows on which two sources differed, rows that two sources labelled) before the change;
    ``None``: not known."""
    raised_points: float | None = None
    """Loss that the findings of the incident measured; ``None``: not known."""
    mix_moved: Measure | None = None
    """Points of it that harder rows explain, by the reference's errors; ``None``: not known."""
    got_worse: Measure | None = None
    """Points of it that they do not explain."""
    harmed_slices: tuple[str, ...] = ()
    """``region=EU``: slices with open findings of harm, where none of all rows is open."""
    parent: str | None = None
    """Version of ``incumbent/model.onnx``; ``None``: not known, or there is none."""
    card: CardText = field(default_factory=CardText)
    seed: int = 0
    deadline_s: float = 600.0
    budget_s: float | None = None
    """Mode ``compress``: seconds for making students; ``None``: until the deadline."""


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


class NeedsPerson(
    msgspec.Struct, frozen=True, kw_only=True, tag="needs_person", tag_field="decision"
):
    """Too few rows of a kind that does not come in by itself: a person has to bring them, or to
    decide without."""

    gate: str
    have: int
    need: int | None
    why: str
    ask: str
    """What is missing."""


Decision = Accepted | Rejected | Undecidable | NeedsPerson


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One candidate as judged: measured in this job, on this machine."""

    name: str
    """Of its quantizer: ``fp32``, ``fp16``, ``static_int8``, ...; ``reuse``: an earlier release."""
    sha256: str
    bytes: int
    p50_ms: float
    """Thread CPU time of one call at the serving batch."""
    p95_ms: float
    rows_per_s: float | None = None
    """Rows of such calls in a second of thread CPU time."""
    peak_bytes: int | None = None
    """Resident memory that it adds to a process of its own, at its peak."""
    trusted_accuracy: Measure
    ranking_accuracy: Measure | None = None
    """On the trusted rows that no gate looks at."""
    fresh_accuracy: Measure | None
    """On labelled gate rows; ``None`` without any."""
    agreement: float | None
    """Same class as the fp32 student, share of trusted rows."""
    gates: tuple[Gate, ...] = ()
    measures: dict[str, Measure] = field(default_factory=dict)
    """On trusted rows, by the names that its task gives them."""
    temperature: Measure | None = None
    """Number by which its scores were divided at its making: fitted to labels, with an interval, or
    matched to the confidence of what it was made from; ``None``: it was not made here."""


Cause = Literal[
    "none",
    "data_bug",
    "compression_gap",
    "stale_quantization",
    "prior_shift",
    "harder_mix",
    "unknown_covariate",
    "concept_change",
    "labels_suspect",
    "unclear",
    # written until 0.1, still read
    "world_changed",
    "harmless",
    "undecided",
]
"""What a loss comes from; ``workers/incidents/causes.py`` says what is done about each."""


@decodable
@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """What student and teacher lost since the change point, on the same labelled fresh rows, in
    points, and what is to blame."""

    cause: Cause
    why: str
    student_loss_points: Measure | None
    teacher_loss_points: Measure | None
    disagreement: Measure | None
    """Share of fresh rows where student and teacher differ: bounds what compression can be blamed
    for."""
    labelled: int
    """Labelled fresh rows."""
    recoverable_points: Measure | None = None
    """(teacher now - student now) - (their gap at release), paired: what distilling can give
    back."""
    recoverable_at_least: float | None = None
    """Lower end of its 99% interval, in points."""
    columns: tuple[str, ...] = ()
    """Columns that the cause is about."""
    tolerance_points: float | None = None
    """Loss that nobody need be woken for; ``None``: not said (0.1)."""

    @property
    def repairable(self) -> bool:
        """Whether the student surely lost something that its teacher kept."""
        lost = self.student_loss_points
        low = (None if lost is None else lost.low, self.recoverable_at_least)
        return all(points is not None and points > 0.0 for points in low)


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two models on the same labelled rows."""

    wins: int
    losses: int
    ties: int
    e_better: float
    e_worse: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupGap:
    """How differently the declared groups of a key are served, on labelled fresh and trusted
    rows."""

    key: str
    """``sex``."""
    what: str = "share of right answers"
    """What is compared: ``1 - mean loss``, in words."""
    accuracy: dict[str, dict[str, Measure]]
    """That by role (``candidate``, ``incumbent``, ``teacher``) and group; groups of few rows are
    left out."""
    gap: dict[str, Measure]
    """Largest minus smallest of them, by role."""
    added: dict[str, Measure]
    """The candidate's gap minus that of another role: of ``teacher`` what compression added."""
    chance: float
    """Gap that rows as few would show on average if all groups were served alike."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationBin:
    """Labelled rows of about the same confidence."""

    confidence: float
    """Mean probability that the model gave its answers."""
    right: Measure
    """Share of right answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """Candidate against incumbent on the first so many labelled fresh rows."""

    rows: int
    points: Measure
    """Mean paired difference in points, above 0 where the candidate is better. Its interval is of
    this look alone."""
    e_value: float
    """Evidence that the candidate is better; valid over all looks together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What a candidate was seen to do, in more detail than its gates: by class, by slice, by
    confidence, and over rows. Measured; fresh rows are in it only where the gates looked at
    them."""

    classes: dict[str, dict[str, dict[str, Measure]]]
    """Accuracy by sample (``trusted``, ``fresh``), true class and role (``candidate``,
    ``incumbent``, ``teacher``)."""
    slices: dict[str, dict[str, dict[str, Measure]]]
    """The same by slice (``region=EU``); slices of few rows are left out."""
    calibration: dict[str, dict[str, tuple[CalibrationBin, ...]]]
    """By sample and role, the least sure first."""
    looks: tuple[Look, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What the run that wrote a report has cost. Measured, but for ``estimated_joules``; one run on
    one machine, so that nothing here has an interval."""

    cpu_seconds: float
    """Of the job's process and of those that it started."""
    earlier_cpu_seconds: float
    """Of steps that earlier runs finished in the same folder, in the job's process; of what a
    killed run had not finished nobody knows."""
    wall_seconds: float
    peak_bytes: int | None
    """Largest resident memory of one of those processes, what it was forked with included."""
    package_joules: float | None
    """Energy that all CPU packages drew meanwhile (RAPL), for other processes, too."""
    estimated_joules: float | None
    """The job's part of it, by its share of the CPU time that all processes took."""
    no_energy: str | None
    """Why the energy is not known."""


@decodable
@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """``report.json``: everything that was found, measured in this job; the gate report of a
    release."""

    format: int = 1
    job_id: str
    model: str
    mode: Mode
    decision: Accepted | Rejected | Undecidable | NeedsPerson | None
    """``None`` in modes that decide nothing (``diagnose``, ``compare``)."""
    chosen: str | None = None
    """Name of the variant in ``candidate/``."""
    gates: tuple[Gate, ...] = ()
    """Those of the chosen variant."""
    variants: tuple[Variant, ...] = ()
    incumbent: Variant | None = None
    teacher: Variant | None = None
    gaps: tuple[GroupGap, ...] = ()
    """One for each declared group key with rows of two groups."""
    fresh: Comparison | None = None
    trusted: Comparison | None = None
    trusted_sha256: str | None = None
    """Of the trusted rows: accuracies on others cannot be compared with these."""
    best: str | None = None
    """Version of the best release so far; ``None``: the incumbent, or there is none."""
    releases: dict[str, Measure] = field(default_factory=dict)
    """Accuracy of earlier releases on trusted rows, by version."""
    waived: dict[str, str] = field(default_factory=dict)
    """Gates that a person took upon themselves: who and why, by gate."""
    domain_auc: Measure | None = None
    """How well fresh rows can be told from trusted ones; measured when labels entered the loss."""
    diagnosis: Diagnosis | None = None
    policy_sha256: str
    recipe: int = 1
    """Which of the incident's candidates that face fresh rows the chosen one is, or would be."""
    recipe_name: str | None = None
    """How it was made; ``None`` in modes that make none."""
    reused: str | None = None
    """Version of the earlier release that the candidate is; ``None``: it was made here."""
    faced: bool = False
    """Whether labelled fresh rows were looked at to judge it."""
    label_sources: tuple[str, ...] = ()
    """Who labelled them; empty: nobody, or it is not known."""
    tried: tuple[Tried, ...] = ()
    """Recipes of this job whose candidates were refused or left open before."""
    ranking_loss: float | None = None
    """Mean loss of the chosen variant on the ranking trusted rows, which no gate looks at. It puts
    candidates in order and decides about none, so that it has no interval; ``None``: too few."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows per role: train, gate, gate_labelled, replay, trusted, dropped_duplicates, ..."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall-clock seconds per step; ``cpu`` holds all CPU seconds."""
    cost: Cost | None = None
    """``None``: an older report."""
    figures: Figures | None = None
    """``None``: an older report, or a mode that judges nothing."""
    environment: dict[str, Any] = field(default_factory=dict)
    """Versions of the libraries and CPU flags."""
    warnings: tuple[str, ...] = ()
    seed: int = 0


def to_json(value: JobSpec | Report) -> bytes:
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
