"""When the dead man's switch beats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.streams.store.process_rows import SILENT_US, ProcessRow
from redistill.times import MINUTE
from redistill.workers.alerts.operational.heartbeat import (
    KEY,
    RELAY_US,
    UNTRIED_US,
    Signs,
    beat,
    why_silent,
)

NOW = 1_764_000_000_000_000
KINDS = ("stream", "repair", "alerts")


def row(kind: str, ago: int = 0, name: str | None = None, *, ready: bool = True) -> ProcessRow:
    return ProcessRow(
        process_id=name or kind, kind=kind, started_at=0, seen_at=NOW - ago, ready=ready, said=""
    )


def signs(*rows: ProcessRow, **times: int | None) -> Signs:
    return Signs(
        **({"processes": rows, "own_id": "alerts", "relay_at": None, "waits_since": None} | times)
    )  # type: ignore[arg-type]


def test_it_beats_while_one_of_each_lives_ready_or_not() -> None:
    assert why_silent(signs(*map(row, KINDS)), NOW) == ()
    rows = [row("stream", ready=False), row("repair", SILENT_US), row("alerts")]
    assert why_silent(signs(*rows, row("stream", 5 * MINUTE, "old")), NOW) == ()


@pytest.mark.parametrize("kind", KINDS)
def test_it_stops_when_any_of_them_dies_or_ends(kind: str) -> None:
    others = [row(k) for k in KINDS if k != kind]
    for rows in (others, [*others, row(kind, SILENT_US + 1)]):
        [why] = why_silent(signs(*rows), NOW)
        assert ("alert process" if kind == "alerts" else kind) in why


def test_it_stops_when_this_alert_process_tells_nobody_anything() -> None:
    rows = [row("stream"), row("repair"), row("alerts", ready=False)]
    [why] = why_silent(signs(*rows), NOW)
    assert why.startswith("this alert process is not ready")


def test_another_alert_process_does_not_stand_in_for_this_one() -> None:
    rows = [row("stream"), row("repair"), row("alerts", 0, "another")]
    assert len(why_silent(signs(*rows), NOW)) == 1


def test_it_stops_when_no_relay_takes_up_what_waits() -> None:
    alive = [row(k) for k in KINDS]
    long_ago = NOW - RELAY_US - 1
    assert why_silent(signs(*alive, relay_at=long_ago), NOW) == (), "it has nothing to do"
    assert why_silent(signs(*alive, relay_at=long_ago, waits_since=NOW - MINUTE), NOW) == ()
    assert why_silent(signs(*alive, relay_at=NOW - MINUTE, waits_since=long_ago), NOW) == ()
    for relay_at in (long_ago, None):
        [why] = why_silent(signs(*alive, relay_at=relay_at, waits_since=long_ago), NOW)
        assert why.startswith("no relay is at work: an announcement has waited for 11 min")


def test_it_stops_soon_when_no_relay_takes_up_what_nobody_has_tried() -> None:
    alive = [row(k) for k in KINDS]
    for relay_at, added, stops in (
        (NOW - UNTRIED_US - 2, NOW - UNTRIED_US - 1, True),
        (None, NOW - UNTRIED_US - 1, True),
        (NOW - UNTRIED_US - 2, NOW - UNTRIED_US, False),
        (NOW - UNTRIED_US, NOW - UNTRIED_US - 1, False),
        (NOW - UNTRIED_US - 2, None, False),
    ):
        found = signs(*alive, relay_at=relay_at, waits_since=added, untried_since=added)
        assert bool(why_silent(found, NOW)) is stops, (relay_at, added)


@given(
    st.lists(st.tuples(st.sampled_from([*KINDS, "web"]), st.integers(0, 2 * SILENT_US)), max_size=8)
)
def test_it_never_beats_without_one_of_each(told: list[tuple[str, int]]) -> None:
    rows = [row(kind, ago) for kind, ago in told]
    living = {r.kind for r in rows if r.lives(NOW)}
    assert (why_silent(signs(*rows), NOW) == ()) == (set(KINDS) <= living)


def test_beat_is_one_alert_that_goes_on() -> None:
    assert (beat(NOW).key, beat(NOW).kind, beat(NOW).state) == (KEY, "heartbeat", "firing")
