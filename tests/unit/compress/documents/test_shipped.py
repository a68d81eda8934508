"""Documents of a release, out of a real job: complete, and without a row or a value of one."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from compress_rows import GRAPH, rows_of, tiny_job, write_table
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from strict_pages import want_strict

from redistill.compress import pipeline
from redistill.compress.plan import CardText, GraphSpec, Report, read_job_spec, to_json
from redistill.files import sha256_of

NAMES = [
    "MODEL_CARD.md", "bom.cdx.json", "gate_report.html", "lineage.json", "model_card.json",
]  # fmt: skip
ID = 7_654_321_000
"""Of rows: no other number is near it."""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    card = CardText(intended_use="Ranking of requests")
    tiny_job(folder, parent="r11-aaaaaaaa", card=card, candidates=("fp32", "static_int8"))
    for name, seed, n in (("fresh", 0, 400), ("reference", 1, 400), ("trusted", 2, 400)):
        rows = rows_of(n, seed=seed)
        rows = replace(rows, x=rows.x * np.float32(1.234567), id_hash=rows.id_hash + ID)
        write_table(folder / f"{name}.parquet", rows, threshold=0.5)
    pipeline.run(folder)
    return folder


def texts(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in sorted((folder / "candidate" / "documents").iterdir())}


def test_a_repair_writes_every_document_about_its_candidate(job: Path) -> None:
    found = texts(job)
    assert list(found) == NAMES
    model = sha256_of(job / "candidate" / "model.onnx")
    card, lineage = (json.loads(found[n]) for n in ("model_card.json", "lineage.json"))
    assert card["details"]["sha256"] == lineage["sha256"] == model
    assert f"`{model}`" in found["MODEL_CARD.md"]
    assert "Primary uses: Ranking of requests" in found["MODEL_CARD.md"]
    assert [s["role"] for s in lineage["trained_on"]] == [
        "window, its training rows", "pool, a draw of it for replay",
    ]  # fmt: skip
    assert lineage["trained_on"][0]["sha256"] == sha256_of(job / "fresh.parquet")
    assert lineage["parent"]["version"] == "r11-aaaaaaaa"
    assert lineage["labels_in_loss"] is False
    want_strict(found["gate_report.html"])
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(found["bom.cdx.json"])
    assert error is None


def test_no_document_holds_a_value_or_an_id_of_a_row(job: Path) -> None:
    told = set(re.findall(r"\d+(?:\.\d+)?", " ".join(texts(job).values())))
    for name in ("fresh", "reference", "trusted"):
        table = pq.read_table(job / f"{name}.parquet")
        for column in ("a", "b"):
            values = np.abs(table[column].to_numpy())
            shown = {f"{v:.{digits}g}" for v in values for digits in (6, 7, 8, 9, 17)}
            assert not told & {v for v in shown if len(v) > 6}, f"{column} of {name}"
        assert not told & {str(v) for v in table["id_hash"].to_pylist()}


def test_lineage_and_bill_are_the_same_bytes_when_the_job_is_done_again(
    job: Path, tmp_path: Path
) -> None:
    tiny_job(
        tmp_path, parent="r11-aaaaaaaa", card=CardText(intended_use="Ranking of requests"),
        candidates=("fp32", "static_int8"),
    )  # fmt: skip
    for name in ("fresh", "reference", "trusted"):
        (tmp_path / f"{name}.parquet").write_bytes((job / f"{name}.parquet").read_bytes())
    pipeline.run(tmp_path)
    again, first = texts(tmp_path), texts(job)
    for name in ("lineage.json", "bom.cdx.json"):
        assert again[name] == first[name]


def test_judging_again_keeps_what_the_candidate_was_trained_on(job: Path) -> None:
    trained = json.loads(texts(job)["lineage.json"])["trained_on"]
    fresh = pq.read_table(job / "fresh.parquet")
    pq.write_table(fresh.slice(0, 390), job / "fresh.parquet")
    spec = read_job_spec((job / "job.json").read_bytes())
    (job / "job.json").write_bytes(to_json(replace(spec, mode="gate")))
    pipeline.run(job)
    lineage = json.loads(texts(job)["lineage.json"])
    assert lineage["trained_on"] == trained
    assert {s["role"]: s["rows"] for s in lineage["judged_on"]} == {"fresh": 390, "trusted": 400}


def test_a_first_model_has_documents_that_say_what_is_not_known(tmp_path: Path) -> None:
    tiny_job(tmp_path, mode="baseline")
    report: Report = pipeline.run(tmp_path)
    assert report.recipe_name is None
    found = texts(tmp_path)
    assert list(found) == NAMES
    lineage = json.loads(found["lineage.json"])
    assert (lineage["recipe"], lineage["parent"], lineage["trained_on"]) == (None, None, [])
    assert "- Made: *unknown*" in found["MODEL_CARD.md"]
    assert "## Training data\n\n*unknown*" in found["MODEL_CARD.md"]


def test_columns_that_are_no_slices_are_told_by_name_only(tmp_path: Path) -> None:
    graph = GraphSpec(
        features=GRAPH.features, classes=GRAPH.classes, categories={"kind": ("hidden1", "hidden2")}
    )
    tiny_job(tmp_path, mode="baseline", graph=graph)
    pipeline.run(tmp_path)
    said = " ".join(texts(tmp_path).values())
    assert "kind" in said
    assert "hidden1" not in said
