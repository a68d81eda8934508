"""Blocks of features: each says of itself what is in it."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from redistill.streams.store.tables import feature_rows
from redistill.workers.invariants.rule import RuleInput, RuleResult

__all__ = ["blocks_say_the_same"]


def blocks_say_the_same(inputs: RuleInput) -> RuleResult:
    """Part of invariant 1: how many rows a block has, and when they were served. What the rows say
    nobody wrote down a second time."""
    violations: list[str] = []
    n = 0
    stream = inputs.conn.execution_options(yield_per=20)
    with stream.execute(sa.select(feature_rows)) as rows:
        for row in rows:
            n += 1
            name = f"block {row.block_id} of {row.model} {row.version}"
            try:
                with pa.ipc.open_stream(row.data) as reader:
                    table = reader.read_all()
                served = pc.cast(table["served_at"], "int64")
                said = (len(table), pc.min(served).as_py(), pc.max(served).as_py())
            except (pa.ArrowException, KeyError, OSError) as error:
                violations.append(f"{name} cannot be read: {error}")
                continue
            if (*said, len(row.data)) != (
                row.rows,
                row.first_served_at,
                row.last_served_at,
                row.bytes,
            ):
                violations.append(f"{name} has other rows than it says")
    return RuleResult(figures={"feature_blocks": n}, violations=violations)
