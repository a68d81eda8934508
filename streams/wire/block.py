"""Blocks: rows of one model version as numpy columns, from the codec to the monitor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from redistill.streams.wire.ids import Ids
from redistill.textform import category_index, category_text

__all__ = [
    "JOINED_ROWS",
    "MAX_CELLS",
    "Codes",
    "Feature",
    "PredictionBlock",
    "Schema",
    "alike",
    "bare",
    "joined",
    "some_rows",
]

JOINED_ROWS = 5_000
"""Rows to which neighbours of one version are joined: a step costs nearly the same for 500."""

MAX_CELLS = 5_000_000
"""Rows times features of one block, 20 MB: a row that names one of a thousand features costs as
much as one that names all."""

FeatureKind = Literal["float", "int", "category"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Feature:
    """One input column as declared in ``[schema]`` or learned from a reference."""

    name: str
    kind: FeatureKind = "float"
    minimum: float | None = None
    """Smallest legal value; ``None``: not declared."""
    maximum: float | None = None
    values: tuple[str, ...] = ()
    """Legal values of a category, in the order of their indices."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Schema:
    """What the columns of a model mean. Features stand in the order of the graph's columns."""

    features: tuple[Feature, ...]
    classes: tuple[str, ...] = ()
    """Class names; ``scores[i]`` belongs to ``classes[i]``. Empty for a regression."""
    slices: tuple[str, ...] = ()
    """Segment keys or categorical features by which accuracy is broken down."""
    groups: tuple[str, ...] = ()
    """Segment keys or features whose groups of people no release may treat worse unseen."""
    no_slices: tuple[str, ...] = ()
    """Categorical features that are no slices; each other one of 2 to 50 values is."""

    @property
    def divisions(self) -> tuple[str, ...]:
        """Keys by which rows are told apart: slices, then groups, each once."""
        return tuple(dict.fromkeys((*self.slices, *self.groups)))

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in order."""
        return tuple(f.name for f in self.features)

    def pack(self, rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        """Rows of named values as the model's input.

        Categories become indices into their declared values, unseen ones -1; missing and unreadable
        values NaN.

        Returns
        -------
        numpy.ndarray
            ``(n, F) float32``

        Examples
        --------
        >>> region = Feature(name="r", kind="category", values=("EU", "US"))
        >>> s = Schema(features=(Feature(name="x"), region))
        >>> s.pack([{"x": 1, "r": "US"}, {"x": None, "r": "MARS"}]).tolist()
        [[1.0, 1.0], [nan, -1.0]]
        """
        out = np.full((len(rows), len(self.features)), np.nan, np.float32)
        for j, f in enumerate(self.features):
            index = category_index(f.values) if f.kind == "category" else None
            for i, row in enumerate(rows):
                value = row.get(f.name)
                if value is None:
                    continue
                try:
                    if index is not None:
                        text = value if isinstance(value, str) else category_text(value)
                        out[i, j] = np.nan if text is None else index.get(text, -1)
                        continue
                    out[i, j] = float(value)
                except (TypeError, ValueError, OverflowError):
                    continue
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """A column of strings as indices into its distinct values (dictionary encoding)."""

    codes: NDArray[np.int32]  # (n,) index into values, -1 = missing
    values: tuple[str, ...]

    def strings(self) -> list[str | None]:
        """The column as Python strings, ``None`` where missing."""
        return [self.values[c] if c >= 0 else None for c in self.codes.tolist()]

    @classmethod
    def of(cls, strings: Sequence[str | None]) -> Codes:
        """Encode strings; values are numbered in the order in which they first occur."""
        index: dict[str, int] = {}
        codes = [-1 if s is None else index.setdefault(s, len(index)) for s in strings]
        return cls(np.asarray(codes, np.int32), tuple(index))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PredictionBlock:
    """``n`` predictions of one version of one model, in the order in which they stood in the log.

    JSON events and Arrow batches of the same rows give the same block (a property test). Nothing
    here was checked against what is normal: that is the monitor's work.
    """

    model: str
    version: str
    ids: Sequence[str]  # n; the codec makes Ids
    served_at: NDArray[np.int64]  # (n,) microseconds since 1970, UTC
    feature_names: tuple[
        str, ...
    ]  # F, in the schema's order; unknown extra columns are dropped and counted
    features: NDArray[
        np.float32
    ]  # (n, F) row-major; NaN = missing or of a wrong type; categories: index in `values`
    prediction: Codes | NDArray[np.float64]  # (n,) class names, or numbers
    scores: NDArray[np.float32] | None  # (n, C); NaN = missing
    segments: dict[str, Codes] = field(default_factory=dict)  # key -> (n,)
    latency_ms: NDArray[np.float32] | None = None  # (n,); NaN = unknown
    sample_rate: NDArray[np.float32] | None = None  # (n,); None = all 1
    failed: Codes | None = None  # (n,) of failures.FAILURES; None = no row failed
    prediction_interval: NDArray[np.float64] | None = None  # (n, 2) low, high; NaN = not given
    wrong_type: dict[str, int] = field(default_factory=dict)
    """Values of a wrong type, infinite or beyond float32, per feature (NaN in ``features``)."""
    invalid: dict[str, int] = field(default_factory=dict)
    """What was wrong outside the features, per field: rows of a batch that were left out (``id``,
    ``served_at``, ``prediction``), values taken as missing (``scores``, ``latency_ms``,
    ``segment``, ``sample_rate``, ``prediction_interval``), and ``failed`` taken as an error."""
    unseen: dict[str, dict[str, int]] = field(default_factory=dict)
    """Category values outside the schema per feature (they are -1 in ``features``), at most 20
    names each."""
    unknown_features: dict[str, int] = field(default_factory=dict)
    """Rows that carried a feature which the schema does not know, per name, at most 50 names."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def flawless(self) -> bool:
        """Whether nothing was wrong in any of its rows."""
        return not (self.wrong_type or self.invalid or self.unseen or self.unknown_features)


def bare(
    model: str,
    version: str,
    ids: Sequence[str],
    served_at: NDArray[np.int64],
    prediction: Codes | NDArray[np.float64],
) -> PredictionBlock:
    """Rows of a model that nobody registered: what its columns mean is unknown, so none is read."""
    return PredictionBlock(
        model=model,
        version=version,
        ids=ids,
        served_at=served_at,
        feature_names=(),
        features=np.empty((len(ids), 0), np.float32),
        prediction=prediction,
        scores=None,
    )


def alike(a: PredictionBlock, b: PredictionBlock) -> bool:
    """Whether two blocks can stand in one: of one model version, with the same columns, and nothing
    wrong in either (what was wrong is told per block).
    """
    return (
        a.model == b.model
        and a.version == b.version
        and a.feature_names == b.feature_names
        and _form(a) == _form(b)
        and a.flawless
        and b.flawless
    )


def joined(blocks: Sequence[PredictionBlock]) -> PredictionBlock:
    """Blocks that are ``alike`` as one, rows in their order: one step for many small batches."""
    if len(blocks) == 1:
        return blocks[0]
    first = blocks[0]
    predictions = [b.prediction for b in blocks]
    return PredictionBlock(
        model=first.model,
        version=first.version,
        ids=Ids.joined([b.ids for b in blocks]),
        served_at=np.concatenate([b.served_at for b in blocks]),
        feature_names=first.feature_names,
        features=np.concatenate([b.features for b in blocks]),
        prediction=np.concatenate([p for p in predictions if not isinstance(p, Codes)])
        if not isinstance(first.prediction, Codes)
        else _codes([p for p in predictions if isinstance(p, Codes)]),
        scores=_rows([b.scores for b in blocks]),
        segments={key: _codes([b.segments[key] for b in blocks]) for key in first.segments},
        latency_ms=_rows([b.latency_ms for b in blocks]),
        sample_rate=_rows([b.sample_rate for b in blocks]),
        failed=None if first.failed is None else _codes([b.failed for b in blocks if b.failed]),
        prediction_interval=_rows([b.prediction_interval for b in blocks]),
    )


def some_rows(block: PredictionBlock, keep: NDArray[np.bool_]) -> PredictionBlock:
    """The rows of a block that are kept. What was wrong is told of the whole block still."""
    p = block.prediction

    def part(values: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if values is None else values[keep]

    return replace(
        block,
        ids=Ids.of([block.ids[i] for i in np.flatnonzero(keep).tolist()]),
        served_at=block.served_at[keep],
        features=block.features[keep],
        prediction=_kept(p, keep) if isinstance(p, Codes) else p[keep],
        scores=part(block.scores),
        segments={k: _kept(c, keep) for k, c in block.segments.items()},
        latency_ms=part(block.latency_ms),
        sample_rate=part(block.sample_rate),
        failed=None if block.failed is None else _kept(block.failed, keep),
        prediction_interval=part(block.prediction_interval),
    )


def _form(block: PredictionBlock) -> tuple[Any, ...]:
    """What has to be the same in two blocks, besides names."""
    return (
        isinstance(block.prediction, Codes),
        None if block.scores is None else block.scores.shape[1],
        tuple(block.segments),
        block.latency_ms is None,
        block.sample_rate is None,
        block.failed is None,
        block.prediction_interval is None,
    )


def _kept(column: Codes, keep: NDArray[np.bool_]) -> Codes:
    return Codes(column.codes[keep], column.values)


def _rows(parts: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    given = [p for p in parts if p is not None]
    return np.concatenate(given) if given else None


def _codes(parts: Sequence[Codes]) -> Codes:
    """Columns of strings as one; values are numbered as they come, the first column's first."""
    values = parts[0].values
    if any(p.values != values for p in parts):
        index: dict[str, int] = {}
        tables = [
            np.array([*(index.setdefault(v, len(index)) for v in p.values), -1], np.int32)
            for p in parts
        ]  # code -1 = missing = the last entry
        codes = [table[p.codes] for table, p in zip(tables, parts, strict=True)]
        return Codes(np.concatenate(codes), tuple(index))
    return Codes(np.concatenate([p.codes for p in parts]), values)
