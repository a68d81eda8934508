"""Labels as rows, unreadable records as dead letters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from redistill.streams.errors import WireError
from redistill.streams.wire.columns import microseconds, number_text
from redistill.streams.wire.events import LABEL_AHEAD, DeadLetter, LabelObserved

log = structlog.get_logger(__name__)

FULL_LETTERS, FULL_BYTES = 2_000, 16 * 1024 * 1024
"""Dead letters of one batch to flush."""
LOGGED = 20
"""Dead letters of one batch to flush that are logged each; of the others their number is."""
DEAD_BYTES = 256 * 1024
"""A dead letter carries this much of the record."""


class Letters:
    """Dead letters between two flushes: they are kept whole, and bound memory, whatever the lag."""

    def __init__(self) -> None:
        self._kept: list[DeadLetter] = []
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Whether they have to be flushed before more of them are kept."""
        return len(self._kept) >= FULL_LETTERS or self._bytes >= FULL_BYTES

    def add(self, topic: str, partition: int, record: Any, error: Exception) -> None:
        """Keep a record that could not be read; the first ones are logged each."""
        letter = dead_letter(topic, partition, record, error)
        if len(self._kept) < LOGGED:
            log.warning(
                "dead_letter",
                action="dead_letter",
                topic=topic,
                partition=partition,
                offset=letter.offset,
                code=letter.code,
                reason=letter.reason[:300],
            )
        self._kept.append(letter)
        self._bytes += len(letter.value)

    def taken(self) -> list[DeadLetter]:
        """All of them, and none is left."""
        if (more := len(self._kept) - LOGGED) > 0:
            log.warning("dead_letters", action="dead_letters", more=more)
        kept, self._kept, self._bytes = self._kept, [], 0
        return kept


def label_row(event: LabelObserved, id_hash: int, *, believed: bool) -> dict[str, Any]:
    """A row of the table ``labels``, but for the time at which it is stored.

    Parameters
    ----------
    id_hash
        Signed hash of the id.
    believed
        The source is one of the model's: others are stored, and no detector sees them.
    """
    return {
        "model": event.model,
        "id": event.id,
        "source": event.source,
        "observed_at": microseconds(event.observed_at),
        "id_hash": id_hash,
        "label": _text(event.label),
        "op": event.op,
        "confidence": event.confidence,
        "p_include": event.inclusion_probability,
        "uniform": True,
        "version": event.version,
        "prediction": _text(event.prediction),
        "slices": as_json(event.segment) if event.segment else None,
        "state": "waiting" if believed else "ignored",
        "check_at": 0,
    }


def not_ahead(event: LabelObserved, now: int) -> None:
    """Refuse a label from the future.

    Raises
    ------
    WireError
        It was observed more than ``LABEL_AHEAD`` after ``now``, microseconds since 1970.
    """
    if microseconds(event.observed_at) - now > LABEL_AHEAD.total_seconds() * 1e6:
        raise WireError(
            "invalid_field", f"observed_at {event.observed_at.isoformat()} is more than a day ahead"
        )


def dead_letter(topic: str, partition: int, record: Any, error: Exception) -> DeadLetter:
    """What the topic ``dlq`` is told of a record that could not be read."""
    value = record.value or b""
    code = error.code if isinstance(error, WireError) else "failed"
    reason = error.reason if isinstance(error, WireError) else str(error)
    return DeadLetter(
        topic=topic,
        partition=partition,
        offset=int(record.offset),
        code=code,
        reason=_safe(reason)[:2_000],
        key=None if record.key is None else record.key[:1_000],
        value=value[:DEAD_BYTES],
        value_bytes=len(value),
        headers=[
            (_safe(k)[:100], _safe((v or b"").decode(errors="replace"))[:1_000])
            for k, v in list(record.headers or ())[:50]
        ],
        at=datetime.fromtimestamp(_timestamp_ms(record) / 1000, UTC),
    )


def as_json(value: Any) -> str:
    """JSON with sorted keys."""
    return msgspec.json.encode(value, order="sorted").decode()


def _text(value: str | float | None) -> str | None:
    return value if value is None or isinstance(value, str) else number_text(value)


def _safe(text: str) -> str:
    """Without NUL, which no event may carry."""
    return text.replace("\0", "\ufffd")


def _timestamp_ms(record: Any) -> int:
    """Of a client's record (``timestamp``) or of the wire's own (``timestamp_ms``)."""
    found = getattr(record, "timestamp", None) or getattr(record, "timestamp_ms", None) or 0
    return min(max(0, int(found)), 253_402_300_799_000)
