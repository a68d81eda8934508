"""Served rows and their labels as stream workers leave them in SQL: of model ``credit``."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from loop import NOW

from redistill.streams.store.database import Database
from redistill.streams.store.tables import feature_rows, join_rows, labels, outcomes
from redistill.times import SECOND


def served(
    database: Database,
    hashes: range,
    *,
    at: int = NOW,
    version: str = "v1",
    names: tuple[str, ...] = ("x", "y"),
) -> None:
    """Feature rows with the ids ``hashes``, one a second; every feature is the id."""
    n = len(hashes)
    served = at + np.arange(n) * SECOND
    values = np.column_stack([np.asarray(hashes)] * len(names)).astype(np.float32)
    table = pa.record_batch(
        {
            "id": pa.array([str(h) for h in hashes]),
            "id_hash": pa.array(list(hashes), pa.int64()),
            "served_at": pa.array(served, pa.timestamp("us", tz="UTC")),
            "prediction": pa.array(["repay"] * n),
            "score": pa.array(np.ones(n, np.float32)),
            "features": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), len(names)),
        }
    ).replace_schema_metadata({"features": '["' + '","'.join(names) + '"]'})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_batch(table)
    with database.begin() as conn:
        conn.execute(
            sa.insert(feature_rows).values(
                model="credit",
                version=version,
                first_served_at=int(served[0]),
                last_served_at=int(served[-1]),
                rows=n,
                bytes=1,
                data=sink.getvalue().to_pybytes(),
            )
        )


def labelled(
    database: Database,
    hashes: range,
    *,
    label: str | None = "repay",
    version: str = "v1",
    slices: str | None = None,
    source: str = "ledger",
    came: int | None = None,
    every: int = 0,
) -> None:
    """Outcomes of rows: the trusted source said ``label`` (``None``: it took it back). With
    ``came`` their labels as well: the first came then, the others ``every`` so many
    microseconds."""
    with database.begin() as conn:
        conn.execute(
            sa.insert(outcomes),
            [
                {
                    "model": "credit",
                    "version": version,
                    "seq": h,
                    "id_hash": h,
                    "id": str(h),
                    "correct": 1,
                    "prediction": "repay",
                    "label": label,
                    "slices": slices,
                    "served_at": NOW + (h - 1) * SECOND,
                    "observed_at": NOW,
                    "source": source,
                    "p_include": 0.25,
                    "uniform": True,
                    "made_at": (NOW if came is None else came) + i * every,
                }
                for i, h in enumerate(hashes)
            ],
        )
        if came is None:
            return
        conn.execute(
            sa.insert(labels),
            [
                {
                    "model": "credit",
                    "id": str(h),
                    "source": source,
                    "observed_at": NOW,
                    "id_hash": h,
                    "label": label,
                    "op": "upsert" if label else "retract",
                    "uniform": True,
                    "received_at": came + i * every,
                    "state": "joined",
                }
                for i, h in enumerate(hashes)
            ],
        )


def joinable(
    database: Database, hashes: range, *, version: str = "v1", slices: str | None = None
) -> None:
    """Join rows, as they are kept until a label comes."""
    with database.begin() as conn:
        conn.execute(
            sa.insert(join_rows),
            [
                {
                    "model": "credit",
                    "id_hash": h,
                    "version": version,
                    "prediction": "repay",
                    "slices": slices,
                    "served_at": NOW,
                    "topic_id": "t",
                    "partition": 0,
                    "window": 0,
                }
                for h in hashes
            ],
        )


def said(
    database: Database,
    hashes: range,
    source: str,
    label: str,
    op: str = "upsert",
    slices: str | None = None,
    bound: bool = False,
) -> None:
    """Labels of a source that no outcome was made of, later than those of ``labelled``; a bound one
    is a second older."""
    at = NOW + (2 if op == "retract" else 1) - SECOND * bound
    with database.begin() as conn:
        conn.execute(
            sa.insert(labels),
            [
                {
                    "model": "credit",
                    "id": str(h),
                    "source": source,
                    "observed_at": at,
                    "bound": bound,
                    "id_hash": h,
                    "label": None if op == "retract" else label,
                    "op": op,
                    "slices": slices,
                    "uniform": True,
                    "received_at": at,
                    "state": "ignored",
                }
                for h in hashes
            ],
        )
