"""Boosted trees answer in ONNX what they were fitted to, whatever is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from redistill.compress.errors import BadData, BadModel
from redistill.compress.judge.graph import Graph, GraphCall
from redistill.compress.plan import Training
from redistill.compress.shrink import temperature, trees
from redistill.compress.shrink.lesson import Lesson, Wanted


def rows(n: int = 800, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).uniform(-1, 1, size=(n, 3)).astype(np.float32)


def lesson(x: np.ndarray[Any, np.dtype[np.float32]], **fields: Any) -> Lesson:
    yes = (x[:, 0] > 0.25) == (x[:, 1] > -0.25)
    given: dict[str, Any] = {
        "x": x,
        "logits": np.stack([np.where(yes, -2.0, 2.0), np.where(yes, 2.0, -2.0)], 1).astype(
            np.float32
        ),
        "labels": None,
        "training": Training(),
        "seed": 0,
    }
    return Lesson(**given | fields)


def made(folder: Path, given: Lesson, outputs: int = 2, **fields: Any) -> Graph:
    size, _ = trees.sized(Wanted(inputs=3, outputs=outputs, training=Training(), **fields))
    trees.fit(size, given, folder / "learned")
    trees.to_onnx(folder / "learned", folder / "model.onnx", given.x[:50])
    return Graph(folder / "model.onnx", GraphCall(features=("a", "b", "c"), classes=outputs))


def test_two_classes_share_one_margin(tmp_path: Path) -> None:
    graph = made(tmp_path, lesson(rows()), most_bytes=20_000)
    other = rows(seed=1)
    taught = lesson(other).logits
    assert taught is not None
    assert (graph.classes(other) == taught.argmax(axis=1)).mean() > 0.98
    assert np.abs(graph.logits(other) - taught).mean() < 0.2
    (tree,) = [
        n for n in onnx.load(tmp_path / "model.onnx").graph.node if n.op_type == "TreeEnsemble"
    ]
    assert next(a.i for a in tree.attribute if a.name == "n_targets") == 1


def test_a_missing_value_counts_as_the_median_where_none_was_seen(tmp_path: Path) -> None:
    graph = made(tmp_path, lesson(rows()), most_bytes=20_000)
    gone, filled = rows(50, seed=2), rows(50, seed=2)
    gone[:, 0], filled[:, 0] = np.nan, np.median(rows()[:, 0])
    assert (graph.logits(gone) == graph.logits(filled)).all()


def test_a_missing_value_that_says_something_is_learned(tmp_path: Path) -> None:
    x = rows()
    x[::3, 2] = np.nan
    logits = np.stack([np.isnan(x[:, 2]) * 3.0, ~np.isnan(x[:, 2]) * 3.0], 1).astype(np.float32)
    graph = made(tmp_path, lesson(x, logits=logits), most_bytes=20_000)
    assert (graph.classes(x) == logits.argmax(axis=1)).all()


def test_values_at_a_threshold_go_the_same_way_as_in_training(tmp_path: Path) -> None:
    x = rows()
    x[:, 0] = np.round(x[:, 0], 1)  # no tenth is a float32: each threshold lies between two of them
    logits = np.stack([x[:, 0] > np.float32(0.3), x[:, 0] <= np.float32(0.3)], 1).astype(np.float32)
    graph = made(tmp_path, lesson(x, logits=4 * logits), most_bytes=20_000)
    assert (graph.classes(x) == logits.argmax(axis=1)).all()


def test_repeated_rows_weigh_more_but_are_not_held_out_from_themselves(tmp_path: Path) -> None:
    x = np.concatenate([rows(60)] * 8)
    graph = made(tmp_path, lesson(x), most_bytes=20_000)
    other = rows(seed=1)
    taught = lesson(other).logits
    assert taught is not None
    assert (graph.classes(other) == taught.argmax(axis=1)).mean() > 0.7


def test_labels_teach_where_the_teacher_has_no_say(tmp_path: Path) -> None:
    x = rows()
    labels = (x[:, 2] > 0).astype(np.int64) * 2
    labels[::5] = -1
    graph = made(tmp_path, lesson(x, logits=None, labels=labels), outputs=3, most_bytes=30_000)
    assert (graph.classes(rows(seed=1)) == (rows(seed=1)[:, 2] > 0) * 2).mean() > 0.97


def test_a_teacher_that_always_says_the_same_is_learned_too(tmp_path: Path) -> None:
    same = np.tile(np.array([[1.0, 3.0, -1.0]], np.float32), (200, 1))
    graph = made(tmp_path, lesson(rows(200), logits=same), outputs=3)
    assert np.allclose(
        graph.logits(rows(9)), same[:9] - same[:9].mean(axis=1, keepdims=True), atol=1e-4
    )


def test_temperature_divides_the_scores_of_trees(tmp_path: Path) -> None:
    graph = made(tmp_path, lesson(rows()), most_bytes=20_000)
    temperature.scaled(tmp_path / "model.onnx", tmp_path / "tempered.onnx", 2.0)
    tempered = Graph(tmp_path / "tempered.onnx", graph.call)
    assert np.allclose(2.0 * tempered.logits(rows(40)), graph.logits(rows(40)), atol=1e-5)


def test_one_row_is_nothing_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="1 different training rows"):
        made(tmp_path, lesson(np.concatenate([rows(1)] * 9)))


def test_the_rows_that_there_are_are_not_all_held_out(tmp_path: Path) -> None:
    two = np.array([[-0.5, 0, 0], [0.5, 0, 0]], np.float32)
    draws = {s: np.random.default_rng([s, 4]).random(2).max() for s in range(200)}
    seed = min(draws, key=lambda s: draws[s])
    assert draws[seed] < trees.HELD_OUT
    made(tmp_path, lesson(two, seed=seed), most_bytes=20_000)


def test_trees_begin_anew(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="fitted anew"):
        trees.fit_again(tmp_path, lesson(rows()), tmp_path / "out")


def test_a_small_file_has_smaller_trees_before_it_has_hardly_any() -> None:
    size, cut = trees.sized(Wanted(inputs=3, outputs=10, most_bytes=12_000, training=Training()))
    assert (size.rounds, size.leaves) == (10, 4)
    assert cut == "at most 10 trees of 4 leaves a class, not 200 of 16"
    tiny, _ = trees.sized(Wanted(inputs=3, outputs=10, most_bytes=100, training=Training()))
    assert (tiny.rounds, tiny.leaves) == (1, 4)
