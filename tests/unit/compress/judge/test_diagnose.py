from __future__ import annotations

from redistill.compress.judge import causes
from redistill.compress.judge.diagnose import diagnose
from redistill.compress.judge.symptoms import Symptoms
from redistill.compress.plan import Measure


def test_first_rule_with_an_opinion_is_believed_and_its_numbers_are_told() -> None:
    lost = Measure(value=12.0, low=8.0, high=16.0, n=300)
    kept = Measure(value=11.0, low=7.0, high=15.0, n=300)
    symptoms = Symptoms(
        labelled=300, tolerance_points=2.0, lost=lost, teacher_lost=kept, recoverable=kept,
        recoverable_at_least=5.7, disagreement=kept,
    )  # fmt: skip
    (verdict,) = {v for rule in causes.RULES[:-1] if (v := rule(symptoms)) is not None and v.cause == "compression_gap"}  # fmt: skip
    found = diagnose(symptoms)
    assert (found.cause, found.why) == (verdict.cause, verdict.why)
    assert (found.student_loss_points, found.recoverable_points) == (lost, kept)
    assert found.recoverable_at_least == 5.7
    assert (found.teacher_loss_points, found.disagreement) == (kept, kept)
    assert (found.labelled, found.tolerance_points) == (300, 2.0)
