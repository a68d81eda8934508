from __future__ import annotations

from typing import Any

import pytest

from redistill.compress.judge.diagnose import diagnose, loss
from redistill.compress.plan import Measure


def known(share: float) -> Measure:
    return Measure(value=share, low=None, high=None, n=0)


def now(share: float, n: int = 200) -> Measure:
    return Measure(value=share, low=share - 0.1, high=share + 0.1, n=n)


def found(student: tuple[float, float], teacher: tuple[float, float] | None, **over: Any) -> str:
    n = over.pop("n", 200)
    given: dict[str, Any] = {
        "student": (known(student[0]), now(student[1], n)),
        "teacher": None if teacher is None else (known(teacher[0]), now(teacher[1], n)),
        "disagreement": None,
        "tolerance_points": 2.0,
    }
    return diagnose(**given | over).cause


@pytest.mark.parametrize(
    ("student", "teacher", "cause"),
    [
        ((0.95, 0.40), (0.97, 0.93), "compression_gap"),
        ((0.95, 0.70), (0.97, 0.72), "world_changed"),
        ((0.95, 0.75), (0.97, 0.87), "compression_gap"),  # exactly half of it is the student's own
        ((0.95, 0.75), (0.97, 0.86), "world_changed"),
        ((0.95, 0.99), (0.97, 0.97), "harmless"),
        ((0.95, 0.95), None, "undecided"),
        ((0.95, 0.60), None, "undecided"),
    ],
)
def test_diagnose_divides_the_loss_between_student_and_teacher(
    student: tuple[float, float], teacher: tuple[float, float] | None, cause: str
) -> None:
    assert found(student, teacher) == cause


def test_diagnose_calls_a_small_loss_harmless_only_with_rows_enough_to_be_sure() -> None:
    assert found((0.95, 0.945), (0.97, 0.97), n=20_000) == "harmless"
    assert found((0.95, 0.945), (0.97, 0.97), n=200) != "harmless"


def test_diagnose_puts_an_open_contract_finding_before_everything() -> None:
    assert found((0.95, 0.4), (0.97, 0.93), data_bug_columns=("income",), n=3) == "data_bug"


def test_diagnose_decides_nothing_on_fewer_than_20_labels() -> None:
    assert found((0.95, 0.4), (0.97, 0.93), n=19) == "undecided"
    assert found((0.95, 0.4), (0.97, 0.93), n=20) == "compression_gap"
    without = diagnose(student=None, teacher=None, disagreement=None, tolerance_points=1.0)
    assert (without.cause, without.labelled) == ("undecided", 0)


def test_loss_has_an_interval_that_shrinks_with_the_rows() -> None:
    few, many = loss(known(0.9), now(0.6, 50)), loss(known(0.9), now(0.6, 5_000))
    assert few.value == many.value == pytest.approx(30.0)
    assert few.low is not None
    assert few.high is not None
    assert many.low is not None
    assert few.low < many.low < 30.0 < few.high
    both = loss(Measure(value=0.9, low=0.85, high=0.94, n=100), now(0.6, 50))
    assert both.low is not None
    assert both.low < few.low
