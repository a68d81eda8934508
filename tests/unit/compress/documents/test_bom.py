"""Bill of materials: valid CycloneDX 1.6, the same bytes for the same making."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from judged_reports import SHA, carded, lineage_of

from redistill.compress.documents import bom
from redistill.compress.plan import CardText

FULL = CardText(
    intended_use="ranking", users="clerks", out_of_scope="refusing", caveats="old rows",
    ethical_considerations="people", license="Apache-2.0", contact="ml@example.org",
)  # fmt: skip


def valid(data: bytes) -> dict[str, Any]:
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode())
    assert error is None, error
    return json.loads(data)  # type: ignore[no-any-return]


@pytest.mark.parametrize("text", [CardText(), FULL])
@pytest.mark.parametrize("name", ["credit", "<evil>|`\n\u202e"])
def test_bill_is_valid_cyclonedx(name: str, text: CardText) -> None:
    card, lineage = carded(name=name, text=text)
    found = valid(bom.bill(card, lineage))
    assert found["specVersion"] == "1.6"


def test_a_file_that_was_brought_has_a_valid_bill_without_a_making() -> None:
    nothing = {"recipe": None, "variant": None, "parent": None, "teacher": None, "training": {}}
    lineage = lineage_of(trained_on=(), **nothing)
    found = valid(bom.bill(carded()[0], lineage))
    component = found["metadata"]["component"]
    assert "pedigree" not in component
    assert "approach" not in component["modelCard"]["modelParameters"]
    assert "teacher" not in {c["bom-ref"] for c in found["components"]}


def test_the_model_is_a_machine_learning_model_with_hash_card_and_ancestor() -> None:
    card, lineage = carded(text=FULL)
    component = valid(bom.bill(card, lineage))["metadata"]["component"]
    assert component["type"] == "machine-learning-model"
    assert component["hashes"] == [{"alg": "SHA-256", "content": SHA}]
    (ancestor,) = component["pedigree"]["ancestors"]
    assert ancestor["version"] == "r11-11111111"
    metrics = component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert len(metrics) == len(card.quantitative.measured)
    assert all("confidenceInterval" in m for m in metrics)
    told = component["modelCard"]["considerations"]
    assert told["useCases"] == ["ranking"]
    assert "refusing" in told["technicalLimitations"]


def test_libraries_data_and_teacher_are_components_that_the_model_depends_on() -> None:
    found = valid(bom.bill(*carded()))
    refs = {c["bom-ref"]: c for c in found["components"]}
    assert refs["pkg:pypi/torch@2.8.0%2Bcpu"]["version"] == "2.8.0+cpu"
    assert "pkg:pypi/redistill@0.1.0" in refs
    assert not [r for r in refs if r.startswith("pkg:pypi/onnx@")], "it was not installed"
    assert refs["teacher"]["hashes"][0]["content"] == "22" * 32
    assert {c["name"] for c in refs.values() if c["type"] == "data"} == {
        "training window",
        "trusted",
    }
    (depends, *_) = [d for d in found["dependencies"] if d["ref"] == "model"]
    assert set(depends["dependsOn"]) == set(refs)


def test_the_same_making_gives_the_same_bytes_and_another_file_another_serial_number() -> None:
    first = bom.bill(*carded())
    assert first == bom.bill(*carded())
    other = bom.bill(carded()[0], lineage_of(sha256="99" * 32))
    assert json.loads(other)["serialNumber"] != json.loads(first)["serialNumber"]
