"""Every column that is stored is read by somebody, or stands here with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from column_reads import read_columns

from redistill.streams.store import tables as observing
from redistill.workers.store import tables as acting

ROOT = Path(__file__).resolve().parents[2]

OBJECTS = {
    name: table
    for module in (observing, acting)
    for name, table in vars(module).items()
    if isinstance(table, sa.Table)
}
TABLES = {name: {column.name for column in table.c} for name, table in OBJECTS.items()}

UNREAD = {
    ("labels", "confidence"): "how sure the source was: kept as it was said",
    ("offsets", "fence"): "the database itself compares it with next_offset",
}
"""Columns that are written and never read, each with the reason why it is stored all the same."""


def sources() -> dict[str, str]:
    """The modules that may read: not the migrations, which write what no program reads any more."""
    return {
        "redistill." + ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text()
        for room in ("streams", "workers")
        for path in (ROOT / room).rglob("*.py")
        if "migrations" not in path.parts
    }


def keys() -> set[tuple[str, str]]:
    """Columns of a key or a unique constraint: the database reads them to tell rows apart."""
    found = set()
    for name, table in OBJECTS.items():
        unique = [c for c in table.constraints if isinstance(c, sa.UniqueConstraint)]
        found |= {(name, c.name) for constraint in unique for c in constraint}
        found |= {(name, c.name) for c in table.c if c.primary_key or c.unique}
    return found


def test_every_column_is_read_or_has_its_reason() -> None:
    everything = {(table, column) for table, columns in TABLES.items() for column in columns}
    unread = everything - read_columns(sources(), TABLES) - keys()
    assert unread - UNREAD.keys() == set(), "use these columns, or drop them with a migration"
    assert UNREAD.keys() - unread == set(), "these are read by now, or gone: take them off the list"


SELECTED = "from redistill.streams.store.tables import {names}\n"


@pytest.mark.parametrize(
    ("code", "read"),
    [
        ("conn.execute(sa.insert(gaps).values(found_at=now))", False),
        ("conn.execute(sa.insert(gaps), [{'found_at': now} for g in new])", False),
        ("conn.execute(sa.update(gaps).values(found_at=gaps.c.found_at + 1))", False),
        ("c = gaps.c\nconn.execute(sa.update(gaps).values(found_at=c.found_at + 1))", False),
        ("conn.execute(sa.select(gaps.c.found_at))", True),
        ("c = gaps.c\nconn.execute(sa.select(c.first).where(c.found_at > 0))", True),
        ("old = gaps.alias('old')\nconn.execute(sa.select(old.c.found_at))", True),
        ("def f():\n    c = leases.c\n    return c.found_at", False),
        ("for row in conn.execute(sa.select(gaps)):\n    print(row.found_at)", True),
        ("for row in conn.execute(sa.select(gaps)).mappings():\n    print(row['found_at'])", True),
        ("for row in conn.execute(sa.select(gaps)):\n    print(row.first)", False),
        ("for row in conn.execute(sa.select(leases)):\n    print(row.found_at)", False),
        ("row = conn.execute(sa.select(gaps)).one()\n"
         "conn.execute(sa.insert(gaps), {'found_at': row.found_at})", False),
        ("row = conn.execute(sa.select(gaps)).one()\n"
         "conn.execute(sa.insert(gaps), {'last': row.found_at})", True),
    ],
)  # fmt: skip
def test_reader_tells_reading_from_writing(code: str, read: bool) -> None:
    module = SELECTED.format(names="gaps, leases") + code
    assert (("gaps", "found_at") in read_columns({"m": module}, TABLES)) is read


def test_rows_are_read_by_the_neighbours_of_the_module_that_selects_them() -> None:
    selects = (
        SELECTED.format(names="gaps") + "def newest(conn): return conn.execute(sa.select(gaps))"
    )
    reads = "from shop import store\nprint(store.newest(conn).found_at)"
    stranger = "print(row.found_at)"
    column = ("gaps", "found_at")
    assert column in read_columns({"shop.store": selects, "shop.cli": reads}, TABLES)
    assert column not in read_columns({"shop.store": selects, "shop.cli": stranger}, TABLES)
    hands = f"{selects}\nfrom shop import rules\nrules.judge(newest(conn))"
    assert column in read_columns({"shop.store": hands, "shop.rules": stranger}, TABLES)


def test_tables_are_known_under_every_name_by_which_they_are_imported() -> None:
    named = "from redistill.streams.store.tables import gaps as lost\nsa.select(lost.c.found_at)"
    module = "from redistill.streams.store import tables as seen\nsa.select(seen.gaps.c.found_at)"
    for text in (named, module):
        assert ("gaps", "found_at") in read_columns({"m": text}, TABLES)
