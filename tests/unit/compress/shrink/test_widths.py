"""How wide the built-in student is: no wider than its file may be large."""

from __future__ import annotations

from pathlib import Path

import pytest

from redistill.compress.shrink import export, quantize, students
from redistill.compress.shrink.trained import Architecture
from redistill.compress.shrink.widths import expected_bytes, fitting

WIDE = Architecture(inputs=20, hidden=(384, 192), outputs=3)


@pytest.mark.parametrize("inputs", [7, 200])
@pytest.mark.parametrize("hidden", [(), (8,), (64, 64)])
def test_file_is_a_little_smaller_than_expected(
    tmp_path: Path, inputs: int, hidden: tuple[int, ...]
) -> None:
    architecture = Architecture(inputs=inputs, hidden=hidden, outputs=4)
    export.to_onnx(students.arrays(students.build(architecture)), tmp_path / "a.onnx")
    size = (tmp_path / "a.onnx").stat().st_size
    assert size <= expected_bytes(architecture) <= size + 8_000


def test_student_that_fits_stays_as_it_was_asked_for() -> None:
    assert fitting(WIDE, 1e9) == WIDE
    assert fitting(WIDE, expected_bytes(WIDE)) == WIDE


def test_student_is_narrowed_in_proportion_until_it_fits() -> None:
    found = fitting(WIDE, 65_536)
    assert found.hidden == (144, 72)
    assert expected_bytes(found) <= 65_536


def test_nothing_smaller_than_the_narrowest_is_made() -> None:
    assert fitting(WIDE, 10).hidden == (12, 6)
    assert fitting(Architecture(inputs=2, hidden=(), outputs=2), 10).hidden == ()


def test_student_of_16_bit_weights_may_be_wider_in_as_many_bytes(tmp_path: Path) -> None:
    found = fitting(WIDE, 65_536, weight_bytes=2)
    assert found.hidden == (192, 96)
    export.to_onnx(students.arrays(students.build(found)), tmp_path / "fp32.onnx")
    quantize.fp16_weights(tmp_path / "fp32.onnx", tmp_path / "fp16.onnx")
    assert (tmp_path / "fp16.onnx").stat().st_size <= expected_bytes(found, 2) <= 65_536
