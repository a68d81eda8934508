"""Temperature: it makes confidence honest, changes no answer, and stands in the graph once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from redistill import onnxfile
from redistill.compress.errors import BadModel
from redistill.compress.judge import calibration_error
from redistill.compress.judge.calibration_error import Confidence
from redistill.compress.judge.graph import INTEGER_OPERATORS, Graph, GraphCall, session
from redistill.compress.shrink import export, quantize, students, temperature
from redistill.compress.shrink.trained import Architecture
from redistill.stats import softmax

CALL = GraphCall(features=tuple("abcde"), classes=3)


def rows(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("temperature")
    student = students.build(Architecture(inputs=5, hidden=(32, 32), outputs=3), seed=1)
    made = {name: folder / f"{name}.onnx" for name in ("fp32", "static_int8", "dynamic_int8")}
    export.to_onnx(students.arrays(student), made["fp32"])
    quantize.static_int8(made["fp32"], made["static_int8"], rows(100))
    quantize.dynamic_int8(made["fp32"], made["dynamic_int8"])
    return made


def drawn(n: int, *, too_sure: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are so many times too large, and labels as likely as the scores should say."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(n, 3)) * 1.5
    labels = (rng.random((n, 1)) > softmax(honest).cumsum(axis=1)).sum(axis=1)
    return (honest * too_sure).astype(np.float32), labels


@pytest.mark.parametrize("name", ["fp32", "static_int8", "dynamic_int8"])
@pytest.mark.parametrize("value", [0.37, 2.3])
def test_a_graph_answers_the_same_classes_with_scores_divided(
    graphs: dict[str, Path], tmp_path: Path, name: str, value: float
) -> None:
    out = tmp_path / "out.onnx"
    temperature.scaled(graphs[name], out, value)
    x = rows(700, seed=4)
    raw, tempered = Graph(graphs[name], CALL), Graph(out, CALL)
    for batch in (x[:1], x[:7], x):
        assert (tempered.classes(batch) == raw.classes(batch)).all()
        np.testing.assert_allclose(
            tempered.raw(batch) * value, raw.raw(batch), rtol=1e-5, atol=1e-6
        )
    tempered.self_test(x[:7])
    session(out, optimised=tmp_path / "optimised")
    integers = set(onnxfile.operator_types(tmp_path / "optimised")) & INTEGER_OPERATORS
    assert bool(integers) == (name != "fp32")
    assert out.stat().st_size < graphs[name].stat().st_size + 300


def test_the_same_temperature_gives_the_same_bytes(graphs: dict[str, Path], tmp_path: Path) -> None:
    for out in ("a", "b"):
        temperature.scaled(graphs["static_int8"], tmp_path / out, 1.7)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    onnx.checker.check_model(onnx.load(str(tmp_path / "a")), full_check=True)


def test_a_temperature_near_one_leaves_the_graph_as_it_is(
    graphs: dict[str, Path], tmp_path: Path
) -> None:
    temperature.scaled(graphs["fp32"], tmp_path / "out", 1.01)
    assert (tmp_path / "out").read_bytes() == graphs["fp32"].read_bytes()


def test_a_graph_is_tempered_once(graphs: dict[str, Path], tmp_path: Path) -> None:
    temperature.scaled(graphs["fp32"], tmp_path / "once.onnx", 2.0)
    with pytest.raises(BadModel, match="its output 'y' is scaled already"):
        temperature.scaled(tmp_path / "once.onnx", tmp_path / "twice.onnx", 2.0)
    with pytest.raises(BadModel, match="temperature of 0 cannot"):
        temperature.scaled(graphs["fp32"], tmp_path / "out", 0.0)


@pytest.mark.parametrize("too_sure", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_and_its_interval_holds_it(too_sure: float) -> None:
    hits = 0
    for seed in range(60):
        found = temperature.fit(*drawn(300, too_sure=too_sure, seed=seed))
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= too_sure <= found.high
        assert found.value == pytest.approx(too_sure, rel=0.5)
    assert hits >= 53  # 57 are expected; fewer than 53 have a probability of .02 at 95%


def test_a_few_wrong_labels_on_sure_rows_do_not_make_it_doubt_all_others() -> None:
    """A likelihood is ruled by the few rows that are sure and wrong: it asked for 3.5 here."""
    rng = np.random.default_rng(0)
    margin = np.abs(rng.normal(size=2_000)) * 8  # as honest as can be but for the wrong labels
    truth = (rng.random(2_000) < 1 / (1 + np.exp(-margin))).astype(int)
    labels = np.where(rng.random(2_000) < 0.08, 1 - truth, truth)
    logits = np.stack([np.zeros(2_000), margin], axis=1).astype(np.float32)
    found = temperature.fit(logits, labels)
    kept, fitted = (
        calibration_error.error(Confidence.of(logits / np.float32(t), labels), seed=0)
        for t in (1.0, found.value)
    )
    assert kept is not None
    assert fitted is not None
    assert fitted.value < kept.value
    assert found.value < 2.5


def test_rows_without_a_label_or_an_answer_do_not_count() -> None:
    logits, labels = drawn(300, too_sure=2.0, seed=0)
    more = np.concatenate([logits, np.float32([[np.nan, 0, 0], [9, 0, 0]])])
    known = np.concatenate([labels, [1, -1]])
    assert temperature.fit(more, known) == temperature.fit(logits, labels)
    assert temperature.fit(logits[:0], labels[:0]).value == 1.0


def test_a_student_without_a_mistake_does_not_become_sure_of_everything() -> None:
    logits = np.tile(np.float32([[0.0, 3.0]]), (100, 1))
    found = temperature.fit(logits, np.ones(100, np.int64))
    assert temperature.confidence(logits / np.float32(found.value)) == pytest.approx(
        101 / 102, abs=1e-3
    )


def test_matching_copies_the_confidence_of_the_other_model() -> None:
    honest, _ = drawn(500, too_sure=1.0, seed=3)
    found = temperature.matched(honest * 4, temperature.confidence(honest))
    assert found.value == pytest.approx(4.0, rel=0.01)
    assert (found.low, found.high) == (None, None)
    assert temperature.matched(honest, float("nan")).value == 1.0
    assert np.isnan(temperature.confidence(honest[:0]))
