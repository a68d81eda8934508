"""Errors of a model that is better in some slices than in others, with a truth that is known: five
columns of slices of 1 to 50% of the rows, and a confidence that tells half of what there is to
know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redistill.streams.monitor.accuracy import account
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.monitor.outcomes import AccuracyState, Outcomes
from redistill.streams.monitor.slice_memory import LabelledRows
from redistill.streams.wire.block import Codes, Schema
from redistill.streams.wire.events import DriftFound
from redistill.times import SECOND

REFERENCE_ROWS = 20_000
COLUMNS = {
    "half": (0.5, 0.5),
    "fifth": (0.2,) * 5,
    "tenth": (0.1,) * 10,
    "twentieth": (0.05,) * 20,
    "small": (0.01, 0.01, 0.02, 0.03, 0.05, 0.08, 0.2, 0.6),
}
CALL_ROWS = 500
DAY_ROWS = 1_440


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one model in the order in which they were served."""

    slices: dict[str, NDArray[np.int32]]
    confidence: NDArray[np.float32]
    wrong: NDArray[np.uint8]

    def codes(self, which: NDArray[np.intp]) -> dict[str, Codes]:
        """Slices of some rows, as outcomes have them."""
        return {
            name: Codes(values[which], tuple(f"v{i}" for i in range(len(COLUMNS[name]))))
            for name, values in self.slices.items()
        }


@dataclass(frozen=True, slots=True)
class World:
    """How often a model is wrong on which row."""

    base: float
    effects: dict[str, NDArray[np.float64]]

    @classmethod
    def drawn(cls, rng: np.random.Generator, base: float, spread: float = 0.3) -> World:
        """A world whose slices differ by a log-normal factor of this spread."""
        effects = {}
        for name, shares in COLUMNS.items():
            factor = np.exp(rng.normal(0, spread, len(shares)))
            effects[name] = factor / float(factor @ np.array(shares))
        return cls(base, effects)

    def rows(
        self,
        rng: np.random.Generator,
        n: int,
        *,
        harmed: tuple[str, int] | None = None,
        harm: str = "",
        since: int = 0,
        runs: int = 1,
        wave: float = 0.0,
        grown: tuple[str, int, float] | None = None,
    ) -> Rows:
        """Rows of this world.

        Parameters
        ----------
        harmed, harm, since
            Column and value that is harmed from row ``since`` on: ``flip`` or ``+20``; without a
            slice all rows are.
        runs
            Mean length of the runs in which errors come.
        wave
            Amplitude of the daily wave of errors.
        grown
            Column, value, and the share of the rows that it has instead of its own.
        """
        slices = {}
        for name, shares in COLUMNS.items():
            p = np.array(shares) / sum(shares)
            if grown is not None and grown[0] == name:
                p = p * (1 - grown[2]) / (1 - p[grown[1]])
                p[grown[1]] = grown[2]
            slices[name] = rng.choice(len(p), n, p=p).astype(np.int32)
        doubt = rng.random(n)
        error = self.base * 2 * doubt
        for name, values in slices.items():
            error = error * self.effects[name][values]
        if wave:
            error = error * (1 + wave * np.sin(2 * np.pi * np.arange(n) / DAY_ROWS))
        error = np.clip(error, 0.0005, 0.95)
        if harm:
            where = np.arange(n) >= since
            if harmed is not None:
                where &= slices[harmed[0]] == harmed[1]
            worse = 1 - error if harm == "flip" else np.minimum(error + 0.2, 0.98)
            error = np.where(where, worse, error)
        if runs == 1:
            chance = rng.random(n)
        else:  # the same draw for a run of rows: errors come together, each row's chance is the same
            kept = rng.random(n) >= 1 / runs
            kept[0] = False
            chance = rng.random(n)[np.maximum.accumulate(np.where(kept, 0, np.arange(n)))]
        return Rows(slices, (1 - 0.5 * doubt).astype(np.float32), (chance < error).astype(np.uint8))


def reference(rows: Rows) -> tuple[BaseError, ExpectedError]:
    """What is normal, from rows before anything changed."""
    every = np.arange(len(rows.wrong))
    times = every * SECOND
    base = BaseError.from_errors(rows.wrong, times=times)
    return base, ExpectedError.fit(rows.wrong, rows.codes(every), rows.confidence)


def labelled(rows: Rows, expected: ExpectedError) -> LabelledRows:
    """All rows with their labels, as the tests of slices take them."""
    n = len(rows.wrong)
    codes = rows.codes(np.arange(n))
    return LabelledRows(
        rows.wrong,
        np.arange(n) * SECOND,
        expected.of(codes, rows.confidence, rows=n).astype(np.float32),
        expected.tested(codes, rows=n),
        np.full(n, -1, np.int8),
    )


def findings(
    rows: Rows,
    base: BaseError,
    expected: ExpectedError | None,
    rng: np.random.Generator,
    *,
    label_share: float,
    label_delay: int = 500,
    tolerance_points: float = 1.0,
    rows_per_alarm: float = 1e6,
    call_rows: int = CALL_ROWS,
) -> Iterator[tuple[int, DriftFound]]:
    """What is said of the rows, with the row at which it is said."""
    config = WatchConfig(
        model="sliced",
        schema=Schema(features=()),
        tolerance_points=tolerance_points,
        rows_per_alarm=rows_per_alarm,
    )
    labelled = np.flatnonzero(rng.random(len(rows.wrong)) < label_share)
    state: AccuracyState | None = None
    for start in range(0, len(rows.wrong), call_rows):
        which = labelled[(labelled >= start) & (labelled < start + call_rows)]
        state, found, positions = account(
            state,
            Outcomes(
                error=rows.wrong[which],
                served_at=which * SECOND,
                received_at=(which + label_delay) * SECOND,
                confidence=rows.confidence[which],
                slices=rows.codes(which),
            ),
            version="1",
            base=base,
            expected=expected,
            config=config,
            label_share=label_share,
        )
        for f, i in zip(found, positions, strict=True):
            yield int(which[i]) + label_delay, f
