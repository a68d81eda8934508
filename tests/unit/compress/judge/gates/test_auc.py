from __future__ import annotations

import numpy as np
from gate_evidence import evidence

from redistill.compress.judge.evidence import Evidence, Sample
from redistill.compress.judge.gates import auc
from redistill.compress.judge.task import Regression

ASKED = auc.Limit(margin_points=5.0)


def ordered(n: int, *, noise: float, seed: int = 0) -> Evidence:
    """An incumbent that orders well, and a candidate whose scores have more noise."""
    rng = np.random.default_rng(seed)
    truth = (np.arange(n) % 4 == 0).astype(np.int64)
    well = truth + rng.normal(scale=0.4, size=n)

    def logits(s: np.ndarray) -> np.ndarray:
        return np.stack([-s, s], axis=1).astype(np.float32)

    worse = well + rng.normal(scale=noise, size=n) if noise else well
    sample = Sample(
        truth=truth,
        scores={"candidate": logits(worse), "incumbent": logits(well)},
        hashes=rng.integers(0, 2**63, size=n).astype(np.uint64),
    )
    return evidence(trusted=sample)


def test_auc_is_asked_only_where_it_is_set() -> None:
    assert auc.judge(ordered(400, noise=0.0), auc.Limit()) is None
    assert auc.judge(evidence(task=Regression(clip=1.0)), ASKED) is None


def test_the_same_order_passes_and_a_worse_one_fails() -> None:
    same = auc.judge(ordered(400, noise=0.0), ASKED)
    assert same is not None
    assert same.passed is True
    worse = auc.judge(ordered(4_000, noise=1.5), ASKED)
    assert worse is not None
    assert worse.passed is False


def test_too_few_pairs_ask_for_rows_of_the_rarer_class() -> None:
    few = auc.judge(ordered(80, noise=0.0), ASKED)
    assert few is not None
    assert few.passed is None
    assert few.have == 80
    assert few.need is not None
    assert few.need > 80
    assert few.ask is not None
