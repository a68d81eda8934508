"""Samples of a running world: memory, descriptors and threads of each process, the database's log,
what waits, what was written to logs; and the bounds that they must keep."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from watch import descriptors, resident, threads
from world import World

MEMORY_GROWTH = 1.05
"""Last minute against minute 3: medians of the samples of each."""
BASE_MINUTE, LEAST_MINUTES = 3, 5
DESCRIPTORS_MORE = 4
"""Connections come and go; a leak goes on."""
OUTBOX_SECONDS = 30.0
WAL_BYTES = {"postgres": 512 << 20, "sqlite": 128 << 20}
"""PostgreSQL: twice the ``max_wal_size`` of the run, which it may pass for a while. SQLite: its
file is cut back to 64 MiB; a checkpoint may come late."""
LINES_A_MINUTE = 40
"""Of one worker, an incident with its job and release included."""
LAG_RECORDS = 2_000


@dataclass
class Sample:
    """One look."""

    seconds: float
    memory: dict[str, int] = field(default_factory=dict)
    descriptors: dict[str, int] = field(default_factory=dict)
    threads: dict[str, int] = field(default_factory=dict)


@dataclass
class Minute:
    """What a minute's samples come to, and what is asked once a minute."""

    number: int
    memory: dict[str, int]
    descriptors: dict[str, int]
    threads: dict[str, int]
    acknowledged: int
    wal: int
    unsent: int
    outbox_seconds: float
    behind: int
    lines: dict[str, int]
    """Written within the minute."""
    incidents: int
    jobs: int

    def line(self) -> str:
        """For the output of a run."""
        memory = " ".join(f"{n} {b / 2**20:.0f}" for n, b in sorted(self.memory.items()))
        return (
            f"minute {self.number:2}: {self.acknowledged:9,} acknowledged, MiB: {memory};"
            f" descriptors {sum(self.descriptors.values())}, threads {sum(self.threads.values())},"
            f" WAL {self.wal / 2**20:.0f} MiB, outbox {self.unsent} unsent"
            f" ({self.outbox_seconds:.1f} s), behind {self.behind} records,"
            f" {max(self.lines.values())} lines, {self.incidents} incidents, {self.jobs} jobs"
        )


def processes(world: World) -> dict[str, int]:
    """Process ids by name, the fork server among them."""
    found = {n: world.pid(n) for n in world.names if world.watch.workers[n].alive}
    if (server := world.fork_server()) is not None:
        found["fork-server"] = server
    return found


def sample(world: World, seconds: float) -> Sample:
    """Look at each process."""
    made = Sample(seconds)
    for name, pid in processes(world).items():
        made.memory[name] = resident(pid)
        made.descriptors[name] = descriptors(pid)
        made.threads[name] = threads(pid)
    return made


def minute(world: World, number: int, taken: list[Sample], lines: dict[str, int]) -> Minute:
    """Sum a minute up, and ask the database and the broker.

    Parameters
    ----------
    lines
        Of each log when the minute began; brought up to date.
    """
    now = log_lines(world)
    written = {n: now[n] - lines.get(n, 0) for n in now}
    lines.update(now)
    unsent, oldest = world.rows(
        "SELECT count(*), min(created_at) FROM outbox WHERE sent_at IS NULL"
    )[0]
    acknowledged = world.load.acknowledged.rows if world.load is not None else 0
    return Minute(
        number=number,
        memory=_middle(s.memory for s in taken),
        descriptors=_middle(s.descriptors for s in taken),
        threads=_middle(s.threads for s in taken),
        acknowledged=acknowledged,
        wal=wal_bytes(world),
        unsent=int(unsent),
        outbox_seconds=0.0 if oldest is None else max(0.0, world.now_us() - oldest) / 1e6,
        behind=world.behind(),
        lines=written,
        incidents=world.count("incidents"),
        jobs=world.count("jobs"),
    )


def _middle(each: Iterable[dict[str, int]]) -> dict[str, int]:
    values: dict[str, list[int]] = {}
    for found in each:
        for name, value in found.items():
            if value:
                values.setdefault(name, []).append(value)
    return {name: int(statistics.median(v)) for name, v in values.items()}


def log_lines(world: World) -> dict[str, int]:
    """Lines of each log."""
    logs = {n: w.log for n, w in world.watch.workers.items()}
    return {n: p.read_bytes().count(b"\n") if p.exists() else 0 for n, p in logs.items()}


def wal_bytes(world: World) -> int:
    """Size of the database's write-ahead log."""
    if world.kind == "postgres":
        return int(world.rows("SELECT sum(size) FROM pg_ls_waldir()")[0][0])
    path = world.home / "redistill.db-wal"
    return path.stat().st_size if path.exists() else 0


def bounds(minutes: list[Minute], kind: str) -> tuple[list[str], str]:
    """Bounds that were passed, and which minutes were compared.

    Returns
    -------
    tuple
        Sentences, empty where all hold; and what the last minute was held against.
    """
    last = minutes[-1]
    enough = len(minutes) >= LEAST_MINUTES
    base = minutes[BASE_MINUTE - 1] if enough else minutes[0]
    against = f"minute {last.number} against minute {base.number}"
    if not enough:
        against += f" (memory has no bound below {LEAST_MINUTES} minutes)"
    out: list[str] = []
    for name, used in last.memory.items():
        if enough and used > MEMORY_GROWTH * base.memory.get(name, used):
            out.append(
                f"{name} grew from {base.memory[name] / 2**20:.0f} to {used / 2**20:.0f} MiB"
            )
    for what in ("descriptors", "threads"):
        before: dict[str, Any] = getattr(base, what)
        for name, n in getattr(last, what).items():
            if n > before.get(name, n) + DESCRIPTORS_MORE:
                out.append(f"{name} had {before[name]} {what}, then {n}")
    for m in minutes:
        if m.wal > WAL_BYTES[kind]:
            out.append(f"minute {m.number}: the WAL has {m.wal / 2**20:.0f} MiB")
        if m.outbox_seconds > OUTBOX_SECONDS:
            out.append(f"minute {m.number}: an announcement waits for {m.outbox_seconds:.0f} s")
        if m.behind > LAG_RECORDS:
            out.append(f"minute {m.number}: {m.behind:,} records behind")
        out += [
            f"minute {m.number}: {name} wrote {n} lines"
            for name, n in m.lines.items()
            if n > LINES_A_MINUTE and m.number > 1  # it starts in the first
        ]
    return out, against
