"""Submission of a release request: ask for a publish or a roll back, and wait until clients can see
it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from redistill.streams.errors import LeaseError
from redistill.streams.store import lease
from redistill.streams.store.database import Database
from redistill.times import to_us
from redistill.workers.errors import NotInTime
from redistill.workers.releases import release_requests
from redistill.workers.releases.release_requests import Kind, RequestResult
from redistill.workers.releases.repository import LEASE
from redistill.workers.releases.repository_writer import RepositoryWriter

__all__ = ["perform"]

LOOK_SECONDS = 0.05
"""How often the answer is looked for: a publish takes a repair worker some milliseconds, once it
looks."""


def perform(
    database: Database,
    writer: RepositoryWriter,
    kind: Kind,
    model: str,
    body: Mapping[str, Any],
    *,
    actor: str,
    wait_seconds: float,
    clock: Callable[[], float] | None = None,
    timer: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> RequestResult:
    """Ask, and wait until clients can see it.

    The process that holds the lease does it; where nobody holds it, this one does. A request that
    nobody answered in time is withdrawn, so that it does not come true later by surprise.

    Parameters
    ----------
    writer
        This process's own (``RepositoryWriter.close`` it afterwards).
    actor
        Who asks, for the audit chain.
    clock
        Seconds since 1970; ``None``: the database's.
    timer
        Seconds of a clock that is never set, by which it is waited.

    Returns
    -------
    Result
        Also of a refusal: ``ok`` is false and ``message`` says why.

    Raises
    ------
    NotInTime
        Nobody did it within ``wait_seconds``.
    KeysError
        Nobody holds the repository, and this process cannot read the keys.
    """
    clock = clock or database.clock.seconds
    began = timer()
    with database.begin() as conn:
        request_id = release_requests.submit(
            conn, kind, model, body, actor=actor, now=to_us(clock())
        )
    try:
        while True:
            with database.read() as conn:
                result = release_requests.result_of(conn, request_id)
                holder = lease.holder_of(conn, LEASE, to_us(clock()))
            if result is not None:
                return result
            if holder is None or writer.holds:
                with contextlib.suppress(LeaseError):  # somebody else was faster, and does it
                    writer.attempt()
            elif timer() - began > wait_seconds:
                raise NotInTime(
                    f"{holder} holds the repository and did not answer within {wait_seconds:g} s; "
                    "is the repair worker well? Nothing was changed"
                )
            if timer() - began > wait_seconds:
                raise NotInTime(f"not done within {wait_seconds:g} s; nothing was changed")
            sleep(LOOK_SECONDS)
    finally:
        with database.begin() as conn:
            release_requests.finish(
                conn, request_id, RequestResult(ok=False, message="withdrawn"), now=to_us(clock())
            )
