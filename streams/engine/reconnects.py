"""Reconnects: how often aiokafka may try a server that does not let it in.

By itself it tries ten times a second, for each of its purposes. One that is away is found again
within two seconds; one that refuses our credentials is asked rarely, since brokers, and whoever
reads their logs, take many refused logins for an attack.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

__all__ = ["patiently"]

FIRST_SECONDS = 0.1
AWAY_SECONDS, REFUSED_SECONDS = 2.0, 20.0
"""The longest pause between two tries of one server."""


class _Failure(NamedTuple):
    error: Exception
    pause: float
    until: float
    """When the next try may be."""


def patiently(
    connect: Callable[..., Awaitable[Any]], *, clock: Callable[[], float] = time.monotonic
) -> Callable[..., Awaitable[Any]]:
    """``aiokafka.conn.create_conn``, with pauses: within one, the error of the last try is raised
    again.
    """
    failed: dict[tuple[str, int], _Failure] = {}

    async def connected(host: str, port: int, **options: Any) -> Any:
        before = failed.get((host, port))
        if before is not None and clock() < before.until:
            raise before.error
        try:
            made = await connect(host, port, **options)
        except Exception as error:
            refused = "Authentication" in type(error).__name__
            pause = FIRST_SECONDS if before is None else 2 * before.pause
            pause = min(pause, REFUSED_SECONDS if refused else AWAY_SECONDS)
            error.__traceback__ = None  # it is kept, and would keep what stood around it
            failed[host, port] = _Failure(error, pause, clock() + pause)
            raise
        failed.pop((host, port), None)
        return made

    return connected
