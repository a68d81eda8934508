"""The stream worker's role in PostgreSQL may write what stream workers write, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import sqlalchemy as sa

from redistill.streams.store import tables

GRANTS = Path(__file__).resolve().parents[2] / "deploy" / "postgresql-roles.sql"


def test_role_of_the_stream_worker_may_write_every_table_of_its_side_but_specs() -> None:
    found = re.search(
        r"GRANT INSERT, UPDATE, DELETE ON ([a-z_,\s]+) TO redistill_stream;", GRANTS.read_text()
    )
    assert found is not None
    granted = {name.strip() for name in found[1].split(",")}
    mine = {table.name for table in vars(tables).values() if isinstance(table, sa.Table)}
    assert granted == mine - {"specs"}
