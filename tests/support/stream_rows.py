"""A watched model, its records as they would stand in Kafka, and a database with it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa

import redistill.workers.store.tables  # noqa: F401  both sides share one MetaData
from redistill.streams.engine.fetched import Chunk
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.store.database import Database, connect, upsert
from redistill.streams.store.tables import metadata, profiles, specs
from redistill.streams.wire.block import Feature, Schema
from redistill.streams.wire.codec import Record, encode, encode_batch, headers_of
from redistill.streams.wire.events import LabelObserved, PredictionMade
from redistill.streams.wire.recordset import RecordSet
from redistill.times import microseconds

START = datetime(2026, 3, 1, tzinfo=UTC)
CONFIG = WatchConfig(
    model="credit",
    level="rollback",
    schema=Schema(
        features=(
            Feature(name="income"),
            Feature(name="age"),
            Feature(name="region", kind="category", values=("EU", "US")),
        ),
        classes=("repay", "default"),
        slices=("region",),
    ),
    feature_rows_per_second=1e6,
    join_rows_per_second=1e6,
    window_rows=100,
    retention_days=36_500,  # the rows stand at fixed dates
)


def chunk(records: Sequence[Record]) -> Chunk:
    """Records as the bulk consumer delivers them."""
    return Chunk(
        first=records[0].offset,
        end=records[-1].offset + 1,
        records=len(records),
        size=sum(len(r.value or b"") for r in records),
        batches=RecordSet.of(records),
    )


def watch(
    db: Database,
    config: WatchConfig = CONFIG,
    *,
    versions: Sequence[str] = ("7",),
    error: float = 0.1,
) -> None:
    """Register a model without the acting side."""
    base = BaseError.from_errors((np.arange(5_000) % round(1 / error) == 0).astype(np.int64))
    with db.begin() as conn:
        known = conn.execute(
            sa.select(specs.c.revision).where(specs.c.model == config.model)
        ).scalar_one_or_none()
        conn.execute(
            upsert(specs, ["model"]).values(
                model=config.model,
                revision=(known or 0) + 1,
                config_sha256="0" * 64,
                level=config.level,
                watch=config.to_json().decode(),
                spec="{}",
                registered_at=0,
                updated_at=0,
            )
        )
        for version in versions:
            conn.execute(
                upsert(profiles, ["model", "version"]).values(
                    model=config.model,
                    version=version,
                    base_error=base.to_json(),
                    provisional=False,
                )
            )


def new_database(url: str) -> Database:
    db = connect(url)
    metadata.create_all(db.engine)
    return db


def prediction(
    i: int, *, model: str = "credit", version: str = "7", right: bool = True, **changes: Any
) -> PredictionMade:
    """Row ``i``; its truth is ``truth(i)``."""
    label = truth(i)
    other = "default" if label == "repay" else "repay"
    return PredictionMade(
        id=f"row-{i}",
        model=model,
        version=version,
        served_at=START + timedelta(milliseconds=10 * i),
        features={
            "income": 1000.0 + i,
            "age": float(20 + i % 50),
            "region": "EU" if i % 3 else "US",
        },
        prediction=label if right else other,
        scores=[0.75, 0.25] if (label == "repay") == right else [0.25, 0.75],
        **changes,
    )


def truth(i: int) -> str:
    return "repay" if i % 2 else "default"


def label(i: int, *, seconds: float = 60.0, **changes: object) -> LabelObserved:
    values: dict[str, object] = {
        "id": f"row-{i}",
        "model": "credit",
        "label": truth(i),
        "observed_at": START + timedelta(milliseconds=10 * i, seconds=seconds),
        "source": "ledger",
    }
    return LabelObserved(**(values | changes))  # type: ignore[arg-type]


def record(event: PredictionMade | LabelObserved, offset: int, *, partition: int = 0) -> Record:
    made = encode(event, source="/test")
    return Record(made.topic, partition, offset, 0, made.key, made.value, made.headers)


def batch_record(
    rows: Sequence[int], offset: int, *, partition: int = 0, version: str = "7"
) -> Record:
    """The same rows as ``prediction`` makes them, as one Arrow batch."""
    events = [prediction(i, version=version) for i in rows]
    value = encode_batch(
        model="credit",
        version=version,
        ids=[e.id for e in events],
        served_at=np.array([microseconds(e.served_at) for e in events]),
        feature_names=["income", "age"],
        features=np.array([[e.features["income"], e.features["age"]] for e in events], np.float32),  # type: ignore[index]
        categories={"region": [str(e.features["region"]) for e in events]},  # type: ignore[index]
        prediction=[str(e.prediction) for e in events],
        scores=np.array([e.scores for e in events], np.float32),
    )
    headers = headers_of(
        PredictionMade,
        source="/test",
        event_id=str(offset),
        content_type=b"application/vnd.apache.arrow.stream",
    )
    return Record("predictions", partition, offset, 0, b"credit", value, headers)
