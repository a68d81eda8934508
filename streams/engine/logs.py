"""Log lines of a stream worker: JSON with a constant ``action``, and no floods."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

import structlog

__all__ = ["FloodLimit", "configure"]

FLOOD_SECONDS = 10.0
"""aiokafka writes 75 error lines a second while a broker is away: the first of each kind in this
time says it.
"""
SAME_SECONDS = 60.0
"""A warning of ours that was said already, word for word, is said again after this."""


class FloodLimit(logging.Filter):
    """Lets one record of a kind (logger, level, unformatted message) through per period, with the
    number held back. Of our own lines only warnings and errors are limited, and only where all
    they say is the same.

    Examples
    --------
    >>> seconds = iter([0.0, 1.0, 2.0, 11.0])
    >>> limit = FloodLimit(period=10, clock=lambda: next(seconds))
    >>> line = lambda: logging.LogRecord("aiokafka", 40, "", 0, "away %s", ("x",), None)
    >>> [limit.filter(line()) for _ in range(3)]
    [True, False, False]
    >>> last = line()
    >>> limit.filter(last), last.getMessage()
    (True, 'away x (and 2 more like this)')
    """

    def __init__(
        self, *, period: float = FLOOD_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._period = period
        self._clock = clock
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record may pass."""
        now = self._clock()
        ours = record.msg if isinstance(record.msg, dict) else None  # an event of structlog's
        if ours is not None and record.levelno < logging.WARNING:
            return True
        said = record.msg if ours is None else {**ours, "timestamp": ""}
        key = (record.name, record.levelno, str(said))
        began, held_back = self._seen.get(key, (float("-inf"), 0))
        if now - began < (self._period if ours is None else SAME_SECONDS):
            self._seen[key] = (began, held_back + 1)
            return False
        if len(self._seen) > 1_000:
            self._seen.clear()
        self._seen[key] = (now, 0)
        if held_back and ours is not None:
            record.msg = {**ours, "more_like_this": held_back}
        elif held_back:
            record.msg = f"{record.getMessage()} (and {held_back} more like this)"
            record.args = None
        return True


def configure(level: str = "info") -> None:
    """Send structlog's and the libraries' lines to standard error as JSON."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    handler.addFilter(FloodLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("aiokafka", "kafka", "faust", "mode"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
