"""Schema of a graph and a file of rows that nobody declared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import linear
import pytest

from redistill.onnxports import Port
from redistill.rowfiles import open_rows
from redistill.workers.errors import UsageError
from redistill.workers.models.inferred_schema import infer

ROWS: dict[str, Any] = {"b": [1.0, 2.0], "when": ["x", "y"], "a": [1, 2], "label": ["10", "9"]}


def port(name: str, *shape: int | None) -> Port:
    return Port(name=name, element="FLOAT", shape=shape)


def found(tmp_path: Path, *inputs: Port, rows: dict[str, Any] = ROWS, **known: Any) -> Any:
    file = open_rows(linear.write_rows(tmp_path / "r.parquet", rows))
    return infer(inputs, file, **{"label": "label", "classes": (), **known})


def test_matrix_takes_the_columns_of_numbers_in_their_order(tmp_path: Path) -> None:
    schema, assumed = found(tmp_path, port("x", None, 2))
    assert schema.names == ("b", "a")
    assert schema.classes == ("9", "10"), "numbers stand by value"
    assert [a.partition(":")[0] for a in assumed] == [
        "the features are the columns of numbers as the file orders them",
        "columns that are no numbers are left out",
        "the classes are the labels of the file in their order",
    ]


def test_named_inputs_are_the_features_whatever_the_file_orders(tmp_path: Path) -> None:
    schema, assumed = found(tmp_path, port("a", None, 1), port("b", None, 1), classes=("9", "10"))
    assert (schema.names, schema.classes, assumed) == (("a", "b"), ("9", "10"), ())


@pytest.mark.parametrize(
    ("inputs", "rows", "said"),
    [
        ([port("x", None, 3)], ROWS, r"takes 3 features, and .* has 2 columns of numbers.*: b, a"),
        ([port("x", None, 3)], ROWS, r"1 that are none: when.*\[schema\]"),
        ([port("x", None, None)], {"label": ["a", "b"]}, "0 columns of numbers"),
        ([port("A", None, 1), port("b", None, 1)], ROWS, "no column for the inputs A.*'a' is there"),
        ([port("my_income", None, 1), port("b", None, 1)], ROWS | {"my income": [1, 2]},
         "no column for the inputs my_income .*'my income' is there"),
        ([port("x", None, 2)], ROWS | {"label": ["a", "a"]}, "holds a: labels of two classes"),
        ([port("x", None, 2)], ROWS | {"label": [None, None]}, "no label at all"),
        ([port("x", None, 2)], {"a": [1], "Label": ["x"]}, "no column 'label'.*'Label' is there"),
    ],
)  # fmt: skip
def test_what_files_do_not_tell_is_asked_for(
    tmp_path: Path, inputs: list[Port], rows: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        found(tmp_path, *inputs, rows=rows)


def test_column_with_thousands_of_values_holds_no_classes(tmp_path: Path) -> None:
    many = {"a": list(range(2_000)), "label": [str(i) for i in range(2_000)]}
    with pytest.raises(UsageError, match="more than 1,000 distinct values"):
        found(tmp_path, port("x", None, 1), rows=many)
