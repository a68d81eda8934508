"""Documents: what every shape has in common."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil
import re
from typing import Any, get_type_hints

import pytest

from redistill.workers import documents
from redistill.workers.documents.document import iso
from redistill.workers.store import tables

INTERNAL = {"open_mark", "live_mark", "split_salt", "token", "not_before", "manifest_sha256"}


def shapes() -> list[Any]:
    found = []
    for part in pkgutil.iter_modules(documents.__path__):
        module = importlib.import_module(f"{documents.__name__}.{part.name}")
        found += [
            x
            for x in vars(module).values()
            if dataclasses.is_dataclass(x) and x.__module__ == module.__name__
        ]
    return found


def test_times_are_iso_in_utc() -> None:
    assert iso(0) == "1970-01-01T00:00:00.000Z"
    assert iso(2**62) == "9999-12-31T00:00:00.000Z"


@pytest.mark.parametrize("shape", shapes(), ids=lambda s: s.__name__)
def test_shape_has_neither_internal_columns_nor_microseconds(shape: Any) -> None:
    hints = get_type_hints(shape)
    assert INTERNAL & hints.keys() == set()
    times = {n: t for n, t in hints.items() if n == "at" or re.search(r"(_at|_until|^until)$", n)}
    assert {n: t for n, t in times.items() if t not in (str, str | None)} == {}
    assert shape.__dataclass_params__.frozen


def test_internal_columns_are_columns() -> None:
    names = {column.name for table in tables.metadata.tables.values() for column in table.c}
    assert names >= INTERNAL, "a name that is no column guards nothing"


def test_a_time_is_json_as_it_stands() -> None:
    assert json.dumps(iso(1_700_000_000_000_000)) == '"2023-11-14T22:13:20.000Z"'
