"""Grouped rows: those of one model version on their way from JSON to a block of columns."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Container, Sequence
from functools import lru_cache
from itertools import starmap
from typing import Any

import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from redistill.streams.errors import WireError
from redistill.streams.wire.block import Codes, PredictionBlock, Schema, bare
from redistill.streams.wire.columns import (
    MAX_SEGMENTS,
    class_codes,
    clean,
    count,
    finite,
    intervals,
    of_both_classes,
    rates,
    storable,
    times,
)
from redistill.streams.wire.failures import failure_codes, without_answers
from redistill.streams.wire.faults import Faults, as_float
from redistill.streams.wire.ids import Ids
from redistill.streams.wire.rows import AnyPlan, Plan, Row

__all__ = ["Group", "finish"]


class Group:
    """Rows of one model version on the way to a block, and their faults.

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
        "failed",
        "interval",
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
        self.failed: list[str | None] = []
        self.interval: list[tuple[float, float] | None] = []
        self.faults = Faults()

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
        self.failed += [r.failed for r in rows]
        self.interval += [r.prediction_interval for r in rows]

    def drop(self, rows: Container[int]) -> None:
        """Leave rows out."""
        for name in self.COLUMNS:
            kept = [v for i, v in enumerate(getattr(self, name)) if i not in rows]
            setattr(self, name, kept)

    def __len__(self) -> int:
        return len(self.ids)


def finish(
    group: Group, schema: Schema | None, plan: Plan | AnyPlan
) -> tuple[PredictionBlock | None, list[int], list[tuple[int, WireError]]]:
    """Make the block of a group.

    Parameters
    ----------
    group
        Its rows, all decoded by plans of ``schema``.
    schema, plan
        The schema, and its plan with the extra names that were met; ``None``: nobody registered the
        model.

    Returns
    -------
    tuple
        The block (``None`` if no row is left), the index of the record of each row, and dead rows.
    """
    ids = Ids.of(group.ids)
    served_at, wrong = times(group.served_at)
    if not ids.data.all():
        wrong |= {i: "id contains a NUL character" for i, text in enumerate(ids) if "\0" in text}
    if int in set(map(type, group.prediction)):
        wrong |= {
            i: "prediction is a number beyond what float64 holds"
            for i, value in enumerate(group.prediction)
            if type(value) is int and math.isinf(as_float(value))
        }
    if wrong:
        dead = [
            (group.index[i], WireError("invalid_field", why)) for i, why in sorted(wrong.items())
        ]
        group.drop(wrong)
        block, index, _ = finish(group, schema, plan)
        return block, index, dead
    if not len(group):
        return None, [], []
    if schema is None or not isinstance(plan, Plan):
        prediction = _predictions(group.prediction, ())
        whole = bare(group.model, group.version, ids, served_at, prediction)
        return whole, group.index, []
    unseen: dict[str, dict[str, int]] = {}
    prediction = _predictions(group.prediction, schema.classes)
    scores = _scores(group, len(schema.classes))
    if (failed := failure_codes(group.failed)) is not None:
        prediction, scores = without_answers(prediction, scores, failed)
    block = PredictionBlock(
        model=group.model,
        version=group.version,
        ids=ids,
        served_at=served_at,
        feature_names=plan.names,
        features=_feature_columns(group, plan, unseen),
        prediction=prediction,
        scores=scores,
        segments=_segments(group.segment, schema.divisions),
        latency_ms=_latency(group),
        sample_rate=_sample_rate(group),
        failed=failed,
        prediction_interval=_intervals(group),
        wrong_type=group.faults.wrong,
        invalid=group.faults.invalid,
        unseen=unseen,
        unknown_features=group.faults.unknown_features,
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
            group.faults.unknown(name, met)
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
    clean(out, [f.name for f in plan.numeric], group.faults.wrong)
    return out


def _predictions(
    values: list[str | float], classes: tuple[str, ...]
) -> Codes | NDArray[np.float64]:
    if not classes and (kinds := set(map(type, values))) <= {int, float}:
        return np.array(values if kinds == {float} else list(map(as_float, values)), np.float64)  # type: ignore[arg-type]
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
        return finite(wide, "scores", group.faults.invalid)
    if width == 2 and sizes == {8}:
        wide = np.frombuffer(b"".join(given)).reshape(len(given), 1)
        return finite(of_both_classes(wide, group.faults.invalid), "scores", {})
    lists = [np.frombuffer(s).tolist() if type(s) is bytes else s for s in given]
    width = width or next(len(s) for s in lists if s is not None)
    wide = np.full((len(lists), width), np.nan)
    for i, s in enumerate(lists):
        if s is not None and len(s) == width:
            wide[i] = s
        elif s is not None and len(s) == 1 and width == 2:
            wide[i] = of_both_classes(np.array([s]), group.faults.invalid)[0]
        elif s is not None:
            count(group.faults.invalid, "scores")
    return finite(wide, "scores", group.faults.invalid)


def _segments(given: list[dict[str, str] | None], slices: tuple[str, ...]) -> dict[str, Codes]:
    if not any(given):
        return {}
    keys: Sequence[str] = slices
    if not slices:
        keys = sorted({k for s in given if s for k in s})[:MAX_SEGMENTS]
    columns = {key: Codes.of([s.get(key) if s else None for s in given]) for key in keys}
    return {
        k: Codes(c.codes, tuple(map(storable, c.values))) for k, c in columns.items() if c.values
    }


def _latency(group: Group) -> NDArray[np.float32] | None:
    values = group.latency_ms
    if values.count(None) == len(values):
        return None
    return finite(np.array(values, np.float64), "latency_ms", group.faults.invalid)


def _sample_rate(group: Group) -> NDArray[np.float32] | None:
    values = group.sample_rate
    if values.count(1.0) == len(values):
        return None
    return rates(np.array(values, np.float64), group.faults.invalid)


def _intervals(group: Group) -> NDArray[np.float64] | None:
    values = group.interval
    if values.count(None) == len(values):
        return None
    none = (np.nan, np.nan)
    wide = np.array([none if v is None else v for v in values], np.float64)
    return intervals(wide, group.faults.invalid)
