"""Policy files of `redistill gate`: part of a model.toml, or a whole one."""

from __future__ import annotations

from pathlib import Path

import model_toml
import pytest

from redistill.compress.judge import policy
from redistill.workers.errors import SpecError
from redistill.workers.models import gate_policy, spec_file


def read(folder: Path, text: str) -> gate_policy.GatePolicy:
    (folder / "gates.toml").write_text(text)
    return gate_policy.read(folder / "gates.toml")


def test_what_is_written_is_what_a_model_toml_means_by_it(tmp_path: Path) -> None:
    model_toml.write_files(tmp_path)
    whole = model_toml.load(tmp_path, model_toml.REPAIR)
    found = gate_policy.read(tmp_path / "model.toml")
    assert found.spec.policy() == whole.policy()
    assert found.schema == whole.schema
    assert (found.spec.serving, found.spec.data.label) == (whole.serving, whole.data.label)
    assert not found.kind_is_told


def test_part_of_it_is_enough_and_the_rest_has_its_defaults(tmp_path: Path) -> None:
    found = read(tmp_path, "[gates.trusted]\nmargin_points = 3\n")
    assert found.schema is None
    assert found.spec.policy()["trusted"]["margin_points"] == 3.0
    assert read(tmp_path, "").spec.policy() == gate_policy.NO_POLICY.spec.policy()
    assert gate_policy.NO_POLICY.spec.policy()["f1"] == policy.complete(policy.of({}))["f1"]
    assert read(tmp_path, '[model]\noutput_kind = "logits"').kind_is_told


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as refused:
        read(
            tmp_path, "[gate]\n[gates.f1]\nmost = 1\n[model]\ncosts = [[1]]\n[serving]\nbatch = 0\n"
        )
    said = str(refused.value)
    assert "gate: there is no such key; did you mean gates?" in said
    assert "[gates.f1] most: there is no such key" in said
    assert "[model] costs" in said
    assert "[serving] batch = 0: at least 1 was expected" in said


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        gate_policy.read(tmp_path / "gone.toml")
    with pytest.raises(SpecError, match="is a folder"):
        gate_policy.read(tmp_path)


def test_parts_of_a_document_are_no_model_toml(tmp_path: Path) -> None:
    """What registration needs, registration goes on to ask for."""
    with pytest.raises(SpecError, match="name is missing"):
        spec_file.parse("[gates.trusted]\nmargin_points = 3\n", tmp_path / "model.toml")
