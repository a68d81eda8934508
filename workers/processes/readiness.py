"""Readiness of the processes that were started here, by the rows in which they say that they
live."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from redistill.streams.store.process_rows import ProcessRow

__all__ = ["SILENT", "STARTING", "became_ready", "waits"]

STARTING = "it starts"
SILENT = "nothing was heard of it for half a minute"


def waits(rows: Sequence[ProcessRow], since: Mapping[str, int], *, now: int) -> dict[str, str]:
    """What each kind of process waits for; those that are ready are left out.

    Parameters
    ----------
    since
        Kinds, and when the one that runs here was started at the earliest (microseconds since
        1970): those that started before are others', or dead.

    Examples
    --------
    >>> row = ProcessRow(process_id="a", kind="web", started_at=5, seen_at=5, ready=True, said="")
    >>> waits([row], {"web": 1, "stream": 1}, now=6)
    {'stream': 'it starts'}
    """
    out = {}
    for kind, start in since.items():
        own = [r for r in rows if r.kind == kind and r.started_at >= start]
        live = [r for r in own if r.lives(now)]
        if not any(r.ready for r in live):
            out[kind] = live[-1].said if live else SILENT if own else STARTING
    return out


def became_ready(
    before: Mapping[str, str], now: Mapping[str, str], kept: Iterable[str]
) -> list[str]:
    """Kinds that waited and wait no more. One that is given up waits for nothing, and is not ready.

    Parameters
    ----------
    before, now
        As :func:`waits` told them; what could not be read tells nothing.
    kept
        Kinds that are kept running.

    Examples
    --------
    >>> became_ready({"web": STARTING, "alerts": STARTING}, {"stream": "x"}, ["web", "stream"])
    ['web']
    """
    return [kind for kind in kept if kind in before and kind not in now]
