"""A lesson is plain data: whoever makes one needs no torch."""

from __future__ import annotations

import numpy as np

from redistill.compress.plan import Training
from redistill.compress.shrink.lesson import Lesson, Wanted


def test_a_lesson_may_be_stopped_by_who_gave_it_but_need_not() -> None:
    said: list[float] = []
    x = np.zeros((2, 1), np.float32)
    lesson = Lesson(x=x, logits=x, labels=None, training=Training(), seed=0)
    lesson.check(0.5)  # nobody asked to be told
    Lesson(x=x, logits=x, labels=None, training=Training(), seed=0, check=said.append).check(0.5)
    assert said == [0.5]


def test_a_student_may_be_as_large_as_it_likes_unless_something_is_said() -> None:
    assert Wanted(inputs=1, outputs=2, training=Training()).most_bytes == float("inf")
