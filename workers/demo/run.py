"""A run of the demo from its first process to its summary: what ``redistill demo`` calls."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from redistill.streams.errors import StreamsError
from redistill.workers.demo.processes import WORKERS, DemoProcesses
from redistill.workers.demo.runner import ScenarioRunner, cpu_seconds
from redistill.workers.demo.scenario import play
from redistill.workers.demo.screen import Screen
from redistill.workers.errors import UsageError, WorkersError
from redistill.workers.exit_codes import ExitCode
from redistill.workers.processes.supervisor import last_words

__all__ = ["run", "summary"]


def run(screen: Screen, *, seed: int, broker: str | None, keep: Path | None) -> int:
    """Play the demo.

    Parameters
    ----------
    screen
        Where it is told.
    seed
        Of data, models, traffic and labels. Times still differ from run to run.
    broker
        ``host:port`` of a real Kafka; ``None``: the in-memory dev broker.
    keep
        Folder that keeps everything afterwards; ``None``: a temporary one, kept only if the story
        fails.

    Returns
    -------
    int
        0 if all of the story happened, else 3.

    Raises
    ------
    UsageError
        ``keep`` is not empty.
    """
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise UsageError(f"{keep} is not empty: --keep wants a new folder")
    folder = Path(tempfile.mkdtemp(prefix="redistill-demo-")) if keep is None else keep
    processes = DemoProcesses(folder.absolute(), seed=seed, broker=broker)
    runner = ScenarioRunner(processes, screen)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        figures = play(runner)
    except (WorkersError, StreamsError) as why:
        for name in WORKERS:
            if said := last_words(processes.supervisor.log(name)):
                runner.say("last_words", f"{name}: {said}")
        runner.enter("the demo failed", "")
        runner.say("failed", f"{why} (logs in {processes.logs})", ok=False)
        return ExitCode.REFUSED
    else:
        runner.enter("summary", "stopping")
        wall = runner.now
        processes.close()
        # only now: the CPU time of a process is known when it has ended
        figures |= {"wall_seconds": round(wall, 1), "cpu_seconds": round(cpu_seconds(), 1)}
        runner.say("summary", summary(figures), ok=True, seed=seed, **figures)
        if keep is None:
            try:
                processes.remove_topics()
            except Exception as why:  # the story is told; kafka-python has no base class for this
                runner.say(
                    "topics_left", f"topics {processes.namespace}.* stay on the broker: {why}"
                )
            shutil.rmtree(folder, ignore_errors=True)
        return 0
    finally:
        screen.close()
        processes.close()
        runner.close()


def summary(figures: Mapping[str, Any]) -> str:
    """The figures of a run in a few lines.

    Parameters
    ----------
    figures
        What ``play`` returned.
    """

    def accuracy(name: str) -> str:
        known, true = figures[name]["measured"], figures[name]["truth"]
        return (
            f"{100 * known['accuracy']:.1f}% measured on {known['n']} labels "
            f"(truth {100 * true['accuracy']:.1f}%)"
        )

    repair, found, killed = figures["repair"], figures["detection"], figures["killed"]
    lines = (
        "all of it happened",
        f"before   {accuracy('before')}",
        f"veil     {accuracy('during')}",
        f"after    {accuracy('after')}, under the same veil",
        f"found    after {found['seconds']:.1f} s and {found['labels']} labels; published "
        f"{repair['veil_to_published_seconds']:.1f} s after the veil fell; served after "
        f"{max(repair['published_to_served_seconds'].values()):.2f} s more",
        f"repair   {repair['seconds']:.1f} s, {repair['cpu_seconds']:.1f} s of CPU; the new"
        f" student has {repair['size_ratio']:.2f} of its teacher's size and"
        f" {repair['latency_ratio']:.2f} of its latency",
        f"kill -9  {killed['down_seconds']:.1f} s down, {figures['closing']['counted']:,} rows "
        "counted of as many served",
        "back     served after "
        f"{max(killed['rollback']['rolled_back'].values()):.2f} s, forward after "
        f"{max(killed['rollback']['forward'].values()):.2f} s",
        f"cost     {figures['wall_seconds']:.0f} s, {figures['cpu_seconds']:.0f} s of CPU",
    )
    return "\n".join(lines)


def _terminated(_sign: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)
