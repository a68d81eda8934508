"""Trouble with our own processes: killed, frozen, restarted, joined and left, forked."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

import processes
from pids import job_of, send
from world import World

FREEZE_SECONDS = 20.0
"""Longer than a session of the consumer group (6 s) and than every lease (15 s)."""


def kill9(world: World, kills: int = 10) -> None:
    """Random kills of stream and repair workers, restarted after up to two seconds."""
    victims = [n for n in world.names if n != "web"]
    for number in range(kills):
        if number == max(1, kills // 4):
            world.drift()
        world.rest(world.rng.uniform(1.0, 4.0))
        world.kill(world.rng.choice(victims), back_after=world.rng.uniform(0.0, 2.0))
    world.healed()


def freeze(world: World, names: Sequence[str] = ()) -> None:
    """Each process (or those that are named) stands still for longer than its session and its
    leases; the fork server, too."""
    world.drift()
    for name in names or world.names:
        with world.frozen(world.pid(name), name):
            world.rest(FREEZE_SECONDS if name == "repair" else FREEZE_SECONDS / 2)
        world.healed()
    if (server := world.fork_server()) is not None:
        with world.frozen(server, "the fork server"):
            world.rest(FREEZE_SECONDS / 2)


def rolling_restart(world: World, rounds: int = 2) -> None:
    """SIGTERM to one process after the other, each started again at once, while a repair is at
    work."""
    world.drift()
    for _ in range(rounds):
        for name in world.names:
            status = world.restart(name)
            if status != 0:
                world.facts.setdefault("bad_stops", []).append(f"{name}: {status}")
            world.rest(2.0)
        world.healed()
    if world.facts.get("bad_stops"):
        raise AssertionError(f"SIGTERM: {world.facts['bad_stops']}")


def rebalance_storm(world: World, rounds: int = 8) -> None:
    """Workers join and leave every few seconds, in order or by force."""
    world.drift()
    for number in range(rounds):
        name = f"guest-{number % 3}"
        if name in world.watch.workers and world.watch.workers[name].alive:
            world.watch.let_go(name)
            if world.rng.random() < 0.5:
                world.watch.workers[name].stop(30)
                world.fault(f"{name} leaves")
            else:
                world.watch.workers[name].kill()
                world.fault(f"kill -9 {name}")
        else:
            if name not in world.watch.workers:
                world.add(name, ["run", "stream"])
            world.watch.start_worker(name)
            world.fault(f"{name} joins")
        world.rest(world.rng.uniform(2.0, 5.0))
    for name in [n for n in world.names if n.startswith("guest-")]:
        world.watch.let_go(name)
        world.watch.workers[name].stop(30)
    world.healed()


def fork_storm(world: World, seconds: float = 20.0) -> None:
    """Two services that fork five times a second while they log; a stream worker dies meanwhile."""
    for _ in range(2):
        seed = world.rng.randrange(2**31)
        world.services.start(world.serving, seed=seed, seconds=seconds * world.shorten, every=0.2)
        world.fault("a service forks while it logs")
    world.rest(seconds / 2)
    world.kill("stream-1", back_after=1.0)
    world.services.said()
    world.healed()


def child_trouble(world: World) -> None:
    """The processes of jobs crash (SIGSEGV), hang (SIGSTOP) and are killed (SIGKILL): first those of
    a repair, then those of jobs that a person asks for."""
    world.drift()
    for sign in (signal.SIGSEGV, signal.SIGSTOP, signal.SIGKILL):
        end = time.monotonic() + 40.0
        while not _hit(world, sign) and time.monotonic() < end:
            if not world.count("jobs", "state IN ('queued', 'running')"):
                processes.redistill(["recompress", "credit"], world.env)
        if sign == signal.SIGSTOP:
            world.rest(10.0)
            if (pid := _job(world)) is not None:
                send(pid, signal.SIGCONT)
    world.healed()


def _hit(world: World, sign: signal.Signals) -> bool:
    """Send a signal to the process of the job at work; ``False``: there was none for a second."""
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        if (pid := _job(world)) is not None:
            time.sleep(world.rng.uniform(0.0, 0.2))
            if send(pid, sign):
                world.fault(f"{sign.name} to the process of a job")
                return True
        time.sleep(0.02)
    return False


def _job(world: World) -> int | None:
    server = world.fork_server()
    return job_of(server) if server is not None else None
