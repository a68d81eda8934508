"""Run of a worker: from its start to a signal, and its exit status."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import structlog

from redistill.workers.exit_codes import ExitCode

__all__ = ["until_stopped"]

log = structlog.get_logger(__name__)


class Worker(Protocol):
    """What a process does, in threads of its own."""

    @property
    def holder(self) -> str:
        """As it signs its leases."""

    def start(self) -> None:
        """Begin."""

    def finish(self) -> bool:
        """End; whether all of it ended in time."""


W = TypeVar("W", bound=Worker)


def until_stopped(
    worker: W,
    kind: str,
    *,
    stop: threading.Event,
    ready: Callable[[W], None] | None = None,
    **told: Any,
) -> int:
    """Run a worker until ``stop`` is set.

    Parameters
    ----------
    kind
        Of the process, for the log: ``KIND_started``, ``KIND_stopped``.
    ready
        Called once it runs.
    told
        What else is logged of its start.

    Returns
    -------
    int
        Exit status: 0 ended well, 69 something did not end in time.
    """
    worker.start()
    log.info(f"{kind}_started", action=f"{kind}_started", holder=worker.holder, **told)
    if ready is not None:
        ready(worker)
    stop.wait()
    well = worker.finish()
    log.info(f"{kind}_stopped", action=f"{kind}_stopped", well=well)
    return ExitCode.OK if well else ExitCode.FAILED
