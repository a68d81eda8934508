"""Backlog: where the logs of the inputs end, and how far SQL has come."""

from __future__ import annotations

import sqlalchemy as sa

from redistill.streams.store.database import Database

Place = tuple[str, int]
"""Topic without its namespace, and partition."""


def stored(database: Database) -> dict[Place, int]:
    """Next offset of each input partition in SQL."""
    with database.read() as conn:
        rows = conn.execute(sa.text("SELECT topic, partition, next_offset FROM offsets")).all()
    return {(r.topic.rpartition(".")[2], r.partition): r.next_offset for r in rows}


def ends(bootstrap: str, namespace: str, partitions: int) -> dict[Place, int]:
    """End of each input partition's log."""
    from kafka import KafkaConsumer, TopicPartition

    client = KafkaConsumer(bootstrap_servers=bootstrap)
    try:
        at = [
            TopicPartition(f"{namespace}.{topic}", p)
            for topic in ("predictions", "labels")
            for p in range(partitions)
        ]
        found = client.end_offsets(at)
    finally:
        client.close()
    return {(tp.topic.rpartition(".")[2], tp.partition): end for tp, end in found.items()}
