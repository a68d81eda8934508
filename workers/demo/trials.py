"""What must not happen: a page for nothing, a wrong model, a lost row, no way back."""

from __future__ import annotations

from functools import partial
from typing import Any

from workers.demo import data, facts
from workers.demo.director import Director, accuracy_facts, accuracy_text
from workers.demo.facts import Move, Snapshot
from workers.demo.pieces import (
    begun,
    enough,
    first,
    no_new_harm,
    opened,
    seconds_of,
    served,
    serving,
    words_of,
)
from workers.demo.teacher import BASELINE, MODEL
from workers.demo.world import World

HOLIDAY_SECONDS = 7.0
SWAP_LIMIT_SECONDS = 2.0
"""Roll back -> served by every listening service: the promise."""
WRONG_SOURCE = "trainees"
WRONG_ROWS = 400


def holiday(d: Director) -> dict[str, Any]:
    """The veil is gone, and other digits come: much changes, nothing harms."""
    d.enter("scanner cleaned, and another mix of digits", "this harms nobody, so nobody is paged")
    d.stage.set_world(World(scene="holiday", priors=dict(data.HOLIDAY_PRIORS)))
    began = begun(d, "holiday")
    version = serving(d)
    d.version, d.since = version, began
    known = enough(d, version, began, HOLIDAY_SECONDS)
    true = d.truth("holiday")
    seen = d.snapshot()
    quiet = [f for f in seen.findings if f.opened_at >= began and f.harmful is not True]
    no_new_harm(d, seen, began)
    kinds = ", ".join(sorted({words_of(f.kind) for f in quiet})) or "none"
    d.say(
        "harmless",
        f"no page; findings that explain only: {len(quiet)} ({kinds}); "
        + accuracy_text(known, true),
        findings=len(quiet),
        paged=0,
        **accuracy_facts(known, true),
    )
    return accuracy_facts(known, true) | {"findings": len(quiet)}


def wrong_labels(d: Director) -> dict[str, Any]:
    """Somebody wants a model trained on labels that are wrong: its candidate is refused."""
    d.enter("wrong labels", f"{WRONG_SOURCE} confuse 4 with 9, 1 with 7, 3 with 8")
    rows = d.stage.latest_truth(WRONG_ROWS)
    said = data.swapped([int(r["label"]) for r in rows])
    path = d.stage.write_labels(
        (r["id"], data.CLASSES[digit]) for r, digit in zip(rows, said, strict=True)
    )
    wrong = sum(data.CLASSES[digit] != r["label"] for r, digit in zip(rows, said, strict=True))
    before = d.snapshot()
    d.command("label", "import", str(path), "--model", MODEL, "--source", WRONG_SOURCE)
    d.until(
        "the labels to be stored",
        lambda _: facts.labels_of(opened(d), MODEL, WRONG_SOURCE) >= len(rows),
        seconds=20,
    )
    d.command("recompress", MODEL, "--train-on", "labels", "--source", WRONG_SOURCE)
    known = {j.job_id for j in before.jobs}
    job = d.until(
        "the job on wrong labels to be judged",
        lambda s: first(s.jobs, lambda j: j.job_id not in known and j.over),
        seconds=90,
    )
    reasons = [str(r) for r in job.outcome.get("reasons", [])]
    d.say(
        "rejected",
        f"{len(rows)} labels of {WRONG_SOURCE!r}, {wrong} of them wrong, trained a candidate: "
        f"{job.state}: {'; '.join(reasons)}",
        rows=len(rows),
        wrong=wrong,
        state=job.state,
        reasons=reasons,
    )
    d.expect(job.state == "rejected", f"the job on wrong labels ended {job.state}, not rejected")
    after = d.snapshot()
    d.expect(after.moves == before.moves, "the pointer moved although the candidate was refused")
    no_new_harm(d, after, d.since)
    return {"rows": len(rows), "wrong": wrong, "reasons": reasons}


def killed(d: Director) -> dict[str, Any]:
    """``kill -9`` of the stream worker: it comes back, and every row is counted, once."""
    d.enter("kill -9", "the stream worker is killed; the services go on")
    supervisor = d.stage.supervisor
    starts = supervisor.starts("stream")
    at = d.now
    pid = supervisor.kill("stream")
    held = d.snapshot().rows
    d.say("killed", f"kill -9 {pid} (stream worker) after {held:,} counted rows", rows=held)
    d.until(
        "the stream worker to count again",
        lambda s: supervisor.starts("stream") > starts and s.rows > held,
        seconds=45,
    )
    down = d.now - at
    goal = sum(s.requests for s in d.stage.stats())
    d.until("the backlog to be counted", lambda s: s.rows >= goal, seconds=30)
    caught = d.now - at
    seen = d.snapshot()
    d.expect(seen.lost_ranges == 0, f"{seen.lost_ranges} ranges of records were lost")
    d.say(
        "caught_up",
        f"counting again after {down:.1f} s, caught up after {caught:.1f} s, no range lost; "
        "the exact count follows at the end",
        down_seconds=round(down, 2),
        caught_up_seconds=round(caught, 2),
    )
    return {"down_seconds": round(down, 2), "caught_up_seconds": round(caught, 2)}


def there_and_back(d: Director) -> dict[str, Any]:
    """``redistill rollback`` to the exact bytes before, and forward again by ``redistill
    publish``."""
    d.enter("roll back and forward", "the pointer moves, every service obeys")
    new = serving(d)
    out: dict[str, Any] = {}
    for what, words, target in (
        ("rolled_back", ("rollback", MODEL), BASELINE),
        ("forward", ("publish", MODEL, new), new),
    ):
        before = d.snapshot()
        asked = d.now
        d.command(*words)
        move = d.until(
            "the pointer to move", partial(_moved_after, before.moves[-1].epoch), seconds=20
        )
        swapped = served(d, move)
        d.expect(move.stable == target, f"the pointer names {move.stable}, not {target}")
        d.expect(
            move.sha256 == before.versions[target].sha256,
            "the pointer names other bytes than before",
        )
        worst = max(swapped.values())
        d.say(
            what,
            f"`redistill {' '.join(words)}`: version {target}, the same bytes as before, served by "
            f"all services {seconds_of(swapped)} after the pointer moved "
            f"({d.now - asked:.1f} s after Enter)",
            version=target,
            moved_to_served_seconds=swapped,
        )
        d.expect(
            worst <= SWAP_LIMIT_SECONDS,
            f"{what}: served after {worst:.1f} s; the promise is {SWAP_LIMIT_SECONDS:g} s",
        )
        out[what] = swapped
    return out


def _moved_after(epoch: int, seen: Snapshot) -> Move | None:
    return first(seen.moves, lambda m: m.epoch > epoch)
