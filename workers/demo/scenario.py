"""The story: a veil on the scanner, found, repaired and published; what harms nobody pages nobody;
what is wrong is refused; what is killed loses nothing; what was released can be taken back.

Every scene waits for what really happened and tells figures of this run only. A deadline is about
three times what the scene takes on two idle cores.
"""

from __future__ import annotations

from typing import Any

from redistill.workers.demo import facts
from redistill.workers.demo.runner import Director
from redistill.workers.demo.scenes.common import opened
from redistill.workers.demo.scenes.repair import recovered, veil
from redistill.workers.demo.scenes.safeguards import holiday, killed
from redistill.workers.demo.scenes.start import healthy, opening


def perform(director: Director) -> dict[str, Any]:
    """Play all scenes and return the figures of the summary.

    Raises
    ------
    DemoFailed
        Something of the story did not happen.
    """
    figures: dict[str, Any] = {}
    figures["project"] = opening(director)
    figures["before"] = healthy(director)
    figures |= veil(director)
    figures["after"] = recovered(director, figures)
    figures["harmless"], given = holiday(director)
    figures["killed"] = killed(director, given)
    figures["closing"] = closing(director)
    return figures


def closing(d: Director) -> dict[str, Any]:
    """Stop the services, count everything, prove the invariants."""
    d.enter("closing", "the services drain")
    stage = d.stage
    stage.close_services()
    d.until("the services to close", lambda _: stage.services_ended(), seconds=30)
    stats = stage.stats()
    requests, failed = sum(s.requests for s in stats), sum(s.failed for s in stats)
    logged, sent = sum(s.logged for s in stats), sum(s.sent for s in stats)
    dropped = sum(s.dropped for s in stats)
    d.until("every row to be counted", lambda s: s.rows >= requests, seconds=20)
    d.until(
        "every announcement to be sent",
        lambda _: facts.announced(opened(d))["unsent"] == 0,
        seconds=20,
    )
    seen = d.snapshot()
    d.say(
        "counted",
        f"{requests:,} requests, {failed} failed; {seen.rows:,} rows counted, {dropped} dropped, "
        f"{seen.dead} dead letters, {seen.lost_ranges} gaps",
        requests=requests,
        failed=failed,
        dropped=dropped,
        counted=seen.rows,
    )
    d.expect(failed == 0, f"{failed} requests failed")
    d.expect(
        dropped == 0 and sent == logged,
        f"of {logged:,} events that were logged {sent:,} were sent and {dropped} dropped",
    )
    d.expect(
        seen.rows == requests,
        f"{requests:,} rows served, {seen.rows:,} counted: they must be equal",
    )
    d.expect(seen.dead == 0 and seen.lost_ranges == 0, "records were lost or could not be read")
    forgot = stage.broker_forgot(facts.next_offsets(opened(d)))
    d.expect(not forgot, "the dev broker forgot records too early: " + "; ".join(forgot))
    printed = d.command("check-history", seconds=60)
    d.say("history", "`redistill check-history`: " + printed.splitlines()[-1], printed=printed)
    return {"requests": requests, "failed": failed, "counted": seen.rows}
