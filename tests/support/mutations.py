"""Mutations of a database's rows: each column changed to another plausible value, each row deleted, each
row doubled, one at a time, on a copy in memory that is put back after each."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

__all__ = ["Copy", "Mutation", "mutations"]

TIMES = 10**14
"""Larger numbers are microseconds since 1970: they are moved by an hour."""
EACH = {"facts": "name", "repository_roles": "role"}
"""Tables each of whose rows is of a kind of its own, and the column that says which."""


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """What is done to one row."""

    table: str
    what: str
    """A column's name, ``(delete)`` or ``(duplicate)``."""
    row: int
    """Its rowid, or its number where the table has none."""
    statement: str
    values: tuple[Any, ...]
    of: str = ""
    """The row's name and a dot, in a table each of whose rows is of a kind of its own."""

    @property
    def name(self) -> str:
        """As it stands on the list of what cannot be proven."""
        return f"{self.table}.{self.of}{self.what}"


class Copy:
    """A database in memory, whose rows are those of a file."""

    def __init__(self, file: Path, **options: Any) -> None:
        self._raw = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        with sqlite3.connect(file) as source:
            source.backup(self._raw)
        source.close()
        self._raw.execute("PRAGMA foreign_keys = OFF")
        self.engine = sa.create_engine(
            "sqlite://", creator=lambda: self._raw, poolclass=sa.pool.StaticPool
        )
        self.conn = self.engine.connect().execution_options(**options)

    @contextmanager
    def mutated(self, mutation: Mutation) -> Iterator[bool]:
        """Do it, and undo it; false: the database itself refused it."""
        self._raw.execute("SAVEPOINT before")
        try:
            try:
                done = self._raw.execute(mutation.statement, mutation.values).rowcount
            except sqlite3.IntegrityError:
                yield False
            else:
                assert done == 1, (mutation, done)
                yield True
        finally:
            self._raw.execute("ROLLBACK TO before")
            self._raw.execute("RELEASE before")

    @contextmanager
    def changed(self, statements: Sequence[str]) -> Iterator[None]:
        """Do all of them, and undo them; each has to change something."""
        self._raw.execute("SAVEPOINT before")
        try:
            for statement in statements:
                assert self._raw.execute(statement).rowcount > 0, statement
            yield
        finally:
            self._raw.execute("ROLLBACK TO before")
            self._raw.execute("RELEASE before")

    def rows(self, table: sa.Table) -> list[dict[str, Any]]:
        """All rows, in the order of their keys."""
        names = ", ".join(f'"{c.name}"' for c in table.c)
        order = ", ".join(f'"{c.name}"' for c in table.primary_key.columns)
        cursor = self._raw.execute(f'SELECT {names} FROM "{table.name}" ORDER BY {order}')
        return [dict(zip([c.name for c in table.c], row, strict=True)) for row in cursor]

    def close(self) -> None:
        """Forget it."""
        self.conn.close()
        self.engine.dispose()
        self._raw.close()


def mutations(table: sa.Table, rows: Sequence[dict[str, Any]]) -> Iterator[Mutation]:
    """All mutations of a table that are tried."""
    keys = [c.name for c in table.primary_key.columns]
    distinct = {*keys, *(c.name for c in unique(table))}
    each = table.name in EACH
    some = range(len(rows)) if each else sorted({0, len(rows) // 2, len(rows) - 1} if rows else ())
    for number in some:
        row = rows[number]
        where = " AND ".join(f'"{k}" = ?' for k in keys)
        key = tuple(row[k] for k in keys)
        of = f"{row[EACH[table.name]]}." if each else ""
        common = {"table": table.name, "row": number, "of": of}
        for column in table.c:
            others = [r[column.name] for r in rows if r[column.name] != row[column.name]]
            value = another(column, row[column.name], others, is_key=column.name in distinct)
            yield Mutation(
                **common,  # type: ignore[arg-type]
                what=column.name,
                statement=f'UPDATE "{table.name}" SET "{column.name}" = ? WHERE {where}',
                values=(value, *key),
            )
        yield Mutation(
            **common,  # type: ignore[arg-type]
            what="(delete)",
            statement=f'DELETE FROM "{table.name}" WHERE {where}',
            values=key,
        )
        twin = dict(row)
        for column in unique(table):
            if twin[column.name] is not None:
                twin[column.name] = another(column, twin[column.name], (), is_key=True)
        names = ", ".join(f'"{n}"' for n in twin)
        yield Mutation(
            **common,  # type: ignore[arg-type]
            what="(duplicate)",
            statement=f'INSERT INTO "{table.name}" ({names}) VALUES ({", ".join("?" * len(twin))})',
            values=tuple(twin.values()),
        )


def unique(table: sa.Table) -> list[sa.Column[Any]]:
    """Columns of which a twin needs another value: the last of its key, and those that are unique."""
    constraints = [c for c in table.constraints if isinstance(c, sa.UniqueConstraint)]
    last = [list(table.primary_key.columns)[-1], *(list(c.columns)[-1] for c in constraints)]
    last += [c for c in table.c if c.unique]
    return list({c.name: c for c in last}.values())


def another(column: sa.Column[Any], value: Any, others: Sequence[Any], *, is_key: bool) -> Any:
    """Another value that the column could have, rather one that it has in another row."""
    if value is None:
        given = next((o for o in others if o is not None), None)
        if given is not None:
            return given
        return "x" if isinstance(column.type, sa.Text) else 1
    if isinstance(value, bytes):
        at = len(value) // 2
        return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :] if value else b"x"
    if isinstance(value, str):
        if not is_key:
            if (other := other_json(value)) is not None:
                return other
            given = next((o for o in others if o is not None), None)
            if given is not None:
                return given
        return value[:-1] + ("0" if value[-1:] != "0" else "1") if value else "x"
    if isinstance(column.type, sa.Boolean):
        return 1 - value
    if is_key:
        return value + 1_000
    return value + (3_600_000_000 if value > TIMES else 1)


def other_json(text: str) -> str | None:
    """JSON that differs in one value; ``None``: it is no JSON object, or an empty one."""
    if not text.startswith("{"):
        return None
    plain = json.loads(text)
    if not _change(plain):
        plain["more"] = 1
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def _change(plain: Any) -> bool:
    """Change the first number, flag or text in it, the innermost objects first."""
    items = list(plain.items()) if isinstance(plain, dict) else list(enumerate(plain))
    for _, value in items:
        if isinstance(value, dict | list) and value and _change(value):
            return True
    for key, value in items:
        if isinstance(value, bool):
            plain[key] = not value
        elif isinstance(value, int | float):
            plain[key] = value + 1
        elif isinstance(value, str) and value:
            plain[key] = value[:-1] + ("0" if value[-1] != "0" else "1")
        else:
            continue
        return True
    return False
