"""Records that other programs write, and that nobody should: strange headers, names and values."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from datetime import datetime
from typing import Any

import confluent_kafka
import numpy as np
import pyarrow as pa

from redistill.streams.kafka.broker import Broker, producer
from redistill.streams.wire.codec import ARROW, Record, encode, encode_batch, headers_of
from redistill.streams.wire.events import LabelObserved, PredictionMade

__all__ = ["READABLE", "NoText", "label", "prediction", "send", "strange_records", "structured"]


class NoText(str):
    """A header's name that kafka-python writes as bytes that are no UTF-8."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return b"\xff\xfe"


Strange = tuple[bytes | None, list[tuple[str, bytes | None]]]
"""Value and headers."""


def structured(event: Any, event_id: str = "structured-1") -> Strange:
    """An event in CloudEvents' structured mode."""
    made = encode(event, source="/t", event_id=event_id)
    body = {
        "specversion": "1.0",
        "type": dict(made.headers)["ce_type"].decode(),
        "id": event_id,
        "source": "/elsewhere",
        "datacontenttype": "application/json",
        "data": json.loads(made.value),
    }
    return json.dumps(body).encode(), [("content-type", b"application/cloudevents+json")]


READABLE = (0, 2, 8, 9)
"""Which of the strange records hold their event all the same."""


def strange_records(event_of: Callable[[int], Any]) -> list[Strange]:
    """Records of which none may stop a reader, each of an event of its own."""
    made = [encode(event_of(i), source="/t") for i in range(9)]
    values = [m.value for m in made]
    heads: list[list[tuple[str, bytes | None]]] = [[*m.headers] for m in made]
    return [
        (values[0], [*heads[0], (NoText("x"), b"1")]),
        (None, heads[1]),
        (values[2], [(k, None if k == "content-type" else v) for k, v in heads[2]]),
        (values[3], [(k, None if k == "ce_id" else v) for k, v in heads[3]]),
        (values[4], [(k, b"\xff" if k == "ce_type" else v) for k, v in heads[4]]),
        (b"\x00\x00\x00\x00\x07" + values[5], heads[5]),
        (b"[" + values[6] + b"]", [("content-type", b"application/cloudevents-batch+json")]),
        (b"\xff" * 1_000, [(NoText("ce_id"), b"1")]),
        (values[8], [*heads[8], ("", None), ("x" * 1_000, b"\xff")]),
        structured(event_of(9)),
    ]


def send(broker: Broker, topic: str, *records: Strange, key: bytes | None = b"credit") -> None:
    """Write records as they are, one after the other. kafka-python writes any name, librdkafka a
    value that is null.
    """
    python, c = producer(broker), confluent_kafka.Producer({"bootstrap.servers": broker.servers})
    name = broker.topic(topic)
    try:
        for value, headers in records:
            if any(text is None for _, text in headers):
                c.produce(name, value, key, partition=0, headers=headers)
                assert c.flush(20) == 0
            else:
                python.send(name, value=value, key=key, headers=headers, partition=0).get(20)
    finally:
        python.close()


NAMES = [
    'pipe 6" wide', "a\\b", "a\tb", "", "class", "__init__", "f0", "self", "id", "features", "\u2028",
    "\0", "n\0l", "x" * 500, '"', "\\u0000", "{", "age", "region", "income", "age_(20, 30]", "x[0-3]",
]  # fmt: skip
VALUES = [
    1, 1.5, "q", None, True, [1], {"a": 1}, 10**400, -1e308, "x" * 400, "n\0l", "", math.nan,
    math.inf, 2**63,
]  # fmt: skip
TOKENS = [
    b'"', b"\\", b"\\u0000", b"\\ud800", b"NaN", b"1e999", b"{", b"[[[", b"]", b",", b"\xff", b"\0",
    b"9" * 400, b"\xef\xbb\xbf",
]  # fmt: skip


def prediction(rng: random.Random, offset: int, *, at: str) -> Record:
    """A record of the topic ``predictions``: a row or a batch, odd in some way, perhaps broken."""
    made = rng.choice([_row, _row, _batch])(rng, offset, at)
    headers: list[tuple[str, bytes | None]] = [*made.headers]
    value = made.value or b""
    if rng.random() < 0.2:
        at_byte = rng.randrange(len(value))
        value = value[:at_byte] + rng.choice(TOKENS) + value[at_byte + rng.randrange(3) :]
    if rng.random() < 0.1:
        name, _ = headers.pop(rng.randrange(len(headers)))
        headers.insert(0, (name + rng.choice(["", "\ufffd"]), rng.choice([None, b"\xff", b""])))
    key = rng.choice([b"credit", b"\xff\0", None])
    return made._replace(
        value=None if rng.random() < 0.02 else value, headers=headers, key=key, offset=offset
    )


def label(rng: random.Random, offset: int, *, at: str) -> Record:
    """A record of the topic ``labels``, odd in some way."""
    body = {
        "id": rng.choice([f"r{offset}", f"r{offset}", 7, "", "a\0"]),
        "model": "credit",
        "label": rng.choice(["a", None, "", 1, True, 2**60, 1e300, '"']),
        "observed_at": rng.choice([at, at, "0001-01-01T00:00:00+23:59"]),
        "source": rng.choice(["s", "s", "n\0"]),
        "version": rng.choice([None, "7"]),
        "prediction": rng.choice([None, "a", 1e300, True]),
        "segment": rng.choice([{}, {'k"': "v"}, {"a": 1}, {"n\0": "x"}]),
    }
    headers = headers_of(LabelObserved, source="/t", event_id="1")
    return Record("labels", 0, offset, 0, b"\xff\0", json.dumps(body).encode(), headers)


def _row(rng: random.Random, offset: int, at: str) -> Record:
    def some(*values: Any) -> Any:
        return rng.choice(values)

    body = {
        "id": some(f"r{offset}", 7, "x" * 200, "a\tb"),
        "model": some("credit", "other", "u2"),
        "version": some("7", "8"),
        "served_at": at,
        "prediction": some("a", 1, True, 2.5, '"', "n\0l", "x" * 300),
        "features": {rng.choice(NAMES): rng.choice(VALUES) for _ in range(rng.randrange(6))},
        "scores": some(None, [], [0.5, 0.5], [None], [1e39], "x"),
        "segment": some(None, {}, {rng.choice(NAMES): rng.choice(VALUES)}, {"region": "EU"}, 3),
        "latency_ms": some(None, 1, "x", 1e40),
        "sample_rate": some(1, 0.5, 0, -1, "x"),
    }
    headers = headers_of(PredictionMade, source="/t", event_id="1")
    return Record("predictions", 0, offset, 0, None, json.dumps(body).encode(), headers)


def _batch(rng: random.Random, offset: int, at: str) -> Record:
    us = int(datetime.fromisoformat(at).timestamp() * 1e6)
    numeric = rng.sample(NAMES, 3)
    words = rng.choice([n for n in NAMES if n not in numeric])
    raw = encode_batch(
        model=rng.choice(["credit", "other", "u2"]),
        version=rng.choice(["7", "8"]),
        ids=[f"a{offset}-{k}" for k in range(3)],
        served_at=np.full(3, us),
        feature_names=numeric,
        features=np.array(rng.choices([1, np.nan, np.inf, -1e38], k=9), np.float32).reshape(3, 3),
        categories={words: rng.choices(["EU", None, "n\0l", "y" * 300], k=3)},
        prediction=rng.choices(["a", "repay", "n\0"], k=3),
        scores=np.ones((3, rng.choice([1, 2, 3])), np.float32),
        segments={rng.choice(NAMES): ["a", None, "b"]},
    )
    if rng.random() < 0.6:  # and a column of a type that nobody expects there
        batch = pa.ipc.open_stream(raw).read_next_batch()
        name = rng.choice(["feature.", "segment.", "", "zz"]) + rng.choice(NAMES) + "_"
        odd = rng.choice(
            [
                pa.array([[1], [2], None]), pa.array([{"a": 1}] * 3), pa.array([b"\xff"] * 3),
                pa.nulls(3), pa.array([1, 2, 3]), pa.array([None, 1.5, 2]),
                pa.array([1, 2, 3], pa.timestamp("us")), pa.array([True, None, False]),
            ]
        )  # fmt: skip
        table = pa.Table.from_batches([batch]).append_column(name, odd)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_batch(table.combine_chunks().to_batches()[0])
        raw = sink.getvalue().to_pybytes()
    headers = headers_of(PredictionMade, source="/t", event_id="1", content_type=ARROW)
    return Record("predictions", 0, offset, 0, None, raw, headers)
