"""Log lines of a process: one shape for all processes, each thing said once, and no floods.

Each line is a JSON object: ``timestamp`` (ISO 8601, UTC), ``level``, ``event`` (what is said),
``action`` (a constant of ours, by which lines are found; ``library`` for those of libraries),
``logger``, ``process`` (its kind) and ``pid``; whatever else is in it are the ids and figures of
the action. On a terminal the same lines are written for people.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

import structlog

__all__ = ["FloodLimit", "configure", "log_uncaught"]

LIBRARY = "library"
"""Action of a line that is not ours."""

FLOOD_SECONDS = 60.0
"""aiokafka writes 75 error lines a second while a broker is away: the first of each kind in this
time says it.
"""
BROKER_CLIENTS = ("aiokafka", "kafka", "faust", "mode")
CONNECTIONS = "kafka.net."
"""Loggers of kafka-python's connections: what they catch is a connection that ended, on purpose
(``close()`` takes the socket from under a read) or not, and they connect again.
"""
NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d[\d.]*")
SAME_SECONDS = 60.0
"""A warning of ours that was said already, word for word, is said again after this."""


class FloodLimit(logging.Filter):
    """Lets one record of a kind (logger, level, message without its numbers) through per period,
    with the number held back: libraries also write messages that are formatted already, with
    addresses and seconds in them. Of our own lines only warnings and errors are limited, and only
    where all they say is the same.

    Parameters
    ----------
    hushed
        While it is true, the libraries that talk to the broker say nothing at all: what is wrong
        was said in words.

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
        self,
        *,
        period: float = FLOOD_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        hushed: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        self._hushed = hushed
        self._period = period
        self._clock = clock
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record may pass. One that cannot be put in words does: the handler complains
        of it, and who wrote it goes on."""
        try:
            return self._passes(record)
        except Exception:  # what cannot be put in words may pass
            return True

    def _passes(self, record: logging.LogRecord) -> bool:
        now = self._clock()
        ours = record.msg if isinstance(record.msg, dict) else None  # an event of structlog's
        if ours is not None and record.levelno < logging.WARNING:
            return True
        if record.name.partition(".")[0] in BROKER_CLIENTS and self._hushed():
            return False
        said = NUMBERS.sub("#", str(record.msg)) if ours is None else str({**ours, "timestamp": ""})
        key = (record.name, record.levelno, said)
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


def without_traceback(record: logging.LogRecord) -> bool:
    """Say what ended a connection in the line itself: twenty lines of a library's own code tell
    nobody more. Lets every record pass.

    Examples
    --------
    >>> error = (AttributeError, AttributeError("no socket"), None)
    >>> line = logging.LogRecord("kafka.net.transport", 40, "", 0, "%s: closing", ("x",), error)
    >>> without_traceback(line), line.getMessage(), line.exc_info
    (True, 'x: closing: AttributeError: no socket', None)
    """
    if record.name.startswith(CONNECTIONS) and record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        try:
            said = f"{record.getMessage()}: {type(error).__name__}: {error}"
        except Exception:  # the handler complains of it
            return True
        record.msg = said
        record.args = record.exc_info = record.exc_text = None
    return True


def configure(
    level: str = "info",
    *,
    process: str = "command",
    hushed: Callable[[], bool] = lambda: False,
) -> None:
    """Send structlog's and the libraries' lines to standard error: as JSON, or for people where it
    is a terminal.

    Parameters
    ----------
    process
        Which kind this is: ``stream``, ``repair``, ``web``, ``alerts``.
    hushed
        Whether the libraries that talk to the broker are to be quiet; never at level ``debug``.
    """
    terminal = sys.stderr.isatty()

    def with_origin(
        _: object, __: str, event: structlog.types.EventDict
    ) -> structlog.types.EventDict:
        event.setdefault("action", LIBRARY)
        return {**event, "process": process, "pid": os.getpid()}

    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        with_origin,
    ]
    last: list[structlog.types.Processor]
    if terminal:
        last = [_for_people, structlog.dev.ConsoleRenderer()]
    else:
        shared.append(structlog.processors.format_exc_info)
        last = [structlog.processors.JSONRenderer()]
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
                *last,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    debug = root.level <= logging.DEBUG
    if not debug:
        handler.addFilter(without_traceback)
    handler.addFilter(FloodLimit(hushed=(lambda: False) if debug else hushed))
    for name in (*BROKER_CLIENTS, "uvicorn"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # that SCRAM goes over plain text is said at every connection, which are many
    logging.getLogger("kafka.net.sasl").setLevel(logging.ERROR)


def log_uncaught() -> None:
    """Write what nobody caught, in any thread, as a log line too: the last words of a process."""
    log = structlog.get_logger(__name__)

    def crashed(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            log.critical("crashed", action="crashed", exc_info=(kind, error, trace))

    def thread_crashed(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and args.exc_type is not SystemExit:
            name = None if args.thread is None else args.thread.name
            found = (args.exc_type, args.exc_value, args.exc_traceback)
            log.error("thread_crashed", action="thread_crashed", thread=name, exc_info=found)

    sys.excepthook = crashed
    threading.excepthook = thread_crashed
    logging.captureWarnings(True)


def _for_people(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """A line without what is the same in all of them, or said twice."""
    drop = {
        "process",
        "pid",
        *({"action"} if event.get("action") in (LIBRARY, event.get("event")) else ()),
    }
    return {key: value for key, value in event.items() if key not in drop}
