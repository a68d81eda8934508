"""Dead letters: records that cannot be read, on their way to the topic ``dlq``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from redistill.quiet import Quiet
from redistill.streams.errors import WireError
from redistill.streams.store.batch import Partition
from redistill.streams.wire.block import PredictionBlock
from redistill.streams.wire.events import DeadLetter
from redistill.times import utc

__all__ = ["DEAD_BYTES", "LOGGED", "DeadLetters", "Unreadable", "dead_letter", "failed_block"]

log = structlog.get_logger(__name__)

FULL_RECORDS, FULL_BYTES = 2_000, 16 * 1024 * 1024
"""Dead letters of one batch to flush."""
LOGGED = 20
"""Dead letters that are logged each, a minute; of the others their number is: a producer that
writes nothing else would fill a disk with lines, and the topic ``dlq`` tells all of each."""
MINUTE_SECONDS = 60.0
DEAD_BYTES = 256 * 1024
"""A dead letter carries this much of the record."""

Unreadable = tuple[Any, Exception]
"""A record, and why it cannot be read."""


class DeadLetters:
    """Dead letters between two flushes: they are kept whole, and bound memory, whatever the lag.

    Parameters
    ----------
    quiet
        Which defects of ours were told of within the last minute.
    clock
        Monotonic seconds.
    """

    def __init__(
        self, quiet: Quiet | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._quiet = quiet or Quiet()
        self._clock = clock
        self._minute = clock()
        self._logged = self._unsaid = 0
        self._kept: list[DeadLetter] = []
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Whether they have to be flushed before more of them are kept."""
        return len(self._kept) >= FULL_RECORDS or self._bytes >= FULL_BYTES

    def add(self, topic: str, partition: int, record: Any, error: Exception) -> None:
        """Keep a record that could not be read; the first ones are logged each.

        One that our own code failed on is an error, once a minute for each kind.
        """
        why = WireError.failed(error)
        letter = dead_letter(topic, partition, record, why)
        if why.code == "failed":
            if (more := self._quiet.ask(why.kind)) is not None:
                log.error(
                    "record_failed",
                    action="record_failed",
                    topic=topic,
                    partition=partition,
                    offset=letter.offset,
                    reason=letter.reason[:300],
                    more=more,
                )
        elif self._may_be_said():
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

    def take(self) -> list[DeadLetter]:
        """All of them; from now on none is left."""
        self._tell_number()
        kept, self._kept, self._bytes = self._kept, [], 0
        return kept

    def clear(self) -> None:
        """Forget what was not taken: it is read again."""
        self._kept, self._bytes = [], 0

    def _may_be_said(self) -> bool:
        self._tell_number()
        self._logged += 1
        if self._logged > LOGGED:
            self._unsaid += 1
        return self._logged <= LOGGED

    def _tell_number(self) -> None:
        """Of those that were not logged in the minute that is over."""
        now = self._clock()
        if now - self._minute < MINUTE_SECONDS:
            return
        if self._unsaid:
            log.warning("dead_letters", action="dead_letters", more=self._unsaid)
        self._minute, self._logged, self._unsaid = now, 0, 0


def dead_letter(topic: str, partition: int, record: Any, error: Exception) -> DeadLetter:
    """What the topic ``dlq`` is told of a record that could not be read."""
    value = record.value or b""
    why = WireError.failed(error)
    return DeadLetter(
        topic=topic,
        partition=partition,
        offset=int(record.offset),
        code=why.code,
        reason=_safe(why.reason)[:2_000],
        key=None if record.key is None else record.key[:1_000],
        value=value[:DEAD_BYTES],
        value_bytes=len(value),
        headers=[
            (_safe(k)[:100], _safe((v or b"")[:4_000].decode(errors="replace"))[:1_000])
            for k, v in list(record.headers or ())[:50]
        ],
        at=utc(max(0, _timestamp_ms(record)) * 1_000),
    )


def _safe(text: str) -> str:
    """Without NUL and halves of surrogate pairs, which no event may carry."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def _timestamp_ms(record: Any) -> int:
    """Of a client's record (``timestamp``) or of the wire's own (``timestamp_ms``)."""
    at = getattr(record, "timestamp", None) or getattr(record, "timestamp_ms", None) or 0
    return int(at)


def failed_block(
    quiet: Quiet,
    partition: Partition,
    part: tuple[PredictionBlock, NDArray[np.int64]],
    records: Sequence[Any],
    error: Exception,
) -> list[Unreadable]:
    """A row that the monitor chokes on is a defect of ours, and no reason to stop everybody
    else's monitoring: the state is a value, so nothing of this block was counted.
    """
    block, record_of = part
    why = WireError.failed(error)
    if (more := quiet.ask(why.kind)) is not None:
        log.error(
            "block_failed",
            action="block_failed",
            model=block.model,
            version=block.version,
            partition=partition.number,
            offset=int(records[int(record_of[0])].offset),
            more=more,
            exc_info=error,
        )
    return [(records[i], why) for i in np.unique(record_of).tolist()]
