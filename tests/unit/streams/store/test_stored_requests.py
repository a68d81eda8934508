"""A request as rows and as announcements."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa
from stream_rows import CONFIG, new_database

from redistill.streams.store import stored_requests
from redistill.streams.store.request_draws import Draw
from redistill.streams.store.requestable_rows import Requestable
from redistill.streams.store.stored_requests import reason, store_request
from redistill.streams.store.tables import label_request_rows, label_requests, outbox
from redistill.streams.wire.events import LabelsRequested
from redistill.streams.wire.messages import read_value

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
    monkeypatch.setattr(stored_requests, "MOST_VALUES", 6)  # three rows of two features
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


@pytest.mark.parametrize("why", ["harm", "confidence", "slice:region=EU"])
def test_reason_is_a_sentence_of_its_own(why: str) -> None:
    said = {reason(w) for w in ("harm", "confidence", "slice:region=EU")}
    assert len(said) == 3
    assert "labels of these rows" in reason(why)
