"""Scenes of the start: all starts while the teacher trains, then the student does its work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redistill.workers.demo import data
from redistill.workers.demo.facts import Snapshot
from redistill.workers.demo.processes import SERVICES
from redistill.workers.demo.runner import ScenarioRunner, accuracy_facts, accuracy_text
from redistill.workers.demo.scenes.common import begun, enough, no_incident
from redistill.workers.demo.teacher import BASELINE, MODEL
from redistill.workers.demo.world import World

__all__ = ["healthy", "set_up"]

HEALTHY_SECONDS = 6.0


def set_up(runner: ScenarioRunner) -> dict[str, Any]:
    """Start everything while the teacher trains; register; open the services.

    What loads a lot starts one after the other, by the share of the training that is done: there
    are two cores, and the training, which takes longest, needs one of them. The repair worker loads
    torch as well, and is needed last: it starts when the services serve.
    """
    processes = runner.processes
    runner.enter("opening", "starting")
    processes.start_teacher()
    processes.start_broker()
    if processes.real_broker:
        runner.say(
            "broker", f"topics get the prefix {processes.namespace!r} on the broker you named"
        )
    else:
        runner.say(
            "broker",
            "the broker is in memory and forgets everything at the end; "
            "on a real Kafka: redistill demo --broker host:port",
        )
    runner.say(
        "training",
        f"training a teacher on {data.TRAIN_IMAGES} handwritten digits, here and now: "
        "nothing is shipped or downloaded",
    )
    runner.command("keys", "init")
    if processes.real_broker:
        runner.command("topics", "apply")
    from redistill.workers.store import opening

    runner.database = opening.open(processes.settings)
    processes.start_workers("stream")
    late: list[tuple[float, Callable[[], None]]] = [
        (0.25, lambda: processes.start_workers("web")),
        (0.45, processes.start_services),
    ]

    def trained(_: Snapshot) -> dict[str, Any] | None:
        steps = processes.teacher_steps()
        if not steps:
            return None
        share = steps[-1].get("share")
        while late and late[0][0] <= (share or 0.0):
            late.pop(0)[1]()
        runner.doing = "training the teacher" + (
            f" {100 * share:.0f}%" if share is not None else ""
        )
        return steps[-1] if steps[-1]["step"] == "done" else None

    made = runner.until("training the teacher", trained, seconds=120)
    for _, start in late:
        start()
    runner.say(
        "trained",
        f"teacher: {made['teacher_parameters']:,} parameters, "
        f"{100 * made['teacher_accuracy']:.1f}% on {made['trusted_rows']} trusted rows; student: "
        f"{made['student_parameters']:,} parameters in int8, "
        f"{100 * made['student_accuracy']:.1f}%, "
        f"{made['teacher_bytes'] / made['student_bytes']:.1f} times smaller",
        **made,
    )
    printed = runner.command("register", str(processes.project / "model.toml"), seconds=90)
    runner.say(
        "registered", f"`redistill register model.toml`: {MODEL} {BASELINE}", printed=printed
    )
    processes.open_services(World(scene="healthy"))
    runner.until(
        "the three services to serve",
        lambda _: (
            len([s for s in processes.stats() if s.version == BASELINE and s.requests])
            == len(SERVICES)
        ),
        seconds=60,
    )
    processes.start_workers("repair")
    return made


def healthy(runner: ScenarioRunner) -> dict[str, Any]:
    """The student does its work."""
    began = begun(runner, "healthy")
    runner.enter(
        "healthy", "three services answer, labels of a tenth of the rows come two seconds late"
    )
    runner.version, runner.since = BASELINE, began
    known = enough(runner, BASELINE, began, HEALTHY_SECONDS)
    true = runner.truth("healthy")
    runner.say("healthy", accuracy_text(known, true), **accuracy_facts(known, true))
    no_incident(runner, "while all was well")
    return accuracy_facts(known, true)
