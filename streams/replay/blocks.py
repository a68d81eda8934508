"""Rows of a file as blocks: what the monitor counts, with labels compared and times in order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redistill.rowcells import Kind
from redistill.rowfiles import Batch, RowFile
from redistill.rownames import Names
from redistill.rowtimes import times
from redistill.rowvalues import float32, is_single, numbers, texts
from redistill.streams.errors import FileError
from redistill.streams.monitor.counts import confidence
from redistill.streams.monitor.slice_columns import slice_columns, slices_of
from redistill.streams.replay.options import ReplayOptions
from redistill.streams.replay.rows import answers, codes_of, indices, wrong_rows
from redistill.streams.wire.block import Codes, PredictionBlock, Schema
from redistill.streams.wire.columns import of_both_classes
from redistill.textform import category_index
from redistill.times import SECOND

__all__ = ["ColumnLayout", "ReplayRows", "block_of", "slices_in", "stream_blocks"]


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """What the columns of stream and reference mean."""

    schema: Schema
    names: Names
    """Classes that are known; none where predictions are numbers, or nobody said any."""
    numeric: bool
    """Predictions are numbers, not classes."""


@dataclass(frozen=True, slots=True, eq=False)
class ReplayRows:
    """A stretch of the stream."""

    block: PredictionBlock
    error: NDArray[np.uint8]  # (n,) 1 = wrong; 0 where not labelled
    labelled: NDArray[np.bool_]  # (n,) label and prediction are known
    predicted: NDArray[np.bool_]  # (n,) prediction is known
    confidence: NDArray[np.float32]  # (n,)
    slices: dict[str, Codes]
    """By the columns that were asked for, and by categories."""
    wrong: dict[str, NDArray[np.bool_]]  # (n,) per feature that has values of a wrong type


def stream_blocks(
    stream: RowFile,
    kinds: Mapping[str, Kind],
    layout: ColumnLayout,
    options: ReplayOptions,
    size: int,
) -> Iterator[ReplayRows]:
    """The stream in blocks of ``size`` rows.

    Parameters
    ----------
    kinds
        Of the columns that are read.
    """
    last = None
    for batch in stream.batches(kinds):
        block, wrong = block_of(batch, layout, options.prediction, options)
        if options.time is None:
            served = (batch.first + np.arange(len(batch))) * SECOND
        else:
            served = _filled(_served(stream, batch, options.time), last, options.time)
            last = int(served[-1])
        error, known = wrong_rows(batch[options.label], batch[options.prediction], layout.names)
        prediction = block.prediction
        whole = ReplayRows(
            dataclasses.replace(block, served_at=served),
            error,
            known,
            prediction.codes >= 0 if isinstance(prediction, Codes) else ~np.isnan(prediction),
            confidence(block),
            slices_in(batch, block, layout.schema, options),
            wrong,
        )
        for i in range(0, len(block), size):
            yield _cut(whole, i, min(len(block), i + size))


def slices_in(
    batch: Batch, block: PredictionBlock, schema: Schema, options: ReplayOptions
) -> dict[str, Codes]:
    """Slices of rows: by the columns that were asked for, and by categories of 2 to 50 values."""
    asked = {s: codes_of(texts(batch[s])) for s in options.slices if s in batch.columns}
    others = [name for name in slice_columns(schema) if name not in options.slices]
    return {**asked, **slices_of(block, schema, others)}


def _served(stream: RowFile, batch: Batch, column: str) -> NDArray[np.int64]:
    """Serving times; -1 where missing or before 1970."""
    found = times(batch[column])
    if found.refused:
        row, why = next(iter(sorted(found.refused.items())))
        raise FileError(
            f"column {column!r} (option --time) holds {why} ({batch.where(row)} of {stream.name})"
        )
    return np.where(found.known & (found.us >= 0), found.us, -1)


def _filled(served: NDArray[np.int64], last: int | None, column: str) -> NDArray[np.int64]:
    """Rows without a time have that of the row before; the first ones of the file, of the row
    after."""
    known = served >= 0
    if last is None:
        if not known.any():
            raise FileError(
                f"column {column!r} (option --time) has no time, from 1970 on, in the first"
                f" {len(served):,} rows"
            )
        last = int(served[known.argmax()])
    before = np.maximum.accumulate(np.where(known, np.arange(len(served)), -1))
    return np.where(before >= 0, served[before], last)


def block_of(
    batch: Batch, layout: ColumnLayout, prediction: str, options: ReplayOptions
) -> tuple[PredictionBlock, dict[str, NDArray[np.bool_]]]:
    """Rows as a block, and where features have values of a wrong type."""
    n = len(batch)
    features = np.full((n, len(layout.schema.features)), np.nan, np.float32)
    wrong: dict[str, NDArray[np.bool_]] = {}
    unseen: dict[str, dict[str, int]] = {}
    there = batch.columns.keys()
    for j, f in enumerate(layout.schema.features):
        if f.name not in there:
            continue
        column = batch[f.name]
        bad: list[NDArray[np.bool_] | None]
        if not is_single(column.type):  # a list where a value was
            bad = [~np.asarray(column.is_null())]
        elif f.kind == "category":
            found = texts(column)
            features[:, j] = indices(codes_of(found), f)
            bad = [found.wrong()]
            if strange := set(found.values) - category_index(f.values).keys():
                unseen[f.name] = dict.fromkeys(sorted(strange)[:20], 0)
        else:
            values, odd = numbers(column)
            features[:, j], infinite = float32(values)
            bad = [odd, infinite]
        if masks := [mask for mask in bad if mask is not None]:
            wrong[f.name] = np.logical_or.reduce(masks)
    scores = None
    if options.scores and set(options.scores) <= there:
        scores = np.stack([float32(numbers(batch[s])[0])[0] for s in options.scores], 1)
        if len(options.scores) == 1 and len(layout.schema.classes) == 2:
            scores = _of_both_classes(scores, options.scores[0], batch.first)
    predicted: Codes | NDArray[np.float64]
    if prediction not in there:
        predicted = Codes(np.full(n, -1, np.int32), ())
    elif layout.numeric:
        predicted = numbers(batch[prediction])[0]
        predicted = np.where(np.isfinite(predicted), predicted, np.nan)
    else:
        predicted = codes_of(answers(batch[prediction], layout.names))
    block = PredictionBlock(
        model=options.model,
        version=options.version,
        ids=[""] * n,
        served_at=np.zeros(n, np.int64),
        feature_names=layout.schema.names,
        features=features,
        prediction=predicted,
        scores=scores,
        unseen=unseen,
    )
    return block, wrong


def _of_both_classes(scores: NDArray[np.float32], column: str, first: int) -> NDArray[np.float32]:
    """One column of scores of two classes as one per class.

    Raises
    ------
    FileError
        It holds what is no probability.
    """
    outside = np.flatnonzero((scores < 0) | (scores > 1))
    if len(outside):
        raise FileError(
            f"column {column!r} (option --scores) holds {scores[outside[0], 0]:g} in row"
            f" {first + int(outside[0]) + 1:,}: the only column of scores of two classes is the"
            " second's probability, 0 to 1; give a column per class otherwise"
        )
    return of_both_classes(scores, {}).astype(np.float32)


def _cut(rows: ReplayRows, start: int, end: int) -> ReplayRows:
    """Rows ``start:end``."""
    block, own = rows.block, slice(start, end)
    p = block.prediction
    wrong = {name: mask[own] for name, mask in rows.wrong.items()}
    return ReplayRows(
        dataclasses.replace(
            block,
            ids=block.ids[own],
            served_at=block.served_at[own],
            features=block.features[own],
            prediction=Codes(p.codes[own], p.values) if isinstance(p, Codes) else p[own],
            scores=None if block.scores is None else block.scores[own],
            wrong_type={name: int(mask.sum()) for name, mask in wrong.items() if mask.any()},
        ),
        rows.error[own],
        rows.labelled[own],
        rows.predicted[own],
        rows.confidence[own],
        {k: Codes(c.codes[own], c.values) for k, c in rows.slices.items()},
        wrong,
    )
