"""Sampling: which rows are kept for labels to join (join rows) and for training and gates (feature
rows).

A row is kept iff its id's hash is below ``2^-exponent * 2^64``: the same rows whoever decides, a
uniform sample, and nested, so that every feature row is a join row too. Rates only fall here, when
a cap is exceeded; the join step, which sees all partitions, raises them again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.slice_columns import slice_columns, slices_of
from redistill.streams.store.batch import FeatureBlob, FlushBatch, JoinRows, Partition
from redistill.streams.wire.block import Codes, PredictionBlock
from redistill.textform import number_text
from redistill.times import to_seconds

__all__ = ["Bucket", "Sampler", "kept"]

JOIN_BURST_SECONDS = 10.0
"""Seconds of the join cap that may come at once."""
FEATURE_BURST_SECONDS = 60.0
"""Seconds of the feature cap that may come at once: a young model's first rows are worth keeping.
"""
MAX_EXPONENT = 40


def kept(hashes: NDArray[np.uint64], exponent: int) -> NDArray[np.bool_]:
    """Which hashes are below ``2^-exponent`` of their range.

    Examples
    --------
    >>> kept(np.array([0, 2**62, 2**63], np.uint64), 1).tolist()
    [True, True, False]
    """
    if exponent <= 0:
        return np.ones(len(hashes), np.bool_)
    inside: NDArray[np.bool_] = (hashes >> np.uint64(64 - min(exponent, MAX_EXPONENT))) == 0
    return inside


@dataclass(slots=True)
class Bucket:
    """A token bucket: ``rate`` rows a second, ``burst`` seconds of them at once.

    A second is one of the wall clock or one of the rows' own times, whichever ran further: a
    backlog that was served slowly is not thinned for being read fast.
    """

    burst: float
    tokens: float = -1.0
    at: float = 0.0
    served_at: float = 0.0

    def refill(self, rate: float, now: float, served_at: float) -> float:
        """Tokens there are now; both times in seconds.

        Examples
        --------
        >>> bucket = Bucket(burst=10, tokens=0, at=100, served_at=50)
        >>> bucket.refill(2, now=101, served_at=53)
        6
        """
        passed = max(0.0, now - self.at, served_at - self.served_at)
        full = rate * self.burst
        self.tokens = full if self.tokens < 0 else min(full, self.tokens + rate * passed)
        self.at, self.served_at = now, max(self.served_at, served_at)
        return self.tokens


@dataclass(slots=True, eq=False)
class _Features:
    """Feature rows of one version since the last flush."""

    ids: list[str] = field(default_factory=list)
    hashes: list[NDArray[np.uint64]] = field(default_factory=list)
    served_at: list[NDArray[np.int64]] = field(default_factory=list)
    prediction: list[str] = field(default_factory=list)
    score: list[NDArray[np.float32]] = field(default_factory=list)
    features: list[NDArray[np.float32]] = field(default_factory=list)


class Sampler:
    """Collects join and feature rows between two flushes.

    Parameters
    ----------
    total_cap
        Join rows a second that the database takes, all models together; ``None``: no such cap.
    """

    def __init__(self, *, total_cap: float | None) -> None:
        self._total_cap = total_cap
        self.join_exponents: dict[str, int] = {}
        """In force, per model; as read from SQL or lowered here."""
        self.feature_exponents: dict[str, int] = {}
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._joins: dict[str, JoinRows] = {}
        self._features: dict[tuple[str, str, tuple[str, ...]], _Features] = {}

    def add(
        self,
        block: PredictionBlock,
        hashes: NDArray[np.uint64],
        row_windows: NDArray[np.int64],
        *,
        config: WatchConfig,
        partition: Partition,
    ) -> None:
        """Take what is to be kept of a block."""
        e = self.join_exponents.get(block.model, 0)
        rows = np.flatnonzero(kept(hashes, e))
        if not len(rows):
            return
        prediction = _texts(block.prediction, rows)
        score = _best_score(block, rows)
        signed = hashes[rows].view(np.int64).tolist()
        joins = self._joins.setdefault(block.model, JoinRows())
        joins.id_hash += signed
        joins.version += [block.version] * len(rows)
        joins.prediction += prediction
        joins.score += [None if np.isnan(s) else s for s in score.tolist()]
        joins.slices += _slices(block, rows, config)
        joins.served_at += block.served_at[rows].tolist()
        joins.topic_id += [partition.topic_id] * len(rows)
        joins.partition += [partition.number] * len(rows)
        joins.window += row_windows[rows].tolist()
        joins.failed += _failed(block, rows)
        low, high = _interval(block, rows)
        joins.predicted_low += low
        joins.predicted_high += high
        self._add_features(block, hashes, rows, prediction, score, config=config, exponent=e)

    def _add_features(
        self,
        block: PredictionBlock,
        hashes: NDArray[np.uint64],
        rows: NDArray[np.intp],
        prediction: list[str],
        score: NDArray[np.float32],
        *,
        config: WatchConfig,
        exponent: int,
    ) -> None:
        e = max(exponent, self.feature_exponents.get(block.model, 0))
        inside = kept(hashes[rows], e)
        if block.failed is not None:  # nothing can be learned from them, and no label asked for
            inside &= block.failed.codes[rows] < 0
        if not inside.any():
            return
        allowed = config.store_features
        columns = [j for j, n in enumerate(block.feature_names) if allowed is None or n in allowed]
        names = tuple(block.feature_names[j] for j in columns)
        if not names:
            return
        f = self._features.setdefault((block.model, block.version, names), _Features())
        chosen = rows[inside]
        f.ids += [block.ids[i] for i in chosen.tolist()]
        f.hashes.append(hashes[chosen])
        f.served_at.append(block.served_at[chosen])
        f.prediction += [p for p, k in zip(prediction, inside.tolist(), strict=True) if k]
        f.score.append(score[inside])
        f.features.append(block.features[chosen][:, columns])

    def pending(self) -> int:
        """Join rows collected so far."""
        return sum(map(len, self._joins.values()))

    def close(self, batch: FlushBatch, configs: dict[str, WatchConfig], *, now: float) -> None:
        """Move what was collected into a batch, thinned until it obeys the caps.

        Parameters
        ----------
        batch
            Gets the rows, and the exponents that had to grow.
        configs
            Of the models that are watched; rows of others were unregistered meanwhile and are
            dropped.
        now
            Seconds since 1970.
        """
        for model, rows in self._joins.items():
            if model not in configs:
                continue
            cap = configs[model].join_rows_per_second
            if self._total_cap is not None:
                cap = min(cap, self._total_cap / len(self._joins))
            bucket = self._bucket("join", model, JOIN_BURST_SECONDS)
            limit = max(1, int(bucket.refill(cap, now, to_seconds(max(rows.served_at, default=0)))))
            hashes = np.array(rows.id_hash, np.int64).view(np.uint64)
            current = self.join_exponents.get(model, 0)
            e = _lowered(hashes, current, limit)
            if e > current:
                rows.keep(kept(hashes, e).tolist())
                self.join_exponents[model] = batch.join_exponents[model] = e
            bucket.tokens -= len(rows)
            batch.joins[model] = rows
        totals: dict[str, list[NDArray[np.uint64]]] = {}
        newest: dict[str, int] = {}
        for (model, _, _), f in self._features.items():
            newest[model] = max(newest.get(model, 0), *(int(a.max()) for a in f.served_at))
            totals.setdefault(model, []).extend(f.hashes)
        for model, parts in totals.items():
            if model not in configs:
                continue
            cap = configs[model].feature_rows_per_second
            bucket = self._bucket("feature", model, FEATURE_BURST_SECONDS)
            hashes = np.concatenate(parts)
            current = self.feature_exponents.get(model, 0)
            # nested in the join rows as they are now
            least = max(current, self.join_exponents.get(model, 0))
            tokens = bucket.refill(cap, now, to_seconds(newest[model]))
            e = _lowered(hashes, least, max(1, int(tokens)))
            if e > current:
                self.feature_exponents[model] = batch.feature_exponents[model] = e
            bucket.tokens -= int(kept(hashes, e).sum())
            for (m, version, names), f in self._features.items():
                if m == model and (blob := _blob(model, version, names, f, e)) is not None:
                    batch.features.append(blob)
        self.clear()

    def clear(self) -> None:
        """Forget what was collected."""
        self._joins.clear()
        self._features.clear()

    def _bucket(self, kind: str, model: str, burst: float) -> Bucket:
        return self._buckets.setdefault((kind, model), Bucket(burst))


def _lowered(hashes: NDArray[np.uint64], exponent: int, limit: int) -> int:
    """The smallest exponent, from ``exponent`` on, that keeps at most ``limit`` of the hashes."""
    while exponent < MAX_EXPONENT and int(kept(hashes, exponent).sum()) > limit:
        exponent += 1
    return exponent


def _texts(prediction: Codes | NDArray[np.float64], rows: NDArray[np.intp]) -> list[str]:
    if isinstance(prediction, Codes):
        values = prediction.values
        return [values[c] if c >= 0 else "" for c in prediction.codes[rows].tolist()]
    return [number_text(v) for v in prediction[rows].tolist()]


def _best_score(block: PredictionBlock, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """``(n,) float32`` the largest score of each row; NaN where there is none."""
    if block.scores is None or block.scores.shape[1] == 0:
        return np.full(len(rows), np.nan, np.float32)
    best: NDArray[np.float32] = np.fmax.reduce(block.scores[rows], axis=1)
    return best


def _failed(block: PredictionBlock, rows: NDArray[np.intp]) -> list[str | None]:
    if block.failed is None:
        return [None] * len(rows)
    return Codes(block.failed.codes[rows], block.failed.values).strings()


def _interval(
    block: PredictionBlock, rows: NDArray[np.intp]
) -> tuple[list[float | None], list[float | None]]:
    """Lower and upper ends of the rows' prediction intervals."""
    if (given := block.prediction_interval) is None:
        return [None] * len(rows), [None] * len(rows)
    pairs = [(low, high) if low == low else (None, None) for low, high in given[rows].tolist()]
    return [low for low, _ in pairs], [high for _, high in pairs]


def _slices(
    block: PredictionBlock, rows: NDArray[np.intp], config: WatchConfig
) -> list[str | None]:
    """JSON of each row's slices; rows with the same slices share one string. Where none is declared
    all segments are slices, and categories beside them."""
    known = slice_columns(config.schema, config.store_features)
    if not config.schema.divisions:
        known = (*dict.fromkeys((*block.segments, *known)),)
    found = slices_of(block, config.schema, known)
    if not found:
        return [None] * len(rows)
    keys, values = list(found), [codes.values for codes in found.values()]
    columns = [codes.codes[rows].tolist() for codes in found.values()]
    made: dict[tuple[int, ...], str | None] = {}
    out: list[str | None] = []
    for row in zip(*columns, strict=True):
        if row not in made:
            named = {k: v[c] for k, v, c in zip(keys, values, row, strict=True) if 0 <= c < len(v)}
            made[row] = json.dumps(named, sort_keys=True) if named else None
        out.append(made[row])
    return out


def _blob(
    model: str, version: str, names: tuple[str, ...], f: _Features, exponent: int
) -> FeatureBlob | None:
    """Feature rows as an Arrow IPC stream; the layout is fixed in ``tables.feature_rows``."""
    hashes = np.concatenate(f.hashes)
    rows = np.flatnonzero(kept(hashes, exponent))
    if not len(rows):
        return None
    served_at = np.concatenate(f.served_at)[rows]
    features = np.ascontiguousarray(np.concatenate(f.features)[rows])
    chosen = rows.tolist()
    values = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), len(names))
    table = pa.record_batch(
        {
            "id": pa.array([f.ids[i] for i in chosen], pa.string()),
            "id_hash": pa.array(hashes[rows].view(np.int64)),
            "served_at": pa.array(served_at, pa.timestamp("us", tz="UTC")),
            "prediction": pa.array([f.prediction[i] for i in chosen], pa.string()),
            "score": pa.array(np.concatenate(f.score)[rows], pa.float32()),
            "features": values,
        }
    ).replace_schema_metadata({"features": json.dumps(names)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_batch(table)
    return FeatureBlob(
        model=model,
        version=version,
        first_served_at=int(served_at.min()),
        last_served_at=int(served_at.max()),
        rows=len(rows),
        data=sink.getvalue().to_pybytes(),
    )
