from __future__ import annotations

from types import SimpleNamespace

import pytest
from waiting import PATIENCE_SECONDS

from redistill.streams.engine import health as module
from redistill.streams.engine.health import EXIT_STATUS, Health, LivenessCheck, Watchdog


def healthy(now: float = 0.0, **changes: object) -> Health:
    values: dict[str, object] = {
        "ticked_at": now, "joined": True, "assigned": True, "fetched_at": now, "lag": 0, "progress": 1,
    }  # fmt: skip
    return Health(**(values | changes))  # type: ignore[arg-type]


def verdicts(*health: Health, patience: float = 30.0, step: float = 1.0) -> list[str | None]:
    """One health a step, until one is judged to be the end."""
    judge = LivenessCheck(patience=patience)
    out: list[str | None] = []
    for i, v in enumerate(health):
        v.ticked_at = i * step
        v.fetched_at = v.fetched_at if v.fetched_at < 0 else i * step
        out.append(judge.verdict(v, i * step))
        if out[-1] is not None:
            break
    return out


def test_healthy_worker_is_left_alone_for_ever() -> None:
    assert set(verdicts(*(healthy() for _ in range(1_000)))) == {None}


def test_pending_error_that_stays_ends_it_after_the_patience() -> None:
    said = verdicts(*(healthy(pending_error="GroupAuthorizationFailedError") for _ in range(100)))
    assert len(said) == 31
    assert said[-1] is not None
    assert "GroupAuthorizationFailedError" in said[-1]


def test_pending_error_is_named_with_whatever_ends_it() -> None:
    late = [healthy(joined=False, pending_error="Refused" if i > 5 else None) for i in range(100)]
    assert verdicts(*late)[-1] == "no assignment: the group was not joined (for 30 s); Refused"


def test_pending_error_that_heals_does_not() -> None:
    health = [healthy(pending_error="x" if i % 20 else None) for i in range(200)]
    assert set(verdicts(*health)) == {None}


def test_group_that_was_never_joined_ends_it() -> None:
    said = verdicts(*(healthy(joined=False, assigned=False) for _ in range(100)))
    assert len(said) == 31
    assert "no assignment" in str(said[-1])


def test_joined_without_partitions_is_healthy() -> None:
    assert set(verdicts(*(healthy(assigned=False) for _ in range(100)))) == {None}


def test_lag_with_offsets_standing_still_ends_it() -> None:
    said = verdicts(*(healthy(lag=5, progress=7) for _ in range(100)))
    assert len(said) == 31
    assert "5 records wait" in str(said[-1])


def test_lag_with_progress_or_without_database_does_not() -> None:
    assert set(verdicts(*(healthy(lag=5, progress=i // 20) for i in range(200)))) == {None}
    assert set(verdicts(*(healthy(lag=5, store_away=True) for _ in range(100)))) == {None}


def test_database_that_is_away_excuses_all_that_waits_for_it() -> None:
    away = {"store_away": True, "joined": False, "void": True, "lag": 5, "fetched_at": -1.0}
    assert set(verdicts(*(healthy(**away) for _ in range(200)))) == {None}
    back = verdicts(*(healthy(**away) for _ in range(20)), *(healthy(void=True) for _ in range(99)))
    assert len(back) == 20 + 31, "its patience begins when the database is back"
    assert "where to begin is not known" in str(back[-1])


def test_database_that_was_away_wipes_the_slate_but_for_what_the_broker_refuses() -> None:
    story = [healthy(joined=False, pending_error="Refused")] * 20
    story += [healthy(joined=False, pending_error="Refused", store_away=True)] * 5
    story += [healthy(joined=False, pending_error="Refused")] * 30
    refused = verdicts(*story)
    assert len(refused) == 31
    assert "Refused (for 30 s)" in str(refused[-1])
    story = [healthy(joined=False)] * 20 + [healthy(joined=False, store_away=True)] * 5
    anew = verdicts(*story, *[healthy(joined=False)] * 99)
    assert len(anew) == 25 + 31


def test_fetcher_that_does_not_fetch_ends_it() -> None:
    said = verdicts(*(healthy(fetched_at=-1.0) for _ in range(100)))
    assert "fetcher" in str(said[-1])


def test_main_loop_that_does_not_run_ends_it() -> None:
    check = LivenessCheck(patience=30)
    assert check.verdict(healthy(now=5), 34.9) is None
    assert check.verdict(healthy(now=5), 36) == "the event loop has not run for 31 s"
    stands = healthy(now=36, turned_at=5.0)
    assert check.verdict(stands, 36) == "the main loop has not run for 31 s"


def test_main_loop_may_wait_for_the_database_and_the_event_loop_may_not() -> None:
    check = LivenessCheck(patience=30)
    for now in range(36, 300):
        waits = healthy(now=now, turned_at=5.0, lag=5, joined=False)
        assert check.verdict(waits, now, store_away=True) is None
    assert "event loop" in str(check.verdict(healthy(now=5), 36, store_away=True))


def test_what_is_fatal_ends_it_at_once() -> None:
    assert verdicts(healthy(fatal="the lease was lost")) == ["the lease was lost"]


def test_broker_that_is_away_or_refuses_excuses_everything_but_a_loop_that_stands() -> None:
    refused = {"broker_away": "no", "joined": False, "pending_error": "x", "lag": 5, "blind": True}
    assert set(verdicts(*(healthy(**refused) for _ in range(200)))) == {None}
    assert LivenessCheck(patience=30).verdict(healthy(broker_away="no"), 31) is not None


def test_consumer_that_does_not_reach_a_broker_that_answers_ends_it() -> None:
    said = verdicts(*(healthy(blind=True) for _ in range(100)))
    assert len(said) == 31
    assert "does not reach" in str(said[-1])


def watched(health: Health, answers: bool, seconds: range) -> list[str | None]:
    """What a watchdog says each second of a worker whose loop runs."""
    dog = Watchdog(health, broker_answers=lambda: answers, die=lambda why: None, patience=30)
    said = []
    for now in seconds:
        health.ticked_at = health.fetched_at = now
        said.append(dog.look(now))
    return said


def test_watchdog_waits_while_no_broker_answers() -> None:
    assert set(watched(healthy(joined=False), False, range(200))) == {None}


def test_watchdog_is_patient_anew_when_the_broker_is_back() -> None:
    health = healthy(joined=False)
    dog = Watchdog(health, broker_answers=lambda: now >= 40, die=lambda why: None, patience=30)
    for now in range(90):
        health.ticked_at = health.fetched_at = now
        if dog.look(now) is not None:
            break
    assert now == 31 + 30, "forgiven at 30, noticed again at 31"


def test_watchdog_ends_a_worker_that_is_stuck_beside_a_broker_that_answers() -> None:
    said = watched(healthy(joined=False), True, range(31))
    assert set(said[:-1]) == {None}
    assert "no assignment" in str(said[-1])


def test_loop_that_stands_still_is_ended_whether_a_broker_answers_or_not() -> None:
    dog = Watchdog(healthy(), broker_answers=lambda: False, die=lambda why: None)
    assert "event loop" in str(dog.look(30))


def test_watchdog_holds_nothing_against_a_worker_whose_database_is_silent() -> None:
    dog = Watchdog(
        healthy(now=300, turned_at=1.0),
        broker_answers=lambda: True,
        die=lambda why: None,
        store_away=lambda: True,
    )
    assert dog.look(300) is None


def test_thread_of_the_watchdog_ends_the_process_once_and_looks_no_more() -> None:
    died: list[str] = []
    dog = Watchdog(
        healthy(fatal="the lease was lost"),
        broker_answers=lambda: True,
        die=died.append,
        every=0.001,
    )
    dog.start()
    dog.join(PATIENCE_SECONDS)
    assert died == ["the lease was lost"]
    assert EXIT_STATUS == 75


def test_watchdog_that_is_stopped_ends() -> None:
    dog = Watchdog(healthy(), broker_answers=lambda: True, die=lambda why: None, every=3_600)
    dog.start()
    dog.stop()
    dog.join(PATIENCE_SECONDS)
    assert not dog.is_alive()


def test_process_that_is_held_by_one_call_is_ended_from_outside_the_interpreter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[tuple[object, ...]] = []
    fake = SimpleNamespace(
        dump_traceback_later=lambda seconds, *, exit, file: told.append((seconds, exit)),
        cancel_dump_traceback_later=lambda: told.append(("cancelled",)),
    )
    monkeypatch.setattr(module, "faulthandler", fake)
    looks = iter([None, None, "stuck"])
    dog = Watchdog(
        healthy(), broker_answers=lambda: True, die=lambda why: None, patience=30, every=0.001
    )
    monkeypatch.setattr(dog, "look", lambda now: next(looks))
    dog.run()
    # put off at each look, and called off at the end
    assert told == [(60.0, True)] * 4 + [("cancelled",)]
