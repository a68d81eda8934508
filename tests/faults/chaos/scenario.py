"""A scenario played from its beginning to its verdict."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ledger
import processes
import topic_log
from load import Acknowledged
from servers import Servers
from waiting import eventually
from watch import resident
from world import Skipped, World, say

WAITING = "SELECT count(*) FROM labels WHERE state = 'waiting'"
LINES = 120
"""What a worker may say in a scenario, its start included: a few lines for each of its tasks and
each fault, no flood."""


@dataclass(frozen=True)
class Scenario:
    """One kind of trouble.

    Parameters
    ----------
    what
        A sentence for the report.
    play
        Does it to a world; what it broke it heals.
    exits
        Statuses with which processes may end by themselves; 75 is the watchdog.
    lines
        Most lines of one worker.
    world
        What the world needs: ``kind``, ``streams``, ``settings``, ``rows_per_second``.
    """

    name: str
    what: str
    play: Callable[[World], None]
    exits: frozenset[int] = frozenset()
    lines: int = LINES
    world: dict[str, Any] = field(default_factory=dict)


@dataclass
class Verdict:
    """What came of it."""

    name: str
    seed: int
    seconds: float = 0.0
    faults: int = 0
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    broken: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    exits: list[str] = field(default_factory=list)
    lines: int = 0
    lines_allowed: int = LINES
    catch_up: float = 0.0
    memory: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    bounds: list[str] = field(default_factory=list)
    """Bounds that were passed."""
    skipped: str | None = None
    logs: Path | None = None

    @property
    def good(self) -> bool:
        """Nothing lost, doubled, broken, and within its bounds."""
        return not (self.lost or self.doubled or self.broken or self.bounds)

    def line(self) -> str:
        """One line."""
        if self.skipped is not None:
            return f"{self.name:<22} skipped: {self.skipped}"
        return (
            f"{self.name:<22} {'ok ' if self.good else 'BAD'} seed {self.seed}"
            f" {self.seconds:4.0f} s {self.faults:3} faults {self.acknowledged:7,} acknowledged"
            f" {self.lost} lost {self.doubled} doubled {len(self.broken)} broken"
            f" {len(self.exits)} exits {self.lines:3} lines"
            f" caught up in {self.catch_up:.0f} s, {self.memory / 2**20:.0f} MiB"
        )


def play(scenario: Scenario, servers: Servers, *, seed: int, **over: Any) -> Verdict:
    """Play one scenario in a world of its own."""
    verdict = Verdict(scenario.name, seed, lines_allowed=scenario.lines)
    began = time.monotonic()
    rng = random.Random(f"{scenario.name}/{seed}")
    verdict.logs = servers.folder / scenario.name
    try:
        world = World(servers, scenario.name, rng, **{**scenario.world, **over})
    except Skipped as why:
        verdict.skipped = str(why)
        return verdict
    try:
        world.begin()
        scenario.play(world)
        world.healed()
        settle(world)
        judge(world, verdict, scenario)
    except Skipped as why:
        verdict.skipped = str(why)
    except Exception as error:  # a scenario that cannot be judged has failed
        verdict.broken.append(f"{type(error).__name__}: {error}")
        world.say(f"{type(error).__name__}: {str(error)[:2_000]}")
    finally:
        world.close()
        verdict.seconds = time.monotonic() - began
    if verdict.good:
        world.remove()
    return verdict


def settle(world: World) -> None:
    """End the load, and wait until nothing is left to do."""
    assert world.load is not None
    world.load.halt.set()
    world.load.join(400)
    if world.load.failure is not None:
        raise world.load.failure
    world.services.said()
    began = time.monotonic()

    def done() -> bool:
        return not (
            world.behind()
            or world.rows(ledger.WAITING if world.servers.sampled else WAITING)[0][0]
            or world.count("jobs", "state IN ('queued', 'running')")
            or world.count("outbox", "sent_at IS NULL")
        )

    try:
        world.until(done, "nothing is left to do")
    except AssertionError:  # what is missing is said by the ledger
        world.say("not everything was done in time")
    world.catch_ups.append(time.monotonic() - began)


def acknowledged(world: World) -> Acknowledged:
    """What the load and the forking services know to be in the topics."""
    assert world.load is not None
    said = world.load.acknowledged
    processes_said, bad = world.services.said()
    for process in processes_said:
        ids = {f"{process['prefix']}{i}" for i in range(process["rows"])}
        sure = process["flushed"] and process["sent"] == process["rows"]
        (said.predictions if sure else said.maybe).update(ids)
        if not sure:
            bad.append(f"not everything of {process} was sent")
    if bad:
        world.facts["services"] = bad
    return said


def judge(world: World, verdict: Verdict, scenario: Scenario) -> None:
    """Count everything."""
    bootstrap = world.servers.kafka.bootstrap
    for name in world.names:
        worker = world.watch.workers[name]
        eventually(lambda w=worker: w.alive, f"{name} runs")  # type: ignore[misc]
        used = resident(worker.pid)
        world.watch.most_memory[name] = max(world.watch.most_memory.get(name, 0), used)
    found = topic_log.inputs(bootstrap, world.namespace)
    announced = topic_log.announced(bootstrap, world.namespace)
    account = ledger.compare(world.database, found, acknowledged(world), announced)
    verdict.acknowledged = account.acknowledged
    verdict.lost, verdict.doubled = account.lost, account.doubled
    verdict.broken = account.broken + history(world.env)
    verdict.reasons = account.reasons
    verdict.facts = account.facts | world.facts
    verdict.faults = world.faults
    verdict.catch_up = max(world.catch_ups, default=0.0)
    verdict.memory = max(world.watch.most_memory.values(), default=0)
    verdict.exits = [f"{e.name} with {e.status}" for e in world.watch.exits]
    unwanted = [e for e in world.watch.exits if e.status not in scenario.exits]
    verdict.bounds += [f"{e.name} ended with {e.status}" for e in unwanted]
    verdict.bounds += [str(x) for x in world.facts.get("services", [])]
    for name, worker in world.watch.workers.items():
        lines = worker.log.read_bytes().count(b"\n") if worker.log.exists() else 0
        verdict.lines = max(verdict.lines, lines)
        if lines > scenario.lines:
            verdict.bounds.append(f"{name} wrote {lines} lines, {scenario.lines} are allowed")


def history(env: dict[str, str]) -> list[str]:
    """What ``redistill check-history`` finds broken."""
    check = processes.redistill(["check-history", "--json"], env, 240.0)
    broken = []
    for line in check.stdout.splitlines():
        rule = json.loads(line) if line.startswith("{") else {}
        if rule.get("holds") is False:
            broken.append(f"invariant {rule['number']}: {'; '.join(rule['problems'])[:400]}")
    if check.returncode and not broken:
        broken.append(f"check-history: {(check.stdout + check.stderr)[-400:]}")
    return broken


def tell(verdict: Verdict) -> None:
    """What went wrong, with everything that is needed to look into it."""
    for reason in [*verdict.broken, *verdict.reasons, *verdict.bounds]:
        say(f"  {verdict.name}: {reason}")
    say(f"  {verdict.name}: seed {verdict.seed}, logs in {verdict.logs}")
    say(f"  {verdict.name}: {json.dumps(verdict.facts, default=str)}")
