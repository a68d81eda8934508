"""What becomes of a label: decided from rows, and nothing is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from stream_rows import CONFIG, new_database

from redistill.streams.store.database import Database
from redistill.streams.store.label_join import JoinPlan, plan_join
from redistill.streams.store.rates import set_rate
from redistill.streams.store.tables import join_rows, labels, outcomes
from redistill.times import DAY, SECOND

MODEL = CONFIG.model
NOW = 1_000 * DAY
WAIT = round(CONFIG.wait_days * DAY)
HASH = 5


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = new_database(f"sqlite:///{tmp_path / 'join.db'}")
    yield db
    db.dispose()


@pytest.fixture
def conn(db: Database) -> Iterator[sa.Connection]:
    with db.begin() as conn:
        yield conn


def add_label(conn: sa.Connection, **over: Any) -> tuple[str, str, int]:
    """Store a label that waits; its key."""
    values = {
        "model": MODEL, "id": "row-5", "source": "ledger", "observed_at": NOW - 60 * SECOND,
        "id_hash": HASH, "label": "repay", "op": "upsert", "received_at": NOW - 10 * SECOND,
        "state": "waiting", "p_include": 0.5, "uniform": False,
        "arrival": "api",
    } | over  # fmt: skip
    conn.execute(sa.insert(labels).values(**values))
    return values["id"], values["source"], values["observed_at"]


def add_prediction(conn: sa.Connection, **over: Any) -> None:
    values = {
        "model": MODEL, "id_hash": HASH, "version": "7", "prediction": "repay", "score": 0.75,
        "slices": '{"region": "EU"}', "served_at": NOW - 90 * SECOND, "topic_id": "t", "partition": 3,
        "window": 12, "predicted_low": 0.5, "predicted_high": 1.5,
    } | over  # fmt: skip
    conn.execute(sa.insert(join_rows).values(**values))


def add_outcome(conn: sa.Connection, **over: Any) -> None:
    values = {
        "model": MODEL, "version": "7", "seq": 41, "id_hash": HASH, "id": "row-5", "correct": 1,
        "prediction": "repay", "label": "repay", "served_at": 0, "observed_at": NOW - 60 * SECOND,
        "source": "ledger", "made_at": 0,
    } | over  # fmt: skip
    conn.execute(sa.insert(outcomes).values(**values))


def plan(
    conn: sa.Connection,
    *hashes: int,
    sources: tuple[str, ...] = (),
    bound: tuple[str, ...] = (),
) -> JoinPlan:
    config = dataclasses.replace(CONFIG, label_sources=sources, bound_sources=bound)
    return plan_join(conn, config, list(hashes or (HASH,)), NOW)


def test_label_that_is_null_says_nothing_whenever_it_came(conn: sa.Connection) -> None:
    add_label(conn)
    add_label(conn, label=None, observed_at=NOW - 5 * SECOND)
    add_label(conn, label="", observed_at=NOW - 4 * SECOND, source="other")
    add_prediction(conn)
    (outcome,) = plan(conn).outcomes
    assert (outcome["label"], outcome["correct"]) == ("repay", 1)


def test_label_and_prediction_make_an_outcome_with_all_that_is_known_of_both(
    conn: sa.Connection,
) -> None:
    key = add_label(conn)
    add_prediction(conn)
    made = plan(conn)
    (outcome,) = made.outcomes
    assert outcome == {
        "model": MODEL, "version": "7", "id_hash": HASH, "id": "row-5", "correct": 1,
        "prediction": "repay", "label": "repay", "score": 0.75, "slices": '{"region": "EU"}',
        "served_at": NOW - 90 * SECOND, "observed_at": NOW - 60 * SECOND, "source": "ledger",
        "p_include": 0.5, "uniform": False, "topic_id": "t", "partition": 3, "window": 12,
        "made_at": NOW, "request_id": None, "arrival": "api", "slice_only": None,
        "predicted_low": 0.5, "predicted_high": 1.5,
    }  # fmt: skip
    assert made.states == {key: "joined"}
    assert (made.corrections, made.checks) == ([], {})
    assert made.counts == {"joined": 1}


def test_wrong_prediction_is_not_correct(conn: sa.Connection) -> None:
    add_label(conn, label="default")
    add_prediction(conn)
    (outcome,) = plan(conn).outcomes
    assert outcome["correct"] == 0


def brought(conn: sa.Connection, **over: Any) -> tuple[str, str, int]:
    """Store a label that brings its prediction, and that has waited for the log."""
    values = {"version": "8", "prediction": "default", "received_at": NOW - 60 * SECOND}
    return add_label(conn, **(values | over))


def test_prediction_that_a_label_brings_needs_no_row_to_join(conn: sa.Connection) -> None:
    brought(conn, slices='{"region": "US"}')
    (outcome,) = plan(conn).outcomes
    assert (outcome["version"], outcome["correct"], outcome["topic_id"]) == ("8", 0, None)
    assert outcome["served_at"] == outcome["observed_at"]
    assert outcome["slices"] == '{"region": "US"}'


def test_label_that_brings_its_prediction_waits_a_minute_for_the_logged_one(
    conn: sa.Connection,
) -> None:
    key = brought(conn, received_at=NOW - 59 * SECOND)
    made = plan(conn)
    assert (made.outcomes, made.states) == ([], {})
    assert made.checks == {key: NOW + SECOND}


def test_later_labels_do_not_prolong_the_wait(conn: sa.Connection) -> None:
    brought(conn)
    brought(conn, received_at=NOW, observed_at=NOW)
    assert len(plan(conn).outcomes) == 1


def test_label_outside_the_join_rate_waits_for_no_log(conn: sa.Connection) -> None:
    set_rate(conn, MODEL, join=4, now=0)
    brought(conn, received_at=NOW, id_hash=2**60)
    assert len(plan(conn, 2**60).outcomes) == 1


@pytest.mark.parametrize(
    ("label", "clash"),
    [
        ({"version": "7", "prediction": "default"}, ("repay", "default")),
        ({"version": "8", "prediction": "repay"}, ("version 7", "version 8")),
        ({"version": "7", "prediction": "repay"}, None),
        ({"version": "7"}, None),
        ({"prediction": "default"}, None),  # of no version: it brings none
    ],
)
def test_logged_prediction_beats_one_that_a_label_brings(
    conn: sa.Connection, label: dict[str, str], clash: tuple[str, str] | None
) -> None:
    add_label(conn, **label)
    add_prediction(conn)
    made = plan(conn)
    (outcome,) = made.outcomes
    assert (outcome["version"], outcome["prediction"], outcome["correct"]) == ("7", "repay", 1)
    assert outcome["partition"] == 3
    assert [(c.logged, c.brought) for c in made.clashes] == ([clash] if clash else [])
    assert made.counts.get("clash", 0) == len(made.clashes)


def test_outcomes_come_in_the_order_in_which_their_labels_came(conn: sa.Connection) -> None:
    """Whoever writes labels says when they were observed, and could put theirs before all."""
    for h, came, observed in ((1, 30, 5), (2, 20, 50), (3, 20, 40), (4, 10, NOW + DAY)):
        add_label(conn, id=f"row-{h}", id_hash=h, received_at=came, observed_at=observed)
        add_prediction(conn, id_hash=h)
    made = plan(conn, 1, 2, 3, 4)
    assert [o["id_hash"] for o in made.outcomes] == [4, 3, 2, 1]
    assert made.received == {4: 10, 3: 20, 2: 20, 1: 30}


def test_nothing_was_served_after_it_was_stored(conn: sa.Connection) -> None:
    """A row or a label of tomorrow would date a change there: no row would be fresh."""
    add_label(conn)
    add_prediction(conn, served_at=NOW + DAY, stored_at=NOW - 20 * SECOND)
    (outcome,) = plan(conn).outcomes
    assert outcome["served_at"] == NOW - 20 * SECOND
    brought(conn, id="row-6", id_hash=6, observed_at=NOW + DAY)
    (outcome,) = plan(conn, 6).outcomes
    assert (outcome["served_at"], outcome["observed_at"]) == (NOW - 60 * SECOND, NOW + DAY)


@pytest.mark.parametrize(
    ("age", "wait"),
    [(0, SECOND), (10 * SECOND, 10 * SECOND), (5 * DAY, 5 * DAY), (WAIT - SECOND, SECOND)],
)
def test_label_without_its_prediction_waits_as_long_again_until_its_time_is_over(
    conn: sa.Connection, age: int, wait: int
) -> None:
    key = add_label(conn, received_at=NOW - age)
    made = plan(conn)
    assert made.checks == {key: NOW + wait}
    assert (made.outcomes, made.states) == ([], {})
    assert not any(made.counts.values())


def test_label_whose_prediction_never_came_is_an_orphan(conn: sa.Connection) -> None:
    key = add_label(conn, received_at=NOW - WAIT)
    made = plan(conn)
    assert made.states == {key: "orphan"}
    assert made.checks == {}
    assert made.counts["orphan"] == 1


@pytest.mark.parametrize(
    ("id_hash", "state"),
    [(2**60 - 1, "waiting"), (2**60, "unsampled"), (-1, "unsampled")],  # signed views
)
def test_label_outside_the_join_rate_is_unsampled(
    conn: sa.Connection, id_hash: int, state: str
) -> None:
    set_rate(conn, MODEL, join=4, now=0)  # a sixteenth of the hashes
    key = add_label(conn, id_hash=id_hash)
    made = plan(conn, id_hash)
    assert made.states.get(key, "waiting") == state
    assert made.counts["unsampled"] == (state == "unsampled")


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        (
            [(0, 4), (NOW - WAIT - 1, 8)],
            "unsampled",
        ),  # the larger rate ended before it could matter
        ([(0, 4), (NOW - WAIT + 1, 8)], "waiting"),
        ([(NOW - 1, 8)], "waiting"),  # before the first change everything was kept
    ],
)
def test_largest_rate_of_the_waiting_time_counts(
    conn: sa.Connection, changes: list[tuple[int, int]], state: str
) -> None:
    for at, exponent in changes:
        set_rate(conn, MODEL, join=exponent, now=at)
    id_hash = 2**58  # inside 2^-4, outside 2^-8
    key = add_label(conn, id_hash=id_hash)
    assert plan(conn, id_hash).states.get(key, "waiting") == state


def test_best_source_makes_the_outcome_and_the_others_are_superseded(conn: sa.Connection) -> None:
    ledger = add_label(conn)
    analyst = add_label(conn, source="analyst", label="default", observed_at=NOW)
    stranger = add_label(conn, source="stranger", state="ignored", observed_at=NOW)
    add_prediction(conn)
    made = plan(conn, sources=("ledger", "analyst"))
    (outcome,) = made.outcomes
    assert (outcome["source"], outcome["label"]) == ("ledger", "repay")
    assert made.states == {ledger: "joined", analyst: "superseded"}
    assert stranger not in made.states


def test_label_taken_back_before_the_prediction_came_makes_nothing(conn: sa.Connection) -> None:
    said = add_label(conn, observed_at=1)
    taken_back = add_label(conn, observed_at=2, op="retract", label=None)
    add_prediction(conn)
    made = plan(conn)
    assert made.outcomes == []
    assert made.states == {said: "superseded", taken_back: "superseded"}


def test_later_label_corrects_the_outcome(conn: sa.Connection) -> None:
    before = add_label(conn, state="joined")
    add_outcome(conn)
    after = add_label(conn, label="default", observed_at=NOW)
    made = plan(conn)
    assert made.corrections == [
        {"k_version": "7", "k_seq": 41, "label": "default", "source": "ledger", "observed_at": NOW}
    ]
    assert made.states == {before: "superseded", after: "joined"}
    assert made.outcomes == []
    assert made.counts["corrected"] == 1


def test_outcome_whose_label_was_taken_back_has_none(conn: sa.Connection) -> None:
    add_label(conn, state="joined")
    add_outcome(conn)
    add_label(conn, op="retract", label=None, observed_at=NOW)
    (correction,) = plan(conn).corrections
    assert (correction["label"], correction["observed_at"]) == (None, NOW - 60 * SECOND)


def test_label_that_changes_nothing_corrects_nothing(conn: sa.Connection) -> None:
    add_label(conn, state="joined")
    add_outcome(conn)
    older = add_label(conn, label="default", observed_at=1)
    made = plan(conn)
    assert made.corrections == []
    assert made.states == {older: "superseded"}


def test_labels_of_other_models_are_left_alone(conn: sa.Connection) -> None:
    add_label(conn, model="fraud")
    add_prediction(conn)
    assert plan(conn) == JoinPlan()


@pytest.mark.parametrize(
    ("classes", "prediction", "label", "named"),
    [
        (("False", "True"), "true", "True", "True"),
        (("false", "true"), "True", "true", "true"),
        (("0", "1"), "true", "1.0", "1"),
        (("01", "1"), "1", "1", "1"),
        (("yes", "no"), "yes", "yes", "yes"),
    ],
)
def test_label_and_prediction_are_compared_as_the_classes_that_they_name(
    conn: sa.Connection, classes: tuple[str, ...], prediction: str, label: str, named: str
) -> None:
    """A boolean was written ``True`` by older loggers, and is ``true`` in files."""
    add_label(conn, label=label)
    add_prediction(conn, prediction=prediction)
    schema = dataclasses.replace(CONFIG.schema, classes=classes)
    made = plan_join(conn, dataclasses.replace(CONFIG, schema=schema), [HASH], NOW)
    (outcome,) = made.outcomes
    assert (outcome["correct"], outcome["label"], outcome["prediction"]) == (1, named, named)
    add_outcome(conn, label=named)
    again = plan_join(conn, dataclasses.replace(CONFIG, schema=schema), [HASH], NOW)
    assert again.corrections == []


def test_only_labels_of_bound_topics_count_where_a_source_is_bound(conn: sa.Connection) -> None:
    """Whoever stored them: a worker that has not heard of it yet, or does not know the column."""
    add_prediction(conn)
    forged = add_label(conn, label="default", observed_at=NOW)
    other = add_label(conn, label="default", source="analyst", observed_at=NOW, bound=True)
    made = plan(conn, sources=("analyst", "ledger"), bound=("ledger",))
    assert (made.outcomes, made.counts) == ([], {"ignored": 2})
    assert made.states == {forged: "ignored", other: "ignored"}
    mine = add_label(conn, bound=True)
    made = plan(conn, sources=("analyst", "ledger"), bound=("ledger",))
    assert [(o["label"], o["source"]) for o in made.outcomes] == [("repay", "ledger")]
    assert made.states == {forged: "ignored", other: "ignored", mine: "joined"}


def test_bound_sources_rank_as_they_are_bound(conn: sa.Connection) -> None:
    add_prediction(conn)
    add_label(conn, source="bank", label="default", bound=True)
    add_label(conn, source="ledger", bound=True)
    ((first,), (second,)) = (
        plan(conn, sources=("ledger", "bank"), bound=bound).outcomes
        for bound in (("bank", "ledger"), ("ledger", "bank"))
    )
    assert (first["source"], second["source"]) == ("bank", "ledger")


def test_outcome_of_a_label_that_counts_no_more_loses_its_label(conn: sa.Connection) -> None:
    key = add_label(conn)
    add_outcome(conn)
    made = plan(conn, bound=("ledger",))
    assert [c["label"] for c in made.corrections] == [None]
    assert made.states == {key: "ignored"}
