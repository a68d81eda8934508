"""Sample of the first rows of a version that has no profile, until they are enough to learn one
from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from redistill.streams.monitor.counts import confidence
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.monitor.reference import build_profile
from redistill.streams.wire.block import Codes, PredictionBlock, Schema

__all__ = ["Learned", "Learning", "Sample", "learn", "rows_needed"]

LEARNING_ROWS = 10_000
"""Rows from which a profile is learned."""
LEARNING_BYTES = 4_000_000
"""Wide models learn from fewer rows: the sample is part of the stored state."""
FEWEST_ROWS = 500


def rows_needed(features: int) -> int:
    """Rows that a model with so many features learns its profile from.

    Examples
    --------
    >>> rows_needed(20), rows_needed(1_000)
    (10000, 1000)
    """
    return max(FEWEST_ROWS, min(LEARNING_ROWS, LEARNING_BYTES // (4 * max(1, features))))


class Learning(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How far the learning of a profile is. A value."""

    sample: Sample | None = None
    done: bool = False
    """The profile was told, or another one was given."""


class Learned(msgspec.Struct, frozen=True, eq=False):
    """What learning hands on."""

    after: Learning
    profile: Profile | None = None
    """Once."""


def learn(
    before: Learning,
    block: PredictionBlock,
    parts: Iterable[tuple[int, int]],
    schema: Schema,
) -> Learned:
    """Collect rows until they are enough for a provisional profile.

    Parameters
    ----------
    before
        What is remembered of the rows before; it is not changed.
    parts
        First row and end of each part of the block.
    """
    sample, names = before.sample, schema.names
    if before.done or block.feature_names != names:
        return Learned(
            before
        )  # the codec fills the schema's order; else the schema is an older one
    needed = rows_needed(len(names))
    for first, end in parts:
        if sample is None or sample.names != names:
            sample = Sample(names)
        sample = sample.plus(block, first, min(end, first + needed - sample.rows))
        if sample.rows >= needed:
            profile = sample.profile(block.model, block.version, schema)
            return Learned(Learning(done=True), profile)
    return Learned(Learning(sample=sample))


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Rows collected so far. A value: ``plus`` returns a new one."""

    names: tuple[str, ...]
    blocks: tuple[
        tuple[NDArray[np.float32], list[str | None] | NDArray[np.float64], NDArray[np.float32]], ...
    ] = ()
    """(features (n, F), prediction (n,), confidence (n,)) each."""
    rows: int = 0

    def plus(self, block: PredictionBlock, start: int, end: int) -> Sample:
        """With rows ``start:end`` of a block."""
        p = block.prediction
        prediction = (
            Codes(p.codes[start:end], p.values).strings() if isinstance(p, Codes) else p[start:end]
        )
        part = (block.features[start:end].copy(), prediction, confidence(block)[start:end])
        return Sample(self.names, (*self.blocks, part), self.rows + end - start)

    def profile(self, model: str, version: str, schema: Schema) -> Profile:
        """The provisional profile that these rows make."""
        predictions = [p for _, p, _ in self.blocks]
        prediction: Codes | NDArray[np.float64]
        if all(isinstance(p, list) for p in predictions):
            prediction = Codes.of([s for p in predictions for s in p])
        else:
            prediction = np.concatenate([np.asarray(p, np.float64) for p in predictions])
        block = PredictionBlock(
            model=model,
            version=version,
            ids=[""] * self.rows,
            served_at=np.zeros(self.rows, np.int64),
            feature_names=self.names,
            features=np.concatenate([f for f, _, _ in self.blocks]),
            prediction=prediction,
            scores=np.concatenate([c for _, _, c in self.blocks])[:, None],
        )
        return build_profile(block, schema, provisional=True)

    def plain(self) -> dict[str, Any]:
        """For ``InputState.to_bytes``."""
        return {
            "names": self.names,
            "rows": self.rows,
            "blocks": [
                (
                    f.tobytes(),
                    p if isinstance(p, list) else np.asarray(p, np.float64).tobytes(),
                    c.tobytes(),
                )
                for f, p, c in self.blocks
            ],
        }

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Sample:
        """Read what ``plain`` told."""
        names = tuple(plain["names"])
        blocks = tuple(
            (
                np.frombuffer(f, np.float32).reshape(-1, len(names)),
                p if isinstance(p, list) else np.frombuffer(p, np.float64),
                np.frombuffer(c, np.float32),
            )
            for f, p, c in plain["blocks"]
        )
        return cls(names, blocks, plain["rows"])
