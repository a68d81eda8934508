"""A student as files and arrays: what is written is read again, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from redistill.compress.errors import BadModel
from redistill.compress.shrink import distill, students, trained
from redistill.compress.shrink.trained import Architecture


def arch(**over: Any) -> Architecture:
    given: dict[str, Any] = {
        "inputs": 4,
        "hidden": (8, 6),
        "outputs": 3,
        "normalisation": "standard",
        "clip": 5.0,
        "categories": ((2, 3),),
    }
    return Architecture(**given | over)


def test_save_and_load_give_the_same_student_in_the_same_bytes(tmp_path: Path) -> None:
    student = students.build(arch(), seed=3)
    student.fit_inputs(np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32))
    students.arrays(student).save(tmp_path / "a")
    loaded = students.load(tmp_path / "a")
    assert loaded.architecture == student.architecture
    x = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    assert (distill.predict_logits(loaded, x) == distill.predict_logits(student, x)).all()
    students.arrays(loaded).save(tmp_path / "b")
    for name in (trained.ARCHITECTURE_FILE, trained.WEIGHTS_FILE):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"inputs": 0}, "inputs = 0"),
        ({"hidden": (0,)}, "hidden"),
        ({"hidden": (10**9,)}, "hidden"),
        ({"outputs": 1}, "outputs = 1"),
        ({"dropout": 1.0}, "dropout"),
        ({"clip": 0.0}, "clip"),
        ({"categories": ((9, 2),)}, "categories"),
        ({"categories": ((1, 2), (1, 3))}, "categories"),
        ({"codes": ((2, 1),)}, r"codes name columns \[2\]"),
        ({"codes": ((1, 99),)}, "1 to 16 a column"),
    ],
)
def test_build_refuses_an_architecture_that_makes_no_sense(
    over: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadModel, match=message):
        students.build(arch(**over))


def test_load_says_what_is_wrong_with_a_training_folder(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"architecture\.json cannot be read"):
        students.load(tmp_path)
    students.arrays(students.build(arch())).save(tmp_path)
    encoded = (tmp_path / "architecture.json").read_text()
    (tmp_path / "architecture.json").write_text(encoded.replace('"format": 1', '"format": 2'))
    with pytest.raises(BadModel, match="format 1"):
        students.load(tmp_path)
    (tmp_path / "architecture.json").write_text(encoded.replace("8,", "9,"))
    with pytest.raises(BadModel, match="does not fit"):
        students.load(tmp_path)
    (tmp_path / "architecture.json").write_text(encoded)
    (tmp_path / "weights.safetensors").write_bytes(b"\x80pickle")
    with pytest.raises(BadModel, match=r"weights\.safetensors cannot be read"):
        students.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("mean"), r"\['mean'\] missing"),
        (lambda w: w.update(extra=np.zeros(1, np.float32)), r"\['extra'\] unknown"),
        (
            lambda w: w.update(mean=np.zeros(9, np.float32)),
            r"mean has shape \(9,\), expected \(3,\)",
        ),
    ],
)
def test_load_refuses_weights_that_do_not_fit(change: Any, message: str, tmp_path: Path) -> None:
    made = students.arrays(students.build(arch()))
    weights = dict(made.tensors)
    change(weights)
    trained.Trained(architecture=made.architecture, tensors=weights).save(tmp_path)
    with pytest.raises(BadModel, match=message):
        students.load(tmp_path)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_load_takes_other_floats(kind: torch.dtype, tmp_path: Path) -> None:
    student = students.build(arch())
    students.arrays(student).save(tmp_path)
    other = {k: v.to(kind) for k, v in student.state_dict().items()}
    save_file(other, tmp_path / "weights.safetensors")
    found = students.load(tmp_path).layers[0].weight
    assert found.dtype == torch.float32
    assert torch.equal(found, other["layers.0.weight"].to(torch.float32))


def test_load_refuses_weights_that_are_not_finite(tmp_path: Path) -> None:
    student = students.build(arch())
    with torch.no_grad():
        student.layers[0].weight[0, 0] = float("nan")
    students.arrays(student).save(tmp_path)
    with pytest.raises(BadModel, match="NaN"):
        students.load(tmp_path)


@pytest.mark.parametrize("over", [{}, {"dropout": 0.2}, {"hidden": ()}, {"normalisation": "none"}])
def test_the_shapes_of_an_architecture_are_those_of_its_student(over: dict[str, Any]) -> None:
    student = students.build(arch(**over))
    found = {k: tuple(v.shape) for k, v in student.state_dict().items()}
    assert found == student.architecture.shapes
