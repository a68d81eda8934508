"""Company: whether a graph's answer to a row depends on chance, or on the other rows of its call.

Services ask row by row, registration and the gates by the thousand: a graph that looks across rows
is measured as another model than the one that serves.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["dependent"]

COMPANY, ALONE = 64, 16
"""Rows of the call in company, and those of them that are asked again alone."""
TOLERANCE, ROUNDED = 0.01, 0.1
"""Share of a row's usual score; the second where numbers are rounded to int8, which may take its
ranges from the batch."""

Answer = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def dependent(answer: Answer, rows: NDArray[np.float32], *, rounded: bool = False) -> str | None:
    """What is wrong with answers that depend on more than their row; ``None``: nothing is.

    Parameters
    ----------
    answer
        The graph: from rows to scores, ``(n, F)`` to ``(n, classes)``.
    rows
        Real ones, one at least.
    rounded
        Whether it computes in int8.

    Examples
    --------
    >>> x = np.arange(12, dtype=np.float32).reshape(6, 2)
    >>> dependent(lambda x: 2 * x, x)
    >>> dependent(lambda x: x - x.mean(axis=0), x)[:52]
    'its answer to a row depends on the other rows of its'
    """
    picked = rows[np.linspace(0, len(rows) - 1, COMPANY).astype(int)]
    whole = answer(picked)
    if whole.ndim != 2 or len(whole) != len(picked):
        return None  # no scores: whoever reads them says so
    known = np.abs(np.where(np.isfinite(whole), whole, 0)).max(axis=1)
    share = ROUNDED if rounded else TOLERANCE
    near = float(share * np.median(known) + 1e-5 * known.max())

    def same(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
        return a.shape == b.shape and np.allclose(a, b, rtol=share, atol=near, equal_nan=True)

    if not same(answer(picked), whole):
        return (
            "it answers the same rows otherwise each time it is asked: it draws at random; export"
            " it for inference (torch: model.eval()), without Random..., Bernoulli or Multinomial"
        )
    for i in np.linspace(0, COMPANY - 1, ALONE).astype(int):
        if not same(answer(picked[i : i + 1]), whole[i : i + 1]):
            return (
                "its answer to a row depends on the other rows of its call: something in it runs"
                " along the rows, axis 0 (a Softmax, a mean or a maximum of the batch, an LSTM"
                " without batch_first); let it run along the features (torch: dim=1), with"
                " statistics fixed in training"
            )
    return None
