"""Trees as arrays say what LightGBM says, and survive a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np

from redistill.compress.shrink import ensemble

GIVEN = {"verbosity": -1, "num_threads": 1, "num_leaves": 6, "min_data_in_leaf": 5}


def booster(x: Any, y: Any, rounds: int = 12) -> Any:
    return lightgbm.train(GIVEN, lightgbm.Dataset(x, np.ascontiguousarray(y)), rounds)


def table(seed: int = 0) -> Any:
    x = np.random.default_rng(seed).normal(size=(400, 4)).astype(np.float32)
    x[::7, 1] = np.nan
    return x


def parsed(model: Any, target: int = 0) -> ensemble.Ensemble:
    return ensemble.parsed(model.model_to_string(), target=target, medians=np.zeros(4))


def test_it_scores_what_lightgbm_predicts(tmp_path: Path) -> None:
    x = table()
    model = booster(x, np.nan_to_num(x[:, 1]) + x[:, 0] * x[:, 2])
    found = parsed(model)
    assert np.isnan(x).any()
    assert np.allclose(found.scores(x)[:, 0] + found.bias[0], model.predict(x), atol=1e-5)


def test_two_targets_are_summed_apart() -> None:
    x = table()
    models = [booster(x, x[:, 0]), booster(x, x[:, 2] ** 2)]
    both = ensemble.joined([parsed(m, k) for k, m in enumerate(models)], bias=np.array([1.0, 2.0]))
    for k, model in enumerate(models):
        found = both.scores(x)[:, k] + both.bias[k]
        assert np.allclose(found, model.predict(x) + k + 1.0, atol=1e-5)


def test_trees_without_a_split_are_a_number() -> None:
    x = table()
    found = parsed(booster(x, np.full(400, 3.0)))
    assert np.allclose(found.scores(x), 0.0)
    assert found.bias[0] == 3.0
    assert len(found.roots) == 1, "an operator wants a tree"


def test_what_is_stored_is_read_again_the_same(tmp_path: Path) -> None:
    found = parsed(booster(table(), table()[:, 0]))
    ensemble.save(found, {"leaves": 6}, tmp_path / "a")
    again, size = ensemble.load(tmp_path / "a", dict[str, int])
    ensemble.save(again, size, tmp_path / "b")
    assert size == {"leaves": 6}
    assert (again.scores(table(1)) == found.scores(table(1))).all()
    for name in ("size.json", "trees.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_threshold_never_moves_up() -> None:
    exact = np.random.default_rng(0).normal(size=500)
    near = ensemble.rounded_down(exact)
    assert (near <= exact).all()
    assert (np.nextafter(near, np.float32(np.inf)) > exact).all()
