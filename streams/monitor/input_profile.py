"""Input profile: what the rows of a model version look like when nothing is wrong, one record per
column, stored as bytes."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from redistill.decodable import decodable
from redistill.streams.errors import StateError
from redistill.streams.monitor.counts import EdgeLayout
from redistill.streams.wire.block import Schema

__all__ = [
    "QUANTILES",
    "WINDOW_ROWS",
    "Bins",
    "Column",
    "Profile",
    "ReferenceVariability",
    "Role",
    "between",
]

FORMAT = 1
MAX_BYTES = 1_000_000
"""A profile is a row in SQL that every stream worker reads."""

WINDOW_ROWS = 2_000
"""Rows of a window of distances, as in ``WatchConfig.window_rows``."""
LARGEST_SHIFT = 0.11
"""Largest distance of the median of 500 independent normal rows from that of all, in interquartile
ranges, in 40 subwindows."""

Role = Literal["number", "category", "clock", "identifier"]
"""``clock``: grows from row to row in the reference, so it is expected to leave every range;
``identifier``: a category whose values hardly repeat. Neither has a distribution that could be
compared."""

_UNCOMPARED = {
    "clock": "grows (or falls) from row to row, as times and running numbers do",
    "identifier": "hardly repeats a value, as ids do",
}

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Of these the shape of a column is made, for changes of unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceVariability:
    """How far single stretches of the reference are from the whole of it: seasons and runs are not
    news.

    All are the extremes over consecutive subwindows (windows, for ``distance``) of the reference in
    its order; in a random order they show sampling noise only.
    """

    missing: float = 0.0
    """Largest share of missing values in a subwindow."""
    unseen: float = 0.0
    """Largest share of values in a subwindow that no earlier subwindow had; for categories."""
    scale_low: float = 1.0
    """Smallest and largest slope of a subwindow's quantiles against those of the whole."""
    scale_high: float = 1.0
    shift: float = 0.0
    """Largest distance of a subwindow's median from that of the whole, in interquartile ranges."""
    jump: float = 0.0
    """Largest distance of the medians of neighbouring subwindows, in interquartile ranges."""
    outside: float = 0.0
    """Largest share of a subwindow outside the central 99% of the whole."""
    constant: bool = False
    """Some subwindow had only one value."""
    distance: float = 0.0
    """95% quantile of the PSI of a window against the whole."""


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One feature, the prediction or the confidence; stored under the names given."""

    name: str
    role: Role
    edges: tuple[float, ...]
    """Strictly growing float32 values; ``below`` counts the reference values under each."""
    below: tuple[int, ...]
    coarse: tuple[int, ...]
    """Indices into ``edges`` that bound the bins of the distances; for a category, groups of its
    values instead."""
    groups: tuple[int, ...] = ()
    """Category: bin of each interval between edges; empty for numbers."""
    valid: int
    missing: int
    distinct: int
    """Different values in the reference, at most 1,000 counted."""
    top: float
    """Share of the most frequent value."""
    once: int = 0
    """Category: values that occurred once; their share estimates that of values never seen
    (Good-Turing)."""
    quantiles: tuple[float, ...] = ()
    """At ``QUANTILES``; empty where they mean nothing."""
    low: float = 0.0
    """The central 99% of the reference."""
    high: float = 0.0
    minimum: float | None = None
    """Declared bounds: they decide, and nothing learned does."""
    maximum: float | None = None
    variability: ReferenceVariability = msgspec.field(
        default_factory=ReferenceVariability, name="habits"
    )

    @property
    def bounded(self) -> bool:
        """Both bounds are declared."""
        return self.minimum is not None and self.maximum is not None


@dataclass(frozen=True, kw_only=True, eq=False)
class Profile:
    """What is normal, as learned from reference rows. Columns are the schema's features, then
    ``prediction``, then ``score``."""

    schema: Schema
    classes: tuple[str, ...]
    """Declared classes, or those that the reference's predictions had."""
    rows: int
    columns: tuple[Column, ...]
    provisional: bool = False
    """Learned from traffic; nobody vouched for it."""

    @cached_property
    def layout(self) -> EdgeLayout:
        """Edges of all columns as the counter wants them."""
        return EdgeLayout.of([np.array(c.edges, np.float32) for c in self.columns])

    @cached_property
    def digest(self) -> str:
        """Names this profile: state counted under another one cannot be added to.

        Groups of people, and columns that are no slices, have no part in what is counted: state of
        before they could be declared goes on, and so does that of before they are.
        """
        told = msgspec.msgpack.decode(_encode(self))
        del told["schema"]["groups"], told["schema"]["no_slices"]
        return hashlib.sha256(msgspec.msgpack.encode(told)).hexdigest()[:16]

    @cached_property
    def bins(self) -> Bins:
        """Bins of the distances, flat over all columns."""
        return Bins.of(self)

    @cached_property
    def number_columns(self) -> tuple[int, ...]:
        """Columns that hold numbers."""
        return tuple(j for j, c in enumerate(self.columns) if c.role == "number")

    @property
    def uncompared(self) -> tuple[str, ...]:
        """Which features have no distribution that could be compared, and why: a sentence each."""
        names = {f.name for f in self.schema.features}
        return tuple(
            f"column {c.name[:80]!r} {_UNCOMPARED[c.role]}: its distribution is not compared"
            for c in self.columns
            if c.name in names and c.role in _UNCOMPARED
        )

    @cached_property
    def usual_distances(self) -> NDArray[np.float64]:
        """PSI that the reference's own windows stay below, ``(C,)``."""
        return np.array([c.variability.distance for c in self.columns])

    @cached_property
    def inflation(self) -> NDArray[np.float64]:
        """By how much the reference's own windows are further from the whole than independent rows
        would be, ``(C,)``, at least 1."""
        n = np.array([max(1, c.valid) for c in self.columns])
        chance = (1 / n + 1 / WINDOW_ROWS) * chdtri(np.maximum(self.bins.sizes - 1, 1), 0.05)
        return np.asarray(np.maximum(self.usual_distances / chance, 1.0))

    @cached_property
    def level_inflation(self) -> NDArray[np.float64]:
        """By how much the medians of subwindows vary more than those of independent rows, as a
        ratio of variances, ``(C,)``, at least 1 and no less than ``inflation``."""
        largest = np.array([c.variability.shift for c in self.columns])
        return np.asarray(np.maximum((largest / LARGEST_SHIFT) ** 2, self.inflation))

    def to_bytes(self) -> bytes:
        """As stored in ``profiles.profile``.

        Raises
        ------
        StateError
            If it does not fit into 1 MB.
        """
        data = zlib.compress(_encode(self), 6)
        if len(data) > MAX_BYTES:
            raise StateError(
                f"the profile of {len(self.columns) - 2} features takes {len(data):,} bytes, more"
                f" than {MAX_BYTES:,}: declare fewer features or fewer category values"
            )
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> Profile:
        """Read what ``to_bytes`` wrote.

        Raises
        ------
        StateError
            If it is not a profile, or of a newer format.
        """
        try:
            raw = zlib.decompress(data)
            number = msgspec.msgpack.decode(raw, type=_Format).format
            if number > FORMAT:
                raise StateError(
                    f"a stored profile has format {number}, this program knows {FORMAT}:"
                    " upgrade redistill"
                )
            stored = msgspec.msgpack.decode(raw, type=_Stored)
        except (zlib.error, msgspec.MsgspecError) as error:
            raise StateError(f"a stored profile cannot be read: {error}") from error
        return cls(
            schema=stored.schema,
            classes=stored.classes,
            rows=stored.rows,
            columns=stored.columns,
            provisional=stored.provisional,
        )


@decodable
@dataclass(frozen=True, kw_only=True, slots=True)
class _Format:
    format: int


@decodable
@dataclass(frozen=True, kw_only=True, slots=True)
class _Stored:
    format: int
    schema: Schema
    classes: tuple[str, ...]
    rows: int
    columns: tuple[Column, ...]
    provisional: bool


def _encode(profile: Profile) -> bytes:
    return msgspec.msgpack.encode(
        _Stored(
            format=FORMAT,
            schema=profile.schema,
            classes=profile.classes,
            rows=profile.rows,
            columns=profile.columns,
            provisional=profile.provisional,
        )
    )


@dataclass(frozen=True, slots=True, eq=False)
class Bins:
    """The bins of all columns' distances in one flat array of ``B``."""

    source: NDArray[np.int64]  # (I,) interval (between edges) -> bin, flat
    starts: NDArray[np.int64]  # (C,) first bin of each column
    sizes: NDArray[np.int64]  # (C,) bins of each column
    reference: NDArray[np.float64]  # (B,) counts in the reference
    compared: NDArray[np.bool_]  # (C,) the column has a distribution to compare

    @classmethod
    def of(cls, profile: Profile) -> Bins:
        """Bins of a profile's columns."""
        source, sizes, at = [], [], 0
        for c in profile.columns:
            own = _bins_of(c)
            source.append(own + at)
            sizes.append(int(own.max()) + 1)
            at += sizes[-1]
        flat = np.concatenate(source)
        lengths = np.array(sizes, np.int64)
        valid = np.array([c.valid for c in profile.columns], np.int64)
        below = np.concatenate([np.array(c.below, np.int64) for c in profile.columns])
        intervals = between(below, valid, profile.layout.offsets)
        reference = np.bincount(flat, weights=intervals, minlength=at).astype(np.float64)
        usable = [c.role in ("number", "category") and c.valid > 0 for c in profile.columns]
        return cls(
            source=flat,
            starts=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)[:-1]]),
            sizes=lengths,
            reference=reference,
            compared=np.array(usable) & (lengths > 1),
        )


def _bins_of(column: Column) -> NDArray[np.int64]:
    """Bin of each of the ``len(edges) + 1`` intervals."""
    if column.groups:
        return np.array(column.groups, np.int64)
    marks = np.zeros(len(column.edges) + 1, np.int64)
    marks[np.array(column.coarse, np.int64) + 1] = 1
    return np.cumsum(marks)


def between(
    below: NDArray[np.int64], valid: NDArray[np.int64], offsets: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Counts of the intervals between edges from counts below edges.

    Parameters
    ----------
    below
        ``(E,)`` values below each edge, flat.
    valid
        ``(C,)`` valid values per column.
    offsets
        ``(C + 1,)`` first edge of each column.

    Returns
    -------
    numpy.ndarray
        ``(E + C,)``: column ``j`` with ``k`` edges owns ``k + 1`` entries.
    """
    c = len(valid)
    ends = offsets[1:] + np.arange(c)  # where each column's total stands
    upper = np.empty(len(below) + c, np.int64)
    mask = np.ones(len(upper), bool)
    mask[ends] = False
    upper[mask] = below
    upper[ends] = valid
    lower = np.empty_like(upper)
    lower[1:] = upper[:-1]
    lower[offsets[:-1] + np.arange(c)] = 0
    return upper - lower
