"""Readiness of the processes that were started here, by the rows in which they say that they
live."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from redistill.streams.store.process_rows import ProcessRow

__all__ = ["STARTING", "waits"]

STARTING = "it starts"


def waits(
    rows: Sequence[ProcessRow], kinds: Collection[str], *, since: int, now: int
) -> dict[str, str]:
    """What each kind of process waits for; those that are ready are left out.

    Parameters
    ----------
    since
        Processes that started earlier are others' (microseconds since 1970).

    Examples
    --------
    >>> row = ProcessRow(process_id="a", kind="web", started_at=5, seen_at=5, ready=True, said="")
    >>> waits([row], ["web", "stream"], since=1, now=6)
    {'stream': 'it starts'}
    """
    out = {}
    for kind in kinds:
        own = [r for r in rows if r.kind == kind and r.started_at >= since and r.lives(now)]
        if not any(r.ready for r in own):
            out[kind] = own[-1].said if own else STARTING
    return out
