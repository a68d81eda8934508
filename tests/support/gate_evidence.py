"""Evidence for gates without models: rows on which somebody was right, and somebody was not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from redistill.compress.judge.evidence import Evidence, Machine, Role, Sample
from redistill.compress.judge.task import Classification

TASK = Classification(classes=2)
OF = {True: (1.0, 0.0), False: (0.0, 1.0)}
"""Scores of a right and of a wrong answer: the true class is always the first."""


def versus(
    wins: int, losses: int, ties: int, *, against: Role = "incumbent", **fields: Any
) -> Sample:
    """Rows that only the candidate, only the other, or both got right.

    Parameters
    ----------
    against
        Who the other is; the incumbent is always there too, and answers like the other.
    fields
        Of the sample.
    """
    right = np.array([(True, False)] * wins + [(False, True)] * losses + [(True, True)] * ties)
    right = right.reshape(-1, 2)
    own = scores(right[:, 0])
    other = scores(right[:, 1])
    roles: dict[Role, Any] = {"candidate": own, "incumbent": other, against: other}
    return Sample(truth=np.zeros(len(right), np.int64), scores=roles, **fields)


def scores(right: Any) -> np.ndarray:
    """``(n, 2) float32``: the first class where ``right``."""
    return np.array([OF[bool(r)] for r in right], np.float32).reshape(-1, 2)


def evidence(**fields: Any) -> Evidence:
    """A good quantized candidate that answers an incident, with 1,000 trusted rows."""
    given: dict[str, Any] = {
        "variant": "static_int8",
        "task": TASK,
        "requirement": "beat",
        "quantized": True,
        "integer_operators": ("QGemm",),
        "machine": machines(),
        "fresh": versus(40, 3, 57),
        "trusted": versus(20, 4, 976),
        "unlabelled": alike(500, 1),
    }
    return Evidence(**given | fields)


def machines(own: Mapping[str, Any] | None = None, **others: Machine) -> dict[str, Machine]:
    """What candidate, incumbent and fp32 student cost."""
    usual = {"bytes": 30_000, "p50_ms": 0.05, "p95_ms": 0.06}
    usual |= {"rows_per_s": 18_000.0, "peak_bytes": 30_000_000}
    return {
        "candidate": Machine(**usual | dict(own or {})),
        "incumbent": Machine(**usual),
        "fp32": Machine(bytes=100_000, p50_ms=0.10, p95_ms=0.12),
    } | others


def alike(n: int, flips: int) -> Sample:
    """Rows on which candidate and fp32 student answer the same, but for some."""
    same = np.arange(n) >= flips
    roles: dict[Role, Any] = {"candidate": scores(same), "fp32": scores(np.ones(n, bool))}
    return Sample(truth=np.full(n, -1, np.int64), scores=roles)
