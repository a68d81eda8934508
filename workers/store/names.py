"""Names of models, versions and label sources: what to say of one that there is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import sqlalchemy as sa

from redistill.streams.store.tables import labels, specs

__all__ = ["did_you_mean", "model_names", "no_such_model", "unseen_source"]

SHOWN = 10


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What to add to a refusal: names like the one that was given, else some that there are.

    Examples
    --------
    >>> did_you_mean("crdit", ["credit", "fraud"])
    "; did you mean 'credit'?"
    >>> did_you_mean("nope", ["credit", "fraud"]), did_you_mean("nope", [])
    (' (there are: credit, fraud)', '')
    """
    names = list(known)
    if near := difflib.get_close_matches(name, names, n=3):
        return f"; did you mean {' or '.join(map(repr, near))}?"
    if not names:
        return ""
    more = ", ..." if len(names) > SHOWN else ""
    return f" (there are: {', '.join(names[:SHOWN])}{more})"


def model_names(conn: sa.Connection) -> list[str]:
    """Names of all registered models, in order."""
    return list(conn.execute(sa.select(specs.c.model).order_by(specs.c.model)).scalars())


def no_such_model(conn: sa.Connection, name: str) -> str | None:
    """What to say of a model that is not registered; ``None``: it is."""
    known = model_names(conn)
    if name in known:
        return None
    if not known:
        return f"there is no model named {name!r}: register it first (`redistill register`)"
    return f"there is no model named {name!r}: register it first{did_you_mean(name, known)}"


def unseen_source(
    conn: sa.Connection, model: str, source: str, believed: Iterable[str]
) -> str | None:
    """What to say of a label source of which no label of the model is stored; ``None``: some are.

    Parameters
    ----------
    believed
        ``[labels] sources``.
    """
    c = labels.c
    seen = sa.select(sa.literal(1)).where(c.model == model, c.source == source).limit(1)
    if conn.execute(seen).first() is not None:
        return None
    stored = conn.execute(sa.select(c.source).where(c.model == model).distinct()).scalars()
    known = sorted({*stored, *believed} - {source})
    return f"no label of source {source!r} is stored for {model}{did_you_mean(source, known)}"
