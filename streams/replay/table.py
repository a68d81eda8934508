"""Which columns of two files mean what: learned from the reference before the stream is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from redistill import sentinels
from redistill.rowcells import Kind
from redistill.rowfiles import BATCH_ROWS, Batch, RowFile
from redistill.rownames import Names, nearly
from redistill.rowvalues import is_number, joined, numbers, texts
from redistill.streams.errors import FileError
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.monitor.reference import expected_error
from redistill.streams.replay.blocks import ColumnLayout, block_of, slices_in
from redistill.streams.replay.labels import base_error, check_labels
from redistill.streams.replay.options import ReplayOptions
from redistill.streams.replay.rows import MAX_VALUES, answers, wrong_rows
from redistill.streams.wire.block import Feature, PredictionBlock, Schema

__all__ = ["Table"]

REFERENCE_ROWS = 200_000
"""Rows of the reference from which the profile is learned; of a longer one, stretches are taken
evenly."""
BASE_ROWS = 10_000_000
"""Rows of the reference, the first ones, whose labels are compared: a small file can hold billions.
"""
FEW_CLASSES = 1_000
"""Predictions with more different values than this are numbers, not classes."""
OFTEN = 20
"""Rows of the reference in which a value must be to be told apart, where there are too many values:
the most frequent of rare ones are so by luck, and all of them together would be seen less later."""

_PANDAS_INDEX = re.compile(r"__index_level_\d+__|Unnamed: 0|")


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What was learned from the reference before the first row of the stream is read."""

    layout: ColumnLayout
    kinds: dict[str, Kind]
    """How the stream's columns are read."""
    reference: PredictionBlock
    base: BaseError | None
    base_note: str
    expected: ExpectedError | None
    """What errors to expect of which rows; ``None``: slices have no tests."""
    notes: tuple[str, ...]

    @classmethod
    def learn(cls, reference: RowFile, stream: RowFile, options: ReplayOptions) -> Table:
        """Read the reference, and see whether the stream has what is needed.

        Raises
        ------
        FileError
            If columns are missing in the stream, or the reference has no rows.
        RowFileError
            If one of them cannot be read.
        """
        _require(stream, [options.label], "--label")
        _require(stream, [options.prediction], "--prediction")
        _require(stream, options.scores, "--scores", numeric=True)
        _require(stream, options.slices, "--slices")
        if options.time is not None:
            _require(stream, [options.time], "--time")
        if not reference.columns:
            raise FileError(f"{reference.name} has no columns")
        reference.kinds(reference.columns)  # all in one pass, where only reading tells
        label = options.reference_label or options.label
        prediction = options.reference_prediction or options.prediction
        for column, option in ((label, "label"), (prediction, "prediction")):
            given = getattr(options, f"reference_{option}") is not None
            if given or column in reference.columns:
                _require(reference, [column], f"--{'reference-' if given else ''}{option}")
        scores = [s for s in options.scores if s in reference.columns]
        _require(reference, scores, "--scores", numeric=True)
        special = {
            options.label,
            options.prediction,
            label,
            prediction,
            *options.scores,
            *([options.time] if options.time else []),
        }
        notes: list[str] = []
        features = _features(reference, stream, special, notes)
        own: dict[str, Kind] = {**features, **dict.fromkeys(scores, "number")}
        answered = [n for n in (label, prediction) if n in reference.columns]
        own |= _answer_kinds(reference, answered, Names(options.classes))
        sample, whole = _read(reference, own, answered)
        if not len(sample):
            raise FileError(f"{reference.name} has no rows")
        numeric = _is_numeric(sample, prediction, options)
        names = Names(options.classes)
        if not names.names and not numeric and prediction in sample.columns:
            names = Names(sorted(answers(sample[prediction], names).values))
        if len(options.scores) == 1 and not names.names and not numeric:
            raise FileError(
                f"--scores {options.scores[0]}: whose score is it? Name the classes with --classes;"
                " the only column of scores of two classes is the second's probability"
            )
        schema = Schema(
            features=tuple(_feature(n, kind, sample[n], notes) for n, kind in features.items()),
            classes=names.names,
            slices=tuple(options.slices),
        )
        layout = ColumnLayout(schema, names, numeric)
        kinds = _stream_kinds(stream, features, layout, options)
        base, base_note = base_error(reference.name, whole, label, prediction, names)
        notes += [gap for file in (reference, stream) for gap in file.gaps(kinds)]
        notes += check_labels(stream, kinds, whole, options, names)
        if options.scores and not set(options.scores) <= set(reference.columns):
            notes.append("the reference has no scores: their distribution is not compared")
        counted = [n for n, kind in features.items() if kind == "number"]
        notes += sentinels.said(counted, (numbers(sample[n])[0] for n in counted))
        block, _ = block_of(sample, layout, prediction, options)
        expected = None
        if base is not None:
            expected = _expected(sample, block, layout, options, (label, prediction))
        return cls(layout, kinds, block, base, base_note, expected, tuple(notes))


def _expected(
    sample: Batch,
    block: PredictionBlock,
    layout: ColumnLayout,
    options: ReplayOptions,
    answered: tuple[str, str],
) -> ExpectedError | None:
    """What errors to expect, from the rows of the reference that the profile is learned from."""
    label, prediction = answered
    errors, known = wrong_rows(sample[label], sample[prediction], layout.names)
    slices = slices_in(sample, block, layout.schema, options)
    return expected_error(block, slices, errors, known, ordered=True)


def _require(file: RowFile, columns: Sequence[str], option: str, *, numeric: bool = False) -> None:
    """Check that columns are there, and hold values and not lists or structures of them; or
    numbers only.

    Raises
    ------
    FileError
        Naming the missing ones, those that are there, and the option to mend it with.
    """
    missing = [c for c in columns if c not in file.columns]
    if missing:
        there = ", ".join(file.columns[:40]) + (" ..." if len(file.columns) > 40 else "")
        raise FileError(
            f"{file.name} has no column {', '.join(map(repr, missing))} (option {option});"
            f" its columns are: {there or 'none'}{nearly(missing, file.columns)}"
        )
    kinds = file.kinds(columns) if numeric else {}
    for column in columns:
        expected = "one value per row was" if not file.is_single(column) else ""
        if numeric and kinds[column] != "number":
            expected = expected or "numbers were"
        if expected:
            raise FileError(
                f"column {column!r} of {file.name} (option {option}) is {file.type_of(column)}:"
                f" {expected} expected"
            )


def _features(
    reference: RowFile, stream: RowFile, special: set[str], notes: list[str]
) -> dict[str, Kind]:
    """Feature columns, and what they hold: those of the reference that can be counted."""
    found: dict[str, Kind] = {}
    there, keys = set(stream.columns), reference.keys
    for name, kind in reference.kinds(n for n in reference.columns if n not in special).items():
        if _PANDAS_INDEX.fullmatch(name):
            notes.append(f"column {name!r} (an index of pandas) is not watched")
        elif name in keys and (kind != "text" or name not in there):
            notes.append(f"column {name!r} (names of folders) is not watched")
        elif reference.is_blank(name) and name in there and stream.kinds([name])[name] != "number":
            notes.append(f"column {name!r} has no value in the reference and is not watched")
        elif kind in ("number", "text"):
            found[name] = kind
            if stray := reference.strays(name):
                notes.append(
                    f"column {name!r} of the reference is one of numbers; {stray} are none"
                )
        else:
            what = "times" if kind == "time" else reference.type_of(name)
            notes.append(f"column {name!r} ({what}) is not watched")
    known = {*reference.columns, *special}
    gone = [n for n in found if n not in there]
    extra = [n for n in stream.columns if n not in known]
    if gone:
        notes.append(
            f"the stream has no column {', '.join(map(repr, gone[:10]))}: all missing"
            f"{nearly(gone, extra)}"
        )
    if extra:
        notes.append(
            f"columns not in the reference are ignored: {', '.join(map(repr, extra[:10]))}"
        )
    return found


def _answer_kinds(file: RowFile, columns: Iterable[str], names: Names) -> dict[str, Kind]:
    """How labels and predictions are read: words for missing values count where classes are
    numbers, and where none is known, in columns of numbers."""
    if names.names:
        return dict.fromkeys(columns, "code" if names.numeric else "text")
    return {c: "number" if kind == "number" else "text" for c, kind in file.kinds(columns).items()}


def _stream_kinds(
    stream: RowFile, features: Mapping[str, Kind], layout: ColumnLayout, options: ReplayOptions
) -> dict[str, Kind]:
    there = set(stream.columns)
    kinds: dict[str, Kind] = dict.fromkeys(options.slices, "text")
    kinds |= {n: kind for n, kind in features.items() if n in there}
    columns = (options.label, options.prediction)
    if layout.numeric:
        kinds |= dict.fromkeys(columns, "number")
    else:
        kinds |= _answer_kinds(stream, columns, layout.names)
    kinds |= dict.fromkeys(options.scores, "number")
    if options.time is not None:
        kinds[options.time] = "time"
    return kinds


def _read(
    reference: RowFile, kinds: Mapping[str, Kind], answered: Sequence[str]
) -> tuple[Batch, dict[str, pa.Array]]:
    """At most ``REFERENCE_ROWS`` rows of all columns, labels and predictions of ``BASE_ROWS``."""
    every = 1 if reference.rows is None else max(1, -(-reference.rows // REFERENCE_ROWS))
    taken: list[Batch] = []
    whole: list[Batch] = []
    rows = 0
    for i, batch in enumerate(reference.batches(kinds)):
        if batch.first < BASE_ROWS:
            whole.append(batch)
        if i % every == 0 and rows < REFERENCE_ROWS + BATCH_ROWS:
            taken.append(batch)
            rows += len(batch)
    sampled = {
        name: joined([b[name] for b in taken], as_numbers=kind == "number" and name not in answered)
        for name, kind in kinds.items()
        if taken
    }
    answers_ = {n: joined([b[n] for b in whole], as_numbers=False) for n in answered if whole}
    return Batch(sampled, rows, 0, ()), answers_


def _feature(name: str, kind: Kind, column: pa.Array, notes: list[str]) -> Feature:
    if kind != "text":
        return Feature(name=name, kind="float")
    codes = texts(column)
    counts = np.bincount(codes.codes[codes.codes >= 0], minlength=len(codes.values))
    most = np.sort(np.argsort(-counts, kind="stable")[:MAX_VALUES])
    if len(counts) > MAX_VALUES:
        most = most[counts[most] >= OFTEN]
        notes.append(
            f"column {name!r} has {len(counts):,} different values, as ids have:"
            + (f" the {len(most):,} frequent ones" if len(most) else " none of them")
            + " can be told apart"
        )
    return Feature(name=name, kind="category", values=tuple(codes.values[i] for i in most))


def _is_numeric(sample: Batch, prediction: str, options: ReplayOptions) -> bool:
    """Whether predictions are numbers: many different ones, or fractions."""
    if options.classes or prediction not in sample.columns:
        return False
    column = sample[prediction]
    if not is_number(column.type):
        return False
    values = numbers(column)[0]
    return len(np.unique(values[~np.isnan(values)])) > FEW_CLASSES
