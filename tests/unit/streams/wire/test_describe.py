"""Schemas of the events for other programs: made from the dataclasses, packaged, and current."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from redistill.streams.wire import describe
from redistill.streams.wire.envelope import MAX_ROWS
from redistill.streams.wire.events import TYPES, LabelObserved, topic_name


def test_packaged_schemas_are_those_of_the_dataclasses() -> None:
    folder = Path(describe.__file__).parent / "schemas"
    stored = {p.name: p.read_text(encoding="utf-8") for p in folder.glob("*.json")}
    assert stored == describe.files(), "run: python -m redistill.streams.wire.describe"


@pytest.mark.parametrize("name", TYPES)
def test_schema_is_one_and_explains_every_field(name: str) -> None:
    schema = describe.load(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["x-ce-type"] == name
    assert schema["description"]


def test_text_under_a_field_is_its_description() -> None:
    fields = describe.schema_of("redistill.label.v1")["properties"]
    assert fields["label"]["description"].startswith(
        "The class name, number or boolean; ``None`` only"
    )
    assert set(fields) == set(LabelObserved.__dataclass_fields__)


def test_batch_of_predictions_is_described_by_the_encoders_docstring() -> None:
    layout = describe.batch_layout()
    assert "served_at" in layout["description"]
    assert layout["maxRows"] == MAX_ROWS


def test_files_are_written_as_they_are_packaged(tmp_path: Path) -> None:
    paths = describe.write(tmp_path)
    assert len(paths) == len(TYPES) + 1
    assert {json.loads(p.read_text())["$id"] for p in paths} == {
        json.loads(text)["$id"] for text in describe.files().values()
    }
    assert topic_name("labels") == "labels"
