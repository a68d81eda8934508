"""Scenes of what must not happen: a page for nothing, a wrong model, a lost row, no way back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from redistill.workers.demo import cpu_steal, data, facts
from redistill.workers.demo.facts import Move, Snapshot
from redistill.workers.demo.runner import ScenarioRunner, accuracy_facts, accuracy_text
from redistill.workers.demo.scenes.common import (
    begun,
    database_of,
    enough,
    first,
    no_new_harm,
    seconds_of,
    served,
    serving,
    words_of,
)
from redistill.workers.demo.teacher import BASELINE, MODEL
from redistill.workers.demo.world import World

__all__ = ["SWAP_TRIES", "PointerSwap", "harmless_shift", "roll_back_and_forward", "worker_killed"]

HOLIDAY_SECONDS = 7.0
SWAP_LIMIT_SECONDS = 2.0
"""Roll back -> served by every listening service: the promise."""
SWAP_TRIES = 3
"""Rounds of back and forth on a machine that is too busy to keep it."""
STARVED_SHARE = 1 / 3
"""Other programs with so much of the processors are an excuse for another round."""
WRONG_SOURCE = "trainees"
WRONG_ROWS = 600
WRONG_AFTER_SECONDS = 2.5
"""So long after the scanner was cleaned, so that the last ``WRONG_ROWS`` rows are clean ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WrongLabels:
    """Wrong labels on their way: the job that they asked for is yet to be judged."""

    rows: int
    wrong: int
    moves: tuple[Move, ...]
    jobs: frozenset[str]
    """Jobs that there were before."""


def harmless_shift(runner: ScenarioRunner) -> tuple[dict[str, Any], WrongLabels]:
    """The veil is gone, and other digits come: much changes, nothing harms.

    While it lasts, somebody hands over labels that are wrong and asks for a model trained on them.
    """
    runner.enter(
        "scanner cleaned, and another mix of digits", "this harms nobody, so nobody is paged"
    )
    runner.processes.set_world(World(scene="holiday", priors=dict(data.HOLIDAY_PRIORS)))
    began = begun(runner, "holiday")
    version = serving(runner)
    runner.version, runner.since = version, began
    runner.pause(runner.doing, WRONG_AFTER_SECONDS)
    given = _hand_over_wrong_labels(runner)
    known = enough(runner, version, began, HOLIDAY_SECONDS)
    true = runner.truth("holiday")
    seen = runner.snapshot()
    quiet = [f for f in seen.findings if f.opened_at >= began and f.harmful is not True]
    no_new_harm(runner, seen, began)
    kinds = ", ".join(sorted({words_of(f.kind) for f in quiet}))
    explained = f"{len(quiet)} findings explain only ({kinds})" if quiet else "nothing to explain"
    runner.say(
        "harmless",
        f"no page, {explained}; " + accuracy_text(known, true),
        findings=len(quiet),
        paged=0,
        **accuracy_facts(known, true),
    )
    return accuracy_facts(known, true) | {"findings": len(quiet)}, given


def _hand_over_wrong_labels(runner: ScenarioRunner) -> WrongLabels:
    rows = runner.processes.latest_truth(WRONG_ROWS)
    said = data.swapped([int(r["label"]) for r in rows])
    path = runner.processes.write_labels(
        (r["id"], data.CLASSES[digit]) for r, digit in zip(rows, said, strict=True)
    )
    before = runner.snapshot()
    runner.command("label", "import", str(path), "--model", MODEL, "--source", WRONG_SOURCE)
    runner.until(
        "the labels to be stored, and their rows",
        lambda _: facts.labels_of(database_of(runner), MODEL, WRONG_SOURCE) >= len(rows),
        seconds=60,
    )
    runner.command("recompress", MODEL, "--train-on", "labels", "--source", WRONG_SOURCE)
    wrong = sum(data.CLASSES[digit] != r["label"] for r, digit in zip(rows, said, strict=True))
    runner.say(
        "handed_over",
        f"meanwhile {WRONG_SOURCE!r}, who confuse 4 with 9, 1 with 7 and 3 with 8, handed over "
        f"{len(rows)} labels, {wrong} of them wrong, and asked for a model: "
        f"`redistill recompress {MODEL} --train-on labels --source {WRONG_SOURCE}`",
        rows=len(rows),
        wrong=wrong,
    )
    return WrongLabels(
        rows=len(rows),
        wrong=wrong,
        moves=before.moves,
        jobs=frozenset(j.job_id for j in before.jobs),
    )


def wrong_labels(runner: ScenarioRunner, given: WrongLabels) -> dict[str, Any]:
    """The candidate that learned from them is refused, by rows that nobody could have touched."""
    runner.enter("meanwhile: wrong labels", "the candidate is judged")
    job = runner.until(
        "the job on wrong labels to be judged",
        lambda s: first(s.jobs, lambda j: j.job_id not in given.jobs and j.over),
        seconds=90,
    )
    reasons = [str(r) for r in job.outcome.get("reasons", [])]
    runner.say(
        "rejected",
        f"job {job.number} on wrong labels: {job.state}: {'; '.join(reasons)}",
        state=job.state,
        reasons=reasons,
    )
    runner.expect(
        job.state == "rejected", f"the job on wrong labels ended {job.state}, not rejected"
    )
    after = runner.snapshot()
    runner.expect(
        after.moves == given.moves, "the pointer moved although the candidate was refused"
    )
    no_new_harm(runner, after, runner.since)
    return {"rows": given.rows, "wrong": given.wrong, "reasons": reasons}


def worker_killed(runner: ScenarioRunner, given: WrongLabels) -> dict[str, Any]:
    """``kill -9`` of the stream worker: it comes back, and every row is counted, once.

    While it is down the candidate that learned wrong labels is judged, and a release is rolled back
    and forward: nothing of that needs it.
    """
    runner.enter("kill -9 of the stream worker", "the services go on")
    supervisor = runner.processes.supervisor
    held = runner.snapshot().rows
    at = runner.now
    pid = supervisor.kill("stream")
    runner.say(
        "killed", f"kill -9 {pid}, the stream worker, after {held:,} counted rows", rows=held
    )
    back: list[float] = []

    def look(seen: Snapshot) -> None:
        if not back and seen.rows > held and runner.now - at > 1.0:
            back.append(runner.now - at)

    runner.watch = look
    refused = wrong_labels(runner, given)
    swaps = roll_back_and_forward(runner)
    runner.enter("the stream worker is back", "it catches up")
    runner.until("the stream worker to count again", lambda _: back or None, seconds=45)
    goal = sum(s.requests for s in runner.processes.stats())
    runner.until("the backlog to be counted", lambda s: s.rows >= goal, seconds=30)
    runner.watch = None
    caught = runner.now - at
    seen = runner.snapshot()
    runner.expect(supervisor.starts("stream") >= 2, "the stream worker was not started again")
    runner.expect(seen.lost_ranges == 0, f"{seen.lost_ranges} ranges of records were lost")
    runner.say(
        "caught_up",
        f"counting again {back[0]:.1f} s after the kill, caught up after {caught:.1f} s, no range "
        "lost; the exact count follows at the end",
        down_seconds=round(back[0], 2),
        caught_up_seconds=round(caught, 2),
    )
    return {
        "down_seconds": round(back[0], 2),
        "caught_up_seconds": round(caught, 2),
        "wrong_labels": refused,
        "rollback": swaps,
    }


def roll_back_and_forward(runner: ScenarioRunner) -> dict[str, Any]:
    """``redistill rollback`` to the exact bytes before, and forward again by ``redistill publish``.

    The promise is judged on the machine that there is: a move that was late while other programs
    held the processors is told, and both are made again. It fails if the promise was never kept.
    """
    runner.enter("meanwhile: roll back and forward", "the pointer moves, every service obeys")
    new = serving(runner)
    for tries_left in reversed(range(SWAP_TRIES)):
        moves = {
            "rolled_back": _move(runner, "rolled_back", ("rollback", MODEL), BASELINE),
            "forward": _move(runner, "forward", ("publish", MODEL, new), new),
        }
        late = {what: moved for what, moved in moves.items() if moved.worst > SWAP_LIMIT_SECONDS}
        if not late:
            break
        said = "; ".join(f"{what}: {moved.lateness()}" for what, moved in late.items())
        runner.expect(tries_left > 0 and all(moved.starved for moved in late.values()), said)
        runner.say("starved", f"{said}: once more", tries_left=tries_left)
    return {what: moved.swapped for what, moved in moves.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class PointerSwap:
    """One change of the pointer, as the services followed it."""

    swapped: dict[str, float]
    """Seconds from the pointer's move to each service."""
    others: float | None
    """Share of this machine's processors that other programs took meanwhile; ``None``: unknown."""

    @property
    def worst(self) -> float:
        """Seconds of the last service."""
        return max(self.swapped.values())

    @property
    def starved(self) -> bool:
        """Whether the demo did not have the machine to itself."""
        return self.others is not None and self.others >= STARVED_SHARE

    def lateness(self) -> str:
        """What was promised and what came, in words.

        Examples
        --------
        >>> PointerSwap(swapped={"north": 2.34}, others=None).lateness()
        'served after 2.3 s; the promise is 2 s'
        >>> PointerSwap(swapped={"north": 2.34}, others=0.61).lateness()
        "served after 2.3 s; the promise is 2 s; other programs took 61% of this machine's
        processors"
        """
        text = f"served after {self.worst:.1f} s; the promise is {SWAP_LIMIT_SECONDS:g} s"
        if not self.starved:
            return text
        return f"{text}; other programs took {self.others:.0%} of this machine's processors"


def _move(runner: ScenarioRunner, what: str, words: tuple[str, ...], target: str) -> PointerSwap:
    """Move the pointer by a command, and wait until every service serves ``target``."""
    before = runner.snapshot()
    asked, had = runner.now, cpu_steal.spent()
    runner.command(*words)
    move = runner.until(
        "the pointer to move", partial(_moved_after, before.moves[-1].epoch), seconds=20
    )
    swapped = served(runner, move)
    has = cpu_steal.spent()
    runner.expect(move.stable == target, f"the pointer names {move.stable}, not {target}")
    runner.expect(
        move.sha256 == before.versions[target].sha256, "the pointer names other bytes than before"
    )
    runner.say(
        what,
        f"`redistill {' '.join(words)}`: version {target}, the same bytes as before, served by "
        f"all services {seconds_of(swapped)} after the pointer moved "
        f"({runner.now - asked:.1f} s after Enter)",
        version=target,
        moved_to_served_seconds=swapped,
    )
    return PointerSwap(
        swapped=swapped, others=None if has is None or had is None else has.others_since(had)
    )


def _moved_after(epoch: int, seen: Snapshot) -> Move | None:
    return first(seen.moves, lambda m: m.epoch > epoch)
