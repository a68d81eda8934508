"""Stored requests: a request for labels as rows of SQL, and its announcement beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from uuid import UUID

import msgspec
import sqlalchemy as sa

from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.suspicion import CONFIDENCE, slice_of
from redistill.streams.store import outbox
from redistill.streams.store.label_budget import budget_of
from redistill.streams.store.request_draws import Draw, widen
from redistill.streams.store.requestable_rows import Requestable
from redistill.streams.store.tables import label_request_rows, label_requests
from redistill.streams.wire.envelope import MAX_EVENT_BYTES
from redistill.streams.wire.events import LabelsRequested, RequestedLabel
from redistill.times import DAY, utc

__all__ = ["reason", "store_request"]

SOURCE = "redistill/stream"

MOST_BYTES = MAX_EVENT_BYTES // 2
"""Of the rows of one event as JSON: room for the rest of it, and for what a broker adds."""


def store_request(
    conn: sa.Connection,
    config: WatchConfig,
    draw: Draw,
    why: str,
    wanted: Requestable,
    *,
    now: int,
) -> None:
    """Write a request and its rows, announce it, and let outcomes know of its draw.

    Parameters
    ----------
    draw
        Which rows could have been drawn, and how likely each of them.
    why
        As in ``suspicion.Suspicion``.
    wanted
        Rows that were drawn and have no label: one at least.
    now
        Microseconds since 1970, by the database's clock.
    """
    budget = budget_of(conn, config, now)
    left = max(0, budget.left - len(wanted))
    conn.execute(
        sa.insert(label_requests).values(
            request_id=draw.request_id,
            model=config.model,
            version=draw.version,
            why=why,
            slice=draw.slice,
            asked_at=now,
            first_served_at=draw.first_served_at,
            last_served_at=draw.last_served_at,
            p_include=draw.p_include,
            rows=len(wanted),
            cost=len(wanted) * config.label_cost,
            budget=budget.allowed,
            budget_left=left,
        )
    )
    columns = (wanted.ids, wanted.hashes.tolist(), wanted.served_at.tolist())
    conn.execute(
        sa.insert(label_request_rows),
        [
            {
                "model": config.model,
                "id_hash": id_hash,
                "request_id": draw.request_id,
                "id": row_id,
                "served_at": at,
                "asked_at": now,
            }
            for row_id, id_hash, at in zip(*columns, strict=True)
        ],
    )
    widen(conn, config.model, [draw])
    _announce(conn, config, draw, why, wanted, left, now)


def _announce(
    conn: sa.Connection,
    config: WatchConfig,
    draw: Draw,
    why: str,
    rows: Requestable,
    left: int,
    now: int,
) -> None:
    """Tell of a request, in as many events as its features need."""
    named = rows.named(config.schema, config.store_features)
    columns = (rows.ids, rows.served_at.tolist(), rows.predictions, named)
    asked = [
        RequestedLabel(
            id=row_id,
            served_at=utc(at),
            inclusion_probability=draw.p_include,
            uniform=draw.slice is None,
            prediction=prediction,
            features=features,
        )
        for row_id, at, prediction, features in zip(*columns, strict=True)
    ]
    for start, part in _parts(asked):
        event = LabelsRequested(
            request_id=UUID(draw.request_id),
            model=config.model,
            version=draw.version,
            rows=part,
            reason=reason(why),
            slice=draw.slice,
            cost=len(part) * config.label_cost,
            budget_left=left,
            wanted_by=utc(now + round(config.wait_days * DAY)),
            at=utc(now),
        )
        outbox.add(conn, event, source=SOURCE, now=now, event_id=f"{draw.request_id}:{start}")


def _parts(asked: Sequence[RequestedLabel]) -> Iterator[tuple[int, list[RequestedLabel]]]:
    """Rows in parts that fit into an event each, and the number of the first; features of a row
    that does not fit by itself are left out."""
    part: list[RequestedLabel] = []
    start = size = 0
    for i, row in enumerate(asked):
        whole, n = row, len(msgspec.json.encode(row))
        if n > MOST_BYTES:
            whole = dataclasses.replace(row, features=None)
            n = len(msgspec.json.encode(whole))
        if part and size + n > MOST_BYTES:
            yield start, part
            part, start, size = [], i, 0
        part.append(whole)
        size += n
    yield start, part


def reason(why: str) -> str:
    """Why labels are asked for, as a sentence for a person.

    Examples
    --------
    >>> reason("slice:region=EU")
    'harm is suspected where region is EU: labels of these rows decide it'
    """
    if (name := slice_of(why)) is not None:
        column, _, value = name.partition("=")
        return f"harm is suspected where {column} is {value}: labels of these rows decide it"
    if why == CONFIDENCE:
        return "the model is less sure than it was: labels of these rows tell whether it is wrong"
    return "harm is suspected, and the labels so far do not decide it: labels of these rows do"
