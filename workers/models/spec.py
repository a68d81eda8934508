"""Model specification: ``model.toml`` as frozen dataclasses, and what each side is told of it.

``spec_file.read`` makes one of the file, and finds everything wrong with it at once.
``register`` stores the specification in SQL with the hashes of the files that it named: from then
on the files themselves may go.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from pydantic import Field

from redistill.compress.judge import policy
from redistill.compress.plan import CardText, GraphSpec, Training
from redistill.decodable import decodable
from redistill.streams.monitor.config import CompareWith, DistanceName, Level, WatchConfig
from redistill.streams.monitor.slice_columns import slice_columns
from redistill.streams.wire.block import Schema
from redistill.streams.wire.events import MODEL_PATTERN, SOURCE_PATTERN
from redistill.workers.errors import SpecError

if TYPE_CHECKING:
    from redistill.workers.settings.settings import Settings

__all__ = [
    "PATHS",
    "DataSection",
    "LabelsSection",
    "ModelSection",
    "ModelSpec",
    "PrivacySection",
    "RepairSection",
    "ServingSection",
    "TeacherSection",
    "WatchSection",
]

OutputKind = Literal["logits", "probabilities"]
Approval = Literal["automatic", "on_request", "paused"]
RowOrder = Literal["time", "random"]

Name = Annotated[str, Field(pattern=MODEL_PATTERN)]
Word = Annotated[str, Field(min_length=1, max_length=80)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Points = Annotated[float, Field(gt=0, le=50, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSection:
    """``[model]``: the baseline, what serves when redistill takes over. Read once."""

    version: Word | None = None
    onnx: str | None = None
    """Path of the ONNX file, relative to ``model.toml``."""
    training: str | None = None
    """Folder with ``architecture.json`` and ``weights.safetensors``: allows a warm start."""
    output: str | None = None
    """Name of the output that is read; needed where there are several."""
    output_kind: OutputKind = "logits"
    costs: tuple[tuple[float, ...], ...] | None = None
    """What each mistake costs: a row per true class, in it a number per answer, both in the order
    of `[schema] classes`; gates then compare costs. Not set: all mistakes cost the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherSection:
    """``[teacher]``: the large model that students are distilled from."""

    onnx: str
    torch: str | None = None
    """Import path ``package.module:Class``, kept for a remedy that adapts or prunes the teacher:
    its form is checked, nothing loads it yet."""
    weights: str | None = None
    """Its weights as safetensors: stored with the model, nothing loads them yet."""
    output: str | None = None
    output_kind: OutputKind = "logits"


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSection:
    """``[data]``: files (Parquet, CSV, folders of such) with the schema's columns and a label."""

    reference: str | None = None
    """The pool for replay in training, and the input profile."""
    trusted: str | None = None
    """Rows that no version was ever trained on: trusted gate, base error and tempering."""
    label: Word = "label"
    """Name of the label column."""
    prediction: Word = "prediction"
    """Name of the column with the model's predictions; only read where there is no ONNX file."""
    time: Word | None = None
    """Column by which rows are brought into time order."""
    order: RowOrder | None = None
    """Order of the rows in the files where there is no time column; default: ``random``."""

    @property
    def ordered(self) -> bool:
        """Whether the rows are in time order, so that dependence of errors can be seen."""
        return self.time is not None or self.order == "time"


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelsSection:
    """``[labels]``: which labels are believed, and how long they are waited for."""

    wait_days: Positive = 30.0
    sources: tuple[Word, ...] = ()
    """Best first; empty: all, by time."""
    bound: tuple[Annotated[str, Field(pattern=SOURCE_PATTERN)], ...] = ()
    """Those that are believed on their own topic ``labels.SOURCE`` only, best first."""
    requests_per_day: Annotated[int, Field(ge=0)] = 0
    """Labels that redistill may ask for in a day (UTC), when it suspects harm. 0: it asks for none,
    since a label is somebody's work and nobody is promised it unasked."""
    cost: Annotated[float, Field(ge=0)] = 0.0
    """Of one label, in a currency of yours; shown beside each request."""
    cost_per_day: Annotated[float, Field(ge=0)] | None = None
    """Most that the labels asked for in a day may cost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchSection:
    """``[watch]``: when somebody has to be told."""

    tolerance_points: Points = 1.0
    strictness: Share = 0.0
    window_rows: Annotated[int, Field(ge=50, le=1_000_000)] = 2_000
    window_minutes: Positive = 60.0
    distance: DistanceName = "psi"
    compare_with: CompareWith = "profile"
    join_rows_per_second: Positive = 2_000.0
    feature_rows_per_second: Positive = 500.0
    feature_megabytes: Positive = 256.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingSection:
    """``[serving]``: how the model is called in production."""

    batch: Annotated[int, Field(ge=1, le=65_536)] = 1
    """Rows per call, where latency is judged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairSection:
    """``[repair]``: what may be done without asking, and within which limits."""

    approval: Approval = "automatic"
    max_bytes: Count | None = None
    max_p95_ms: Positive | None = None
    max_jobs_per_day: Annotated[int, Field(ge=0)] = 2
    wait_hours: Positive = 24.0
    schedule: str | None = None
    """Cron expression (UTC) of a regular recompression."""
    fresh_rows: Annotated[int, Field(ge=100)] = 5_000
    """Rows of the training window of a scheduled or manual job."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivacySection:
    """``[privacy]``: what may be stored, and how long."""

    store_features: tuple[str, ...] | None = None
    """``None``: all; applied before storing."""
    retention_days: Positive = 30.0


@decodable
@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """One model, as its owner described it."""

    format: Literal[1] = 1
    name: Name
    task: Literal["classification"] = "classification"
    level: Level = "watch"
    model: ModelSection = field(default_factory=ModelSection)
    teacher: TeacherSection | None = None
    schema: Schema
    data: DataSection = field(default_factory=DataSection)
    labels: LabelsSection = field(default_factory=LabelsSection)
    watch: WatchSection = field(default_factory=WatchSection)
    serving: ServingSection = field(default_factory=ServingSection)
    repair: RepairSection = field(default_factory=RepairSection)
    gates: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What ``[gates.NAME]`` sets, by gate; what it does not has the gate's own default."""
    training: Training = field(default_factory=Training)
    privacy: PrivacySection = field(default_factory=PrivacySection)
    card: CardText = field(default_factory=CardText)
    """``[card]``: what only its owner can say in the model card of its releases."""
    objects: dict[str, str] = field(default_factory=dict)
    """SHA-256 by role, of the copies under ``home/objects``; filled by ``register``. Roles:
    ``model`` and ``teacher`` (ONNX); ``reference`` and ``trusted`` (Parquet in the layout of a job
    folder: float32 features with categories as indices, ``label`` utf8, in time order);
    ``training/FILE``; ``teacher_weights``."""
    measured: dict[str, float] = field(default_factory=dict)
    """Shares found by ``register`` on trusted rows: ``error`` and ``teacher_error``."""
    origin: str = "file"
    """``file``, or ``traffic`` for a schema that was learned from events."""

    @classmethod
    def from_json(cls, text: str | bytes) -> ModelSpec:
        """Read what ``to_json`` wrote; unknown keys are ignored.

        Raises
        ------
        msgspec.ValidationError
            It was written by a program with other ideas.
        """
        content = msgspec.json.decode(text)
        if isinstance(content, dict) and isinstance(content.get("gates"), dict):
            content["gates"] = policy.migrated(policy.wished(content["gates"]))
        return msgspec.convert(content, type=cls)

    def to_json(self) -> str:
        """As stored in ``specs.spec``."""
        return msgspec.json.encode(self, order="sorted").decode()

    def config_sha256(self) -> str:
        """Hash of everything that matters: not paths, but the bytes they lead to (``objects``)."""
        content = json.loads(self.to_json())
        for section, keys in PATHS.items():
            for key in keys:
                if content.get(section):
                    content[section][key] = bool(content[section][key])
        if not content["labels"]["bound"]:  # as it was hashed before there was this key
            content["labels"].pop("bound")
        if self.card == CardText():  # the same
            content.pop("card")
        content.pop("origin")
        content.pop("measured")
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def with_objects(self, objects: dict[str, str]) -> ModelSpec:
        """The same specification with the hashes of its files."""
        return replace(self, objects=dict(sorted(objects.items())))

    # --- what each side is told ---

    def watch_config(
        self, settings: Settings, *, rows_per_alarm: float | None = None
    ) -> WatchConfig:
        """What the observing side needs.

        Parameters
        ----------
        settings
            For the alarms a week that the operator accepts.
        rows_per_alarm
            Rows per promised false alarm, where a week of the fleet's traffic is known
            (``redistill.workers.store.queries.rows_per_alarm``); default 1e6 over the alarms a
            week.
        """
        budget = rows_per_alarm if rows_per_alarm is not None else 1e6 / settings.alarms_per_week
        return WatchConfig(
            model=self.name,
            level=self.level,
            task=self.task,
            schema=self.schema,
            label_sources=self.labels.sources,
            bound_sources=self.labels.bound,
            wait_days=self.labels.wait_days,
            requests_per_day=self.labels.requests_per_day,
            label_cost=self.labels.cost,
            label_cost_per_day=self.labels.cost_per_day,
            tolerance_points=self.watch.tolerance_points,
            strictness=self.watch.strictness,
            window_rows=self.watch.window_rows,
            window_seconds=self.watch.window_minutes * 60,
            distance=self.watch.distance,
            compare_with=self.watch.compare_with,
            rows_per_alarm=max(1_000.0, budget),
            join_rows_per_second=self.watch.join_rows_per_second,
            feature_rows_per_second=self.watch.feature_rows_per_second,
            feature_megabytes=self.watch.feature_megabytes,
            store_features=self.privacy.store_features,
            retention_days=self.privacy.retention_days,
        )

    def graph(self) -> GraphSpec:
        """How the graphs are called."""
        categories = {f.name: f.values for f in self.schema.features if f.kind == "category"}
        return GraphSpec(
            features=self.schema.names,
            classes=self.schema.classes,
            output=self.model.output,
            output_kind=self.model.output_kind,
            teacher_output=self.teacher.output if self.teacher else None,
            teacher_output_kind=self.teacher.output_kind if self.teacher else "logits",
            slices={
                k: categories.get(k, ())
                for k in slice_columns(self.schema, self.privacy.store_features)
            },
            groups=self.schema.groups,
            categories=categories,
            costs=self.model.costs,
        )

    def policy(self) -> dict[str, dict[str, Any]]:
        """What a candidate must satisfy, gate by gate: complete, as jobs are told it.

        Raises
        ------
        SpecError
            Limits that an older release took make no sense.
        """
        given = {name: dict(limits) for name, limits in self.gates.items()}
        given.setdefault("size", {})["max_bytes"] = self.repair.max_bytes
        given.setdefault("latency", {})["max_p95_ms"] = self.repair.max_p95_ms
        try:
            return policy.complete(policy.of(given))
        except ValueError as error:
            raise SpecError(
                f"{self.name} was registered with limits that cannot be used: [gates] {error}; mend"
                " model.toml and register it again"
            ) from error


PATHS: dict[str, tuple[str, ...]] = {
    "model": ("onnx", "training"),
    "teacher": ("onnx", "weights"),
    "data": ("reference", "trusted"),
}
"""Keys that hold a path, by section."""
