"""Single JSON predictions -> columns: the hottest path of the product, some 2 us a row.

For each schema a ``msgspec.Struct`` type is made whose fields are the model's features, so that
nearly all work happens in C: decode into structs, pack the numbers of all rows into one buffer, let
numpy cast it. A row that does not fit the type (a string in a numeric feature, ``NaN``, a feature
that the schema does not know) is read again by the tolerant path, which counts what was wrong and
yields a row of the same type.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Container, Mapping, Sequence
from functools import lru_cache
from itertools import starmap
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from streams.errors import WireError
from streams.wire.block import Codes, PredictionBlock, Schema
from streams.wire.columns import (
    MAX_SEGMENTS,
    MAX_UNKNOWN,
    Category,
    class_codes,
    clean,
    count,
    finite,
    printable,
    rates,
    times,
)
from streams.wire.envelope import invalid
from streams.wire.events import RowId, VersionName
from streams.wire.ids import Ids

_MAX_SCORES = 10_000


class Row(msgspec.Struct, gc=False):
    """A prediction as it stands in JSON; its features' type is made per schema."""

    id: RowId
    model: str
    version: VersionName
    served_at: str
    prediction: str | float
    features: Any = None
    inputs: None = None  # tensors take the slow path, which refuses them
    scores: list[float] | None = None
    segment: dict[str, str] | None = None
    latency_ms: float | None = None
    sample_rate: float = 1.0


class Plan:
    """How rows of one schema are read. ``extras`` are further feature names to expect and count."""

    def __init__(self, schema: Schema, extras: tuple[str, ...] = ()) -> None:
        self.schema = schema
        self.extras = extras
        self.names = schema.names
        self.numeric = [f for f in schema.features if f.kind != "category"]
        self.categories = [Category(f) for f in schema.features if f.kind == "category"]
        self._known = frozenset(self.names)
        at = {name: j for j, name in enumerate(self.names)}
        self.numeric_at = [at[f.name] for f in self.numeric]
        self.category_at = [at[c.name] for c in self.categories]
        order = [*(f.name for f in self.numeric), *(c.name for c in self.categories)]
        text = str | float | None
        fields: list[tuple[str, Any, Any]] = [
            (f"f{i}", float | None if i < len(self.numeric) else text, None)
            for i in range(len(order))
        ]
        fields += [(f"x{i}", msgspec.Raw, None) for i in range(len(extras))]
        self.features_type = msgspec.defstruct(
            "Features",
            fields,
            rename=dict(zip([f[0] for f in fields], [*order, *extras], strict=True)),
            forbid_unknown_fields=True,
            gc=False,
        )
        self._order = [(name, i < len(self.numeric)) for i, name in enumerate(order)]
        row_type = msgspec.defstruct(
            "Row", [("features", self.features_type | None, None)], bases=(Row,), gc=False
        )
        decoder: Any = msgspec.json.Decoder(row_type)
        self.decode: Callable[[bytes], Row] = decoder.decode
        numbers = struct.Struct(f"{len(self.numeric)}d")
        self.pack = numbers.pack
        self.unpack = numbers.unpack
        self.packs = not self.categories and not extras
        """Whether the features of a row can be one piece of bytes."""

    def settled(self, features: list[Any]) -> list[Any]:
        """Features as pieces of bytes while they are warm in the processor's cache: 20 objects a row
        less to keep, .8 us. Where a value is missing they stay as they are.
        """
        if not self.packs:
            return features
        try:
            return list(starmap(self.pack, map(astuple, features)))
        except (struct.error, TypeError):
            return features

    def packed(self, features: Any) -> bytes:
        """The features of one row, NaN where they are missing."""
        values = astuple(features) if features is not None else (None,) * len(self.numeric)
        return self.pack(*(np.nan if v is None else v for v in values))

    def tolerant(self, raw: dict[str, Any], group: Group) -> Row:
        """Read one row that does not fit; what is wrong is counted in ``group``.

        Raises
        ------
        WireError
            The row's own fields are broken: it is a dead letter.
        """
        row = _tolerant(raw, group)
        row.features = self.features(row.features, group)
        return row

    def features(self, given: Mapping[str, Any] | None, group: Group) -> Any:
        """Any features as this plan's type: of a wrong type -> missing, and counted."""
        if given is None:
            return None
        values: list[Any] = []
        for name, is_number in self._order:
            value = given.get(name)
            kinds = (int, float) if is_number else (int, float, str)
            if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
                count(group.wrong, name)
                value = None
            values.append(_float(value) if isinstance(value, int) else value)
        for name in given.keys() - self._known:
            group.unknown(name, 1)
        return self.features_type(*values)


class AnyPlan:
    """How rows are read whose schema nobody knows: the features stay a mapping."""

    def __init__(self) -> None:
        row_type = msgspec.defstruct(
            "Row", [("features", dict[str, Any] | None, None)], bases=(Row,), gc=False
        )
        decoder: Any = msgspec.json.Decoder(row_type)
        self.decode: Callable[[bytes], Row] = decoder.decode

    def tolerant(self, raw: dict[str, Any], group: Group) -> Row:
        """Read one row that does not fit, as ``Plan.tolerant`` does."""
        return _tolerant(raw, group)


ANY = AnyPlan()


@lru_cache(maxsize=512)
def plan_of(schema: Schema, extras: tuple[str, ...] = ()) -> Plan:
    """The plan of a schema; it is made once."""
    return Plan(schema, extras)


class Group:
    """Rows of one model version on the way to a block, and what was wrong in them.

    Columns, filled while the rows are warm in the processor's cache, so that nobody has to keep
    those: half a microsecond a row.
    """

    COLUMNS = (
        "index",
        "ids",
        "served_at",
        "prediction",
        "features",
        "scores",
        "segment",
        "latency_ms",
        "sample_rate",
    )

    def __init__(self, model: str, version: str) -> None:
        self.model = model
        self.version = version
        self.index: list[int] = []
        """Of the record of each row."""
        self.ids: list[str] = []
        self.served_at: list[str] = []
        self.prediction: list[str | float] = []
        self.features: list[Any] = []
        """Bytes, or the plan's type, or a mapping where there is no plan yet; ``None``: none."""
        self.scores: list[Any] = []
        """Bytes, or a list; ``None``: none."""
        self.segment: list[dict[str, str] | None] = []
        self.latency_ms: list[float | None] = []
        self.sample_rate: list[float] = []
        self.wrong: dict[str, int] = {}
        self.invalid: dict[str, int] = {}
        self.unknown_features: dict[str, int] = {}

    def add(self, rows: Sequence[Row], index: Sequence[int], features: list[Any]) -> None:
        """Append rows; their features are given as they are to be kept."""
        self.index += index
        self.ids += [r.id for r in rows]
        self.served_at += [r.served_at for r in rows]
        self.prediction += [r.prediction for r in rows]
        self.features += features
        self.scores += _settled([r.scores for r in rows])
        self.segment += [r.segment or None for r in rows]
        self.latency_ms += [r.latency_ms for r in rows]
        self.sample_rate += [r.sample_rate for r in rows]

    def drop(self, rows: Container[int]) -> None:
        """Leave rows out."""
        for name in self.COLUMNS:
            kept = [v for i, v in enumerate(getattr(self, name)) if i not in rows]
            setattr(self, name, kept)

    def __len__(self) -> int:
        return len(self.ids)

    def unknown(self, name: str, n: int) -> None:
        """Count rows with a feature that the schema does not know."""
        name = printable(name)
        if name in self.unknown_features or len(self.unknown_features) < MAX_UNKNOWN:
            count(self.unknown_features, name, n)

    def scores_of(self, value: Any) -> list[float] | None:
        """Scores of a row that did not fit; ``None`` and counted where they are no numbers."""
        if value is None:
            return None
        if isinstance(value, list) and len(value) <= _MAX_SCORES:
            numbers = [_number(v) for v in value if v is not None]
            if None not in numbers:
                return [np.nan if v is None else _float(v) for v in value]
        count(self.invalid, "scores")
        return None

    def segment_of(self, value: Any) -> dict[str, str] | None:
        """Segments of a row that did not fit: numbers as text, the rest counted and left out."""
        if value is None:
            return None
        if not isinstance(value, dict):
            count(self.invalid, "segment")
            return None
        out: dict[str, str] = {}
        for key, item in value.items():
            if isinstance(item, str):
                out[key] = item
            elif (number := _number(item)) is not None:
                out[key] = str(item) if isinstance(item, int) else str(number)
            elif item is not None:
                count(self.invalid, "segment")
        return out

    def number_of(self, name: str, value: Any) -> float | None:
        """A number of a row that did not fit; ``None`` and counted where it is none."""
        if value is not None and (number := _number(value)) is not None:
            return number
        if value is not None:
            count(self.invalid, name)
        return None


def finish(
    group: Group, schema: Schema, plan: Plan
) -> tuple[PredictionBlock | None, list[int], list[tuple[int, WireError]]]:
    """Make the block of a group.

    Parameters
    ----------
    group
        Its rows, all decoded by plans of ``schema``.
    schema, plan
        The schema, and its plan with the extra names that were met.

    Returns
    -------
    tuple
        The block (``None`` if no row is left), the index of the record of each row, and dead rows.
    """
    ids = Ids.of(group.ids)
    served_at, wrong = times(group.served_at)
    if not ids.data.all():
        wrong |= {i: "id contains a NUL character" for i, text in enumerate(ids) if "\0" in text}
    if wrong:
        dead = [
            (group.index[i], WireError("invalid_field", why)) for i, why in sorted(wrong.items())
        ]
        group.drop(wrong)
        block, index, _ = finish(group, schema, plan)
        return block, index, dead
    if not len(group):
        return None, [], []
    unseen: dict[str, dict[str, int]] = {}
    block = PredictionBlock(
        model=group.model,
        version=group.version,
        ids=ids,
        served_at=served_at,
        feature_names=plan.names,
        features=_feature_columns(group, plan, unseen),
        prediction=_predictions(group.prediction, schema.classes),
        scores=_scores(group, len(schema.classes)),
        segments=_segments(group.segment, schema.slices),
        latency_ms=_latency(group),
        sample_rate=_sample_rate(group),
        wrong_type=group.wrong,
        invalid=group.invalid,
        unseen=unseen,
        unknown_features=group.unknown_features,
    )
    return block, group.index, []


def _settled(scores: list[list[float] | None]) -> list[Any]:
    """Scores as pieces of bytes, if all rows have as many."""
    first = scores[0]
    if first is None:
        return scores
    try:
        return list(starmap(_pack_of(len(first)), scores))  # type: ignore[arg-type]
    except (struct.error, TypeError):
        return scores


@lru_cache(maxsize=64)
def _pack_of(width: int) -> Callable[..., bytes]:
    return struct.Struct(f"{width}d").pack


def _feature_columns(
    group: Group, plan: Plan, unseen: dict[str, dict[str, int]]
) -> NDArray[np.float32]:
    """``(n, F)`` in the schema's order."""
    n, k, width = len(group), len(plan.numeric), len(plan.names)
    given = group.features
    if plan.packs and bytes in (kinds := set(map(type, given))):
        if len(kinds) > 1:  # some came by the slow path
            given = [f if type(f) is bytes else plan.packed(f) for f in given]
        return _narrow(np.frombuffer(b"".join(given)).reshape(n, k), plan, group)
    empty = (None,) * width
    tuples = [
        empty if f is None else plan.unpack(f) if type(f) is bytes else astuple(f) for f in given
    ]
    for i, name in enumerate(plan.extras, start=width):
        if met := sum(1 for t in tuples if len(t) > i and t[i] is not None):
            group.unknown(name, met)
    numbers = tuples if k == width and not plan.extras else [t[:k] for t in tuples]
    pack = plan.pack
    try:
        wide = np.frombuffer(b"".join([pack(*t) for t in numbers])).reshape(n, k)
    except struct.error:  # a missing value somewhere: three times slower, and rare enough
        wide = np.array(numbers, np.float64).reshape(n, k)
    out = _narrow(wide, plan, group)
    if k == width and plan.numeric_at == list(range(width)):
        return out
    features = np.empty((n, width), np.float32)
    features[:, plan.numeric_at] = out
    for i, (category, at) in enumerate(zip(plan.categories, plan.category_at, strict=True), k):
        features[:, at] = category.encode([t[i] for t in tuples], unseen)
    return features


def _narrow(wide: NDArray[np.float64], plan: Plan, group: Group) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        out = wide.astype(np.float32)
    clean(out, [f.name for f in plan.numeric], group.wrong)
    return out


def _predictions(
    values: list[str | float], classes: tuple[str, ...]
) -> Codes | NDArray[np.float64]:
    if not classes and not any(isinstance(v, str) for v in values):
        return np.array(values, np.float64)
    return class_codes(values, classes)


def _scores(group: Group, width: int) -> NDArray[np.float32] | None:
    given = group.scores
    first = next((s for s in given if s is not None), None)
    if first is None:
        return None
    kinds = set(map(type, given))
    sizes = set(map(len, given)) if kinds == {bytes} else set()
    if len(sizes) == 1 and sizes <= {8 * width or len(first)}:
        wide = np.frombuffer(b"".join(given)).reshape(len(given), -1)
        return finite(wide, "scores", group.invalid)
    lists = [np.frombuffer(s).tolist() if type(s) is bytes else s for s in given]
    width = width or next(len(s) for s in lists if s is not None)
    wide = np.full((len(lists), width), np.nan)
    for i, s in enumerate(lists):
        if s is not None and len(s) == width:
            wide[i] = s
        elif s is not None:
            count(group.invalid, "scores")
    return finite(wide, "scores", group.invalid)


def _segments(given: list[dict[str, str] | None], slices: tuple[str, ...]) -> dict[str, Codes]:
    if not any(given):
        return {}
    keys: Sequence[str] = slices
    if not slices:
        keys = sorted({k for s in given if s for k in s})[:MAX_SEGMENTS]
    columns = {key: Codes.of([s.get(key) if s else None for s in given]) for key in keys}
    return {
        k: Codes(c.codes, tuple(map(printable, c.values))) for k, c in columns.items() if c.values
    }


def _latency(group: Group) -> NDArray[np.float32] | None:
    values = group.latency_ms
    if values.count(None) == len(values):
        return None
    return finite(np.array(values, np.float64), "latency_ms", group.invalid)


def _sample_rate(group: Group) -> NDArray[np.float32] | None:
    values = group.sample_rate
    if values.count(1.0) == len(values):
        return None
    return rates(np.array(values, np.float64), group.invalid)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return _float(value)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _tolerant(raw: dict[str, Any], group: Group) -> Row:
    given = raw.pop("features", None)
    if given is not None and not isinstance(given, dict):
        raise WireError("invalid_field", "features is no object")
    if raw.pop("inputs", None) is not None and given is None:
        raise WireError("invalid_field", "tensor inputs are not read by this version")
    scores, segment = raw.pop("scores", None), raw.pop("segment", None)
    latency, rate = raw.pop("latency_ms", None), raw.pop("sample_rate", None)
    try:
        row = msgspec.convert(raw, Row)
    except msgspec.ValidationError as exc:
        raise invalid(exc) from None
    if row.prediction != row.prediction:
        raise WireError("invalid_field", "prediction is NaN")
    row.features = given
    row.scores = group.scores_of(scores)
    row.segment = group.segment_of(segment)
    row.latency_ms = group.number_of("latency_ms", latency)
    rate = group.number_of("sample_rate", rate)
    row.sample_rate = 1.0 if rate is None else rate
    return row


def lenient(data: bytes) -> dict[str, Any]:
    """A JSON object as Python's own writer makes it: ``NaN`` and ``Infinity`` are let in.

    Raises
    ------
    WireError
        ``malformed``.
    """
    try:
        raw = json.loads(data)
        json.dumps(raw, ensure_ascii=False).encode()  # lone surrogates have no bytes
    except (ValueError, RecursionError) as exc:
        raise WireError("malformed", f"no JSON: {str(exc)[:200]}") from None
    if not isinstance(raw, dict):
        raise WireError("malformed", "the value is no JSON object")
    return raw
