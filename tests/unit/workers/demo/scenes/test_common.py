"""Steps that several scenes share, on snapshots that a test writes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from redistill.workers.demo.facts import Activation, FindingFact, IncidentFact, Move, Snapshot
from redistill.workers.demo.runner import DemoFailed
from redistill.workers.demo.scenes import common


class Simulated:
    """A runner whose snapshot stands still."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.seen = snapshot
        self.database = None

    def snapshot(self) -> Snapshot:
        return self.seen

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise DemoFailed(otherwise)

    def until(self, what: str, check: Any, *, seconds: float) -> Any:
        answer = check(self.seen)
        if answer is None or answer is False:
            raise DemoFailed(what)
        return answer


def move(epoch: int, stable: str = "2", at: int = 1_000_000) -> Move:
    return Move(epoch=epoch, stable=stable, sha256="ab", change="publish", at=at)


def incident(opened_at: int) -> IncidentFact:
    return IncidentFact(
        incident_id="i", version="1", incident_class="harm", status="open", stage="detected",
        cause=None, decision=None, why="error 5% -> 60%", opened_at=opened_at, resolved_at=None,
        resolution=None,
    )  # fmt: skip


def finding(opened_at: int, harmful: bool | None) -> FindingFact:
    return FindingFact(
        finding_id="f", version="1", kind="accuracy", scope="all", status="open",
        opened_at=opened_at, stored_at=opened_at,
        body={"impact": {"harmful": harmful}, "reason": "accuracy fell"},
    )  # fmt: skip


def runner(**seen: Any) -> Any:
    return Simulated(Snapshot(**seen))


def test_serving_is_the_newest_move() -> None:
    assert common.serving(runner(moves=(move(1, "1"), move(2, "2")))) == "2"
    with pytest.raises(DemoFailed, match="no pointer"):
        common.serving(runner())


def test_served_waits_for_every_service_and_tells_each_ones_seconds() -> None:
    activations = tuple(
        Activation(instance_id=name, version="2", epoch=2, at=1_000_000 + 100_000 * i)
        for i, name in enumerate(("north", "south", "west"))
    )
    swapped = common.served(runner(activations=activations), move(2))
    assert swapped == {"north": 0.0, "south": 0.1, "west": 0.2}
    with pytest.raises(DemoFailed, match="every service"):
        common.served(runner(activations=activations[:2]), move(2))


def test_nobody_may_be_woken() -> None:
    common.no_incident(runner(), "so far")
    with pytest.raises(DemoFailed, match="opened so far"):
        common.no_incident(runner(incidents=(incident(5),)), "so far")


@pytest.mark.parametrize(
    ("seen", "paged"),
    [
        ({"incidents": (incident(9),)}, False),  # before
        ({"incidents": (incident(10),)}, True),
        ({"findings": (finding(11, True),)}, True),
        ({"findings": (finding(11, None), finding(9, True))}, False),
    ],
)
def test_only_harm_since_then_counts(seen: dict[str, Any], paged: bool) -> None:
    snapshot = Snapshot(**seen)
    if paged:
        with pytest.raises(DemoFailed, match="paged for nothing"):
            common.no_new_harm(Simulated(snapshot), snapshot, 10)  # type: ignore[arg-type]
    else:
        common.no_new_harm(Simulated(snapshot), snapshot, 10)  # type: ignore[arg-type]


def test_a_database_that_is_not_open_is_said() -> None:
    with pytest.raises(DemoFailed, match="not open"):
        common.database_of(runner())


def test_words_and_seconds_are_told_for_people() -> None:
    assert common.words_of("compression_gap") == "compression gap"
    assert common.words_of(None) == "unknown"
    assert common.seconds_of({"a": 0.5, "b": 1.234}) == "0.50/1.23 s"
    assert common.first([SimpleNamespace(x=1), SimpleNamespace(x=2)], lambda i: i.x > 1).x == 2  # type: ignore[union-attr]
    assert common.first([], lambda i: True) is None
