"""Family of boosted trees over tables, fitted to the teacher's scores by LightGBM.

For each class a regression on its centred logit (two classes share one), so that a student of steps
learns what the teacher is unsure of as well. Numbers are split as they come: no scale is needed and
none can be ruled by outliers. Missing values go the way that fits them where there were some to
learn from, else the way of the column's median, as in the other families; categories are one-hot.

References
----------
Ke, Meng, Finley, Wang, Chen, Ma, Ye, Liu 2017, LightGBM: A highly efficient gradient boosting
decision tree (NeurIPS). Operator ``TreeEnsemble`` of ``ai.onnx.ml`` 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from redistill.compress.errors import BadData, BadModel
from redistill.compress.shrink import ensemble, export
from redistill.compress.shrink.ensemble import Ensemble
from redistill.compress.shrink.lesson import Lesson, Wanted
from redistill.compress.shrink.trained import Architecture

__all__ = ["fit", "fit_again", "sized", "to_onnx"]

ROUNDS, LEAVES, FEWEST_LEAVES = 200, 16, 4
"""Trees for each class, and leaves of each: more of both gained nothing at 100 kB."""
HEADER, BYTES_PER_LEAF = 2_048, 24
"""Of the file: names and what surrounds the trees; numbers of a leaf and of its split."""
PER_VALUE = 8
"""Bytes for each value of a category."""
FEW_ROUNDS = 8
"""Below, trees are made smaller rather than fewer."""
HELD_OUT, PATIENCE = 0.125, 10
"""Share of the rows on which the number of trees is found, and how many without a gain end it."""
REACH = 8.0
"""Logits farther below the best one count as this: a class that is excluded need not be excluded
more exactly."""
SURE = 4.0
"""Logit of a label, where labels teach: its scale is found by the temperature."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeSize:
    """How many trees a class gets, at most, and leaves a tree."""

    inputs: int
    outputs: int
    categories: tuple[tuple[int, int], ...]
    rounds: int
    leaves: int


def sized(wanted: Wanted) -> tuple[TreeSize, str]:
    """As many trees as fit into a file, or fewer leaves where that is hardly any."""
    targets = 1 if wanted.outputs == 2 else wanted.outputs
    room = wanted.most_bytes - HEADER - PER_VALUE * sum(size for _, size in wanted.categories)
    leaves = LEAVES
    while leaves > FEWEST_LEAVES and room < FEW_ROUNDS * targets * leaves * BYTES_PER_LEAF:
        leaves //= 2
    rounds = int(min(ROUNDS, max(1.0, room / (targets * leaves * BYTES_PER_LEAF))))
    size = TreeSize(
        inputs=wanted.inputs,
        outputs=wanted.outputs,
        categories=wanted.categories,
        rounds=rounds,
        leaves=leaves,
    )
    cut = f"at most {rounds} trees of {leaves} leaves a class, not {ROUNDS} of {LEAVES}"
    return size, "" if (rounds, leaves) == (ROUNDS, LEAVES) else cut


def fit(size: TreeSize, lesson: Lesson, out: Path) -> None:
    """Fit trees to the teacher's logits, to labels, or to both.

    Raises
    ------
    BadData
        There is nothing to learn from.
    """
    x, first, counts = _distinct(lesson.x)
    target, known = _targets(size, lesson, first)
    x, target, counts = x[known], target[known], counts[known]
    if len(x) < 2:
        raise BadData(f"{len(x)} different training rows are too few to learn from")
    encoded = _encoded(size, x)
    held = np.random.default_rng([lesson.seed, 4]).random(len(x)) < HELD_OUT
    if held.all():  # of two or three rows
        held[:] = False
    bias = np.average(target, axis=0, weights=counts)
    medians = np.array([_median(column) for column in encoded.T])

    parts = []
    for k in range(target.shape[1]):

        def check(share: float, k: int = k) -> None:
            lesson.check((k + share) / target.shape[1])

        text = _boosted(
            size, encoded, target[:, k] - bias[k], counts, held, seed=lesson.seed, check=check
        )
        parts.append(ensemble.parsed(text, target=k, medians=medians))
    made = ensemble.joined(parts, bias=bias)
    ensemble.save(made, size, out)


def fit_again(folder: Path, lesson: Lesson, out: Path) -> None:
    """Trees are fitted anew: those that are there would have to stay as they are."""
    raise BadModel("trees cannot be learned on: they are fitted anew")


def to_onnx(folder: Path, out: Path, rows: NDArray[np.float32]) -> None:
    """Write the trees as one node; on ``rows`` it must answer what they do."""
    made, size = ensemble.load(folder, TreeSize)
    graph = export.GraphNodes()
    a = _architecture(size)
    parts = export.encoded(graph, a, export.INPUT)
    h = graph.node("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    h = graph.node("TreeEnsemble", h, domain="ai.onnx.ml", **_attributes(made))
    if size.outputs == 2:  # one margin, half of it for each
        h = graph.node("Mul", h, graph.constant("halves", np.array([-0.5, 0.5], np.float32)))
    graph.node("Add", h, graph.constant("bias", _logits(size, made.bias)), result=export.OUTPUT)
    graph.save(out, inputs=size.inputs, outputs=size.outputs, vectors=5)
    export.compare(out, rows, _logits(size, made.scores(_encoded(size, rows)) + made.bias))


def _architecture(size: TreeSize) -> Architecture:
    """How rows are encoded, as other families say it."""
    return Architecture(
        inputs=size.inputs, hidden=(), outputs=size.outputs, categories=size.categories
    )


def _encoded(size: TreeSize, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Numeric columns, then categories one-hot: ``(n, width)``, the columns of the graph."""
    numeric = list(_architecture(size).numeric)
    parts = [x[:, numeric]]
    parts += [x[:, [c]] == np.arange(many, dtype=np.float32) for c, many in size.categories]
    return np.ascontiguousarray(np.concatenate(parts, axis=1), np.float32)


def _logits(size: TreeSize, targets: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Logits of all classes, from what is fitted."""
    if size.outputs == 2:
        targets = targets[..., :1] * np.array([-0.5, 0.5])
    return targets.astype(np.float32)


def _distinct(
    x: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float64]]:
    """Different rows, where each stands first, and how often: a repeated row must not be learned
    and held out."""
    same = np.ascontiguousarray(x).view(np.dtype((np.void, x.shape[1] * x.itemsize)))[:, 0]
    _, first, counts = np.unique(same, return_index=True, return_counts=True)
    order = np.argsort(first)
    first = first[order]
    return x[first], first, counts[order].astype(np.float64)


def _targets(
    size: TreeSize, lesson: Lesson, rows: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What is fitted for some rows, ``(n, targets)``, and for which of them there is anything."""
    share = 1.0 if lesson.labels is None else lesson.training.kd_weight
    z = np.zeros((len(rows), size.outputs))
    known = np.ones(len(rows), np.bool_)
    if lesson.logits is not None:
        given = lesson.logits[rows].astype(np.float64)
        z += share * np.maximum(given - given.max(axis=1, keepdims=True), -REACH)
    if lesson.labels is not None and share < 1.0:
        labels = lesson.labels[rows]
        known = labels >= 0
        z += (1.0 - share) * SURE * (labels[:, None] == np.arange(size.outputs))
    z -= z.mean(axis=1, keepdims=True)
    return (z[:, 1:] - z[:, :1] if size.outputs == 2 else z), known


def _median(column: NDArray[np.float32]) -> float:
    finite = column[np.isfinite(column)]
    return float(np.median(finite)) if len(finite) else 0.0


def _boosted(
    size: TreeSize,
    x: NDArray[np.float32],
    y: NDArray[np.float64],
    counts: NDArray[np.float64],
    held: NDArray[np.bool_],
    *,
    seed: int,
    check: Callable[[float], None],
) -> str:
    """A model of LightGBM for one number a row, in its text format."""
    import lightgbm

    given = {
        "objective": "regression",
        "boost_from_average": False,
        "num_leaves": size.leaves,
        "learning_rate": float(np.clip(8.0 / size.rounds, 0.08, 0.3)),
        "min_data_in_leaf": int(np.clip(len(x) // 100, 2, 20)),
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "seed": seed,
        "verbosity": -1,
    }

    def told(env: Any) -> None:
        check(env.iteration / size.rounds)

    finite = np.clip(x, np.finfo(np.float32).min, np.finfo(np.float32).max)  # NaN stays
    train = lightgbm.Dataset(finite[~held], y[~held], weight=counts[~held], params=given)
    valid = [train.create_valid(finite[held], y[held], weight=counts[held])] if held.any() else []
    stop = [lightgbm.early_stopping(PATIENCE, verbose=False)] if valid else []
    booster = lightgbm.train(given, train, size.rounds, valid_sets=valid, callbacks=[told, *stop])
    text: str = booster.model_to_string(num_iteration=booster.best_iteration or None)
    return text


def _attributes(made: Ensemble) -> dict[str, Any]:
    """Of the node."""
    return {
        "n_targets": len(made.bias),
        "aggregate_function": 1,  # sum
        "post_transform": 0,  # none
        "tree_roots": made.roots.tolist(),
        "nodes_featureids": made.feature.tolist(),
        "nodes_splits": numpy_helper.from_array(made.threshold),
        "nodes_modes": numpy_helper.from_array(np.zeros(len(made.feature), np.uint8)),  # <=
        "nodes_truenodeids": made.yes.tolist(),
        "nodes_falsenodeids": made.no.tolist(),
        "nodes_trueleafs": made.yes_leaf.astype(int).tolist(),
        "nodes_falseleafs": made.no_leaf.astype(int).tolist(),
        "nodes_missing_value_tracks_true": made.missing_yes.astype(int).tolist(),
        "leaf_targetids": made.leaf_target.tolist(),
        "leaf_weights": numpy_helper.from_array(made.leaf_value),
    }
