"""What is asked of the database about models: each answer from rows that were put there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import loop
import pytest
import sqlalchemy as sa
from loop import NOW

from redistill.streams.store.database import Database
from redistill.streams.store.tables import (
    accuracy_states,
    feature_rows,
    input_states,
    labels,
    model_locks,
    outcomes,
    profiles,
    unregistered,
    windows,
)
from redistill.times import DAY, HOUR, SECOND
from redistill.workers.store import names, queries
from redistill.workers.store.queries import Overview, UnregisteredModel
from redistill.workers.store.tables import incidents, jobs, pauses, versions

MODEL = "credit"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = loop.opened(database_url)
    with opened.begin() as conn:
        loop.register(conn, loop.spec())
    yield opened
    opened.dispose()


def put(database: Database, table: sa.Table, **values: Any) -> None:
    with database.begin() as conn:
        conn.execute(sa.insert(table).values(**values))


def put_outcomes(database: Database, n: int, **over: Any) -> None:
    with database.begin() as conn:
        start = conn.execute(sa.select(sa.func.count()).select_from(outcomes)).scalar_one() + 1
        for seq in range(start, start + n):
            values = {
                "model": MODEL, "version": "v1", "seq": seq, "id_hash": seq, "id": str(seq),
                "correct": 1, "prediction": "a", "label": "a", "served_at": NOW - 2 * HOUR,
                "observed_at": NOW - HOUR, "source": "s", "uniform": True, "made_at": NOW - HOUR,
            } | over  # fmt: skip
            conn.execute(sa.insert(outcomes).values(**values))


def put_traffic(database: Database, *, rows: int, begun: int = NOW - 2 * DAY, **over: Any) -> None:
    """Rows of one partition, all in one closed window."""
    key = {"model": MODEL, "version": "v1", "topic_id": "t", "partition": 0} | over
    times = {"first_served_at": begun, "last_served_at": NOW - SECOND}
    put(database, input_states, **key, **times, state=b"", rows=rows)
    put(database, windows, **key, **times, number=0, rows=rows, closed_at=NOW)


def overview(database: Database) -> Overview:
    with database.read() as conn:
        return queries.overview(conn, MODEL, NOW)


def test_models_are_listed_by_name(database: Database) -> None:
    with database.begin() as conn:
        loop.register(conn, loop.spec("abalone"))
        assert names.model_names(conn) == ["abalone", "credit"]


def test_traffic_of_a_young_model_is_that_since_its_first_row(database: Database) -> None:
    put_traffic(database, rows=1_000)
    put_outcomes(database, 40)
    with database.read() as conn:
        traffic = queries.traffic(conn, MODEL, NOW)
    assert traffic is not None
    assert (traffic.days, traffic.rows, traffic.labels) == (2.0, 500.0, 20.0)
    assert traffic.gate_rows == 0.0  # no features were stored


def test_traffic_of_an_old_model_is_that_of_the_windows_of_a_week(database: Database) -> None:
    put_traffic(database, rows=7_000, begun=NOW - 30 * DAY)
    put_outcomes(database, 70)
    put_outcomes(database, 500, made_at=NOW - 7 * DAY)
    with database.read() as conn:
        traffic = queries.traffic(conn, MODEL, NOW)
    assert traffic is not None
    assert (traffic.days, traffic.rows, traffic.labels) == (7.0, 1_000.0, 10.0)


def test_gate_rows_are_labelled_rows_whose_features_are_kept(database: Database) -> None:
    put_traffic(database, rows=1_000)
    put_outcomes(database, 40)
    put(
        database, feature_rows, model=MODEL, version="v1", first_served_at=1, last_served_at=2,
        rows=1, bytes=1, data=b"",
    )  # fmt: skip
    for join, feature, share in ((2, 2, 1.0), (2, 4, 0.25)):
        with database.begin() as conn:
            conn.execute(sa.delete(model_locks))
        put(database, model_locks, model=MODEL, join_exponent=join, feature_exponent=feature)
        with database.read() as conn:
            traffic = queries.traffic(conn, MODEL, NOW)
        assert traffic is not None
        assert traffic.gate_rows == 20.0 * share


def test_model_that_served_nothing_for_a_week_has_no_traffic(database: Database) -> None:
    with database.read() as conn:
        assert queries.traffic(conn, MODEL, NOW) is None
        assert queries.traffic(conn, "nobody", NOW) is None


def test_rows_per_alarm_need_a_week_of_the_fleet_and_traffic_of_the_model(
    database: Database,
) -> None:
    def rows_per_alarm(alarms_per_week: float = 1.0) -> float | None:
        with database.read() as conn:
            return queries.rows_per_alarm(conn, MODEL, alarms_per_week=alarms_per_week, now=NOW)

    assert rows_per_alarm() is None
    put_outcomes(database, 100)
    assert rows_per_alarm() is None  # the fleet is younger than a week
    put_outcomes(database, 1, made_at=NOW - 7 * DAY, model="old")
    assert rows_per_alarm() is None  # nothing was served
    put_traffic(database, rows=5_000)
    assert rows_per_alarm() == 1_000 * 5_000 / 100
    # 100 labels a week and an alarm in 20 weeks: 2,000 labels an alarm
    assert rows_per_alarm(0.05) == 2_000 * 5_000 / 100


def test_overview_tells_of_a_model_that_has_just_been_registered(database: Database) -> None:
    assert overview(database) == Overview(
        model=MODEL, level="repair", version="v1", correct=0, labelled=0, labels_waiting=0,
        gate_rows_per_day=None, last_served_at=None, last_label_at=None, label_lag_us=None,
        has_base_error=True, incident=None, job=None, open_findings=0, paused_until=None,
        last_change="publish",
    )  # fmt: skip


def test_overview_measures_the_last_uniform_outcomes_of_the_version_that_serves(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "RECENT_OUTCOMES", 10)
    put_outcomes(database, 50, correct=0)  # too long ago
    put_outcomes(database, 8)
    put_outcomes(database, 2, correct=0)
    put_outcomes(database, 5, correct=0, uniform=False)  # drawn for being doubtful
    put_outcomes(database, 5, correct=0, version="v0")
    put_outcomes(database, 5, correct=0, label=None)  # of labels that were none
    found = overview(database)
    assert (found.correct, found.labelled) == (8, 10)
    assert found.label_lag_us == HOUR
    assert found.last_label_at == NOW - HOUR


def test_overview_names_the_version_that_served_last_where_there_is_no_pointer(
    database: Database,
) -> None:
    with database.begin() as conn:
        loop.register(conn, loop.spec("watched", level="watch"), version=None)
    for version, at in (("1", NOW - DAY), ("2", NOW)):
        put(
            database, input_states, model="watched", version=version, topic_id="t", partition=0,
            state=b"", rows=1, last_served_at=at,
        )  # fmt: skip
    with database.read() as conn:
        found = queries.overview(conn, "watched", NOW)
    assert (found.version, found.last_change, found.last_served_at) == ("2", None, NOW)
    assert not found.has_base_error


def test_base_error_is_known_once_it_was_learned(database: Database) -> None:
    with database.begin() as conn:
        conn.execute(sa.update(profiles).values(base_error=None))
    assert not overview(database).has_base_error
    key = {"model": MODEL, "version": "v1", "state": b"", "last_seq": 0}
    put(database, accuracy_states, **key, n=queries.LEARNED_FROM - 1)
    assert not overview(database).has_base_error
    with database.begin() as conn:
        conn.execute(sa.update(accuracy_states).values(n=queries.LEARNED_FROM))
    assert overview(database).has_base_error


def test_overview_shows_what_is_going_on(database: Database) -> None:
    with database.begin() as conn:
        loop.store(conn, loop.finding(), loop.finding(status="resolved"))
    for name, incident_class in (("i1", "data_bug"), ("i2", "harm")):
        put(
            database, incidents, incident_id=name, model=MODEL, version="v1", why=name, attempt=0,
            incident_class=incident_class, status="open", stage="detected", split_salt="s",
            opened_at=NOW, updated_at=NOW, open_mark=1,
        )  # fmt: skip
    put(
        database, jobs, job_id="j", number=1, model=MODEL, attempt=1, trigger_kind="actor",
        trigger_id="x", state="waiting_labels", options="{}", tries=1, not_before=0, deadline_at=0,
        created_at=0, live_mark=1,
    )  # fmt: skip
    put(database, pauses, model=MODEL, until=NOW + HOUR, reason="r")
    put(
        database, labels, model=MODEL, id="x", source="s", observed_at=1, id_hash=1, op="upsert",
        received_at=1, state="waiting",
    )  # fmt: skip
    found = overview(database)
    assert found.open_findings == 1
    assert found.incident == ("harm", "detected", "i2")
    assert found.job == "waiting_labels"
    assert found.paused_until == NOW + HOUR
    assert found.labels_waiting == 1


def test_pause_that_is_over_is_not_shown(database: Database) -> None:
    put(database, pauses, model=MODEL, until=NOW, reason="r")
    assert overview(database).paused_until is None


def test_unregistered_models_are_those_that_nobody_registered_most_rows_first(
    database: Database,
) -> None:
    for model, version, rows, first in (
        ("few", "1", 3, 10), ("many", "1", 5, 30), ("many", "2", 6, 20), (MODEL, "0", 99, 1),
    ):  # fmt: skip
        put(
            database, unregistered, model=model, version=version, rows=rows, first_seen_at=first,
            last_seen_at=NOW,
        )  # fmt: skip
    with database.read() as conn:
        assert queries.unregistered_models(conn) == [
            UnregisteredModel("many", 11, 20),
            UnregisteredModel("few", 3, 10),
        ]


def test_churn_is_that_of_the_newest_version_that_was_compared(database: Database) -> None:
    with database.begin() as conn:
        assert queries.trusted_churn(conn, MODEL) is None  # the first model replaced nobody
        (first,) = conn.execute(sa.select(versions)).mappings()
        for n, (version, told) in enumerate(
            (("old", {"wins": 9, "losses": 9, "ties": 82}), ("new", {"wins": 3, "losses": 1, "ties": 96}),
             ("last", None)), start=1,
        ):  # fmt: skip
            values = {
                "version": version,
                "created_at": NOW + n,
                "report": json.dumps({"trusted": told}),
            }
            conn.execute(sa.insert(versions).values(**dict(first) | values))
        assert queries.trusted_churn(conn, MODEL) == 0.04
        assert queries.trusted_churn(conn, "nobody") is None
