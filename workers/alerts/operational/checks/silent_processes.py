"""Processes: one that was heard of and did not end in order, and a kind of which none is ready."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from redistill.streams.store import process_rows
from redistill.streams.store.lease import AHEAD_US
from redistill.streams.store.process_rows import SILENT_US, ProcessRow
from redistill.times import HOUR, to_seconds
from redistill.workers.alerts.operational.look import Look
from redistill.workers.alerts.operational.reading import Reading
from redistill.workers.alerts.operational.words import count, duration

__all__ = ["missed_no_more", "none_ready", "silent"]

OPENS_SECONDS = to_seconds(SILENT_US)
CLOSES_SECONDS = OPENS_SECONDS / 3
MISSED_US = HOUR
"""Of a process that died while another of its kind works on: whether those that are left keep up is
seen by the lag and by the jobs, and one process fewer may be what somebody wants."""
WAITING_OPENS_SECONDS = 180.0
"""Starting with a large log, or a rebalance, takes less."""


def silent(look: Look) -> Sequence[Reading]:
    """How long each process has not been heard of that nobody took the place of."""
    rows = process_rows.seen(look.conn)
    gone = missed_no_more(rows, look.now)
    # while nobody could write, or nobody looked, nobody was silent
    return [
        _silent(row, max(0, look.now - max(_seen_at(row, look.now), look.history.steady_since)))
        for row in rows
        if row.process_id not in gone
    ]


def _seen_at(row: ProcessRow, now: int) -> int:
    """When a process was heard of; 0 where that was by a clock that was ahead."""
    return row.seen_at if row.seen_at <= now + AHEAD_US else 0


def missed_no_more(rows: Iterable[ProcessRow], now: int) -> set[str]:
    """Processes that are dead and missed no more. Others of their kind were started later: one for
    one, so that of three that died and two that came, one is missing. Or they have been dead for
    an hour, and one of their kind lives and is ready: nobody needs them.

    Examples
    --------
    >>> def row(name, started, seen):
    ...     return ProcessRow(process_id=name, kind="stream", started_at=started, seen_at=seen,
    ...                       ready=True, said="")
    >>> now = 10 * SILENT_US
    >>> sorted(missed_no_more([row("a", 0, 5), row("b", 0, 7), row("c", 8, now)], now))
    ['a']
    >>> sorted(missed_no_more([row("a", 0, 5), row("c", 4, now)], now))
    []
    >>> sorted(missed_no_more([row("a", 0, 5), row("c", 4, MISSED_US + 6)], MISSED_US + 6))
    ['a']
    """
    kept = list(rows)
    out: set[str] = set()
    for kind in {row.kind for row in kept}:
        same = [row for row in kept if row.kind == kind]
        dead = sorted((r for r in same if not r.lives(now)), key=lambda r: r.seen_at)
        living = sorted((r for r in same if r.lives(now)), key=lambda r: r.started_at)
        for row in living:
            if dead and row.started_at > dead[0].seen_at:
                out.add(dead.pop(0).process_id)
        if any(row.ready for row in living):
            out |= {row.process_id for row in dead if now - row.seen_at > MISSED_US}
    return out


def none_ready(look: Look) -> Sequence[Reading]:
    """How long no process of a kind has been ready, of those that live."""
    rows = process_rows.seen(look.conn)
    out = []
    for kind in sorted({row.kind for row in rows}):
        living = [row for row in rows if row.kind == kind and row.lives(look.now)]
        name = f"unready:{kind}"
        if not living:  # which is another trouble
            look.history.keep(name)
            out.append(_waiting(kind, [], None))
            continue
        waits = not any(row.ready for row in living)
        out.append(_waiting(kind, living, look.history.lasted(name, waits, look.now)))
    return out


def _silent(row: ProcessRow, quiet: int) -> Reading:
    waited = f"; it was waiting for {row.said}" if row.said else ""
    return Reading(
        subject=row.process_id,
        value=to_seconds(quiet),
        opens=OPENS_SECONDS,
        closes=CLOSES_SECONDS,
        said=f"the {row.kind} process {row.process_id} has not been heard of for {duration(quiet)},"
        f" and did not end in order{waited}",
        remedy=f"look at its log, and start it again (`redistill run {row.kind}`); this ends when"
        " it is back, when another one is started in its place, or an hour later if others of its"
        " kind do the work",
    )


def _waiting(kind: str, living: Sequence[ProcessRow], lasted: int | None) -> Reading:
    said = next((row.said for row in living if row.said), "")
    which = (
        "the only"
        if len(living) == 1
        else f"none of {count(len(living), kind + ' process', kind + ' processes')}"
    )
    verb = f"{which} {kind} process is not" if len(living) == 1 else f"{which} is"
    return Reading(
        subject=kind,
        value=None if lasted is None else to_seconds(lasted),
        opens=WAITING_OPENS_SECONDS,
        closes=0,
        said=f"{verb} ready for {duration(lasted or 0)}: it waits for {said}",
        remedy="`redistill doctor` says what is missing, and what to type",
    )
