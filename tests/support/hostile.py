"""Records that other programs write: headers whose name is no UTF-8, null values, tombstones."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import confluent_kafka

from redistill.streams.kafka.broker import Broker, producer
from redistill.streams.wire.codec import encode

__all__ = ["READABLE", "NoText", "send", "strange_records", "structured"]


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
