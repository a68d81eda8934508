"""Stored labels: of two labels with one key which one stays.

The key is the id, the source and the time observed, as they were sent. Sent again a label is the
same one, and changes nothing. But one that came from the topic of its source takes the place of one
that did not, or whoever guesses the key could keep it out; and a retraction takes the place of the
label that it names by its time, or a file that was imported could not be taken back by itself.

Of one prediction there are so many labels and no more: the join reads all of an id's together, and
whoever may write could say a hundred thousand times what one of them should have been.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from redistill.streams.store import ledger
from redistill.streams.store.bulk import insert_new
from redistill.streams.store.tables import labels

__all__ = ["store_labels"]

KEY = [c.name for c in labels.primary_key]

MOST_OF_A_SOURCE = 100
"""Labels of one id by one source. Those of its own topic are counted for themselves: nobody else
can use up their room."""
MOST_OF_AN_ID = 1_000
"""Labels of one id on the common topic, where names of sources can be made up."""
IDS_AT_ONCE = 5_000
"""Ids of one question: databases have limits, some of 32,766."""

_Id = tuple[str, int]
"""Model, signed hash of the id."""


class StoredLabels(Counter[str]):
    """How many labels were decided about before another one took their place, by model."""

    new: int = 0
    """Labels whose key was not there."""
    left_out: Counter[str]
    """Labels for whose ids there was no room, by model."""


def store_labels(
    conn: sa.Connection, offered: Sequence[Mapping[str, Any]], *, now: int
) -> StoredLabels:
    """Insert labels, or put them in the place of those that they outdo.

    Parameters
    ----------
    offered
        Rows of ``labels`` without ``received_at``, in the order in which they stood in their log.
    now
        Microseconds since 1970, by the database's clock: a label is looked up at intervals that
        grow with its age, and a flush that waited for the database must not make it old.
    """
    found = StoredLabels()
    offered, found.left_out = _with_room(conn, offered)
    if not offered:
        return found
    names = [n for n in offered[0] if n != "received_at"]
    columns = {n: [row[n] for row in offered] for n in names}
    found.new = insert_new(conn, labels, columns, same={"received_at": now})
    if found.new == len(offered):
        return found
    c = labels.c
    values = [n for n in names if n not in KEY]
    bound = [row for row in offered if row["bound"]]
    _replace(conn, bound, c.bound.is_(False), values, now, found)
    back = [row for row in offered if row["op"] == "retract"]
    # of what a label brought besides, its prediction, an outcome may have been made
    said = ["op", "label", "confidence", "state", "check_at"]
    _replace(conn, [r for r in back if r["bound"]], c.op != "retract", said, now, found)
    unbound = sa.and_(c.op != "retract", c.bound.is_(False))
    _replace(conn, [r for r in back if not r["bound"]], unbound, said, now, found)
    return found


def _with_room(
    conn: sa.Connection, offered: Sequence[Mapping[str, Any]]
) -> tuple[Sequence[Mapping[str, Any]], Counter[str]]:
    """Labels for whose ids there is room, and how many there are of others, by model."""
    left_out: Counter[str] = Counter()
    crowded = _crowded(conn, offered)
    if not crowded:
        return offered, left_out
    kept: list[Mapping[str, Any]] = []
    there = _stored(conn, crowded)
    of_id: Counter[_Id] = Counter()
    for (model, id_hash, _, bound), n in there.items():
        of_id[model, id_hash] += 0 if bound else n
    seen: set[tuple[Any, ...]] = set()
    for row in offered:
        key = (*(row[k] for k in KEY), row["bound"])
        which = (row["model"], row["id_hash"], row["source"], bool(row["bound"]))
        if which[:2] in crowded and key not in seen:
            full = not row["bound"] and of_id[which[:2]] >= MOST_OF_AN_ID
            if full or there[which] >= MOST_OF_A_SOURCE:
                left_out[row["model"]] += 1
                continue
            seen.add(key)
            there[which] += 1
            of_id[which[:2]] += not row["bound"]
        kept.append(row)
    return kept, left_out


def _crowded(conn: sa.Connection, offered: Sequence[Mapping[str, Any]]) -> set[_Id]:
    """Ids that could have too many labels: mostly there are none, and that is cheap to see."""
    c = labels.c
    new = Counter((row["model"], row["id_hash"]) for row in offered)
    out = {which for which, n in new.items() if n > MOST_OF_A_SOURCE}
    most = max(new.values(), default=0)
    for model, asked in _parts(new):
        query = (
            sa.select(c.id_hash)
            .where(c.model == model, c.id_hash.in_(asked))
            .group_by(c.id_hash)
            .having(sa.func.count() > MOST_OF_A_SOURCE - most)
        )
        out |= {(model, int(h)) for h in conn.execute(query).scalars()}
    return out


def _stored(conn: sa.Connection, ids: Iterable[_Id]) -> Counter[tuple[str, int, str, bool]]:
    """Labels that are there by model, hash of the id, source and whether they are bound."""
    c = labels.c
    out: Counter[tuple[str, int, str, bool]] = Counter()
    for model, asked in _parts(ids):
        query = (
            sa.select(c.id_hash, c.source, c.bound, sa.func.count())
            .where(c.model == model, c.id_hash.in_(asked))
            .group_by(c.id_hash, c.source, c.bound)
        )
        for id_hash, source, bound, n in conn.execute(query):
            out[model, id_hash, source, bool(bound)] = int(n)
    return out


def _parts(ids: Iterable[_Id]) -> Iterator[tuple[str, list[int]]]:
    """Ids by model, so many at once."""
    hashes: dict[str, list[int]] = defaultdict(list)
    for model, id_hash in ids:
        hashes[model].append(id_hash)
    for model, some in hashes.items():
        for start in range(0, len(some), IDS_AT_ONCE):
            yield model, some[start : start + IDS_AT_ONCE]


def _replace(
    conn: sa.Connection,
    rows: Sequence[Mapping[str, Any]],
    which: sa.ColumnElement[bool],
    names: Sequence[str],
    now: int,
    found: StoredLabels,
) -> None:
    """Overwrite columns of stored labels, which are then looked at anew."""
    if not rows:
        return
    c = labels.c
    found.update(_decided(conn, rows, which))
    conn.execute(
        sa.update(labels)
        .where(which, *(c[k] == sa.bindparam(f"k_{k}") for k in KEY))
        .values({n: sa.bindparam(f"v_{n}") for n in names} | {"received_at": now}),
        [{f"k_{k}": row[k] for k in KEY} | {f"v_{n}": row[n] for n in names} for row in rows],
    )


def _decided(
    conn: sa.Connection, rows: Sequence[Mapping[str, Any]], which: sa.ColumnElement[bool]
) -> Mapping[str, int]:
    """How many labels were decided about whose place others take, by model."""
    c = labels.c
    replaced = sa.and_(which, c.state.in_(ledger.DECIDED))
    some = replaced & c.model.in_({row["model"] for row in rows})
    if conn.execute(sa.select(c.model).where(some).limit(1)).first() is None:
        return {}  # as always for bound ones, but for a while after a model binds its first source
    query = sa.select(c.model).where(replaced, *(c[k] == sa.bindparam(f"k_{k}") for k in KEY))
    keys = {tuple(row[k] for k in KEY) for row in rows}
    found = (
        conn.execute(query, {f"k_{k}": v for k, v in zip(KEY, key, strict=True)}).first()
        for key in sorted(keys)
    )
    return Counter(row.model for row in found if row is not None)
