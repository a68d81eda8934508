"""What stands in a world's topics, read by a reader of its own: the second witness beside what was
acknowledged. It shares no code with the workers that it is compared with."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

MODEL = "credit"
ANNOUNCED = ("drift", "incidents", "releases", "pointers", "label-requests", "dlq")
Place = tuple[str, int]
"""Topic without its namespace, and partition."""


@dataclass
class Inputs:
    """What the topics ``predictions`` and ``labels`` hold."""

    predictions: Counter[str] = field(default_factory=Counter)
    """Ids of the model's rows."""
    labels: Counter[str] = field(default_factory=Counter)
    strangers: int = 0
    records: Counter[Place] = field(default_factory=Counter)
    rows: Counter[Place] = field(default_factory=Counter)
    dead: Counter[Place] = field(default_factory=Counter)
    ends: dict[Place, int] = field(default_factory=dict)

    @property
    def resent(self) -> int:
        """Rows that a producer wrote a second time: its right, as the broker counts at least once."""
        return sum(n - 1 for n in self.predictions.values())

    def add(self, place: Place, headers: dict[str, bytes], value: bytes) -> None:
        """Take a record in."""
        self.records[place] += 1
        if b"arrow" in headers.get("content-type", b""):
            ids = pa.ipc.open_stream(value).read_all().column("id").to_pylist()
            self.predictions.update(ids)
            self.rows[place] += len(ids)
            return
        body = _json(value)
        if body is None or (place[0] == "labels" and body.get("label") is None):
            self.dead[place] += 1
            return
        self.rows[place] += 1
        if place[0] == "labels":
            self.labels[body["id"]] += 1
        elif body["model"] == MODEL:
            self.predictions[body["id"]] += 1
        else:
            self.strangers += 1


def _json(value: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(value)
    except ValueError:
        return None
    return body if isinstance(body, dict) and "id" in body else None


def read(bootstrap: str, topics: dict[str, str]) -> dict[str, list[Any]]:
    """Every record of some topics, by their short names.

    Parameters
    ----------
    topics
        Short name by the broker's name.
    """
    from kafka import KafkaConsumer, TopicPartition

    client = KafkaConsumer(bootstrap_servers=bootstrap, check_crcs=True)
    out: dict[str, list[Any]] = {short: [] for short in topics.values()}
    try:
        parts = [
            TopicPartition(name, p)
            for name in topics
            for p in sorted(client.partitions_for_topic(name) or ())
        ]
        client.assign(parts)
        client.seek_to_beginning(*parts)
        left = client.end_offsets(parts)
        while left := {tp: end for tp, end in left.items() if client.position(tp) < end}:
            for tp, records in client.poll(timeout_ms=500, max_records=5_000).items():
                out[topics[tp.topic]] += records
    finally:
        client.close()
    return out


def inputs(bootstrap: str, namespace: str) -> Inputs:
    """Read what was put in."""
    found = Inputs()
    names = {f"{namespace}.{topic}": topic for topic in ("predictions", "labels")}
    for topic, records in read(bootstrap, names).items():
        for r in records:
            place = (topic, r.partition)
            found.add(place, dict(r.headers), r.value)
            found.ends[place] = max(found.ends.get(place, 0), r.offset + 1)
    return found


def announced(bootstrap: str, namespace: str) -> dict[str, list[bytes]]:
    """Values by ``ce_id`` of every announcement; more than one where it was sent again."""
    out: dict[str, list[bytes]] = {}
    for records in read(bootstrap, {f"{namespace}.{t}": t for t in ANNOUNCED}).values():
        for r in records:
            event = next(v.decode() for k, v in r.headers if k == "ce_id")
            out.setdefault(event, []).append(r.value)
    return out
