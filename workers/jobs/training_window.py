"""Training window of a job: served rows of the incumbent since the change, with the labels that are
known, divided into rows to train on and rows that only judge. Where a label source was asked for,
rows to train on that it labelled are taken from before the window, too: on a busy service a person
labels what was served long before the last rows.

One salted bit of the id's hash, fixed per incident, decides to which side a row belongs, so that a
row stays on its side however often the window is read again while labels come in. Training rows end
where the window was frozen; gate rows go on to now.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from numpy.typing import NDArray

from redistill.compress.plan import column_of
from redistill.rownames import Names
from redistill.streams.store.standing_label import standing_label
from redistill.streams.store.tables import feature_rows, join_rows, labels, outcomes
from redistill.workers.errors import WorkersError
from redistill.workers.releases.release_files import write_whole

__all__ = [
    "MAX_LABELLED",
    "TrainingWindow",
    "WindowError",
    "WindowQuery",
    "labelled_outcomes",
    "read",
    "split_is_gate",
    "write",
]

MAX_LABELLED = 5_000
"""Labelled rows of either side, the newest: many times what any gate needs to decide."""

MAX_SCANNED = 500_000
"""Feature rows looked at, the newest first; at 50 rows/s nearly three hours."""


class WindowError(WorkersError):
    """The rows that a job needs are not there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowQuery:
    """Which rows a job wants. Times are microseconds since 1970."""

    model: str
    version: str
    """The incumbent: rows that it served."""
    features: tuple[str, ...]
    classes: tuple[str, ...] = ()
    """Labels of ``source`` that name none of them count for nothing; empty: all count."""
    segments: tuple[str, ...] = ()
    """Slices and groups that are no features: columns of labelled rows, null elsewhere."""
    salt: str
    """Divides gate rows from training rows."""
    train_rows: int
    """Training rows at most, the newest."""
    since: int | None
    """The change point; ``None``: the last ``last_rows`` rows, whenever they were served."""
    last_rows: int = 0
    frozen_at: int | None = None
    """End of the training rows; ``None``: now."""
    raised_seq: int | None = None
    """Outcomes up to this number raised the alarm. They were picked for being wrong, so they may
    train and diagnose, but not judge."""
    only: frozenset[int] | None = None
    """Hashes of the ids whose labels count; ``None``: all."""
    source: str | None = None
    """A label source outside ``[labels] sources`` that an operator asked to be believed: the newest
    ``train_rows`` rows to train on with its label come whenever they were served."""
    bound_sources: tuple[str, ...] = ()
    """``[labels] bound``: where there are any, another source that was asked for trains only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingWindow:
    """Rows as they stood in SQL, divided."""

    table: pa.Table
    """Columns as in ``redistill.compress.plan``: ``fresh.parquet``."""
    since: int | None
    """Serving time of the first row of the window; a source that was asked for may train from
    before."""
    newest: int | None
    """Serving time of its last row."""
    counts: dict[str, int] = field(default_factory=dict)
    """``train``, ``train_labelled``, ``gate_labelled``, ``labelled``, and where a source was asked
    for ``asked``: training rows with its label, naming a class."""


@dataclass(frozen=True, slots=True)
class _Label:
    label: str
    source: str
    p_include: float | None
    raised: bool = False
    """Whether it was among those that raised the alarm."""
    slices: str | None = None
    """JSON of the row's slices."""


def split_is_gate(hashes: NDArray[np.int64], salt: str) -> NDArray[np.bool_]:
    """Which rows only judge: one bit of each id's hash, mixed with the salt.

    The mixing is the finaliser of SplitMix64 (Steele, Lea, Flood, 2014): every bit of the hash
    moves the result, so the sampled rows (small hashes) are halved like all others.

    Parameters
    ----------
    hashes
        ``(n,) int64``, as SQL stores them.
    salt
        Of the incident.

    Returns
    -------
    numpy.ndarray
        ``(n,) bool``

    Examples
    --------
    >>> split_is_gate(np.arange(8), "a").tolist()
    [True, False, True, False, True, False, True, False]
    """
    offset = np.uint64(
        int.from_bytes(hashlib.blake2b(salt.encode(), digest_size=8).digest(), "big")
    )
    with np.errstate(over="ignore"):
        z = np.asarray(hashes, np.int64).view(np.uint64) + offset
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return np.asarray((z & np.uint64(1)) == 1)


def read(conn: sa.Connection, query: WindowQuery) -> TrainingWindow:
    """Read the window from SQL.

    Parameters
    ----------
    conn
        A reading transaction.
    query
        Which rows.

    Returns
    -------
    Window
        Rows in the order in which they were served, each id once. A window without rows is an empty
        table: what that means is the caller's decision.

    Raises
    ------
    WindowError
        Features that the model needs were not stored (``[privacy] store_features``).
    """
    known = _labels(conn, query)
    believed = _asked(known, query)
    parts: list[pa.Table] = []
    seen: set[int] = set()
    scanned = taken = train = asked = 0
    per_side = {True: 0, False: 0}
    oldest: int | None = None
    for block in _blocks(conn, query):
        if scanned >= MAX_SCANNED:
            break
        scanned += block.num_rows
        hashes = block.column("id_hash").to_numpy()
        served = block.column("served_at").cast(pa.int64()).to_numpy()
        gate = split_is_gate(hashes, query.salt)
        keep: list[int] = []
        for i in np.argsort(served, kind="stable")[::-1].tolist():
            h, at = int(hashes[i]), int(served[i])
            if (query.since is not None and at < query.since) or h in seen:
                continue
            if query.since is None and taken >= query.last_rows:
                break
            seen.add(h)
            taken += 1
            oldest = at if oldest is None else min(oldest, at)
            label = known.get(h)
            labelled = label is not None
            gate[i] = side = bool(gate[i]) and not (label is not None and label.raised)
            late = not side and query.frozen_at is not None and at > query.frozen_at
            if late or (side and not labelled):
                continue
            if labelled and per_side[side] < MAX_LABELLED:
                per_side[side] += 1
            elif side or train >= query.train_rows:
                continue
            train += not side
            asked += h in believed
            keep.append(i)
        if keep:
            parts.append(_rows(block.take(keep), gate[keep], known, query))
        if query.since is None and taken >= query.last_rows:
            break
    older = _older(conn, query, believed - seen, min(query.train_rows, MAX_LABELLED) - asked)
    for block, gate in older:
        parts.append(_rows(block, gate, known, query))
        train, asked = train + len(block), asked + len(block)
        per_side[False] += len(block)
    table = pa.concat_tables(parts) if parts else _empty(query)
    table = table.sort_by([("served_at", "ascending"), ("id_hash", "ascending")])
    newest = table.column("served_at")[-1].value if len(table) else None
    labelled_train = per_side[False]
    return TrainingWindow(
        table=table,
        since=query.since if query.since is not None else oldest,
        newest=newest,
        counts={
            "train": train,
            "train_labelled": labelled_train,
            "gate_labelled": per_side[True],
            "labelled": labelled_train + per_side[True],
            "scanned": scanned,
            **({} if query.source is None else {"asked": asked}),
        },
    )


def _asked(known: Mapping[int, _Label], query: WindowQuery) -> set[int]:
    """Rows to train on whose label is one of the source that was asked for, by their hash."""
    if query.source is None:
        return set()
    names = Names(query.classes)
    own = [
        h
        for h, x in known.items()
        if x.source == query.source and (not query.classes or names.find(x.label) >= 0)
    ]
    gate = split_is_gate(np.array(own, np.int64), query.salt).tolist()
    return {h for h, only_judges in zip(own, gate, strict=True) if not only_judges}


def _older(
    conn: sa.Connection, query: WindowQuery, wanted: set[int], room: int
) -> Iterator[tuple[pa.RecordBatch, NDArray[np.bool_]]]:
    """Rows from before the window, the newest ``room`` of those that are wanted, with their side:
    all of them train."""
    scanned = 0
    for block in _blocks(conn, replace(query, since=None)) if wanted else ():
        hashes = block.column("id_hash").to_pylist()
        served = block.column("served_at").cast(pa.int64()).to_pylist()
        newest_first = sorted(range(len(hashes)), key=served.__getitem__, reverse=True)
        keep: list[int] = []
        for i in newest_first:
            frozen = query.frozen_at is not None and served[i] > query.frozen_at
            if len(keep) < room and hashes[i] in wanted and not frozen:
                wanted.remove(hashes[i])
                keep.append(i)
        if keep:
            room -= len(keep)
            yield block.take(keep), np.zeros(len(keep), np.bool_)
        scanned += len(hashes)
        if not wanted or room <= 0 or scanned >= MAX_SCANNED:
            break


def write(window: TrainingWindow, path: Path) -> None:
    """Write ``fresh.parquet``: whole or not at all."""
    sink = io.BytesIO()
    pq.write_table(window.table, sink, compression="zstd")
    write_whole(path, sink.getvalue())


def _blocks(conn: sa.Connection, query: WindowQuery) -> Iterator[pa.RecordBatch]:
    """Stored blocks of the version, newest first."""
    c = feature_rows.c
    statement = sa.select(c.data).where(c.model == query.model, c.version == query.version)
    if query.since is not None:
        statement = statement.where(c.last_served_at >= query.since)
    stored = conn.execution_options(yield_per=20).execute(statement.order_by(c.block_id.desc()))
    with stored:
        for (data,) in stored:
            with pa.ipc.open_stream(data) as reader:
                for batch in reader:
                    if batch.num_rows:
                        yield batch


def _labels(conn: sa.Connection, query: WindowQuery) -> dict[int, _Label]:
    """Label by hash of the id: outcomes first, then those of the source that was asked for."""
    o = outcomes.c
    statement = sa.select(o.id_hash, o.label, o.source, o.p_include, o.seq, o.slices).where(
        o.model == query.model, o.version == query.version, o.label.is_not(None)
    )
    if query.since is not None:
        statement = statement.where(o.served_at >= query.since)
    newest = statement.order_by(o.seq.desc()).limit(20 * MAX_LABELLED)
    known: dict[int, _Label] = {}
    if query.source is not None:
        c, j = labels.c, join_rows.c
        said = (
            sa.select(
                c.id_hash,
                c.source,
                c.label,
                c.op,
                c.observed_at,
                c.received_at,
                c.p_include,
                sa.func.coalesce(j.slices, c.slices).label("slices"),
            )
            .outerjoin(join_rows, sa.and_(j.model == c.model, j.id_hash == c.id_hash))
            .where(c.model == query.model, c.source == query.source)
        )
        if query.source in query.bound_sources:  # it, and nobody in its name
            said = said.where(c.bound.is_(True))
        words: dict[int, list[Any]] = defaultdict(list)
        for row in conn.execute(said):
            words[row.id_hash].append(row)
        if query.bound_sources and query.source not in query.bound_sources:
            judging = split_is_gate(np.array(list(words), np.int64), query.salt)
            for id_hash in np.array(list(words), np.int64)[judging].tolist():
                del words[id_hash]
        for id_hash, rows in words.items():
            if (best := standing_label(rows, ())) is not None:
                known[id_hash] = _Label(
                    best.label, query.source, best.p_include, slices=best.slices
                )
    for outcome in conn.execute(newest):
        if query.only is not None and outcome.id_hash not in query.only:
            continue
        # Where both spoke of a row that judges, the believed source judges; a row to train on
        # keeps the label of the source that was asked for.
        if (
            outcome.id_hash in known
            and not split_is_gate(np.array([outcome.id_hash]), query.salt)[0]
        ):
            continue
        raised = query.raised_seq is not None and outcome.seq <= query.raised_seq
        known[outcome.id_hash] = _Label(
            outcome.label, outcome.source, outcome.p_include, raised, outcome.slices
        )
    return known


def _rows(
    block: pa.RecordBatch,
    gate: NDArray[np.bool_],
    known: dict[int, _Label],
    query: WindowQuery,
) -> pa.Table:
    stored = json.loads((block.schema.metadata or {}).get(b"features", b"[]"))
    if missing := [f for f in query.features if f not in stored]:
        raise WindowError(
            f"{len(missing)} features were not stored with the served rows, for example"
            f" {missing[0]!r}: list them in [privacy] store_features, or repair is not possible"
        )
    column = block.column("features")
    matrix = column.flatten().to_numpy(zero_copy_only=False).reshape(len(block), len(stored))
    row_labels = [known.get(int(h)) for h in block.column("id_hash").to_pylist()]
    columns: dict[str, pa.Array] = {
        "id_hash": block.column("id_hash"),
        "served_at": block.column("served_at"),
    }
    for name in query.features:
        values = np.ascontiguousarray(matrix[:, stored.index(name)])
        columns[column_of(name)] = pa.array(values, pa.float32())
    columns |= _segments([r.slices if r else None for r in row_labels], query.segments)
    columns |= {
        "label": pa.array([r.label if r else None for r in row_labels], pa.string()),
        "source": pa.array([r.source if r else None for r in row_labels], pa.string()),
        "p_include": pa.array([r.p_include if r else None for r in row_labels], pa.float64()),
        "split": pa.array(np.where(gate, "gate", "train").tolist(), pa.string()),
        "prediction": block.column("prediction"),
    }
    return pa.table(columns)


def _segments(slices: list[str | None], keys: tuple[str, ...]) -> dict[str, pa.Array]:
    """Columns of the segment keys; equal texts are read once, and there are few."""
    if not keys:
        return {}
    read: dict[str | None, dict[str, str]] = {s: json.loads(s) if s else {} for s in set(slices)}
    return {column_of(k): pa.array([read[s].get(k) for s in slices], pa.string()) for k in keys}


def _empty(query: WindowQuery) -> pa.Table:
    types: dict[str, pa.DataType] = {"id_hash": pa.int64(), "served_at": pa.timestamp("us", "UTC")}
    types |= dict.fromkeys(map(column_of, query.features), pa.float32())
    types |= dict.fromkeys(map(column_of, query.segments), pa.string())
    types |= {"label": pa.string(), "source": pa.string(), "p_include": pa.float64()}
    types |= {"split": pa.string(), "prediction": pa.string()}
    return pa.schema(list(types.items())).empty_table()


def labelled_outcomes(conn: sa.Connection, model: str, version: str, since: int | None) -> int:
    """How many outcomes with a label there are: an upper bound of the labelled rows of a window,
    cheap enough to ask often."""
    o = outcomes.c
    statement = sa.select(sa.func.count()).where(
        o.model == model, o.version == version, o.label.is_not(None)
    )
    if since is not None:
        statement = statement.where(o.served_at >= since)
    return int(conn.execute(statement).scalar_one())
