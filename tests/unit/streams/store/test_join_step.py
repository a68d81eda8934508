from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from uuid import UUID

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from stream_intake import KEY, L0, NOW, StreamIntake
from stream_rows import (
    CONFIG,
    chunk,
    label,
    new_database,
    prediction,
    record,
    watch,
)
from structlog.testing import capture_logs

from redistill.streams.engine.label_rows import label_row
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.monitor.outcomes import AccuracyState
from redistill.streams.store import tables as t
from redistill.streams.store.database import Database, upsert
from redistill.streams.store.flush import flush
from redistill.streams.store.join_step import JoinStep, join_labels
from redistill.streams.store.rates import RateRaiser, set_rate
from redistill.streams.wire.block import Codes
from redistill.streams.wire.events import DriftFound
from redistill.times import DAY, SECOND


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    db = new_database(database_url)
    watch(db)
    yield db
    db.dispose()


def test_outcomes_are_numbered_without_holes_in_both_orders_of_arrival(db: Database) -> None:
    s = StreamIntake(db)
    s.send(*(prediction(i) for i in range(5)), *(label(i) for i in range(5, 8)))
    assert s.join() == JoinStep()
    s.now += 2 * SECOND
    s.send(*(prediction(i, right=i != 6) for i in range(5, 8)), *(label(i) for i in range(5)))
    assert s.join().outcomes == 8
    outcomes = sorted(s.rows(t.outcomes), key=lambda o: o.seq)
    assert [o.seq for o in outcomes] == list(range(1, 9))
    assert [o.correct for o in outcomes] == [int(o.id != "row-6") for o in outcomes]
    assert {o.label for o in outcomes} == {"repay", "default"}
    assert all(json.loads(o.slices)["region"] in ("EU", "US") for o in outcomes)
    (state,) = s.rows(t.accuracy_states)
    assert (state.last_seq, state.n) == (8, 8)
    assert {r.state for r in s.rows(t.labels)} == {"joined"}
    assert s.join() == JoinStep()


def test_label_waits_at_doubling_intervals_and_becomes_an_orphan(db: Database) -> None:
    s = StreamIntake(db)
    s.send(label(1))
    looked = 0
    while {r.state for r in s.rows(t.labels)} == {"waiting"}:
        (row,) = s.rows(t.labels)
        s.now = max(s.now, row.check_at)
        s.join()
        looked += 1
    assert {r.state for r in s.rows(t.labels)} == {"orphan"}
    assert looked < 30
    assert s.now == NOW + round(CONFIG.wait_days * DAY)
    assert s.counters()["labels_orphan"] == 1


def test_label_of_a_row_that_failed_makes_no_outcome(db: Database) -> None:
    s = StreamIntake(db)
    s.send(prediction(1), prediction(2, failed="fallback"), prediction(3, failed="error"))
    s.send(label(1), label(2), label(3, version="7", prediction="repay"))
    assert s.join().outcomes == 1
    assert {r.id: r.state for r in s.rows(t.labels)} == {
        "row-1": "joined", "row-2": "failed", "row-3": "failed",
    }  # fmt: skip
    assert s.counters()["labels_failed"] == 2
    assert s.counters()["rows_failed"] == 2


def test_outcome_says_how_its_label_came_in_and_what_was_predicted(db: Database) -> None:
    s = StreamIntake(db)
    request = UUID(int=7)
    s.send(prediction(1, prediction_interval=(0.5, 1.5)), prediction(2))
    s.send(label(1, request_id=request, arrival="import", uniform=False), label(2, arrival="api"))
    s.join()
    first, second = sorted(s.rows(t.outcomes), key=lambda o: o.id)
    assert (first.request_id, first.arrival, first.uniform) == (None, "import", False)
    assert s.counters()["labels_other_request"] == 1  # nobody asked for this row
    assert (first.predicted_low, first.predicted_high) == (0.5, 1.5)
    assert (second.request_id, second.arrival, second.uniform) == (None, "api", True)
    (state,) = s.rows(t.accuracy_states)
    assert AccuracyState.from_bytes(state.state, KEY, model="credit", version="7").uniform_n == 1


def test_label_outside_the_sample_is_unsampled_without_a_look_up(db: Database) -> None:
    s = StreamIntake(db)
    with db.begin() as conn:
        set_rate(conn, "credit", join=30, now=0)  # so long ago that nothing older can be waited for
    s.accumulator.refresh()
    s.send(prediction(1), label(1))
    assert s.join() == JoinStep()
    assert s.counters()["labels_unsampled"] == 1
    assert s.rows(t.outcomes) == []


def test_label_is_looked_up_while_an_older_larger_rate_counts(db: Database) -> None:
    s = StreamIntake(db)
    s.send(prediction(1))
    with db.begin() as conn:
        set_rate(conn, "credit", join=30, now=s.now)
    s.now += 10 * SECOND
    s.send(label(1))
    assert s.join().outcomes == 1


def test_label_that_brings_its_prediction_needs_no_join(db: Database) -> None:
    s = StreamIntake(db)
    s.send(label(1, version="7", prediction="default", segment={"region": "US"}))
    assert s.join().outcomes == 0, "it may have been logged"
    s.now += 60 * SECOND
    assert s.join().outcomes == 1
    (o,) = s.rows(t.outcomes)
    assert (o.correct, o.prediction, o.window, json.loads(o.slices)) == (
        0,
        "default",
        None,
        {"region": "US"},
    )
    assert o.served_at == o.observed_at


def test_source_with_priority_wins_and_others_are_ignored(db: Database) -> None:
    config = dataclasses.replace(CONFIG, label_sources=("ledger", "analyst"))
    watch(db, config)
    s = StreamIntake(db, config=config)
    s.send(
        prediction(1),
        label(1, source="analyst", label="default", seconds=99),
        label(1, source="ledger", label="repay", seconds=1),
        label(1, source="stranger", label="default", seconds=200),
    )
    assert s.join().outcomes == 1
    (o,) = s.rows(t.outcomes)
    assert (o.source, o.label, o.correct) == ("ledger", "repay", 1)
    assert {r.source: r.state for r in s.rows(t.labels)} == {
        "ledger": "joined", "analyst": "superseded", "stranger": "ignored",
    }  # fmt: skip


def test_correction_changes_what_gates_read_and_no_detector(db: Database) -> None:
    s = StreamIntake(db)
    s.send(prediction(1), label(1))
    s.join()
    before = s.rows(t.accuracy_states)
    s.now += SECOND
    s.send(label(1, label="default", seconds=500))
    assert s.join() == JoinStep()
    assert s.counters()["labels_corrected"] == 1
    (o,) = s.rows(t.outcomes)
    assert (o.label, o.correct) == ("default", 1)
    assert s.rows(t.accuracy_states) == before
    s.now += SECOND
    s.send(label(1, op="retract", label=None, seconds=600))
    assert s.join() == JoinStep()
    assert s.counters()["labels_corrected"] == 2
    (o,) = s.rows(t.outcomes)
    assert (o.label, o.correct) == (None, 1)


def test_retraction_before_the_prediction_makes_no_outcome(db: Database) -> None:
    s = StreamIntake(db)
    s.send(label(1), label(1, op="retract", label=None, seconds=100))
    s.now += SECOND
    s.send(prediction(1))
    assert s.join().outcomes == 0
    assert s.rows(t.outcomes) == []
    assert {r.state for r in s.rows(t.labels)} == {"superseded"}


def test_label_sent_twice_counts_once(db: Database) -> None:
    s = StreamIntake(db)
    s.send(prediction(1), label(1), label(1))
    s.join()
    s.send(label(1))
    assert s.join().outcomes == 0
    assert len(s.rows(t.outcomes)) == 1
    assert s.counters()["labels_duplicate"] == 2


def test_outcomes_belong_to_the_version_that_predicted(db: Database) -> None:
    watch(db, versions=("7", "8"))
    s = StreamIntake(db)
    s.send(prediction(1), prediction(2, version="8"), label(1), label(2))
    s.join()
    assert {(o.version, o.seq, o.id) for o in s.rows(t.outcomes)} == {
        ("7", 1, "row-1"),
        ("8", 1, "row-2"),
    }


def test_detectors_see_labels_in_the_order_in_which_they_came(db: Database) -> None:
    s = StreamIntake(db)
    s.send(*(prediction(i) for i in range(4)))
    s.send(label(3, seconds=86_000))
    for i in (2, 0, 1):
        s.now += SECOND
        s.send(label(i, seconds=-3_600 * i))
    while s.join(limit=1).more:
        pass
    outcomes = sorted(s.rows(t.outcomes), key=lambda o: o.seq)
    assert [o.id for o in outcomes] == ["row-3", "row-2", "row-0", "row-1"]


def test_what_raised_an_alarm_is_known_by_the_row_that_did(db: Database) -> None:
    """Also where its labels claim to be of tomorrow: an alarm is dated when they came."""
    s = StreamIntake(db)
    n = 400
    s.send(*(prediction(i, right=i % 10 != 0) for i in range(n)))
    s.send(*(prediction(i, right=False) for i in range(n, n + 100)))
    s.send(*(label(i) for i in range(n)))
    s.join()
    s.now += SECOND
    s.send(*(label(i, seconds=86_000) for i in range(n, n + 100)))
    s.join()
    (found,) = s.rows(t.findings)
    first = next(o for o in s.rows(t.outcomes) if o.seq == found.raised_seq)
    assert n < found.raised_seq < n + 100
    assert (first.correct, first.observed_at > s.now) == (0, True)
    assert found.opened_at == s.now


def test_work_of_one_call_is_bounded(db: Database) -> None:
    s = StreamIntake(db)
    s.send(*(prediction(i) for i in range(30)), *(label(i) for i in range(30)))
    done = [s.join(limit=10) for _ in range(4)]
    assert [d.outcomes for d in done] == [10, 10, 10, 0]
    assert [d.more for d in done] == [True, True, True, False]


def test_harm_is_found_stored_and_announced(db: Database) -> None:
    s = StreamIntake(db)
    n = 600
    s.send(*(prediction(i, right=i % 10 != 0) for i in range(n)), *(label(i) for i in range(n)))
    while s.join(limit=100).more:
        pass
    assert s.rows(t.findings) == []
    s.send(
        *(prediction(i, right=i % 2 == 0) for i in range(n, 2 * n)),
        *(label(i) for i in range(n, 2 * n)),
    )
    found = 0
    while (done := s.join(limit=100)).more:
        found += done.findings
    (row,) = s.rows(t.findings)
    assert (row.kind, row.version) == ("accuracy", "7")
    assert json.loads(row.body)["impact"]["harmful"] is True
    announced = [r for r in s.rows(t.outbox) if r.topic == "drift"]
    assert len(announced) == found + done.findings >= 1
    assert json.loads(row.body)["impact"]["basis"] == "measured"


def test_labels_that_are_null_are_dead_letters_and_no_outcomes(db: Database) -> None:
    """400 of them once opened an incident of harm on rows that were all right."""
    s = StreamIntake(db)
    s.send(*(prediction(i) for i in range(400)))
    raw = [record(label(i), i) for i in range(400)]
    nulls = [r._replace(value=re.sub(rb'"label":"\w+"', b'"label":null', r.value)) for r in raw]
    s.accumulator.take(L0, chunk(nulls))
    batch = s.accumulator.close()
    assert batch is not None
    assert len(batch.dead) == 400
    assert {d.code for d in batch.dead} == {"invalid_field"}
    flush(db, batch, now=s.now)
    assert s.join() == JoinStep()


def test_labels_that_are_null_from_before_are_settled_and_make_no_outcome(db: Database) -> None:
    s = StreamIntake(db)
    s.send(*(prediction(i) for i in range(400)), *(label(i) for i in range(400)))
    with db.begin() as conn:
        conn.execute(sa.update(t.labels).values(label=None))
    assert s.join(limit=1_000) == JoinStep()
    assert s.rows(t.outcomes) == s.rows(t.findings) == []
    assert {r.state for r in s.rows(t.labels)} == {"superseded"}


def test_model_that_another_worker_drains_is_left_alone(postgres_url: str) -> None:
    db = new_database(postgres_url)
    watch(db)
    s = StreamIntake(db)
    s.send(prediction(1), label(1))
    with db.begin() as conn:
        conn.execute(sa.insert(t.model_locks).values(model="credit"))
    with db.begin() as conn:
        conn.execute(sa.select(t.model_locks).with_for_update()).all()
        assert join_labels(db, CONFIG, now=s.now, state_key=KEY) is None
    assert s.join().outcomes == 1
    db.dispose()


def test_rates_rise_one_step_after_a_calm_minute(db: Database) -> None:
    config = dataclasses.replace(CONFIG, join_rows_per_second=10, feature_rows_per_second=10)
    s = StreamIntake(db, config=config)
    s.send(prediction(0))
    with db.begin() as conn:
        set_rate(conn, "credit", join=3, feature=4, now=s.now)
    raiser = RateRaiser(join_cap=5_000)
    raised = []
    for second in range(0, 80, 10):
        with db.begin() as conn:
            raised.append(raiser.measure(conn, config, now=s.now + second * SECOND))
    assert raised == [False] * 7 + [True]
    (lock,) = s.rows(t.model_locks)
    assert (lock.join_exponent, lock.feature_exponent) == (2, 3)
    assert [r.exponent for r in sorted(s.rows(t.join_rates), key=lambda r: r.since)] == [3, 2]


def test_forged_accuracy_state_starts_anew_and_its_findings_take_no_id_twice(db: Database) -> None:
    s = StreamIntake(db)
    s.send(*(prediction(i, right=i % 2 == 0) for i in range(300)), *(label(i) for i in range(300)))
    s.join()
    before = {f.finding_id for f in s.rows(t.findings) if f.kind == "accuracy"}
    assert before
    with db.begin() as conn:
        (row,) = conn.execute(sa.select(t.accuracy_states)).all()
        changed = bytearray(row.state)
        changed[-1] ^= 1
        conn.execute(sa.update(t.accuracy_states).values(state=bytes(changed)))
    s.now += 2 * SECOND
    s.send(*(prediction(i, right=i % 2 == 0) for i in range(300, 600)))
    s.send(*(label(i) for i in range(300, 600)))
    with capture_logs() as said:
        assert s.join().outcomes == 300
    (line,) = [line for line in said if line["action"] == "state_rebuilt"]
    assert (line["model"], line["version"], line["log_level"]) == ("credit", "7", "error")
    (state,) = s.rows(t.accuracy_states)
    assert (state.last_seq, state.n) == (600, 600)
    assert s.counters()["states_rebuilt"] == 1
    (old,) = [f for f in s.rows(t.findings) if f.finding_id in before]
    assert (old.status, json.loads(old.body)["resolution"]) == ("resolved", "superseded")
    assert "the state of its detector was lost" in old.body
    after = {f.finding_id for f in s.rows(t.findings) if f.kind == "accuracy"}
    assert len(after) > len(before), "harm is found again, and its finding is not an old one"
    with capture_logs() as said:
        s.send(prediction(700), label(700)).join()
    assert said == []


def test_labels_wait_for_their_model_to_be_registered(db: Database) -> None:
    s = StreamIntake(db)
    rows = [
        label_row(label(i, **more), i, state="unregistered", bound=True)
        for i, more in enumerate(({}, {"version": "7", "prediction": "repay"}, {"label": "nan"}))
    ]
    with db.begin() as conn:
        conn.execute(sa.insert(t.labels), [row | {"received_at": s.now} for row in rows])
        stranger = {"model": "other", "received_at": s.now}
        conn.execute(sa.insert(t.labels), [row | stranger for row in rows])
    assert s.join().outcomes == 0
    s.now += 60 * SECOND  # what brings a prediction has waited for the log
    assert s.join().outcomes == 1
    mine = {r.id: r.state for r in s.rows(t.labels) if r.model == "credit"}
    assert mine == {"row-0": "waiting", "row-1": "joined", "row-2": "ignored"}
    assert {r.state for r in s.rows(t.labels) if r.model == "other"} == {"unregistered"}
    assert s.counters()["labels_meaningless"] == 1


def test_whose_labels_count_is_what_sql_says_when_they_are_joined(db: Database) -> None:
    """A worker reads specifications after it flushed: what it took before is not joined by them."""
    s = StreamIntake(db)
    watch(db, dataclasses.replace(CONFIG, bound_sources=("ledger",)))
    s.send(prediction(1), label(1))  # taken by the old specification
    assert [r.state for r in s.rows(t.labels)] == ["waiting"]
    assert s.join().outcomes == 0
    assert [r.state for r in s.rows(t.labels)] == ["ignored"]


def test_slices_of_outcomes_have_tests_where_what_to_expect_of_them_is_known(db: Database) -> None:
    rng = np.random.default_rng(0)
    region = Codes(rng.integers(0, 2, 4_000).astype(np.int32), ("EU", "US"))
    wrong = (rng.random(4_000) < 0.05).astype(int)
    expected = ExpectedError.fit(wrong, {"region": region})
    with db.begin() as conn:
        conn.execute(
            upsert(t.profiles, ["model", "version"]).values(
                model="credit",
                version="7",
                base_error=BaseError.from_errors(wrong).to_json(),
                expected_error=expected.to_json(),
                provisional=False,
            )
        )
    s = StreamIntake(db)
    rows = [prediction(i, right=i % 2 == 0 or i < 80) for i in range(200)]
    s.send(*rows, *(label(i) for i in range(200)))
    s.now += 2 * SECOND
    while s.join().more:
        pass
    (row,) = s.rows(t.accuracy_states)
    state = AccuracyState.from_bytes(bytes(row.state), KEY, model="credit", version="7")
    assert state.slices is not None
    assert state.slices.memory.total == 200
    assert state.slices.seen.sum() + sum(x.since_n for x in state.slices.open.values()) > 0
    stored = [json.loads(o.slices)["region"] for o in s.rows(t.outcomes)]
    ids = state.slices.memory.rows.slices[:, 0].tolist()
    names = [x.value for x in expected.slices]
    assert sorted(names[i] for i in ids) == sorted(stored)
    found = [msgspec.json.decode(f.body, type=DriftFound) for f in s.rows(t.findings)]
    harm = [f for f in found if f.kind == "accuracy"]
    assert harm
    assert all(f.got_worse is not None for f in harm if f.scope == "all")
