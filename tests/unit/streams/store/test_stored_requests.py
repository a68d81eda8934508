"""A request as rows and as announcements."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
import sqlalchemy as sa
from stream_rows import CONFIG, new_database

from redistill.streams.monitor.config import WatchConfig
from redistill.streams.store import stored_requests
from redistill.streams.store.request_draws import Draw
from redistill.streams.store.requestable_rows import Requestable
from redistill.streams.store.stored_requests import reason, store_request
from redistill.streams.store.tables import label_request_rows, label_requests, outbox
from redistill.streams.wire.envelope import MAX_EVENT_BYTES
from redistill.streams.wire.events import LabelsRequested, RequestedLabel
from redistill.streams.wire.messages import read_value
from redistill.times import utc

ID = "11111111-2222-5333-8444-555555555555"


def rows(n: int) -> Requestable:
    table = pa.table(
        {
            "id": [f"row-{i}" for i in range(n)],
            "id_hash": pa.array(range(n), pa.int64()),
            "served_at": pa.array(range(n), pa.timestamp("us", "UTC")),
            "prediction": ["repay"] * n,
        }
    )
    return Requestable(table, tuple({"income": 1.5, "region": float(i % 3 - 1)} for i in range(n)))


def test_request_with_many_features_is_told_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = len(msgspec.json.encode(RequestedLabel(
        id="row-0", served_at=utc(1), inclusion_probability=0.5, uniform=False, prediction="repay",
        features={"income": 1.5, "region": None},
    )))  # fmt: skip
    monkeypatch.setattr(stored_requests, "MOST_BYTES", 3 * one + 10)
    db = new_database(f"sqlite:///{tmp_path / 'r.db'}")
    config = dataclasses.replace(CONFIG, requests_per_day=10, label_cost=2.0)
    draw = Draw(
        request_id=ID, version="7", first_served_at=0, last_served_at=9, p_include=0.5,
        slice="region=EU",
    )  # fmt: skip
    with db.begin() as conn:
        store_request(conn, config, draw, "slice:region=EU", rows(7), now=5)
        (request,) = conn.execute(sa.select(label_requests))
        asked = conn.execute(sa.select(label_request_rows)).all()
        sent = conn.execute(sa.select(outbox).order_by(outbox.c.seq)).all()
    db.dispose()
    assert (request.rows, request.cost, request.budget, request.budget_left) == (7, 14.0, 10, 3)
    assert [r.id_hash for r in asked] == list(range(7))
    events = [read_value(bytes(r.value), LabelsRequested) for r in sent]
    assert [r.event_id for r in sent] == [f"{ID}:0", f"{ID}:3", f"{ID}:6"]
    assert [len(e.rows) for e in events] == [3, 3, 1]
    assert [e.cost for e in events] == [6.0, 6.0, 2.0]
    assert [r.features for r in events[0].rows] == [
        {"income": 1.5, "region": None},  # one that was never declared
        {"income": 1.5, "region": "EU"},
        {"income": 1.5, "region": "US"},
    ]
    assert not any(r.uniform for e in events for r in e.rows)


def announced(tmp_path: Path, config: WatchConfig, wanted: Requestable) -> list[Any]:
    """Values in the outbox after a request."""
    db = new_database(f"sqlite:///{tmp_path / 'r.db'}")
    draw = Draw(request_id=ID, version="7", first_served_at=0, last_served_at=10**6, p_include=0.5)
    with db.begin() as conn:
        store_request(conn, config, draw, "harm", wanted, now=5)
        values = conn.execute(sa.select(outbox.c.value).order_by(outbox.c.seq)).scalars().all()
    db.dispose()
    return [bytes(v) for v in values]


def test_no_event_is_larger_than_may_be_sent_whatever_is_in_its_rows(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, requests_per_day=500)
    names = [f"{'é' * 190}{i}" for i in range(3_000)]  # as long as names may be
    few, many = (dict.fromkeys(names[:k], 1e-300 / 3) for k in (200, 3_000))
    wanted = Requestable(rows(60).table, (many, *[few] * 59))
    values = announced(tmp_path, config, wanted)
    assert len(values) > 2
    assert max(map(len, values)) < MAX_EVENT_BYTES
    told = [r for v in values for r in read_value(v, LabelsRequested).rows]
    assert [r.id for r in told] == wanted.ids
    assert [r.features is None for r in told] == [True] + [False] * 59, "it would fit nowhere"


def test_features_stored_before_they_were_forbidden_are_not_told(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, requests_per_day=10, store_features=("region",))
    (value,) = announced(tmp_path, config, rows(3))
    assert [set(r.features or {}) for r in read_value(value, LabelsRequested).rows] == [
        {"region"}
    ] * 3


@pytest.mark.parametrize("why", ["harm", "confidence", "slice:region=EU"])
def test_reason_is_a_sentence_of_its_own(why: str) -> None:
    said = {reason(w) for w in ("harm", "confidence", "slice:region=EU")}
    assert len(said) == 3
    assert "labels of these rows" in reason(why)
