"""Labels of a replay's two files: the base error that they make, and whether they can be meant."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from redistill.rowfiles import Kind, open_rows
from redistill.rownames import Names
from redistill.streams.errors import FileError
from redistill.streams.replay.labels import base_error, check_labels
from redistill.streams.replay.options import ReplayOptions

NAMES = Names(("no", "yes"))


def base_of(label: Any, prediction: Any, names: Names = NAMES) -> Any:
    whole = {"label": pa.array(label), "prediction": pa.array(prediction)}
    return base_error("r.csv", whole, "label", "prediction", names)


def notes_of(
    label: Any,
    prediction: Any,
    *,
    reference: dict[str, Any] | None = None,
    kind: Kind = "text",
    names: Names = NAMES,
) -> list[str]:
    """Notes on a stream with these columns."""
    stream = open_rows(pa.table({"label": label, "prediction": prediction}), "s.csv")
    before = {name: pa.array(column) for name, column in (reference or {}).items()}
    kinds: dict[str, Kind] = {"label": kind, "prediction": kind}
    return check_labels(stream, kinds, before, ReplayOptions(), names)


def test_the_base_error_is_the_share_of_rows_that_differ() -> None:
    prediction = ["yes", "no"] * 1_000
    label = [*prediction[:-200], *(["yes"] * 200), None]
    base, note = base_of(label, [*prediction, "no"])
    assert (base.errors, base.n, base.rate, note) == (100, 2_000, 0.05, "")


@pytest.mark.parametrize(
    ("rows", "wrong", "note"),
    [
        (
            99,
            9,
            "r.csv has 99 rows with label and prediction, too few: the base error is not known",
        ),
        (100, 9, "r.csv has only 100 labelled rows: the error counts as "),
        (999, 9, "r.csv has only 999 labelled rows: the error counts as "),
        (1_000, 0, "labels and predictions of r.csv agree in every row"),
    ],
)
def test_a_base_error_of_little_worth_has_a_note(rows: int, wrong: int, note: str) -> None:
    base, said = base_of(["no"] * rows, ["yes"] * wrong + ["no"] * (rows - wrong))
    assert said.startswith(note)
    assert (base is None) == (rows < 100)


def test_without_a_column_there_is_no_base_error() -> None:
    column = pa.array(["no"] * 500)
    base, note = base_error("r.csv", {"label": column}, "label", "prediction", NAMES)
    assert base is None
    assert note.startswith("r.csv has no column 'prediction': the base error is not known")


def test_columns_that_never_agree_are_different_things() -> None:
    said = (
        r"labels \('no', 'yes'\) and predictions \('0', '1'\) of r.csv differ in 100.0% of the rows"
    )
    with pytest.raises(FileError, match=said):
        base_of(["no", "yes"] * 100, ["0", "1"] * 100, Names(()))


def test_labels_that_can_be_predicted_need_no_note() -> None:
    assert notes_of(["no", "yes", None] * 100, ["yes", "yes", "no"] * 100) == []
    # known from the reference, though nothing of this stream is predicted so
    seen = {"label": ["a"], "prediction": ["b"]}
    labels, nobody = ["a", "b"] * 100, Names(())
    assert notes_of(labels, ["b"] * 200, reference=seen, names=nobody) == []


def test_some_labels_that_are_never_predicted_have_a_note() -> None:
    label = ["no"] * 198 + ["maybe"] * 2
    (note,) = notes_of(label, ["no"] * 200)
    assert note.startswith("labels 'maybe' are never predicted")
    assert notes_of(["no"] * 199 + ["maybe"], ["no"] * 200) == []


def test_words_for_missing_labels_are_said() -> None:
    label = ["no", "NaN"] * 100
    (note,) = notes_of(label, ["no"] * 200)
    assert note.startswith("labels 'NaN' are no class and count as missing")
    assert notes_of(label, ["no"] * 200, names=Names(("no", "NaN"))) == []


def test_an_infinite_label_is_none_and_said() -> None:
    label, prediction = [1.0, float("inf")] * 100, [1] * 200
    (note,) = notes_of(label, prediction, kind="number", names=Names(("0", "1")))
    assert note == "a label is infinite: such labels count as missing"
    base, _ = base_of(label * 10, prediction * 10, Names(()))
    assert (base.n, base.errors) == (1_000, 0)


def test_a_stream_whose_every_label_is_strange_is_refused_where_the_reference_is_known() -> None:
    label, prediction = ["1", "2", "3", "4"] * 50, ["no"] * 200
    known = {"prediction": ["no", "yes"]}
    said = r"labels of s.csv \('1', '2', '3', ...\) are none of the predictions \('no'\)"
    with pytest.raises(FileError, match=said):
        notes_of(label, prediction, reference=known)
    assert len(notes_of(label, prediction)) == 1  # the stream may be all that there is
    few = (label[:99], prediction[:99])
    assert len(notes_of(*few, reference=known)) == 1  # too few to be sure


def test_numbers_are_the_same_however_they_are_written() -> None:
    seen = {"prediction": ["0.0", "1.0"]}
    nobody = Names(())
    found = notes_of([0, 1] * 100, [0, 0] * 100, reference=seen, kind="number", names=nobody)
    assert found == []


def test_an_empty_stream_has_no_labels_to_check() -> None:
    empty = pa.array([], pa.string())
    assert notes_of(empty, empty) == []
