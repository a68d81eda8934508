"""Whether labels and predictions of two files are about the same thing, and how often they differ
in the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from redistill.rowcells import Kind
from redistill.rowfiles import BATCH_ROWS, RowFile
from redistill.rownames import Names
from redistill.rowvalues import is_text, texts
from redistill.streams.errors import FileError
from redistill.streams.monitor.accuracy import SMALLEST_BASE
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.replay.options import ReplayOptions
from redistill.streams.replay.rows import answers, is_null_word, wrong_rows

__all__ = ["base_error", "check_labels"]

HOPELESS = 0.95
"""Error of a reference above which no harm can be found: the test's null hypothesis ends here."""
STRANGE_SHARE = 0.01
"""Share of labels that are never predicted from which on they are worth a note."""
_SAME = "accuracy is the share of rows in which both are equal, so both must name the same classes"


def base_error(
    name: str, whole: Mapping[str, pa.Array], label: str, prediction: str, names: Names
) -> tuple[BaseError | None, str]:
    """Base error from the reference's labels and predictions, in the order of the file; and a note.

    Raises
    ------
    FileError
        If they hardly ever agree.
    """
    missing = [c for c in (label, prediction) if c not in whole]
    later = (
        "the base error is not known; the first 1,000 labels of the stream make a provisional one,"
        " and what is found before that does not say whether it is harmful"
    )
    if missing:
        return None, f"{name} has no column {', '.join(map(repr, missing))}: {later}"
    errors, known = wrong_rows(whole[label], whole[prediction], names)
    n = int(known.sum())
    if n < SMALLEST_BASE:
        return None, f"{name} has {n} rows with label and prediction, too few: {later}"
    base = BaseError.from_errors(errors[known])
    if base.rate > HOPELESS:
        own, other = (answers(whole[c], names) for c in (label, prediction))
        raise FileError(
            f"labels ({_some(own.values)}) and predictions ({_some(other.values)}) of {name} differ"
            f" in {base.rate:.1%} of the rows: {_SAME}"
        )
    if base.rate == 0:
        return base, (
            f"labels and predictions of {name} agree in every row: if these are not what the model"
            " said of rows that it did not learn from, its usual errors will look like harm"
        )
    if base.n < 1_000:
        return base, (
            f"{name} has only {base.n} labelled rows: the error counts as {base.upper:.1%} at most"
            f" instead of {base.rate:.1%}, and small drops are found late"
        )
    return base, ""


def check_labels(
    stream: RowFile,
    kinds: Mapping[str, Kind],
    reference: Mapping[str, pa.Array],
    options: ReplayOptions,
    names: Names,
) -> list[str]:
    """Notes on labels at the beginning of the stream that no prediction can equal.

    Raises
    ------
    FileError
        If none of them is ever predicted, not in the reference either: these are different things.
    """
    columns = (options.label, options.prediction)
    first = next(stream.batches({c: kinds[c] for c in columns}), None)
    if first is None:
        return []
    label = options.reference_label or options.label
    prediction = options.reference_prediction or options.prediction
    before = [reference[c] for c in (prediction, label) if c in reference]
    alike = names.names or all(is_text(c.type) for c in (*first.columns.values(), *before))
    here, predicted, *others = (
        answers(c, names if alike else None) for c in (*(first[c] for c in columns), *before)
    )
    known = {*predicted.values, *names.names}.union(*(c.values for c in others))
    strange = [i for i, value in enumerate(here.values) if value not in known]
    counts = [int((here.codes == i).sum()) for i in strange]
    labelled = int((here.codes >= 0).sum())
    values = [here.values[i] for i in strange]
    if prediction in reference and labelled >= SMALLEST_BASE and sum(counts) == labelled:
        raise FileError(
            f"labels of {stream.name} ({_some(values)}) are none of the predictions"
            f" ({_some(predicted.values)}): {_SAME}"
        )
    notes = _taken_for_missing(
        names, first[options.label], *(reference[c] for c in [label] if c in reference)
    )
    if sum(counts) < STRANGE_SHARE * max(labelled, SMALLEST_BASE):
        return notes
    return [
        *notes,
        f"labels {_some(values)} are never predicted, neither in the reference nor in the first"
        f" {BATCH_ROWS:,} rows: such rows count as wrong",
    ]


def _taken_for_missing(names: Names, *labels: pa.Array) -> list[str]:
    """Notes on labels that are taken for missing ones."""
    found = list(map(texts, labels))
    values = {v for column in found for v in column.values if is_null_word(v, names)}
    notes = []
    if values:
        notes.append(
            f"labels {_some(sorted(values))} are no class and count as missing: if one is a class,"
            " name all of them with --classes"
        )
    if why := next((why for column in found for why in column.refused.values()), None):
        notes.append(f"a label {why}: such labels count as missing")
    return notes


def _some(values: Sequence[str]) -> str:
    """A few of them, for a sentence."""
    first = ", ".join(repr(v[:20]) for v in sorted(values)[:3])
    return first + (", ..." if len(values) > 3 else "")
