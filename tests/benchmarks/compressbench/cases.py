"""The ten cases: data, teacher and the student that serves."""

from __future__ import annotations

from dataclasses import dataclass

from compressbench.drawing import CATEGORIES

__all__ = ["CASES", "Case"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A model with a teacher of another library, and drift that the teacher copes with."""

    name: str
    rows: str
    """Of ``drawing.DRAWS``, or ``mnist``."""
    teacher: str
    """Of ``teacher_tools.TEACHERS``, or ``torch``: a convolutional net, of pixels."""
    hidden: tuple[int, ...] = (128, 128)
    """Of the student that serves."""
    categories: tuple[int, ...] = ()
    """Numbers of values of the first columns."""
    trusted: int = 1_000
    """Rows."""
    teacher_rows: int = 6_000
    """Of each domain."""


CASES = (
    Case(name="digits, torch", rows="veiled digits", teacher="torch", trusted=450),
    Case(name="digits, XGBoost", rows="dimmed digits", teacher="xgboost", trusted=450),
    Case(
        name="mnist_5k, torch", rows="mnist", teacher="torch", hidden=(80, 80), teacher_rows=4_000
    ),
    Case(name="wine, sklearn", rows="wine", teacher="forest", trusted=600, teacher_rows=2_000),
    Case(name="20 classes, sklearn", rows="twenty classes", teacher="perceptron"),
    Case(name="1:50, XGBoost", rows="one in fifty", teacher="xgboost", trusted=3_000),
    Case(name="step rules, LightGBM", rows="step rules", teacher="lightgbm"),
    Case(name="categories, sklearn", rows="categories", teacher="encoded", categories=CATEGORIES),
    Case(name="wide, CatBoost", rows="wide", teacher="catboost", hidden=(96, 96)),
    Case(name="missing values, LightGBM", rows="missing", teacher="lightgbm"),
)
