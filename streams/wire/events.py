"""Events: the facts that cross a process boundary, one frozen dataclass each, every field
explained.

Every event is a CloudEvent 1.0 in Kafka's binary mode; ``codec`` turns these classes into headers
and bytes and back. Times are timezone-aware and in UTC. The record key is always the model's name:
a hint for locality, never needed for correctness. Fields that may be unknown are ``None``; NaN
never appears on the wire.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta

from redistill.decodable import decodable

__all__ = [
    "COMPACTED",
    "LABEL_AHEAD",
    "LABEL_EARLIEST",
    "MODEL_PATTERN",
    "SERVED_AHEAD",
    "SOURCE_PATTERN",
    "TEXT_CHARACTERS",
    "TOPICS",
    "TYPES",
    "Basis",
    "ChangePoint",
    "ClassText",
    "Contributor",
    "DeadLetter",
    "Detector",
    "DriftFound",
    "Event",
    "FindingKind",
    "FindingStatus",
    "GateResult",
    "Impact",
    "IncidentChanged",
    "IncidentClass",
    "LabelObserved",
    "LabelsRequested",
    "LossPart",
    "ModelName",
    "PointerMoved",
    "PredictionMade",
    "ReleaseChanged",
    "RequestedLabel",
    "RowId",
    "SegmentText",
    "Severity",
    "Sha256",
    "Share",
    "SliceEffect",
    "Statistic",
    "Trigger",
    "VersionActivated",
    "VersionName",
    "Window",
    "bound_topic",
    "source_of",
    "topic_name",
]

MODEL_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,79}$"
SOURCE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,79}$"
"""Of a bound source, whose name is part of a topic's. Without a dot: Kafka refuses two topics whose
names differ in nothing but a dot and an underscore."""

ModelName = Annotated[str, Meta(pattern=MODEL_PATTERN, description="name of a model")]
VersionName = Annotated[str, Meta(min_length=1, max_length=80, description="version of a model")]
RowId = Annotated[
    str, Meta(min_length=1, max_length=200, description="id of a prediction; labels join on it")
]
TEXT_CHARACTERS = 256
"""Characters of a class, and of the key and the value of a segment."""
ClassText = Annotated[str, Meta(max_length=TEXT_CHARACTERS, description="name of a class")]
SegmentText = Annotated[str, Meta(max_length=TEXT_CHARACTERS)]
Sha256 = Annotated[
    str, Meta(pattern=r"^[0-9a-f]{64}$", description="SHA-256, lower-case hexadecimal")
]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Moment = Annotated[datetime, Meta(tz=True)]

Basis = Literal["measured", "estimated"]
Failure = Literal["error", "fallback"]
Arrival = Literal["topic", "api", "import"]
FindingStatus = Literal["open", "update", "resolved"]
FindingKind = Literal[
    "quality", "input", "prediction", "confidence", "accuracy", "latency", "calibration"
]
Severity = Literal["info", "warning", "critical"]
IncidentClass = Literal["data_bug", "harm", "calibration", "serving"]
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
    "unknown",
    # written until 0.1, decodable for ever
    "world_changed",
    "harmless",
]
"""What a loss comes from, as the diagnosis found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """One named input tensor, as in the Open Inference Protocol v2."""

    name: str
    datatype: str
    """``FP32``, ``INT64``, ... as the protocol spells them."""
    shape: list[int]
    data: list[float]
    """Row-major values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionMade:
    """A service answered one request (``prediction.v1``, topic ``predictions``). Batches are Arrow
    IPC streams."""

    id: RowId
    """The caller's id if there is one: labels join on it. The first of two rows with one id wins.
    """
    model: ModelName
    version: VersionName
    served_at: Moment
    features: dict[str, float | bool | str | None] | None = None
    """Value per feature; ``None`` means missing. Numeric values are cast to float32, booleans are 1
    and 0 of a number, ``true`` and ``false`` of a category."""
    inputs: list[Tensor] | None = None
    """Tensors in place of ``features``."""
    prediction: ClassText | float | bool
    """The class name (``true`` and ``false`` name the classes of booleans); a number for a
    regression. Of a row that ``failed`` it is not read: empty where there was none."""
    scores: list[float | None] | None = None
    """``scores[i]`` belongs to ``classes[i]`` of the model's specification."""
    segment: dict[str, str] = field(default_factory=dict)
    """Slices that the service knows, for example ``{"region": "EU"}``."""
    latency_ms: float | None = None
    """Wall-clock milliseconds of this prediction."""
    sample_rate: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0
    """Share of the service's predictions that are logged at all."""
    failed: Failure | None = None
    """The answer was not the model's: the service met an ``error``, or answered with a
    ``fallback``. The row is counted; its prediction and scores are not read, and a label of it
    makes no outcome."""
    prediction_interval: tuple[float, float] | None = None
    """Lower and upper end of the model's own prediction interval of a regression, both finite, the
    lower first. It is checked and stored; no monitor reads it yet."""


SERVED_AHEAD = timedelta(days=1)
"""A prediction served further ahead of the reader's clock is a mistake: it would outlive every
retention, and all that is measured from the newest row on."""
LABEL_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""A label observed before is a mistake: a time that was never set. Old ones may come from files."""
LABEL_AHEAD = timedelta(days=1)
"""A label observed further ahead of the reader's clock is a mistake: the newest of a source stands,
so nothing could correct it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelObserved:
    """The truth about one prediction became known (``label.v1``, topic ``labels``).

    Idempotent on ``(model, id, source, observed_at)``.
    """

    id: RowId
    model: ModelName
    label: ClassText | int | float | bool | None = None
    """The class name, number or boolean; ``None`` only when ``op`` is ``retract``."""
    observed_at: Moment
    source: Annotated[str, Meta(min_length=1, max_length=80)] = "default"
    confidence: Share | None = None
    """How sure the source is."""
    op: Literal["upsert", "retract"] = "upsert"
    inclusion_probability: Annotated[float, Meta(gt=0.0, le=1.0)] | None = None
    """Probability with which this row was chosen to be labelled, in the draw that whoever labels
    made; ``None``: the service chose, or answers a request, of which redistill knows it."""
    uniform: bool = True
    """All rows of the model had that probability. ``False``: rows were picked for their worth, or
    of some kind; such a label never feeds a test."""
    request_id: UUID | None = None
    """The request (``label-request.v1``) that this label answers."""
    arrival: Arrival = "topic"
    """How the label came in: written by ``PredictionLogger.label`` (``api``), by ``redistill label
    import``, or by a program of its own (``topic``)."""
    version: VersionName | None = None
    """With ``version`` and ``prediction`` no join is needed."""
    prediction: ClassText | int | float | bool | None = None
    segment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Detector:
    """What spoke, and with which hyper-parameters (by the names that its paper or library uses)."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistic:
    """The value that crossed the threshold, both in the detector's own unit."""

    value: float
    threshold: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangePoint:
    """When the change began: the interval of times that the data cannot tell apart."""

    low: Moment
    high: Moment


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """The rows that a statement is about, by serving time, both ends inclusive."""

    start: Moment
    end: Moment
    rows: int
    """Rows served in the window, as far as known."""
    labelled: int = 0
    """Rows of them with a label."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceEffect:
    """Accuracy of one slice, as a proportion of correct rows with its interval."""

    key: str
    value: str
    n: int
    reference: float | None
    current: float
    low: float
    high: float
    expected: float | None = None
    """Accuracy that the reference leads to expect of these very rows."""
    share: float | None = None
    """Part of the errors above those expected that lies in the slice; slices of different columns
    overlap, so shares do not add up to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LossPart:
    """A part of a loss of accuracy: a proportion of the rows, with its 95% interval."""

    value: float
    low: float
    high: float
    basis: Basis
    n: int
    """Labelled rows behind it."""


@decodable
@dataclass(frozen=True, kw_only=True, slots=True)
class Contributor:
    """A column that moved, listed by its part in the shift: explains, never accuses."""

    column: str
    """Feature name, ``prediction`` or ``score``."""
    distance: str
    """``psi``, ``js``, ``wasserstein`` or ``ks``; or a contract rule such as ``missing`` or
    ``unit_change``."""
    value: float
    noise_floor: float
    """The distance that samples of this size show without any change: any column at all is beyond
    its own in 1% of them (until 0.1: the 95% quantile of each column)."""
    direction: Literal["up", "down", "mixed"] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Impact:
    """How bad it is. *Measured* stands on labels, *estimated* on anything else; they are never
    mixed."""

    metric: str
    """``accuracy``, ``error_rate``, ``missing_rate``, ..."""
    reference: float | None
    current: float | None
    low: float | None
    high: float | None
    basis: Basis
    n: int
    """Rows (labelled rows when measured) behind ``current``."""
    harmful: bool | None
    """``None``: not known. Only measured evidence may say ``True``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftFound:
    """A detector's finding opened, changed or ended (``drift.v1``, topic ``drift``).

    The event is an announcement; its truth is the row in SQL under ``finding_id``.
    """

    finding_id: UUID
    """uuid5 of (model, version, kind, detector, scope, how many were opened before)."""
    model: ModelName
    version: VersionName
    status: FindingStatus
    severity: Severity
    kind: FindingKind
    scope: str = "all"
    """What it is about: ``all``, a feature's name, or ``slice:key=value``."""
    detector: Detector
    statistic: Statistic
    change_point: ChangePoint | None = None
    window: Window
    slices: list[SliceEffect] = field(default_factory=list)
    """Slices with errors above those expected, the clearest first."""
    localised_to: str | None = None
    """``key=value`` of the slice that explains the loss; ``None``: everywhere, or not localised
    yet."""
    outside: LossPart | None = None
    """Errors above those expected in the rows outside that slice."""
    mix_moved: LossPart | None = None
    """Part of the loss because harder rows came: estimated, from the labelled rows."""
    got_worse: LossPart | None = None
    """Part that the mix of rows does not explain; with ``mix_moved`` it adds up to the loss."""
    contributors: list[Contributor] = field(default_factory=list)
    impact: Impact
    reason: str
    """One sentence for a person."""
    resolution: Literal["recovered", "reverted", "superseded"] | None = None
    """Set when ``status`` is ``resolved``."""
    provisional: bool = False
    """The reference was learned from traffic and nobody vouched for it."""
    opened_at: Moment
    at: Moment
    """Event time of this change of the finding."""
    revision: int = 0
    """0 when opened, one more with each update."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IncidentChanged:
    """What people and machines do about findings (``incident.v1``, topic ``incidents``)."""

    incident_id: UUID
    model: ModelName
    version: VersionName
    incident_class: IncidentClass
    status: Literal["opened", "updated", "resolved"]
    cause: Cause | None
    """``None``: not asked yet; ``unknown``: asked, and not clear yet."""
    decision: str | None
    """``repair``, ``ask_person``, ``wait_for_labels``, ``rollback``, ``none``."""
    why: str
    finding_ids: list[UUID]
    job_id: UUID | None = None
    attempt: int = 0
    opened_at: Moment
    at: Moment


@decodable
@dataclass(frozen=True, kw_only=True, slots=True)
class GateResult:
    """One condition of publishing: what was found, what was asked, and what follows."""

    name: str
    value: float | None
    """In the gate's own unit, which its name ends with (``_points``, ``_bytes``, ``_ratio``,
    ``_e_value``)."""
    limit: float | None
    passed: bool | None
    """``None``: undecidable with the rows at hand."""
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Trigger:
    """Who or what asked for it."""

    kind: Literal["incident", "actor", "schedule", "baseline", "guard"]
    id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseChanged:
    """A candidate was made, refused, published, taken back (``release.v1``, topic ``releases``)."""

    model: ModelName
    version: VersionName
    sha256: Sha256
    """Of ``model.onnx``."""
    status: Literal["candidate", "rejected", "published", "rolledback"]
    gates: list[GateResult] = field(default_factory=list)
    trigger: Trigger
    job_id: UUID | None = None
    policy_sha256: Sha256 | None = None
    """Hash of the limits under which the gates were judged."""
    epoch: int | None = None
    """Epoch of the pointer that this change made."""
    at: Moment


@dataclass(frozen=True, kw_only=True, slots=True)
class PointerMoved:
    """Which version serves (``pointer.v1``, topic ``pointers``, compacted; written by workers
    only).

    It only *wakes* clients: what they obey is ``NAME/pointer.json`` in the signed repository.
    """

    model: ModelName
    stable: VersionName
    stable_sha256: Sha256
    """Of the release manifest of ``stable``."""
    canary: VersionName | None = None
    share: Share = 0.0
    epoch: Annotated[int, Meta(ge=1)]
    """One more with each change of the pointer."""
    expires_at: Moment | None = None
    """When the repository's metadata run out, unless signed again."""
    reason: str
    at: Moment


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionActivated:
    """A service began to serve a version (``activation.v1``, topic ``activations``)."""

    model: ModelName
    instance_id: str
    version: VersionName
    sha256: Sha256
    """Of the ``model.onnx`` that now answers."""
    epoch: int
    """0 for the declared fallback."""
    previous: VersionName | None = None
    at: Moment


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestedLabel:
    """One row whose label is asked for, with the probability with which it was drawn."""

    id: RowId
    served_at: Moment
    inclusion_probability: Annotated[float, Meta(gt=0.0, le=1.0)]
    uniform: bool = True
    """Drawn uniformly among all rows of their time; rows of one slice, or picked for their worth,
    never feed the test of the whole model."""
    prediction: ClassText | None = None
    """What was predicted, as it is stored."""
    features: dict[str, float | str | None] | None = None
    """As far as they are stored: ``[privacy] store_features`` was applied before. Categories by
    their name; ``None``: missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelsRequested:
    """Rows whose label is worth most (``label-request.v1``, topic ``label-requests``).

    A label answers it whoever gives it: by ``request_id``, or by the row's ``id`` alone.
    """

    request_id: UUID
    model: ModelName
    version: VersionName
    rows: list[RequestedLabel]
    reason: str
    slice: str | None = None
    """``column=value`` where only rows of one slice could be drawn: only that slice's test sees
    them."""
    cost: Annotated[float, Meta(ge=0.0)] | None = None
    """Of all these labels, in the currency of ``[labels] cost``."""
    budget_left: Annotated[int, Meta(ge=0)] | None = None
    """Rows that may still be asked for on this day (UTC)."""
    wanted_by: Moment | None = None
    at: Moment


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """A record that could not be read (topic ``dlq``), with everything needed to look at it or to
    send it again."""

    topic: str
    partition: int
    offset: int
    code: str
    reason: str
    key: bytes | None
    value: bytes
    """The raw bytes (base64 in JSON), cut at 256 KiB."""
    value_bytes: int
    """Length before the cut."""
    headers: list[tuple[str, str]] = field(default_factory=list)
    at: Moment


Event = (
    PredictionMade
    | LabelObserved
    | DriftFound
    | IncidentChanged
    | ReleaseChanged
    | PointerMoved
    | VersionActivated
    | LabelsRequested
    | DeadLetter
)

TYPES: dict[str, type[Any]] = {
    "redistill.prediction.v1": PredictionMade,
    "redistill.label.v1": LabelObserved,
    "redistill.drift.v1": DriftFound,
    "redistill.incident.v1": IncidentChanged,
    "redistill.release.v1": ReleaseChanged,
    "redistill.pointer.v1": PointerMoved,
    "redistill.activation.v1": VersionActivated,
    "redistill.label-request.v1": LabelsRequested,
    "redistill.dead-letter.v1": DeadLetter,
}
"""``ce_type`` of each event. A new version is a new entry; an old one stays readable for ever."""

TOPICS: dict[type[Any], str] = {
    PredictionMade: "predictions",
    LabelObserved: "labels",
    DriftFound: "drift",
    IncidentChanged: "incidents",
    ReleaseChanged: "releases",
    PointerMoved: "pointers",
    VersionActivated: "activations",
    LabelsRequested: "label-requests",
    DeadLetter: "dlq",
}
"""Topic of each event, before the namespace is put in front."""

COMPACTED = frozenset({"pointers"})
"""Topics of which only the last record per key matters."""


def bound_topic(source: str) -> str:
    """Topic of the labels of one source, before the namespace is put in front.

    Raises
    ------
    ValueError
        The source's name cannot be part of a topic's.

    Examples
    --------
    >>> bound_topic("ledger")
    'labels.ledger'
    """
    if re.fullmatch(SOURCE_PATTERN, source) is None:
        raise ValueError(
            f"{source[:80]!r} cannot be part of a topic's name: a bound source has letters, digits,"
            " '_' and '-', 80 at most"
        )
    return f"{TOPICS[LabelObserved]}.{source}"


def source_of(topic: str) -> str | None:
    """Source of labels that alone may write to a topic; ``None``: it is no such topic.

    Examples
    --------
    >>> source_of("labels.ledger"), source_of("labels"), source_of("predictions")
    ('ledger', None, None)
    """
    source = topic.removeprefix(f"{TOPICS[LabelObserved]}.")
    return source if source != topic and re.fullmatch(SOURCE_PATTERN, source) else None


def topic_name(topic: str, namespace: str = "") -> str:
    """Name of a topic in a namespace.

    Examples
    --------
    >>> topic_name("drift"), topic_name("drift", "staging")
    ('drift', 'staging.drift')
    """
    return f"{namespace}.{topic}" if namespace else topic
