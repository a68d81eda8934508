"""How it begins: everything starts while the teacher trains, then the student does its work."""

from __future__ import annotations

from typing import Any

from workers.demo import data
from workers.demo.director import Director, accuracy_facts, accuracy_text
from workers.demo.facts import Snapshot
from workers.demo.pieces import begun, enough, no_incident
from workers.demo.stage import SERVICES
from workers.demo.teacher import BASELINE, MODEL
from workers.demo.world import World

HEALTHY_SECONDS = 6.0
REPAIR_STARTS_AT = 0.3
"""Share of the training after which the repair worker starts: it loads torch and the exporter,
eight seconds of CPU, and there are two cores for all that starts."""


def opening(d: Director) -> dict[str, Any]:
    """Start everything while the teacher trains; register; open the services."""
    stage = d.stage
    d.enter("opening", "starting")
    stage.start_broker()
    if stage.real_broker:
        d.say("broker", f"topics get the prefix {stage.namespace!r} on the broker you named")
    else:
        d.say(
            "broker",
            "the broker is in memory and forgets everything at the end; "
            "on a real Kafka: redistill demo --broker host:port",
        )
    stage.start_teacher()
    d.say(
        "training",
        f"training a teacher on {data.TRAIN_IMAGES} handwritten digits, here and now: "
        "nothing is shipped or downloaded",
    )
    d.command("keys", "init")
    if stage.real_broker:
        d.command("topics", "apply")
    from workers.store import engine

    d.database = engine.open(stage.settings)
    stage.start_workers("stream", "web")
    late = ["repair"]

    def trained(_: Snapshot) -> dict[str, Any] | None:
        steps = stage.teacher_steps()
        if not steps:
            return None
        share = steps[-1].get("share")
        if late and (share or 0.0) >= REPAIR_STARTS_AT:
            stage.start_workers(late.pop())
        d.doing = "training the teacher" + (f" {100 * share:.0f}%" if share is not None else "")
        return steps[-1] if steps[-1]["step"] == "done" else None

    made = d.until("training the teacher", trained, seconds=120)
    if late:
        stage.start_workers(late.pop())
    stage.start_services()
    d.say(
        "trained",
        f"teacher: {made['teacher_parameters']:,} parameters, "
        f"{100 * made['teacher_accuracy']:.1f}% on {made['trusted_rows']} trusted rows; student: "
        f"{made['student_parameters']:,} parameters in int8, "
        f"{100 * made['student_accuracy']:.1f}%, "
        f"{made['teacher_bytes'] / made['student_bytes']:.1f} times smaller",
        **made,
    )
    printed = d.command("register", str(stage.project / "model.toml"), seconds=90)
    d.say("registered", f"`redistill register model.toml`: {MODEL} {BASELINE}", printed=printed)
    stage.open_services(World(scene="healthy"))
    d.until(
        "the three services to serve",
        lambda _: (
            len([s for s in stage.stats() if s.version == BASELINE and s.requests]) == len(SERVICES)
        ),
        seconds=60,
    )
    return made


def healthy(d: Director) -> dict[str, Any]:
    """The student does its work."""
    began = begun(d, "healthy")
    d.enter("healthy", "three services answer, labels of a tenth of the rows come two seconds late")
    d.version, d.since = BASELINE, began
    known = enough(d, BASELINE, began, HEALTHY_SECONDS)
    true = d.truth("healthy")
    d.say("healthy", accuracy_text(known, true), **accuracy_facts(known, true))
    no_incident(d, "while all was well")
    return accuracy_facts(known, true)
