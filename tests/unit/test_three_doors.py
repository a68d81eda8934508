"""The same odd file through ``replay``, ``register`` and ``label import``: they agree on what it
holds."""

from __future__ import annotations

import csv
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redistill.rowfiles import open_rows
from redistill.streams.errors import FileError
from redistill.streams.replay.blocks import stream_blocks
from redistill.streams.replay.options import ReplayOptions
from redistill.streams.replay.run import run_replay
from redistill.streams.replay.table import Table
from redistill.times import microseconds
from redistill.workers.errors import UsageError
from redistill.workers.models import dataset, label_import, spec_file

ROWS = 120
NOW = datetime(2026, 11, 25, tzinfo=UTC)
AT = [1772359200 + 60 * i for i in range(ROWS)]
SPEC = """
name = "m"
[schema]
features = {{ x = "float", c = ["01", "02", "NA"] }}
classes = {classes}
[data]
time = "at"
"""


class Doors:
    """One file, as each of the three reads it; each answers in its own form, made alike here."""

    def __init__(self, folder: Path, path: Path, classes: tuple[str, ...]) -> None:
        self.folder, self.path, self.classes = folder, path, classes

    def replayed(self) -> tuple[list[Any], ...]:
        n = 4 * ROWS
        reference = pa.table(
            {
                "x": np.arange(float(n)),
                "c": ["01", "02", "NA", None] * ROWS,
                "prediction": [self.classes[i % len(self.classes)] for i in range(n)],
            }
        )
        options = ReplayOptions(time="at", classes=self.classes)
        stream = open_rows(self.path)
        table = Table.learn(open_rows(reference), stream, options)
        assert table.layout.schema.features[1].values == ("01", "02", "NA")
        x, c, labels, at = [], [], [], []
        for rows in stream_blocks(stream, table.kinds, table.layout, options, 50):
            x += rows.block.features[:, 0].tolist()
            c += rows.block.features[:, 1].tolist()
            at += rows.block.served_at.tolist()
            # The prediction is the first class in every row: what is right is that class.
            labels += [
                None if not known else self.classes[0] if not wrong else "another"
                for known, wrong in zip(rows.labelled, rows.error, strict=True)
            ]
        return x, c, labels, at

    def registered(self) -> tuple[list[Any], ...]:
        listed = "[" + ", ".join(f'"{c}"' for c in self.classes) + "]"
        (self.folder / "model.toml").write_text(SPEC.format(classes=listed))
        spec = spec_file.read(self.folder)
        found, problems = dataset.read(self.path, spec, "trusted", need_labels=False)
        assert problems == []
        assert found is not None
        assert found.labels is not None
        labels = [self.classes[i] if i >= 0 else None for i in found.labels.tolist()]
        return (*found.features.T.tolist(), labels, found.served_at.tolist())

    def imported(self) -> tuple[list[str], list[str | None], list[int]]:
        columns = label_import.Columns(time="at")
        ids: list[str] = []
        labels: list[str | None] = []
        at: list[int] = []
        for batch in label_import.read(
            self.path, columns, model="m", source="s", now=NOW, classes=self.classes
        ):
            assert all(r.reason.startswith("the label is missing") for r in batch.rejects)
            ids += [x.id for x in batch.labels]
            labels += [x.label for x in batch.labels]
            at += [microseconds(x.observed_at) for x in batch.labels]
        return ids, labels, at


def cycled(values: list[Any]) -> list[Any]:
    return [values[i % len(values)] for i in range(ROWS)]


def write(folder: Path, form: str, columns: dict[str, Any], first: str) -> Path:
    """Columns of a file in one of its forms; each row's prediction is the first class."""
    whole = columns | {"prediction": [first] * ROWS}
    if form == "csv":
        path = folder / "f.csv"
        with path.open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(whole)
            out.writerows(
                zip(
                    *(["" if v is None else str(v) for v in c] for c in whole.values()), strict=True
                )
            )
        return path
    table = pa.table(whole)
    if form == "parquet":
        pq.write_table(table, folder / "f.parquet")
        return folder / "f.parquet"
    (folder / "f").mkdir()
    (folder / "f" / "_SUCCESS").touch()
    for i in range(0, ROWS, 40):
        pq.write_table(table.slice(i, 40), folder / "f" / f"part-{i}.parquet")
    return folder / "f"


# name: ids, labels, x, classes; and the ids and classes that they stand for
CASES: dict[str, tuple[list[Any], list[Any], list[Any], tuple[str, ...], list[str], list[Any]]] = {
    "texts": (["007", "b"], ["no", "yes"], [1.5, -2.0], ("no", "yes"), ["007", "b"], ["no", "yes"]),
    "numbers": ([1, 2], [0, 1], [1, 2], ("0", "1"), ["1", "2"], ["0", "1"]),
    "floats of pandas": (
        [143349558619.0, 2.0],
        [0.0, None, 1.0],
        [1.0, None],
        ("0", "1"),
        ["143349558619", "2"],
        ["0", None, "1"],
    ),
    "booleans": (["a"], [True, False], [True, None], ("False", "True"), ["a"], ["True", "False"]),
    "booleans of numbers": (["a"], [True, False], [1], ("0", "1"), ["a"], ["1", "0"]),
    "words in capitals": (["a"], ["TRUE", "FALSE"], [1], ("true", "false"), ["a"], ["true", "false"]),
    "NA is a class": (["NULL", "nan"], ["NA", "EU"], [1], ("EU", "NA"), ["NULL", "nan"], ["NA", "EU"]),
    "blank": (["a"], ["no", " ", "yes"], [1], ("no", "yes"), ["a"], ["no", None, "yes"]),
    "decimals": (
        [Decimal("12345678901234567890")],
        [Decimal("1.0"), Decimal("2.0")],
        [Decimal("1.25")],
        ("1", "2"),
        ["12345678901234567890"],
        ["1", "2"],
    ),
    "codes": (["01"], ["01", "1"], [1], ("01", "1"), ["01"], ["01", "1"]),
}  # fmt: skip


@pytest.mark.parametrize("form", ["parquet", "csv", "folder"])
@pytest.mark.parametrize("case", CASES)
def test_the_doors_agree_on_ids_classes_and_numbers(tmp_path: Path, case: str, form: str) -> None:
    ids, labels, x, classes, ids_read, labels_read = CASES[case]
    columns = {
        "id": cycled(ids),
        "label": cycled(labels),
        "x": cycled(x),
        "c": cycled(["01", "NA", None, "2"]),
        "at": AT,
    }
    doors = Doors(tmp_path, write(tmp_path, form, columns, classes[0]), classes)
    x1, c1, labels1, at1 = doors.replayed()
    x2, c2, labels2, at2 = doors.registered()
    ids3, labels3, at3 = doors.imported()
    expected = cycled(labels_read)
    numbers = [np.nan if v is None else float(v) for v in cycled(x)]
    assert np.array_equal(x1, numbers, equal_nan=True)
    assert np.array_equal(x2, numbers, equal_nan=True)
    assert np.array_equal(c1, cycled([0, 2, np.nan, -1]), equal_nan=True)
    assert np.array_equal(c2, c1, equal_nan=True)
    assert labels2 == expected
    assert labels1 == [x if x in (None, classes[0]) else "another" for x in expected]
    there = [i for i, label in enumerate(expected) if label is not None]
    assert labels3 == [expected[i] for i in there]
    assert ids3 == [cycled(ids_read)[i] for i in there]
    assert at1 == at2 == [s * 1_000_000 for s in AT]
    assert at3 == [at1[i] for i in there]


ISO = [datetime.fromtimestamp(s, UTC) for s in AT]


@pytest.mark.parametrize(
    "at",
    [
        pytest.param(pa.array(AT), id="seconds"),
        pytest.param(pa.array([float(s) for s in AT]), id="float seconds"),
        pytest.param(pa.array([str(s) for s in AT]), id="seconds as text"),
        pytest.param(pa.array(ISO, pa.timestamp("s")), id="s"),
        pytest.param(pa.array(ISO, pa.timestamp("ms", "Asia/Tokyo")), id="ms with a zone"),
        pytest.param(pa.array(ISO, pa.timestamp("ns", "UTC")), id="ns"),
        pytest.param(pa.array([t.isoformat() for t in ISO]), id="ISO"),
        pytest.param(pa.array([t.isoformat()[:19] for t in ISO]), id="ISO without zone"),
        pytest.param(
            pa.array([t.isoformat() if t.minute % 2 else t.isoformat()[:19] for t in ISO]),
            id="ISO now with and now without",
        ),
        pytest.param(pa.array(ISO, pa.timestamp("us")).dictionary_encode(), id="category"),
    ],
)
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_the_doors_agree_on_times(tmp_path: Path, at: pa.Array, form: str) -> None:
    columns = {
        "id": cycled(["a"]),
        "label": cycled(["no", "yes"]),
        "x": cycled([1.0]),
        "c": cycled(["01"]),
        "at": at if form == "parquet" else at.to_pylist(),
    }
    doors = Doors(tmp_path, write(tmp_path, form, columns, "no"), ("no", "yes"))
    expected = [s * 1_000_000 for s in AT]
    assert doors.replayed()[3] == expected
    assert doors.registered()[3] == expected
    assert doors.imported()[2] == expected


@pytest.mark.parametrize(
    ("column", "values", "said", "refused_by"),
    [
        ("at", [1772359200000], "1772359200000: seconds since 1970 were expected", "all"),
        ("at", ["soon"], "'soon', which is not a time", "all"),
        ("label", [2.0**53 + 2], "9007199254740994, beyond 2.53", "register import"),
        ("id", [2.0**53 + 2], "9007199254740994, beyond 2.53", "import"),
        ("id", [b"\xff"], "bytes that are no UTF-8", "import"),
        ("id", [[1]], "one value per row was expected", "import"),
        ("label", [[1]], "one value per row was expected", "all"),
        ("x", ["n/a"], "holds text .n/a. in 1 rows, row 30", "register"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_row(
    tmp_path: Path, column: str, values: list[Any], said: str, refused_by: str
) -> None:
    """In row 30: its number, where one row is at fault."""
    good = {"id": "a", "label": "no", "x": 1.0, "c": "01", "at": AT[0]}
    odd = values[0]
    usual = odd if isinstance(odd, list) else good[column]
    if isinstance(odd, (int, float)) and not isinstance(usual, (int, float)):
        usual = 1
    if isinstance(odd, (str, bytes)):
        usual = type(odd)(str(usual), "utf-8") if isinstance(odd, bytes) else str(usual)
    columns = {name: cycled([value]) for name, value in good.items()}
    columns[column] = [odd if i == 29 else usual for i in range(ROWS)]
    path = write(tmp_path, "parquet", columns, "no")
    classes = ("no", "1")
    doors = Doors(tmp_path, path, classes)
    told: dict[str, str] = {}
    try:
        run_replay(path, path, ReplayOptions(time="at", classes=classes), write=lambda _: None)
    except FileError as error:
        told["replay"] = str(error)
    doors.folder.joinpath("model.toml").write_text(SPEC.format(classes='["no", "1"]'))
    found, problems = dataset.read(path, spec_file.read(tmp_path), "trusted", need_labels=True)
    if found is None:
        told["register"] = "\n".join(problems)
    try:
        batches = list(
            label_import.read(
                path,
                label_import.Columns(time="at"),
                model="m",
                source="s",
                now=NOW,
                classes=classes,
            )
        )
        if rejects := [r for b in batches for r in b.rejects]:
            assert [r.row for r in rejects] == [30]
            told["import"] = rejects[0].reason
    except UsageError as error:
        told["import"] = str(error)
    expected = {"replay", "register", "import"} if refused_by == "all" else set(refused_by.split())
    assert expected <= told.keys()
    for door in expected:
        assert re.search(said, told[door]), told[door]
        if door != "import" and not isinstance(odd, list):
            assert "row 30" in told[door]


@pytest.mark.parametrize("name", [" label", "Label"])
def test_a_column_that_differs_by_spaces_or_capitals_is_pointed_out(
    tmp_path: Path, name: str
) -> None:
    columns = {"id": ["a"], "x": [1.0], "c": ["01"], name: ["no"], "prediction": ["no"]}
    pq.write_table(pa.table(columns), tmp_path / "f.parquet")
    path = tmp_path / "f.parquet"
    doors = Doors(tmp_path, path, ("no", "yes"))
    said = f"{name!r} is there, with other spaces, punctuation or capitals"
    with pytest.raises(FileError, match=re.escape(said)):
        run_replay(path, path, ReplayOptions(), write=lambda _: None)
    with pytest.raises(UsageError, match=re.escape(said)):
        doors.imported()
    doors.folder.joinpath("model.toml").write_text(SPEC.format(classes='["no", "yes"]'))
    _, problems = dataset.read(path, spec_file.read(tmp_path), "trusted", need_labels=True)
    assert any(said in problem for problem in problems)
