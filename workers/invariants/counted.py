"""Counters of the ledger, as the rules add them up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import sqlalchemy as sa

from redistill.streams.store.tables import counters

__all__ = ["Counted", "read_counters"]


class Counted:
    """Counters by name, and by model where one asks for it."""

    def __init__(self, values: Mapping[tuple[str, str], int]) -> None:
        self._values = values
        self._sums: dict[str, int] = defaultdict(int)
        for (_, name), n in values.items():
            self._sums[name] += n

    def sum(self, *names: str) -> int:
        """Of all models."""
        return sum(self._sums.get(name, 0) for name in names)

    def of(self, model: str, *names: str) -> int:
        """Of one model."""
        return sum(self._values.get((model, name), 0) for name in names)

    def by_model(self, name: str) -> dict[str, int]:
        """One name's counts."""
        return {model: n for (model, of), n in self._values.items() if of == name}

    def starting(self, start: str) -> dict[str, int]:
        """Sums of the names that begin so, by what follows."""
        return {n.removeprefix(start): v for n, v in self._sums.items() if n.startswith(start)}


def read_counters(conn: sa.Connection) -> Counted:
    """All of them: some for each registered model."""
    rows = conn.execute(sa.select(counters.c.model, counters.c.name, counters.c.value))
    return Counted({(r.model, r.name): int(r.value) for r in rows})
