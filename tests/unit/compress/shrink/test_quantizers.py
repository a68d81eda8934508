"""Every quantizer makes a graph that runs, of a perceptron that is large enough to gain by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from redistill.compress.judge.graph import Graph, GraphCall
from redistill.compress.shrink import export, students
from redistill.compress.shrink.quantizers import FP32, QUANTIZERS
from redistill.compress.shrink.trained import Architecture
from redistill.files import sha256_of

ROWS = np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)
CALL = GraphCall(features=tuple("abcdef"), classes=3)


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quantizers") / "fp32.onnx"
    student = students.build(Architecture(inputs=6, hidden=(96, 96), outputs=3), seed=3)
    export.to_onnx(students.arrays(student), path)
    return path


@pytest.mark.parametrize("name", sorted(QUANTIZERS.keys() - {FP32}))
def test_it_answers_like_what_it_was_made_from(name: str, fp32: Path, tmp_path: Path) -> None:
    quantizer = QUANTIZERS[name]
    assert quantizer.make is not None
    quantizer.make(fp32, tmp_path / "a.onnx", ROWS[:200])
    made, source = Graph(tmp_path / "a.onnx", CALL), Graph(fp32, CALL)
    assert (made.classes(ROWS) == source.classes(ROWS)).mean() > 0.95
    made.self_test(ROWS[:7])
    assert (tmp_path / "a.onnx").stat().st_size < 0.9 * fp32.stat().st_size


@pytest.mark.parametrize("name", sorted(QUANTIZERS.keys() - {FP32}))
def test_rows_have_a_say_where_it_says_so(name: str, fp32: Path, tmp_path: Path) -> None:
    quantizer = QUANTIZERS[name]
    assert quantizer.make is not None
    for out, rows in (("a", ROWS[:100]), ("b", 3.0 * ROWS[:100]), ("c", ROWS[:100])):
        quantizer.make(fp32, tmp_path / out, rows)
    a, b, c = (sha256_of(tmp_path / out) for out in "abc")
    assert a == c
    assert (a != b) == quantizer.needs_rows


def test_nothing_is_done_to_fp32() -> None:
    assert QUANTIZERS[FP32].make is None
