"""Which columns of two files mean what, and the stream's rows as blocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from redistill.streams.errors import FileError
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.counts import confidence
from redistill.streams.replay.labels import base_error, check_labels
from redistill.streams.replay.options import ReplayOptions
from redistill.streams.replay.rows import (
    BATCH_ROWS,
    MAX_VALUES,
    Source,
    has_text,
    indices,
    is_number,
    is_text,
    numbers,
    plain,
    texts,
    times,
    wrong_rows,
)
from redistill.streams.wire.block import Codes, Feature, PredictionBlock, Schema

REFERENCE_ROWS = 200_000
"""Rows of the reference from which the profile is learned; of a longer one, stretches are taken
evenly."""
FEW_CLASSES = 1_000
"""Predictions with more different values than this are numbers, not classes."""
OFTEN = 20
"""Rows of the reference in which a value must be to be told apart, where there are too many values:
the most frequent of rare ones are so by luck, and all of them together would be seen less later."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What was learned from the reference before the first row of the stream is read."""

    schema: Schema
    reference: PredictionBlock
    base: BaseError | None
    base_note: str
    numeric: bool
    """Predictions are numbers, not classes."""
    notes: tuple[str, ...]

    @classmethod
    def learn(cls, reference: Source, stream: Source, options: ReplayOptions) -> Table:
        """Read the reference, and see whether the stream has what is needed.

        Raises
        ------
        FileError
            If columns are missing in the stream, or the reference has no rows.
        """
        stream.require([options.label], "--label")
        stream.require([options.prediction], "--prediction")
        stream.require(options.scores, "--scores", numbers=True)
        stream.require(options.slices, "--slices")
        if options.time is not None:
            stream.require([options.time], "--time")
        if not len(reference.schema):
            raise FileError(f"{reference.name} has no columns")
        label = options.reference_label or options.label
        prediction = options.reference_prediction or options.prediction
        for column, option in ((label, "label"), (prediction, "prediction")):
            given = getattr(options, f"reference_{option}") is not None
            if given or column in reference.schema.names:
                reference.require([column], f"--{'reference-' if given else ''}{option}")
        scores = [s for s in options.scores if s in reference.schema.names]
        reference.require(scores, "--scores", numbers=True)
        special = {
            options.label,
            options.prediction,
            label,
            prediction,
            *options.scores,
            *([options.time] if options.time else []),
        }
        notes: list[str] = []
        names = _features(reference, stream, special, notes)
        wanted = [n for n in (label, prediction, *options.scores) if n in reference.schema.names]
        sampled, whole = _read(reference, [*names, *dict.fromkeys(wanted)], wanted)
        if not sampled.num_rows:
            raise FileError(f"{reference.name} has no rows")
        features = tuple(_feature(n, sampled[n]) for n in names)
        numeric = _is_numeric(sampled, prediction, options)
        classes: tuple[str, ...] = options.classes
        if not classes and not numeric and prediction in sampled.schema.names:
            classes = tuple(sorted(texts(sampled[prediction]).values))
        schema = Schema(features=features, classes=classes)
        base, base_note = base_error(reference.name, whole, label, prediction)
        notes += check_labels(stream, whole, options)
        if options.scores and not set(options.scores) <= set(reference.schema.names):
            notes.append("the reference has no scores: their distribution is not compared")
        block, _ = _block(sampled, schema, prediction, options, numeric)
        return cls(schema, block, base, base_note, numeric, tuple(notes))


def _features(reference: Source, stream: Source, special: set[str], notes: list[str]) -> list[str]:
    """Feature columns: those of the reference whose type can be counted."""
    names = []
    for field in reference.schema:
        if field.name in special:
            continue
        if _usable(field.type):
            names.append(field.name)
        else:
            notes.append(f"column {field.name!r} ({field.type}) is not watched")
    there = set(stream.schema.names)
    known = {*reference.schema.names, *special}
    gone = [n for n in names if n not in there]
    extra = [n for n in stream.schema.names if n not in known]
    if gone:
        notes.append(f"the stream has no column {', '.join(map(repr, gone[:10]))}: all missing")
    if extra:
        notes.append(
            f"columns not in the reference are ignored: {', '.join(map(repr, extra[:10]))}"
        )
    return names


def _usable(kind: pa.DataType) -> bool:
    return is_number(kind) or is_text(kind) or pa.types.is_null(kind)


def _read(reference: Source, columns: list[str], wanted: list[str]) -> tuple[pa.Table, pa.Table]:
    """At most ``REFERENCE_ROWS`` rows of all columns, and every row of label, prediction and
    scores."""
    schema = pa.schema([reference.schema.field(c) for c in columns])
    every = 1
    if reference.rows is not None:
        every = -(-reference.rows // REFERENCE_ROWS)
    taken, whole = [], []
    rows = 0
    for i, batch in enumerate(reference.batches(columns)):
        whole.append(batch.select(wanted))
        if i % every == 0 and rows < REFERENCE_ROWS + BATCH_ROWS:
            taken.append(batch)
            rows += batch.num_rows
    return (
        pa.Table.from_batches(taken, schema=schema),
        pa.Table.from_batches(whole, schema=schema.empty_table().select(wanted).schema),
    )


def _feature(name: str, column: pa.ChunkedArray) -> Feature:
    if not is_text(column.type):
        return Feature(name=name, kind="float")
    codes = texts(column)
    counts = np.bincount(codes.codes[codes.codes >= 0], minlength=len(codes.values))
    most = np.sort(np.argsort(-counts, kind="stable")[:MAX_VALUES])
    if len(counts) > MAX_VALUES:
        most = most[counts[most] >= OFTEN]
    return Feature(name=name, kind="category", values=tuple(codes.values[i] for i in most))


def _is_numeric(sampled: pa.Table, prediction: str, options: ReplayOptions) -> bool:
    """Whether predictions are numbers: many different ones, or fractions."""
    if options.classes or prediction not in sampled.schema.names:
        return False
    column = sampled[prediction]
    if not is_number(column.type):
        return False
    return bool(pc.count_distinct(column).as_py() > FEW_CLASSES)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A stretch of the stream."""

    block: PredictionBlock
    error: NDArray[np.uint8]  # (n,) 1 = wrong; 0 where not labelled
    labelled: NDArray[np.bool_]  # (n,) label and prediction are known
    predicted: NDArray[np.bool_]  # (n,) prediction is known
    confidence: NDArray[np.float32]  # (n,)
    slices: dict[str, Codes]
    wrong: dict[str, NDArray[np.bool_]]  # (n,) per feature that has values of a wrong type


def stream_blocks(
    stream: Source, table: Table, options: ReplayOptions, size: int
) -> Iterator[Rows]:
    """The stream in blocks of ``size`` rows."""
    there = set(stream.schema.names)
    names = [n for n in table.schema.names if n in there]
    special = [options.label, options.prediction, *options.scores, *options.slices]
    if options.time is not None:
        special.append(options.time)
    columns = list(dict.fromkeys([*names, *special]))
    row, last = 0, None
    for batch in stream.batches(columns):
        part = pa.Table.from_batches([batch])
        block, wrong = _block(part, table.schema, options.prediction, options, table.numeric)
        served = block.served_at
        if options.time is None:
            served = (row + np.arange(len(block))) * 1_000_000
        else:
            served = times(part[options.time], options.time)
            served = _filled(served, last, options.time)
            last = int(served[-1])
        error, known = wrong_rows(part[options.label], part[options.prediction])
        predicted = ~np.asarray(
            pc.is_null(plain(part[options.prediction]), nan_is_null=True).to_numpy(
                zero_copy_only=False
            )
        )
        whole = Rows(
            dataclasses.replace(block, served_at=served),
            error,
            known,
            predicted,
            confidence(block),
            {s: texts(part[s]) for s in options.slices},
            wrong,
        )
        for i in range(0, len(block), size):
            yield _cut(whole, i, min(len(block), i + size))
        row += len(block)


def _filled(served: NDArray[np.int64], last: int | None, column: str) -> NDArray[np.int64]:
    """Rows without a time have that of the row before; the first ones of the file, of the row after."""
    known = served >= 0
    if last is None:
        if not known.any():
            raise FileError(
                f"column {column!r} (option --time) has no time in the first {len(served):,} rows"
            )
        last = int(served[known.argmax()])
    before = np.maximum.accumulate(np.where(known, np.arange(len(served)), -1))
    return np.where(before >= 0, served[before], last)


def _block(
    part: pa.Table, schema: Schema, prediction: str, options: ReplayOptions, numeric: bool
) -> tuple[PredictionBlock, dict[str, NDArray[np.bool_]]]:
    """Rows as a block, and where features have values of a wrong type."""
    n = part.num_rows
    features = np.full((n, len(schema.features)), np.nan, np.float32)
    wrong: dict[str, NDArray[np.bool_]] = {}
    unseen: dict[str, dict[str, int]] = {}
    there = set(part.schema.names)
    for j, f in enumerate(schema.features):
        if f.name not in there:
            continue
        if not has_text(part[f.name].type):  # a list where a value was
            wrong[f.name] = ~np.asarray(part[f.name].is_null())
        elif f.kind == "category":
            codes = texts(part[f.name])
            features[:, j] = indices(codes, f)
            strange = set(codes.values) - set(f.values)
            if strange:
                unseen[f.name] = dict.fromkeys(sorted(strange)[:20], 0)
        else:
            with np.errstate(over="ignore"):
                values, bad = numbers(part[f.name])
                features[:, j] = values
            if bad is not None:
                wrong[f.name] = bad
    scores = None
    if options.scores and set(options.scores) <= there:
        with np.errstate(over="ignore"):
            scores = np.stack([numbers(part[s])[0] for s in options.scores], 1).astype(np.float32)
    predicted: Codes | NDArray[np.float64]
    if prediction not in there:
        predicted = Codes(np.full(n, -1, np.int32), ())
    elif numeric:
        predicted = numbers(part[prediction])[0]
    else:
        predicted = texts(part[prediction])
    block = PredictionBlock(
        model=options.model,
        version=options.version,
        ids=[""] * n,
        served_at=np.zeros(n, np.int64),
        feature_names=schema.names,
        features=features,
        prediction=predicted,
        scores=scores,
        unseen=unseen,
    )
    return block, wrong


def _cut(rows: Rows, start: int, end: int) -> Rows:
    """Rows ``start:end``."""
    block, own = rows.block, slice(start, end)
    p = block.prediction
    wrong = {name: mask[own] for name, mask in rows.wrong.items()}
    return Rows(
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
