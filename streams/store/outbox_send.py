"""Rows of the outbox handed to a producer, and what came of each: acknowledged, refused for its own
sake, or failed with its topic."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from redistill.streams.wire.events import COMPACTED

__all__ = ["Producer", "Round", "send"]

SEND_SECONDS = 8.0
"""How long a round waits for the broker's acknowledgements."""
HAND_OVER_SECONDS = 4.0
"""How long a round goes on handing records over: each topic that is missing takes three."""
TOO_LARGE = ("MessageSizeTooLargeError", "RecordListTooLargeError", "InvalidRecordError")
"""What kafka-python raises for a record that the broker will not take, now or later."""


class Future(Protocol):
    """What a producer answers."""

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the acknowledgement; raises what went wrong."""


class Producer(Protocol):
    """The part of ``kafka.KafkaProducer`` that the relay uses."""

    def send(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> Future:
        """Hand over one record."""


@dataclass(slots=True)
class Round:
    """What came of one round."""

    sent: int = 0
    """Rows acknowledged and marked."""
    failed: dict[str, Exception] = field(default_factory=dict)
    """By topic (without the namespace), what went wrong first; its rows stay unsent."""
    refused: dict[int, tuple[Mapping[str, Any], Exception]] = field(default_factory=dict)
    """By ``seq``, rows that the broker will not take, and why."""


def send(
    sender: Producer,
    rows: list[Mapping[str, Any]],
    namespace: str,
    out: Round,
) -> list[int]:
    """Hand rows over and wait; returns ``seq`` of those that were acknowledged."""
    prefix = f"{namespace}." if namespace else ""
    began = time.monotonic()
    pending: list[tuple[Mapping[str, Any], Future]] = []
    for row in rows:
        if row["topic"] in out.failed or time.monotonic() > began + HAND_OVER_SECONDS:
            continue
        headers = [(k, v.encode()) for k, v in json.loads(row["headers"]).items()]
        try:
            sent = sender.send(
                prefix + row["topic"],
                value=bytes(row["value"]),
                key=row["key"].encode() or None,
                headers=headers,
            )
        except Exception as error:  # kafka-python has no base class; it is sent again
            _not_sent(row, error, out)
        else:
            pending.append((row, sent))
    acknowledged: list[int] = []
    for row, future in pending:
        try:
            future.get(timeout=max(0.0, began + SEND_SECONDS - time.monotonic()))
        except Exception as error:  # kafka-python has no base class; it is sent again
            _not_sent(row, error, out)
        else:
            acknowledged.append(row["seq"])
    return acknowledged


def _not_sent(row: Mapping[str, Any], error: Exception, out: Round) -> None:
    # where only the last record of a key matters an older one must not come later
    if type(error).__name__ in TOO_LARGE and row["topic"] not in COMPACTED:
        out.refused[row["seq"]] = row, error
    else:
        out.failed.setdefault(row["topic"], error)
