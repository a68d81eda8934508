"""Models run over rows: what the gates are told of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compress_rows import GRAPH, rows_of

from redistill.compress import trusted_rows
from redistill.compress.judge.evaluation import EvaluatedModel, Evaluation, comparison
from redistill.compress.judge.probe import ProbeResult
from redistill.compress.judge.task import Classification
from redistill.compress.plan import Measure
from redistill.compress.rows import Rows
from redistill.files import sha256_of

TRUSTED, GATE = rows_of(200, seed=2), rows_of(100)


class Threshold:
    """A graph in so far as an evaluation asks one: the class by a threshold on ``a``."""

    def __init__(self, at: float) -> None:
        self.at = at

    def scores(self, rows: Rows) -> np.ndarray:
        above = (rows.x[:, 0] - self.at).astype(np.float32)
        return np.stack([-above, above], axis=1)


def model(
    name: str, at: float, folder: Path, *, size: int = 10, fresh: Rows | None = GATE
) -> EvaluatedModel:
    path = folder / f"{name}.onnx"
    path.write_bytes(b"x" * size)
    return EvaluatedModel.of(
        name, path, Threshold(at), trusted=TRUSTED, gate=GATE, fresh=fresh,  # type: ignore[arg-type]
        probed=ProbeResult(name=name, p50_ms=0.1, p95_ms=0.2),
    )  # fmt: skip


def terms(**fields: Any) -> Evaluation:
    given: dict[str, Any] = {
        "spec": GRAPH, "task": Classification(classes=2), "requirement": "beat",
        "trusted": TRUSTED, "gate": GATE,
    }  # fmt: skip
    return Evaluation(**given | fields)


@pytest.fixture
def evaluation() -> Evaluation:
    return terms()


def test_a_variant_is_measured_on_trusted_and_on_labelled_gate_rows(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    right = evaluation.variant(model("fp32", 0.0, tmp_path))
    assert (right.trusted_accuracy.value, right.trusted_accuracy.n) == (1.0, 200)
    assert right.fresh_accuracy is not None
    assert (right.fresh_accuracy.value, right.fresh_accuracy.n) == (1.0, 100)
    assert right.measures["accuracy"] == right.trusted_accuracy
    assert right.measures["calibration_error"].n == 200
    assert (right.bytes, right.p50_ms, right.p95_ms, right.agreement) == (10, 0.1, 0.2, None)
    wrong = evaluation.variant(model("int8", 1.0, tmp_path), model("fp32", 0.0, tmp_path))
    assert wrong.trusted_accuracy.value < 1.0
    assert wrong.agreement == pytest.approx(wrong.trusted_accuracy.value)


def test_a_variant_that_does_not_load_keeps_its_number() -> None:
    evidence = terms(recipe=2).unloaded("int8", "no such operator")
    assert (evidence.load_error, evidence.recipe) == ("no such operator", 2)


def test_rows_without_an_answer_are_said_and_count_as_wrong(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    good = model("fp32", 0.0, tmp_path)
    assert good.unanswered() == []
    silent = good.trusted.copy()
    silent[:30] = np.nan
    bad = replace(good, name="added", trusted=silent)
    assert bad.unanswered() == ["added answers NaN for 30 of 200 trusted rows: they count as wrong"]
    assert evaluation.variant(bad).trusted_accuracy.value == pytest.approx(0.85)
    assert evaluation.variant(bad, bad).agreement == pytest.approx(0.85)  # like no other


def test_a_candidate_that_faced_these_rows_keeps_its_number(tmp_path: Path) -> None:
    lost = Measure(value=12.0, low=8.0, high=16.0, n=200)
    known = model("fp32", 0.0, tmp_path)
    evaluation = terms(
        recipe=3, faced={sha256_of(known.path): 1}, incident_loss=lost, cause="compression_gap"
    )
    other = model("int8", 0.0, tmp_path, size=11)
    found = [evaluation.evidence(m, {"incumbent": None}) for m in (known, other)]
    assert [e.recipe for e in found] == [1, 3]
    assert [(e.incident_loss, e.cause) for e in found] == [(lost, "compression_gap")] * 2


def test_the_first_model_is_compared_with_nothing(tmp_path: Path) -> None:
    evaluation = terms(requirement="first")
    found = evaluation.evidence(model("incumbent", 0.0, tmp_path), {"incumbent": None})
    assert set(found.machine) == {"candidate"}
    assert "incumbent" not in found.trusted
    assert comparison(found, found.trusted) is None
    assert not found.quantized


def test_evidence_pairs_the_candidate_with_the_incumbent_on_the_same_rows(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    better, worse = model("fp32", 0.0, tmp_path), model("incumbent", 0.5, tmp_path, size=20)
    found = evaluation.evidence(better, {"incumbent": worse, "fp32": better})
    between = (TRUSTED.x[:, 0] > 0) & (TRUSTED.x[:, 0] <= 0.5)
    judged = ~trusted_rows.ranking(TRUSTED)
    paired = comparison(found, found.trusted)
    assert paired is not None
    assert (paired.wins, paired.losses) == (int((between & judged).sum()), 0)
    assert len(found.trusted) + len(found.ranking) == 200
    assert 15 < len(found.ranking) < 70, "about one row in five"
    assert len(found.fresh) == 100
    assert found.fresh.difference(found.task).sum() > 0
    assert found.machine["incumbent"].bytes == 20
    assert {g.split("=")[0] for g in found.trusted.groups} == {"kind", "region"}
    assert {g: int(of.sum()) for g, of in found.fresh.classes.items()} == {
        f"class={c}": int((GATE.y == i).sum()) for i, c in enumerate(GRAPH.classes)
    }
    assert all(len(of) == len(found.trusted) for of in found.trusted.classes.values())
    assert not found.quantized, "fp32 is no quantization of itself"


def test_rows_without_a_label_are_no_evidence(tmp_path: Path) -> None:
    gate = rows_of(100, y=np.where(np.arange(100) % 2, -1, 0))
    found = terms(gate=gate).evidence(
        model("fp32", 0.0, tmp_path), {"incumbent": model("incumbent", 0.5, tmp_path)}
    )
    assert len(found.fresh) == 50
    assert len(found.unlabelled) == 100


def test_a_quantized_variant_is_held_to_its_fp32_student(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    exact, int8 = model("fp32", 0.0, tmp_path, size=40), model("static_int8", 0.1, tmp_path)
    found = evaluation.evidence(int8, {"incumbent": None, "fp32": exact})
    assert found.quantized
    assert (found.own.bytes, found.machine["fp32"].bytes) == (10, 40)
    assert "fp32" in found.unlabelled
    without = evaluation.evidence(
        model("static_int8", 0.1, tmp_path, fresh=None), {"incumbent": None, "fp32": exact}
    )
    assert len(without.unlabelled) == 0


def test_verified_rows_are_those_of_another_source_than_trained_on(tmp_path: Path) -> None:
    gate = rows_of(100, source=["clerks", "ledger", None, "ledger"] * 25)
    evaluation = terms(gate=gate, labels_in_loss=True, training_sources=("clerks",))
    found = evaluation.evidence(
        model("fp32", 0.0, tmp_path), {"incumbent": model("incumbent", 0.5, tmp_path)}
    )
    assert found.labels_in_loss
    assert len(found.verified()) == 50


def test_without_trusted_rows_nothing_is_measured(tmp_path: Path) -> None:
    nobody = TRUSTED.take(np.zeros(200, np.bool_))
    path = tmp_path / "m.onnx"
    path.write_bytes(b"x")
    empty = EvaluatedModel.of(
        "m", path, Threshold(0.0), trusted=nobody, gate=GATE,  # type: ignore[arg-type]
        probed=ProbeResult(name="m"),
    )  # fmt: skip
    with pytest.raises(ValueError, match="trusted rows"):
        terms(trusted=nobody).variant(empty)
