"""Names of models that metrics show: those registered first, up to a bound. What is beyond is
counted under one label, so that no number of models makes a scrape, or Prometheus, unbounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from redistill.streams.store.tables import specs

__all__ = ["MOST", "NamedModels", "named_models"]

MOST = 500
"""Models that are named unless an operator says otherwise: some ten thousand series, of which a
small Prometheus holds a million."""

OTHER = "_other"
"""Label of all models that have none of their own. No model can be called so: a name begins with a
letter or a digit."""


@dataclass(frozen=True, slots=True)
class NamedModels:
    """Models with a label of their own.

    Examples
    --------
    >>> named = NamedModels(frozenset({"credit", "fraud"}))
    >>> named.label("fraud"), named.label("churn")
    ('fraud', '_other')
    >>> named.summed([("churn", "open", 2), ("credit", "open", 1), ("ads", "open", 1)])
    {('_other', 'open'): 3, ('credit', 'open'): 1}
    """

    names: frozenset[str]

    def label(self, model: str) -> str:
        """A model's name, or that of all others."""
        return model if model in self.names else OTHER

    def summed(self, rows: Iterable[tuple[str, str, int]]) -> dict[tuple[str, str], int]:
        """Counts by model and by what they are counted by; those of all others are added up."""
        out: Counter[tuple[str, str]] = Counter()
        for model, what, count in rows:
            out[self.label(model), what] += count
        return dict(out)


def named_models(conn: sa.Connection, most: int) -> NamedModels:
    """The ``most`` registered models that were registered first: a model that comes later takes
    nobody's label away."""
    s = specs.c
    query = sa.select(s.model).order_by(s.registered_at, s.model).limit(most)
    return NamedModels(frozenset(conn.execute(query).scalars()))
