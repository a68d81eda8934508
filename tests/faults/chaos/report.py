"""Fault report: what a run says of itself, as the last line of its output and as a document with a
part for the scenarios and one for the soak; each run writes its own part anew."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import kafka_server
from scenario import Scenario, Verdict
from servers import Servers

HEAD = """# Fault report

Written by the runs themselves: `make faults` plays every named scenario, `make soak` keeps an installation under load with an incident every two minutes. Each writes its own part
below, a run of some scenarios their rows. Nothing here is edited by hand; a figure that looks bad belongs to that run.

How it is counted: every id that the broker (or a logger's `flush`) acknowledged is noted by the load. At the end it is looked for in the topics by a reader that shares no code with
the workers, and what stands in the topics is compared with SQL: rows, records and dead letters of each partition, rows in the detectors' states, join rows, stored features, labels
and outcomes by id; releases a job, moves of the pointer, announcements by their `ce_id`. Then `redistill check-history` proves its invariants. *Lost* and *doubled* count whatever of
this is missing or there twice; input is at least once, each offset is counted once, effects happen once by their ids. *Exits* are processes that ended by themselves; *lines* is the
most that one process wrote to its log; *caught up* is the longest time from the end of a fault until everything that was acknowledged by then was counted; *memory* is the most that
one process had resident.
"""
PARTS = ("scenarios", "soak")


def summary(verdicts: list[Verdict]) -> str:
    """The last line of a run."""
    played = [v for v in verdicts if v.skipped is None]
    return (
        f"{len(played)} scenarios, {sum(v.lost for v in played)} lost,"
        f" {sum(v.doubled for v in played)} doubled,"
        f" {sum(len(v.broken) for v in played)} invariants broken"
    )


def circumstances(servers: Servers) -> str:
    """When, of what, on what: a list for the document."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    database = (
        f"SQLite {_sqlite()}" if servers.postgres is None else f"PostgreSQL {_postgres(servers)}"
    )
    kafka = kafka_server.JARS.name.removeprefix("kafka-")
    return "\n".join(
        [
            f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, redistill {version('redistill')}"
            f" at commit {_commit()}",
            f"- Apache Kafka {kafka}, {database}, Python {platform.python_version()}",
            f"- {os.cpu_count()} cores, {memory:.0f} GiB of memory, {platform.system()}"
            f" {platform.machine()}",
        ]
    )


def write(path: Path, part: str, text: str) -> None:
    """Write one part of the document anew; the other stays as it is.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "report.md"
    >>> write(path, "soak", "first"); write(path, "scenarios", "table"); write(path, "soak", "again")
    >>> words = path.read_text()
    >>> "first" in words, words.index("table") < words.index("again")
    (False, True)
    """
    before = path.read_text() if path.exists() else ""
    texts = {name: _part(before, name) for name in PARTS} | {part: text.strip()}
    body = "\n".join(
        f"<!-- {name} -->\n\n{texts[name]}\n\n<!-- end of {name} -->\n"
        for name in PARTS
        if texts[name]
    )
    path.write_text(f"{HEAD}\n{body}")


def _part(text: str, name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- end of {name} -->", text, re.S)
    return found[1].strip() if found else ""


COLUMNS = (
    "scenario", "seed", "seconds", "faults", "acknowledged", "lost", "doubled", "broken", "exits",
    "lines", "caught up", "memory", "played", "commit",
)  # fmt: skip


def scenarios(
    path: Path, verdicts: list[Verdict], catalogue: dict[str, Scenario], servers: Servers
) -> str:
    """The part of ``make faults``: rows of what was played now, and of the others as they were."""
    before = _part(path.read_text() if path.exists() else "", "scenarios").splitlines()
    rows = {r.split(" | ")[0].lstrip("| "): r for r in before if r.startswith("| ")}
    failed = [line for line in before if line.startswith("- `")]
    stamp = f"{datetime.now(UTC):%Y-%m-%d %H:%M} | {_commit()}"
    for v in verdicts:
        rows[v.name] = _row(v, stamp)
        failed = [line for line in failed if not line.startswith(f"- `{v.name}`")]
        failed += [f"- `{v.name}`: {reason}" for reason in [*v.broken, *v.reasons, *v.bounds]]
    there = [rows[name] for name in catalogue if name in rows]
    cells = [row.strip("| ").split(" | ") for row in there]
    sums = [sum(int(c[i]) for c in cells if c[i].isdigit()) for i in (5, 6, 7)]
    played = sum(c[5].isdigit() for c in cells)
    return "\n".join(
        [
            "## Scenarios", "", circumstances(servers), "",
            f"| {' | '.join(COLUMNS)} |", "|---|" + "--:|" * (len(COLUMNS) - 1), *there, "",
            f"**{played} scenarios, {sums[0]} lost, {sums[1]} doubled, {sums[2]} invariants broken**",
            *(["", "What failed:", "", *failed] if failed else []), "",
            "What each does, to two stream workers (one on SQLite), a repair worker and the web"
            " process, under a load of JSON events, Arrow batches, late labels, null labels, rows of"
            " a model that nobody registered and records that nobody can read, while the world"
            " shifts and a repair is under way:", "",
            *(f"- **{s.name}**: {s.what}." for s in catalogue.values() if s.name in rows),
        ]
    )  # fmt: skip


def _row(v: Verdict, stamp: str) -> str:
    if v.skipped is not None:
        return f"| {v.name} | skipped: {v.skipped} |" + " - |" * 10 + f" {stamp} |"
    return (
        f"| {v.name} | {v.seed} | {v.seconds:.0f} | {v.faults} | {v.acknowledged:,} | {v.lost}"
        f" | {v.doubled} | {len(v.broken)} | {len(v.exits)} | {v.lines} | {v.catch_up:.0f} s"
        f" | {v.memory / 2**20:.0f} MiB | {stamp} |"
    )


def _commit() -> str:
    root = Path(__file__).parents[3]
    asked = ["git", "-C", str(root)]
    done = subprocess.run(
        [*asked, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    )
    changed = subprocess.run(
        [*asked, "status", "--porcelain", "--untracked-files=no", "--", ":!docs"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return "unknown"
    return done.stdout.strip() + (" with changes" if changed.stdout.strip() else "")


def _sqlite() -> str:
    import sqlite3

    return sqlite3.sqlite_version


def _postgres(servers: Servers) -> str:
    import psycopg

    assert servers.postgres is not None
    address = f"postgresql://redistill@127.0.0.1:{servers.postgres.port}/postgres"
    with psycopg.connect(address) as conn:
        row = conn.execute("SHOW server_version").fetchone()
    return str(row[0]).split()[0] if row else "unknown"
