"""Models run over rows: what the gates are told of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from compress_rows import GRAPH, rows_of

from redistill.compress.judge.evaluation import EvaluatedModel, Evaluation
from redistill.compress.judge.probe import ProbeResult
from redistill.compress.plan import Limits
from redistill.compress.rows import Rows

TRUSTED, GATE = rows_of(200, seed=2), rows_of(100)


class Threshold:
    """A graph in so far as an evaluation asks one: the class by a threshold on ``a``."""

    def __init__(self, at: float) -> None:
        self.at = at

    def classes(self, x: np.ndarray) -> np.ndarray:
        return (x[:, 0] > self.at).astype(np.int64)


def model(
    name: str, at: float, folder: Path, *, size: int = 10, fresh: Rows | None = GATE
) -> EvaluatedModel:
    path = folder / f"{name}.onnx"
    path.write_bytes(b"x" * size)
    return EvaluatedModel.of(
        name, path, Threshold(at), trusted=TRUSTED, gate=GATE, fresh=fresh,  # type: ignore[arg-type]
        probed=ProbeResult(name=name, p50_ms=0.1, p95_ms=0.2),
    )  # fmt: skip


@pytest.fixture
def evaluation() -> Evaluation:
    return Evaluation(spec=GRAPH, limits=Limits(), trusted=TRUSTED, gate=GATE, seed=0)


def test_a_variant_is_measured_on_trusted_and_on_labelled_gate_rows(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    right = evaluation.variant(model("fp32", 0.0, tmp_path))
    assert (right.trusted_accuracy.value, right.trusted_accuracy.n) == (1.0, 200)
    assert right.fresh_accuracy is not None
    assert (right.fresh_accuracy.value, right.fresh_accuracy.n) == (1.0, 100)
    assert (right.bytes, right.p50_ms, right.p95_ms, right.agreement) == (10, 0.1, 0.2, None)
    wrong = evaluation.variant(model("int8", 1.0, tmp_path), model("fp32", 0.0, tmp_path))
    assert wrong.trusted_accuracy.value < 1.0
    assert wrong.agreement == pytest.approx(wrong.trusted_accuracy.value)


def test_rows_without_an_answer_are_said_and_count_as_wrong(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    good = model("fp32", 0.0, tmp_path)
    assert good.unanswered() == []
    silent = good.trusted.copy()
    silent[:30] = -1
    bad = replace(good, name="added", trusted=silent)
    assert bad.unanswered() == ["added answers NaN for 30 of 200 trusted rows: they count as wrong"]
    assert evaluation.variant(bad).trusted_accuracy.value == pytest.approx(0.85)
    assert evaluation.variant(bad, bad).agreement == pytest.approx(0.85)  # like no other


def test_the_first_model_is_compared_with_nothing(evaluation: Evaluation, tmp_path: Path) -> None:
    found = evaluation.evidence(model("incumbent", 0.0, tmp_path), incumbent=None, fp32=None)
    assert (found.trusted, found.fresh, found.slices, found.quantized) == (None, None, (), False)


def test_evidence_pairs_the_candidate_with_the_incumbent_on_the_same_rows(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    better, worse = model("fp32", 0.0, tmp_path), model("incumbent", 0.5, tmp_path, size=20)
    found = evaluation.evidence(better, incumbent=worse, fp32=better)
    assert found.trusted is not None
    between = int(((TRUSTED.x[:, 0] > 0) & (TRUSTED.x[:, 0] <= 0.5)).sum())
    assert (found.trusted.wins, found.trusted.losses) == (between, 0)
    assert found.trusted.wins + found.trusted.ties == 200
    assert found.fresh is not None
    assert found.fresh.wins > 0
    assert found.incumbent_bytes == 20
    assert {s.name.split("=")[0] for s in found.slices} >= {"kind", "region", "class"}
    assert (found.quantized, found.agreement) == (False, None)  # fp32 is no quantization of itself


def test_a_quantized_variant_is_held_to_its_fp32_student(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    exact, int8 = model("fp32", 0.0, tmp_path, size=40), model("static_int8", 0.1, tmp_path)
    found = evaluation.evidence(int8, incumbent=None, fp32=exact)
    assert found.quantized
    assert (found.bytes, found.fp32_bytes, found.fp32_p50_ms) == (10, 40, 0.1)
    assert found.agreement is not None
    assert found.agreement.value < 1.0
    assert found.fresh_agreement is not None
    without = evaluation.evidence(
        model("static_int8", 0.1, tmp_path, fresh=None), incumbent=None, fp32=exact
    )
    assert without.fresh_agreement is None


def test_verified_rows_are_those_of_another_source_than_trained_on(tmp_path: Path) -> None:
    source = ["clerks", "ledger", None, "ledger"] * 25
    gate = rows_of(100, source=source)
    evaluation = Evaluation(
        spec=GRAPH, limits=Limits(), trusted=TRUSTED, gate=gate, seed=0,
        labels_in_loss=True, training_sources=("clerks",),
    )  # fmt: skip
    found = evaluation.evidence(
        model("fp32", 0.0, tmp_path), incumbent=model("incumbent", 0.5, tmp_path), fp32=None
    )
    assert found.labels_in_loss
    assert found.verified is not None
    assert found.verified.wins + found.verified.losses + found.verified.ties == 50


def test_without_trusted_rows_nothing_is_measured(tmp_path: Path) -> None:
    nobody = TRUSTED.take(np.zeros(200, np.bool_))
    evaluation = Evaluation(spec=GRAPH, limits=Limits(), trusted=nobody, gate=GATE, seed=0)
    path = tmp_path / "m.onnx"
    path.write_bytes(b"x")
    empty = EvaluatedModel.of(
        "m", path, Threshold(0.0), trusted=nobody, gate=GATE,  # type: ignore[arg-type]
        probed=ProbeResult(name="m"),
    )  # fmt: skip
    with pytest.raises(ValueError, match="trusted rows"):
        evaluation.variant(empty)
