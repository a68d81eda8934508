"""Roles of a job's rows: training, replay, gate and trusted.

Rows that a gate uses were seen by no candidate: ``split`` divides them by id, and rows that repeat
a training row's content are left out of the gate as well (a retried request carries another id).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redistill.compress.errors import BadData, BadJob
from redistill.compress.plan import GraphSpec, JobSpec
from redistill.compress.rows import Rows, examples

__all__ = [
    "REPEATS_BY_NATURE",
    "PreparedRows",
    "categories",
    "digests",
    "encode",
    "gate_rows",
    "prepare",
    "unique_rows",
    "with_labels",
]

MIN_TRAIN_ROWS = 32
"""Fewer rows than this say nothing about a domain."""
REPEATS_BY_NATURE = 0.5
"""Where fewer rows than this share are distinct, equal rows are equal cases, not retries."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PreparedRows:
    """The rows of a repair, each in its role."""

    train: Rows
    """Fresh rows that are trained on."""
    replay: Rows
    """Reference rows that are trained on, so that what was known stays known."""
    gate: Rows
    """Fresh rows that only judge, labelled or not."""
    trusted: Rows
    counts: dict[str, int]
    warnings: tuple[str, ...]

    @property
    def train_x(self) -> NDArray[np.float32]:
        """``(n, F)``: fresh, then replay."""
        return np.concatenate([self.train.x, self.replay.x])

    def schedule(self, replay_ratio: float, max_repeats: int) -> NDArray[np.int64]:
        """Rows of ``train_x`` that an epoch goes through, ``(m,)``: few fresh rows are seen more
        than once, so that replay does not drown them."""
        fresh, replay = len(self.train), len(self.replay)
        wanted = round(replay / (replay_ratio * fresh)) if replay_ratio and fresh else 1
        repeats = int(np.clip(wanted, 1, max_repeats))
        return np.concatenate([np.tile(np.arange(fresh), repeats), fresh + np.arange(replay)])


def digests(x: NDArray[np.float32]) -> NDArray[np.uint64]:
    """A 64-bit digest of each row's content, ``(n,)``; NaN equals NaN."""
    canonical = np.where(np.isnan(x), np.float32(np.nan), x).astype("<f4", order="C")
    return np.array(
        [
            int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "little")
            for row in canonical
        ],
        np.uint64,
    )


def unique_rows(rows: Rows) -> tuple[Rows, int, bool]:
    """Leave out repeated ids and, unless rows repeat by nature, repeated content.

    The first of two equal rows stays, but for one thing: a row with a label stays before one
    without.

    Returns
    -------
    tuple
        The rows, how many were left out, and whether content was compared.
    """
    keep = np.ones(len(rows), np.bool_)
    order = np.lexsort((np.arange(len(rows)), ~rows.labelled))  # labelled first, then by position

    def first_of(keys: NDArray[Any], among: NDArray[np.intp]) -> None:
        _, first = np.unique(keys[among], return_index=True)
        repeated = np.ones(len(among), np.bool_)
        repeated[first] = False
        keep[among[repeated]] = False

    has_id = order[rows.id_hash[order] != 0]
    first_of(rows.id_hash, has_id)
    left = order[keep[order]]
    content = digests(rows.x)
    compared = len(np.unique(content[left])) >= REPEATS_BY_NATURE * len(left)
    if compared:
        first_of(content, left)
    return rows.take(keep), int((~keep).sum()), compared


def gate_rows(fresh: Rows, trained: NDArray[np.uint64]) -> tuple[Rows, int]:
    """The rows that judge: split ``gate``, each once, none that was trained on.

    Parameters
    ----------
    fresh
        All fresh rows.
    trained
        Digests of every row that a candidate was trained on.

    Returns
    -------
    tuple
        The rows, and how many were left out because of what they repeat.
    """
    rows, dropped, compared = unique_rows(fresh.take(fresh.gate))
    if compared:
        seen = np.isin(digests(rows.x), trained)
        rows, dropped = rows.take(~seen), dropped + int(seen.sum())
    return rows, dropped


def prepare(job: JobSpec, fresh: Rows, reference: Rows, trusted: Rows) -> PreparedRows:
    """Give each row its role.

    Parameters
    ----------
    job
        How much replay, how many fresh rows, what is trained on, the seed.

    Returns
    -------
    PreparedRows
        The same rows for the same arguments.

    Raises
    ------
    BadData
        Too few rows to train on, or training on labels that are not there.
    """
    warnings = []
    train, repeated, compared = unique_rows(fresh.take(~fresh.gate))
    if not compared:
        warnings.append(
            "most fresh rows repeat others, as rows of few values do: only repeated ids are left"
            " out, and gate rows may equal training rows"
        )
    counts = {"fresh": len(fresh), "dropped_duplicates": repeated}
    known = digests(trusted.x)
    if compared:
        train = train.take(~np.isin(digests(train.x), known))
    if job.train_on == "labels":
        train = train.take(train.labelled)
        if len(np.unique(train.y)) < 2:
            raise BadData(
                f"{len(train)} labelled training rows of {len(np.unique(train.y))} class: training"
                " on labels needs rows of two classes"
            )
    if len(train) > job.training.max_fresh_rows:
        # what somebody asked to learn from comes first; else the latest say most about now
        own = np.array([job.source is not None and s == job.source for s in train.source])
        latest = np.lexsort((train.served_at, own))[-job.training.max_fresh_rows :]
        train = train.take(np.sort(latest))
    if len(train) < MIN_TRAIN_ROWS:
        raise BadData(
            f"{len(train)} fresh rows to train on, at least {MIN_TRAIN_ROWS} are needed: wait for"
            " more traffic"
        )

    pool = reference
    if len(reference) < MIN_TRAIN_ROWS and job.training.replay_ratio > 0:
        raise BadData(
            f"reference.parquet has {len(reference)} rows, at least {MIN_TRAIN_ROWS} are needed"
            " for replay; without replay a student forgets what it knew"
        )
    if compared:
        leaked = np.isin(digests(reference.x), known)
        if leaked.any():
            counts["dropped_trusted"] = int(leaked.sum())
            warnings.append(
                f"{int(leaked.sum())} reference rows equal trusted rows and are not trained on"
            )
            pool = reference.take(~leaked)
    ratio = job.training.replay_ratio
    asked = max(round(ratio * len(train)), job.training.min_replay_rows if ratio else 0)
    wanted = min(len(pool), asked)
    drawn = np.random.default_rng([job.seed, 1]).permutation(len(pool))[:wanted]
    replay = pool.take(np.sort(drawn))

    gate, dropped = gate_rows(fresh, digests(np.concatenate([train.x, replay.x])))
    counts |= {
        "train": len(train),
        "replay": len(replay),
        "gate": len(gate),
        "gate_labelled": int(gate.labelled.sum()),
        "dropped_gate": dropped,
        "trusted": len(trusted),
    }
    silent = np.flatnonzero(np.isnan(train.x).all(axis=0))
    if len(silent):
        names = [job.graph.features[j] for j in silent]
        warnings.append(f"features without any value in the fresh rows: {examples(names)}")
    return PreparedRows(
        train=train,
        replay=replay,
        gate=gate,
        trusted=trusted,
        counts=counts,
        warnings=tuple(warnings),
    )


def categories(graph: GraphSpec) -> tuple[tuple[int, int], ...]:
    """(column, number of values) of each categorical feature, in the graph's order.

    Raises
    ------
    BadJob
        A category is no feature.
    """
    if wrong := [c for c in graph.categories if c not in graph.features]:
        raise BadJob(f"job.json: categories {examples(wrong)} are no features")
    return tuple(
        (j, len(graph.categories[name]))
        for j, name in enumerate(graph.features)
        if name in graph.categories
    )


def encode(
    x: NDArray[np.float32], graph: GraphSpec, fill: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Rows as numbers that a linear model can read: filled, one-hot, with a flag where missing.

    Parameters
    ----------
    x
        ``(n, F)``.
    fill
        ``(F,)`` what stands in for NaN.

    Returns
    -------
    numpy.ndarray
        ``(n, columns)`` without NaN.
    """
    kinds = dict(categories(graph))
    missing = np.isnan(x)
    filled = np.where(missing, fill, x).astype(np.float64)
    parts = [
        (x[:, j : j + 1] == np.arange(kinds[j])).astype(np.float64)
        if j in kinds
        else filled[:, j : j + 1]
        for j in range(x.shape[1])
    ]
    return np.concatenate([*parts, missing.astype(np.float64)], axis=1)


def with_labels(rows: Rows, answers: NDArray[np.int64]) -> Rows:
    """The same rows; those without a label get the given class (the teacher's)."""
    return replace(rows, y=np.where(rows.labelled, rows.y, answers))
