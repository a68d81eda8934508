"""Ensemble of regression trees as arrays: read from LightGBM's text, run, stored; no pickle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import numpy as tensors

from redistill.files import write

__all__ = ["Ensemble", "joined", "load", "parsed", "save"]

SIZE_FILE, TREES_FILE = "size.json", "trees.safetensors"
DEFAULT_LEFT, MISSING_TYPE, NAN = 2, 12, 8
"""Bits of LightGBM's ``decision_type``: whether a missing value goes left, and what it takes for
one; ``NAN``: there were some in training."""

Size = TypeVar("Size")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Ensemble:
    """S splits and L leaves of T trees that are summed, for K targets."""

    feature: NDArray[np.int64]  # (S,)
    threshold: NDArray[np.float32]  # (S,)
    """A row goes on with ``yes`` where its value is at most this."""
    missing_yes: NDArray[np.bool_]  # (S,)
    """Whether NaN does, too."""
    yes: NDArray[np.int64]  # (S,)
    no: NDArray[np.int64]  # (S,)
    """A split or a leaf, by its number."""
    yes_leaf: NDArray[np.bool_]  # (S,)
    no_leaf: NDArray[np.bool_]  # (S,)
    leaf_value: NDArray[np.float32]  # (L,)
    leaf_target: NDArray[np.int64]  # (L,)
    roots: NDArray[np.int64]  # (T,), splits
    bias: NDArray[np.float64]  # (K,)
    """What is added to the sum of each target."""

    def scores(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Sums of the leaves that rows ``(n, columns)`` reach, ``(n, K)``, without the bias."""
        out = np.zeros((len(x), len(self.bias)))
        rows = np.arange(len(x))
        for root in self.roots:
            at, done = np.full(len(x), root), np.zeros(len(x), np.bool_)
            while not done.all():
                go = rows[~done]
                split = at[go]
                value = x[go, self.feature[split]]
                yes = np.where(
                    np.isnan(value), self.missing_yes[split], value <= self.threshold[split]
                )
                at[go] = np.where(yes, self.yes[split], self.no[split])
                done[go] = np.where(yes, self.yes_leaf[split], self.no_leaf[split])
            np.add.at(out, (rows, self.leaf_target[at]), self.leaf_value[at])
        return out


def rounded_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 that is not above each: the same float32 values are at most it.

    Examples
    --------
    >>> float(rounded_down(np.array([0.1]))[0]) < 0.1 < float(np.float32(0.1))
    True
    """
    near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)


def parsed(text: str, *, target: int, medians: NDArray[np.float64]) -> Ensemble:
    """Trees of a model of LightGBM.

    Parameters
    ----------
    text
        Of ``Booster.model_to_string``; numeric splits only.
    target
        What they are summed into.
    medians
        ``(columns,)`` what a missing value counts as, where there was none in training.

    Returns
    -------
    Ensemble
        With a bias of zeros. A tree without a split is left out, its value is in the bias.
    """
    trees, bias = [], np.zeros(target + 1)
    for tree in _trees(text):
        value = np.array(tree["leaf_value"].split(), np.float64)
        if len(value) < 2:
            bias[target] += value.sum()
            continue
        kind = np.array(tree["decision_type"].split(), np.int64)
        feature = np.array(tree["split_feature"].split(), np.int64)
        exact = np.array(tree["threshold"].split(), np.float64)
        learned = (kind & MISSING_TYPE) == NAN
        left, right = (
            np.array(tree[side].split(), np.int64) for side in ("left_child", "right_child")
        )
        trees.append(
            Ensemble(
                feature=feature,
                threshold=rounded_down(exact),
                missing_yes=np.where(learned, (kind & DEFAULT_LEFT) > 0, medians[feature] <= exact),
                yes=np.where(left < 0, ~left, left),
                no=np.where(right < 0, ~right, right),
                yes_leaf=left < 0,
                no_leaf=right < 0,
                leaf_value=value.astype(np.float32),
                leaf_target=np.full(len(value), target),
                roots=np.zeros(1, np.int64),
                bias=np.zeros(target + 1),
            )
        )
    return joined(trees, bias=bias)


def _trees(text: str) -> Iterator[dict[str, str]]:
    """``key=value`` lines of each tree."""
    for part in text.split("\nTree=")[1:]:
        lines = part.split("\nend of trees")[0].splitlines()
        yield dict(line.split("=", 1) for line in lines if "=" in line)


def joined(parts: Sequence[Ensemble], *, bias: NDArray[np.float64]) -> Ensemble:
    """All trees of some ensembles, and the sum of their biases and ``bias``."""
    total = bias.astype(np.float64)
    for part in parts:
        total[: len(part.bias)] += part.bias
    trees = [part for part in parts if len(part.roots)] or [_nothing()]
    splits = np.cumsum([0, *(len(t.feature) for t in trees)])
    leaves = np.cumsum([0, *(len(t.leaf_value) for t in trees)])

    def moved(name: str) -> NDArray[np.int64]:
        return np.concatenate(
            [
                getattr(t, name) + np.where(getattr(t, f"{name}_leaf"), to_leaf, to_split)
                for t, to_leaf, to_split in zip(trees, leaves, splits, strict=False)
            ]
        )

    same = [f.name for f in fields(Ensemble) if f.name not in ("yes", "no", "roots", "bias")]
    return Ensemble(
        **{name: np.concatenate([getattr(t, name) for t in trees]) for name in same},
        yes=moved("yes"),
        no=moved("no"),
        roots=np.concatenate([t.roots + at for t, at in zip(trees, splits, strict=False)]),
        bias=total,
    )


def _nothing() -> Ensemble:
    """A tree that adds nothing: an operator wants one."""
    zero, leaf = np.zeros(1, np.int64), np.ones(1, np.bool_)
    return Ensemble(
        feature=zero,
        threshold=np.zeros(1, np.float32),
        missing_yes=leaf,
        yes=zero,
        no=zero + 1,
        yes_leaf=leaf,
        no_leaf=leaf,
        leaf_value=np.zeros(2, np.float32),
        leaf_target=np.zeros(2, np.int64),
        roots=zero,
        bias=np.zeros(1),
    )


def save(made: Ensemble, size: object, folder: Path) -> None:
    """Write an ensemble and how large it was to be; the same ones give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f.name: np.ascontiguousarray(getattr(made, f.name)) for f in fields(made)}
    write(folder / SIZE_FILE, msgspec.json.encode(size, order="sorted"))
    write(folder / TREES_FILE, tensors.save(arrays))


def load(folder: Path, size: type[Size]) -> tuple[Ensemble, Size]:
    """Read what ``save`` wrote."""
    return (
        Ensemble(**tensors.load_file(folder / TREES_FILE)),
        msgspec.json.decode((folder / SIZE_FILE).read_bytes(), type=size),
    )
