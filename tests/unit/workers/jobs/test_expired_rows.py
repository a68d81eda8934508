"""Which rows are too old, by whose word, and how many of them go at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import loop
import pytest
import sqlalchemy as sa
from loop import NOW

from redistill.streams.store.database import Database
from redistill.streams.store.tables import (
    counters,
    feature_rows,
    findings,
    input_states,
    join_rows,
    label_request_rows,
    label_request_states,
    label_requests,
    labels,
    outcomes,
    profiles,
)
from redistill.times import DAY, HOUR
from redistill.workers.incidents.model_context import load_all
from redistill.workers.jobs import expired_rows
from redistill.workers.jobs.expired_rows import DeletedRows

TABLES = (join_rows, labels, outcomes, feature_rows)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = loop.opened(database_url)
    with opened.begin() as conn:
        loop.register(conn, loop.spec())
    yield opened
    opened.dispose()


def run(database: Database, now: int = NOW) -> DeletedRows:
    """All models, as retention does it."""
    done = DeletedRows()
    with database.read() as conn:
        limits = {m.model: m.watch for m in load_all(conn)}
        retired = expired_rows.retired_models(conn)
    for model in [*limits, *retired]:
        expired_rows.delete_expired(database, model, limits.get(model), now=now, done=done)
    return done


def counts(database: Database) -> dict[str, int]:
    with database.read() as conn:
        return {
            t.name: conn.execute(sa.select(sa.func.count()).select_from(t)).scalar_one()
            for t in TABLES
        }


def each(n: int) -> dict[str, int]:
    return {t.name: n for t in TABLES}


def rows_at(
    database: Database, ages: tuple[int, ...], *, model: str = "credit", served: int | None = None
) -> None:
    """One row of each kind per age in days; ``served``: when a service says that it was, in days
    ago."""
    with database.begin() as conn:
        for i, age in enumerate(ages):
            stored = NOW - age * DAY
            at = stored if served is None else NOW - served * DAY
            common: dict[str, Any] = {"model": model, "id_hash": i + 100 * age}
            conn.execute(
                sa.insert(join_rows).values(
                    **common,
                    version="v1",
                    prediction="repay",
                    served_at=at,
                    topic_id="t",
                    partition=0,
                    window=0,
                    stored_at=stored,
                )
            )
            conn.execute(
                sa.insert(labels).values(
                    **common,
                    id=f"{i}-{age}",
                    source="ledger",
                    observed_at=at,
                    label="repay",
                    op="upsert",
                    uniform=True,
                    received_at=stored,
                    state="joined",
                )
            )
            conn.execute(
                sa.insert(outcomes).values(
                    **common,
                    version="v1",
                    seq=i + 100 * age,
                    id=f"{i}-{age}",
                    correct=1,
                    prediction="repay",
                    label="repay",
                    served_at=at,
                    observed_at=at,
                    source="ledger",
                    uniform=True,
                    made_at=stored,
                )
            )
            conn.execute(
                sa.insert(feature_rows).values(
                    model=model,
                    version="v1",
                    first_served_at=at,
                    last_served_at=at,
                    rows=1,
                    bytes=1,
                    data=b"x",
                    stored_at=stored,
                )
            )


def test_rows_older_than_the_models_retention_go_the_others_stay(database: Database) -> None:
    rows_at(database, (1, 29, 31, 400))
    assert run(database).deleted == each(2)
    assert counts(database) == each(2)
    assert run(database).deleted == {}


def test_rows_of_a_model_that_is_not_registered_any_more_go_in_time(database: Database) -> None:
    rows_at(database, (29, 31), model="retired")
    with database.read() as conn:
        assert expired_rows.retired_models(conn) == ["retired"]
    assert run(database).deleted == each(1)
    assert run(database, NOW + 2 * DAY).deleted == each(1)
    with database.read() as conn:
        assert expired_rows.retired_models(conn) == []


@pytest.mark.parametrize(("served", "gone"), [(400, 0), (40, 0), (-40, 2), (0, 2)])
def test_what_a_service_says_about_the_time_neither_deletes_nor_keeps(
    database: Database, served: int, gone: int
) -> None:
    rows_at(database, (1, 2) if not gone else (31, 32), served=served)
    assert run(database).deleted == (each(gone) if gone else {})
    assert counts(database) == each(2 - gone)


def test_at_most_a_tenth_of_a_table_goes_in_an_hour(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expired_rows, "BATCH", 4)  # several transactions share one allowance
    rows_at(database, tuple(range(31, 231)))
    first = run(database)
    assert (first.deleted, first.left) == (each(20), each(180))
    assert run(database, NOW + HOUR - 1).deleted == {}, "also of another process"
    second = run(database, NOW + HOUR)
    assert (second.deleted, second.left) == (each(18), each(162))
    with database.read() as conn:
        expired = conn.execute(
            sa.select(counters.c.value).where(counters.c.name == "outcomes_expired")
        ).scalar_one()
    assert expired == 38


def test_many_small_models_do_not_add_up_to_a_whole_table(database: Database) -> None:
    for n in range(30):
        rows_at(database, (40,), model=f"m{n}")
    assert run(database).deleted == each(10)


def test_small_table_is_empty_in_time(database: Database) -> None:
    rows_at(database, tuple(range(40, 55)))
    for hour, left in enumerate((5, 0)):
        run(database, NOW + hour * HOUR)
        assert counts(database) == each(left)


def test_rows_of_before_the_upgrade_are_as_old_as_they_were_served(database: Database) -> None:
    rows_at(database, (1, 31), served=None)
    rows_at(database, (2,), model="of the future", served=-400)
    with database.begin() as conn:
        for table in (join_rows, feature_rows):
            conn.execute(sa.update(table).values(stored_at=None))
    assert run(database).deleted == each(1)
    with database.read() as conn:
        found = conn.execute(sa.select(join_rows.c.model, join_rows.c.stored_at))
        stamps = {row.model: row.stored_at for row in found}
    assert stamps == {"credit": NOW - DAY, "of the future": NOW}


def test_rows_that_came_while_a_clock_was_ahead_are_kept_no_longer_than_others(
    database: Database,
) -> None:
    rows_at(database, (-40, 1))
    assert run(database).deleted == {}
    assert run(database, NOW + 31 * DAY).deleted == each(2)


def test_rows_that_somebody_writes_just_now_are_left_for_the_next_round(
    database: Database,
) -> None:
    """A join step writes labels in its own order: two that wait for each other's rows would be a
    deadlock."""
    if database.is_sqlite:
        pytest.skip("SQLite has one writer: nobody holds a row beside another")
    rows_at(database, (91, 0, -10))  # expired, now, and of a clock that was ahead
    with database.begin() as conn:
        conn.execute(sa.select(labels.c.id).with_for_update())
        others = each(1)
        del others["labels"]
        assert run(database).deleted == others
    assert run(database).deleted == {"labels": 1}


def test_budget_of_a_clock_that_was_ahead_stops_nobody(database: Database) -> None:
    rows_at(database, tuple(range(100, 230)))
    assert run(database, NOW + 40 * DAY).deleted == each(13)
    assert run(database, NOW).deleted == each(12)


def test_oldest_feature_rows_go_when_a_model_has_too_many_bytes(database: Database) -> None:
    rows_at(database, tuple(range(6)))
    with database.begin() as conn:
        conn.execute(sa.update(feature_rows).values(bytes=60 * 2**20))
    done = DeletedRows()
    expired_rows.delete_beyond_size(database, "credit", 256.0, done)
    assert done.deleted == {"feature_rows": 2}
    with database.read() as conn:
        kept = conn.execute(sa.select(sa.func.max(feature_rows.c.stored_at))).scalar_one()
    assert kept == NOW - 2 * DAY, "the first two came first"


def test_states_of_versions_that_nobody_registered_go_unless_a_finding_is_open(
    database: Database,
) -> None:
    at = NOW - 31 * DAY
    with database.begin() as conn:
        registered = conn.execute(
            sa.select(profiles.c.version).where(profiles.c.model == "credit")
        ).scalars().first()  # fmt: skip
        for version, last in (
            (registered, at), ("uuid", at), ("at fault", at), ("served", NOW - DAY),
        ):  # fmt: skip
            conn.execute(
                sa.insert(input_states).values(
                    model="credit", version=version, topic_id="t", partition=0, state=b"", rows=1,
                    first_served_at=0, last_served_at=last, stored_at=last,
                )
            )  # fmt: skip
        for version, status in (("at fault", "open"), ("uuid", "resolved")):
            conn.execute(
                sa.insert(findings).values(
                    finding_id=version, model="credit", version=version, kind="input", scope="x",
                    status=status, severity="info", revision=1, body="{}", opened_at=at,
                    stored_at=at,
                )
            )  # fmt: skip
    assert run(database).deleted == {"input_states": 1}
    with database.read() as conn:
        left = set(conn.execute(sa.select(input_states.c.version)).scalars())
    assert left == {registered, "at fault", "served"}


def request_at(conn: sa.Connection, age: float, *, rows: int, model: str = "credit") -> None:
    """A request made so many days ago, with its rows."""
    asked_at, name = NOW - round(age * DAY), f"{model}-{age}"
    conn.execute(
        sa.insert(label_requests).values(
            request_id=name, model=model, version="v1", why="harm", asked_at=asked_at,
            first_served_at=0, last_served_at=1, p_include=0.5, rows=rows, cost=0.0, budget=100,
            budget_left=0,
        )
    )  # fmt: skip
    conn.execute(
        sa.insert(label_request_rows),
        [
            {
                "model": model, "id_hash": round(1000 * age) + i, "request_id": name,
                "id": f"{age}-{i}", "served_at": 0, "asked_at": asked_at,
            }
            for i in range(rows)
        ],
    )  # fmt: skip


def test_requests_for_labels_go_whole_once_no_outcome_of_theirs_is_left(
    database: Database,
) -> None:
    """30 days of retention, and 30 in which a label may come: each counts."""
    with database.read() as conn:
        watch = {m.model: m.watch for m in load_all(conn)}["credit"]
    limit = max(watch.retention_days, watch.wait_days) + watch.wait_days
    ages = [1, limit - 1, *(limit + k for k in range(1, 8))]  # more than one batch of them
    with database.begin() as conn:
        for age in ages:
            request_at(conn, age, rows=3)
        request_at(conn, limit + 1, rows=2, model="retired")
    done = run(database)
    with database.read() as conn:
        left = conn.execute(sa.select(label_requests.c.request_id)).scalars().all()
        of = conn.execute(sa.select(label_request_rows.c.request_id)).scalars().all()
        counted = conn.execute(
            sa.select(counters.c.model, counters.c.value).where(
                counters.c.name == "label_requests_expired"
            )
        ).all()
    kept = {f"credit-{age}" for age in ages[:2]}
    assert kept <= set(left)
    gone = 10 - len(left)
    assert done.deleted["label_requests"] == gone > 0
    assert sorted(of) == sorted([r for r in left for _ in range(2 if "retired" in r else 3)])
    assert sum(n for _, n in counted) == gone


def test_request_states_go_with_the_last_stored_rows_of_their_version(database: Database) -> None:
    rows_at(database, (1,))
    with database.begin() as conn:
        for version in ("v0", "v1"):
            conn.execute(
                sa.insert(label_request_states).values(
                    model="credit", version=version, state="{}", block_id=0
                )
            )
    run(database)
    with database.read() as conn:
        assert conn.execute(sa.select(label_request_states.c.version)).scalars().all() == ["v1"]
