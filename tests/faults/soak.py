"""``make soak MINUTES=n``: an installation under 2,000 rows a second for n minutes, with an incident
every two: the world shifts, the monitor opens an incident, a repair is trained, judged, published
and served, and rolled back when the world returns; in turn, a pipeline breaks and is mended.

A line a minute; at the end the bounds on memory, descriptors, threads, WAL, outbox, lag and log
lines are checked, and everything is counted as after a fault. Exit 0 only if all is well.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "chaos"), str(HERE.parent / "support")]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import processes  # noqa: E402
import report  # noqa: E402
import samples  # noqa: E402
from database_faults import connect  # noqa: E402
from scenario import Scenario, Verdict, judge, settle, tell  # noqa: E402
from servers import Servers  # noqa: E402
from world import World  # noqa: E402

INCIDENT_SECONDS = 120.0
SHIFTED_SECONDS = 75.0
BROKEN_SECONDS = 50.0
SAMPLE_SECONDS = 5.0
MAX_WAL = "256MB"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows-per-second", type=int, default=2_000)
    parser.add_argument(
        "--keep", type=Path, help="folder for logs and data; default: a temporary one"
    )
    parser.add_argument("--database", choices=["postgres", "sqlite"])
    parser.add_argument("--report", type=Path, help="write the report's part into this file")
    return parser.parse_args(argv)


class Incidents(threading.Thread):
    """Makes trouble every two minutes, and the world well again."""

    def __init__(self, world: World, end: float) -> None:
        super().__init__(name="incidents", daemon=True)
        self.world, self.ends_at = world, end
        self.caused: list[tuple[str, float]] = []
        """Kind, and the seconds until it was found."""
        self.failed: list[str] = []
        """Incidents that could not be caused or followed: the soak has not shown what it should."""

    def run(self) -> None:
        """Until the end of the soak."""
        number = 0
        while (began := time.monotonic()) + SHIFTED_SECONDS < self.ends_at:
            try:
                self._shift() if number % 2 == 0 else self._break()
            except Exception as error:
                self.failed.append(f"incident {number}: {type(error).__name__}: {error}")
            number += 1
            time.sleep(max(0.0, began + INCIDENT_SECONDS - time.monotonic()))

    def _shift(self) -> None:
        world, load = self.world, self.world.load
        assert load is not None
        before, moves = world.count("incidents"), world.count("pointer_history")
        load.boom = True
        found = self._wait(lambda: world.count("incidents") > before, SHIFTED_SECONDS)
        self.caused.append(("drift", found))
        published = self._wait(lambda: world.count("pointer_history") > moves, INCIDENT_SECONDS)
        self.world.say(f"drift: found in {found:.0f} s, repaired in {published:.0f} s more")
        self._wait(lambda: world.serving[0] != world.first_version, 20.0)
        time.sleep(15.0)  # the repaired version serves the new world
        done = processes.redistill(["rollback", "credit", "--reason", "soak"], world.env, 90.0)
        if done.returncode:
            world.say(f"rollback: {done.stdout}{done.stderr}"[:300])
        load.boom = False

    def _break(self) -> None:
        world, load = self.world, self.world.load
        assert load is not None
        before = world.count("incidents")
        load.broken = True
        found = self._wait(lambda: world.count("incidents") > before, BROKEN_SECONDS)
        self.caused.append(("broken pipeline", found))
        self.world.say(f"broken pipeline: found in {found:.0f} s")
        load.broken = False

    def _wait(self, check: object, seconds: float) -> float:
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            if check():  # type: ignore[operator]
                return time.monotonic() - began
            time.sleep(0.5)
        return float("nan")


def soak(world: World, minutes: int) -> tuple[list[samples.Minute], Incidents]:
    """Let it run, and look."""
    began = time.monotonic()
    incidents = Incidents(world, began + 60.0 * minutes)
    incidents.start()
    lines = samples.log_lines(world)
    seen: list[samples.Minute] = []
    for number in range(1, minutes + 1):
        taken = []
        while (now := time.monotonic() - began) < 60.0 * number:
            taken.append(samples.sample(world, now))
            time.sleep(SAMPLE_SECONDS)
        seen.append(samples.minute(world, number, taken, lines))
        print(seen[-1].line(), flush=True)
    incidents.join(INCIDENT_SECONDS * 2)
    assert world.load is not None
    world.load.boom = world.load.broken = False
    return seen, incidents


def main(argv: list[str] | None = None) -> int:
    """Run it; 0 only if nothing was lost, doubled or broken, and every bound held."""
    args = arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers and workers end, too
    folder = args.keep or Path(tempfile.mkdtemp(prefix="redistill-soak-"))
    print(f"seed {args.seed}, {args.minutes} minutes, logs in {folder}", flush=True)
    servers = Servers(folder, args.database, args.seed, sampled=True)
    verdict = Verdict("soak", args.seed)
    rules = Scenario("soak", "", lambda world: None, lines=samples.LINES_A_MINUTE * args.minutes)
    world = None
    began = time.monotonic()
    try:
        servers.start()
        if servers.postgres is not None:
            with connect(servers.postgres) as operator:
                operator.execute(f"ALTER SYSTEM SET max_wal_size = '{MAX_WAL}'")
                operator.execute("SELECT pg_reload_conf()")
        world = World(
            servers, "soak", random.Random(args.seed), rows_per_second=args.rows_per_second,
            arrow=0.9,
        )  # fmt: skip
        verdict.logs = world.folder
        world.begin()
        seen, incidents = soak(world, args.minutes)
        world.healed()
        settle(world)
        judge(world, verdict, rules)
        passed, against = samples.bounds(seen, world.kind or "")
        verdict.bounds += passed
        verdict.bounds += incidents.failed
        if not incidents.caused and args.minutes > 2:  # fewer have no time for one
            verdict.bounds.append("no incident was caused")
        verdict.bounds += [
            f"{kind}: no incident was opened" for kind, found in incidents.caused if found != found
        ]
        verdict.seconds = time.monotonic() - began
        if args.report is not None:
            text = soak_report(seen, incidents, verdict, against, servers, args.rows_per_second)
            report.write(args.report, "soak", text)
        print(f"compared: {against}", flush=True)
    except Exception as error:
        verdict.broken.append(f"{type(error).__name__}: {error}")
    finally:
        if world is not None:
            world.close()
        servers.stop()
    if not verdict.good:
        tell(verdict)
    if verdict.good and args.keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    print(verdict.line())
    print(
        f"{args.minutes} minutes, {verdict.lost} lost, {verdict.doubled} doubled,"
        f" {len(verdict.broken)} invariants broken, {len(verdict.bounds)} bounds exceeded",
        flush=True,
    )
    return 0 if verdict.good else 1


def soak_report(
    seen: list[samples.Minute],
    incidents: Incidents,
    verdict: Verdict,
    against: str,
    servers: Servers,
    rows_per_second: int,
) -> str:
    """The part of ``make soak``."""
    names = sorted(seen[-1].memory)
    rows = [
        "| minute | acknowledged |" + "".join(f" {n} MiB |" for n in names)
        + " descriptors | threads | WAL MiB | outbox unsent | oldest s | behind | lines"
        " | incidents | jobs |",
        "|--:|--:|" + "--:|" * (len(names) + 9),
    ]  # fmt: skip
    rows += [
        f"| {m.number} | {m.acknowledged:,} |"
        + "".join(f" {m.memory.get(n, 0) / 2**20:.0f} |" for n in names)
        + f" {sum(m.descriptors.values())} | {sum(m.threads.values())} | {m.wal / 2**20:.0f} |"
        f" {m.unsent} | {m.outbox_seconds:.1f} | {m.behind} | {max(m.lines.values())} |"
        f" {m.incidents} | {m.jobs} |"
        for m in seen
    ]
    found = [f"{kind} in {s:.0f} s" for kind, s in incidents.caused]
    failed = [f"- {reason}" for reason in [*verdict.broken, *verdict.reasons, *verdict.bounds]]
    return "\n".join(
        [
            "## Soak", "", report.circumstances(servers),
            f"- {len(seen)} minutes at {rows_per_second:,} rows/s, seed {verdict.seed}; compared:"
            f" {against}", "", *rows, "",
            f"Found: {', '.join(found)}. {verdict.facts.get('succeeded', 0)} of"
            f" {verdict.facts.get('jobs', 0)} jobs published a repair, the pointer moved"
            f" {verdict.facts.get('moves', 0)} times. Memory is the median of a minute's samples,"
            " lines the most that one process wrote in the minute.", "",
            f"**{len(seen)} minutes, {verdict.acknowledged:,} acknowledged, {verdict.lost} lost,"
            f" {verdict.doubled} doubled, {len(verdict.broken)} invariants broken,"
            f" {len(verdict.bounds)} bounds exceeded**",
            *(["", "What failed:", "", *failed] if failed else []),
        ]
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
