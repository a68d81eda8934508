"""Specification of a model: what it means for jobs and stream workers, and when two are the same."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from unittest.mock import Mock

import pytest
from model_toml import REPAIR, load, write_files

from redistill.compress.plan import GraphSpec
from redistill.workers.errors import SpecError
from redistill.workers.models import spec as spec_module
from redistill.workers.models.spec import ModelSpec
from redistill.workers.settings.settings import Settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path)


def test_everything_is_read(folder: Path) -> None:
    spec = load(folder, REPAIR)
    assert spec.schema.names == ("region", "p0", "p1", "p2", "p3")
    assert spec.model.onnx == str(folder / "student.onnx")
    assert spec.model.training == str(folder / "student")
    assert spec.privacy.store_features == ("p0", "p1", "p2")
    assert spec.gates == {"agreement": {"least": 0.9}}
    asked = spec.policy()
    assert asked["agreement"] == {"least": 0.9}
    assert asked["size"]["max_bytes"] == 400_000
    assert asked["latency"]["max_p95_ms"] == 2.0
    assert asked["fresh"]["e_value"] == 200.0, "what is not set has its default, said in full"
    assert spec.training.epochs == 4
    assert spec.data.ordered
    assert spec.graph() == GraphSpec(
        features=("region", "p0", "p1", "p2", "p3"),
        classes=("repay", "default"),
        teacher_output_kind="probabilities",
        slices={"region": ("EU", "US")},
        categories={"region": ("EU", "US")},
    )
    config = spec.watch_config(Settings.load({"alarms_per_week": 2, "home": folder}))
    assert (config.tolerance_points, config.wait_days) == (2.0, 10.0)
    assert config.label_sources == ("ledger", "analyst")
    assert config.rows_per_alarm == 5e5
    assert config.store_features == ("p0", "p1", "p2")


def test_json_round_trip_keeps_everything(folder: Path) -> None:
    spec = load(folder, REPAIR).with_objects({"model": "00"})
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_config_hash_is_of_contents_not_of_places(folder: Path, tmp_path: Path) -> None:
    spec = load(folder, REPAIR)
    other = tmp_path / "other"
    other.mkdir()
    write_files(other)
    moved = load(other, REPAIR)
    same = {"model": "a", "teacher": "b"}
    assert spec.with_objects(same).config_sha256() == moved.with_objects(same).config_sha256()
    assert (
        spec.with_objects(same).config_sha256()
        != spec.with_objects({"model": "c", "teacher": "b"}).config_sha256()
    )
    changed = load(folder, REPAIR.replace("batch = 8", "batch = 9"))
    assert changed.config_sha256() != spec.config_sha256()


def test_a_specification_of_an_older_release_keeps_what_its_owner_asked_for(folder: Path) -> None:
    """One flat table of gates, stored with all its defaults."""
    content = json.loads(load(folder, REPAIR).to_json())
    content["gates"] = {
        "min_e_value": 100.0, "trusted_margin_points": 1.0, "min_agreement": 0.9,
        "max_bytes": None, "max_p95_ms": None, "scheduled_margin_points": 1.0,
    }  # fmt: skip
    old = ModelSpec.from_json(json.dumps(content))
    assert old == load(folder, REPAIR)
    assert old.policy()["trusted"]["margin_points"] == 2.0, "the old default was nobody's wish"


def test_a_stored_limit_that_makes_no_sense_says_what_to_do(folder: Path) -> None:
    """Older releases took any number."""
    content = json.loads(load(folder, REPAIR).to_json())
    content["gates"] = {"min_e_value": -1.0}
    old = ModelSpec.from_json(json.dumps(content))
    with pytest.raises(SpecError, match=r"fresh\.e_value = -1\.0: .* register it again"):
        old.policy()


def test_bound_sources_are_told_to_the_workers_and_change_no_hash_where_there_are_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load(folder, REPAIR)
    bound = load(folder, REPAIR.replace("[labels]", '[labels]\nbound = ["ledger"]'))
    settings = Settings.load({"home": folder})
    assert plain.watch_config(settings).bound_sources == ()
    assert bound.watch_config(settings).bound_sources == ("ledger",)
    assert bound.config_sha256() != plain.config_sha256()
    again = ModelSpec.from_json(plain.to_json())
    old = plain.to_json().replace('"bound":[],', "")  # as the last release stored it
    assert '"bound"' not in old
    assert ModelSpec.from_json(old).config_sha256() == again.config_sha256()
    monkeypatch.setattr(spec_module.hashlib, "sha256", hashed := Mock(wraps=hashlib.sha256))
    again.config_sha256()
    assert b"bound" not in hashed.call_args[0][0], "the hash of the last release"


def test_texts_of_a_card_reach_a_job_and_change_no_hash_where_there_are_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load(folder, REPAIR)
    told = load(folder, REPAIR + '\n[card]\nintended_use = "Ranking"\n')
    assert told.card.intended_use == "Ranking"
    assert told.card.license is None
    assert ModelSpec.from_json(told.to_json()).card == told.card
    assert told.config_sha256() != plain.config_sha256()
    again = ModelSpec.from_json(plain.to_json())
    old = json.loads(plain.to_json())  # as the last release stored it
    del old["card"]
    assert ModelSpec.from_json(json.dumps(old)).config_sha256() == again.config_sha256()
    monkeypatch.setattr(spec_module.hashlib, "sha256", hashed := Mock(wraps=hashlib.sha256))
    again.config_sha256()
    assert b"card" not in hashed.call_args[0][0], "the hash of the last release"
