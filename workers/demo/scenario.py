"""Scenario of the demo: a veil on the scanner, found, repaired and published; what harms nobody
pages nobody; what is wrong is refused; what is killed loses nothing; what was released can be taken
back.

Every scene waits for what really happened and tells figures of this run only. A deadline is about
three times what the scene takes on two idle cores.
"""

from __future__ import annotations

from typing import Any

from redistill.workers.demo import facts
from redistill.workers.demo.runner import ScenarioRunner
from redistill.workers.demo.scenes.common import database_of
from redistill.workers.demo.scenes.repair import drift_and_repair, recovered
from redistill.workers.demo.scenes.safeguards import harmless_shift, worker_killed
from redistill.workers.demo.scenes.start import healthy, set_up

__all__ = ["play"]


def play(runner: ScenarioRunner) -> dict[str, Any]:
    """Play all scenes and return the figures of the summary.

    Raises
    ------
    DemoFailed
        Something of the story did not happen.
    """
    figures: dict[str, Any] = {}
    figures["project"] = set_up(runner)
    figures["before"] = healthy(runner)
    figures |= drift_and_repair(runner)
    figures["after"] = recovered(runner, figures)
    figures["harmless"], given = harmless_shift(runner)
    figures["killed"] = worker_killed(runner, given)
    figures["closing"] = closing(runner)
    return figures


def closing(runner: ScenarioRunner) -> dict[str, Any]:
    """Stop the services, count everything, prove the invariants."""
    runner.enter("closing", "the services drain")
    processes = runner.processes
    processes.close_services()
    runner.until("the services to close", lambda _: processes.services_ended(), seconds=30)
    stats = processes.stats()
    requests, failed = sum(s.requests for s in stats), sum(s.failed for s in stats)
    logged, sent = sum(s.logged for s in stats), sum(s.sent for s in stats)
    dropped = sum(s.dropped for s in stats)
    runner.until("every row to be counted", lambda s: s.rows >= requests, seconds=20)
    runner.until(
        "every announcement to be sent",
        lambda _: facts.announced(database_of(runner))["unsent"] == 0,
        seconds=20,
    )
    seen = runner.snapshot()
    runner.say(
        "counted",
        f"{requests:,} requests, {failed} failed; {seen.rows:,} rows counted, {dropped} dropped, "
        f"{seen.dead} dead letters, {seen.lost_ranges} gaps",
        requests=requests,
        failed=failed,
        dropped=dropped,
        counted=seen.rows,
    )
    runner.expect(failed == 0, f"{failed} requests failed")
    runner.expect(
        dropped == 0 and sent == logged,
        f"of {logged:,} events that were logged {sent:,} were sent and {dropped} dropped",
    )
    runner.expect(
        seen.rows == requests,
        f"{requests:,} rows served, {seen.rows:,} counted: they must be equal",
    )
    runner.expect(
        seen.dead == 0 and seen.lost_ranges == 0, "records were lost or could not be read"
    )
    forgot = processes.broker_forgot(facts.next_offsets(database_of(runner)))
    runner.expect(not forgot, "the dev broker forgot records too early: " + "; ".join(forgot))
    printed = runner.command("check-history", seconds=60)
    runner.say("history", "`redistill check-history`: " + printed.splitlines()[-1], printed=printed)
    return {"requests": requests, "failed": failed, "counted": seen.rows}
