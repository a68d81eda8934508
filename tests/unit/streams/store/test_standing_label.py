"""Which label counts: by age, and nothing is newer than its arrival."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_rows import CONFIG, new_database

from redistill.streams.store import tables as t
from redistill.streams.store.batch import FlushBatch
from redistill.streams.store.database import Database
from redistill.streams.store.flush import flush
from redistill.streams.store.join_step import join_labels
from redistill.streams.store.standing_label import age_key, last_words, standing_label


class Label(NamedTuple):
    source: str
    observed_at: int
    received_at: int
    op: str
    label: str | None


SOURCES = ("ledger", "analyst", "stranger")
PAST = 1_000
"""Labels observed before it are received later."""


def labels(*, ahead: bool) -> st.SearchStrategy[list[Label]]:
    """Labels of one prediction, as they are stored: of a source one at each time."""
    observed = st.integers(0, 3 * PAST if ahead else PAST)
    one = st.builds(
        lambda source, at, received, label: Label(
            source, at, received, "upsert" if label else "retract", label
        ),
        st.sampled_from(SOURCES),
        observed,
        st.integers(PAST, 2 * PAST),
        st.sampled_from(["repay", "default", None]),
    )
    return st.lists(one, max_size=8, unique_by=lambda r: (r.source, r.observed_at))


PRIORITIES = st.sampled_from([(), ("ledger",), ("analyst", "ledger")])


@given(labels(ahead=True), PRIORITIES, st.randoms())
def test_order_in_which_rows_are_read_does_not_matter(
    rows: list[Label], sources: tuple[str, ...], rng: random.Random
) -> None:
    shuffled = list(rows)
    rng.shuffle(shuffled)
    assert standing_label(shuffled, sources) == standing_label(rows, sources)


@given(labels(ahead=False), PRIORITIES, st.data())
def test_order_of_arrival_does_not_matter_for_labels_of_the_past(
    rows: list[Label], sources: tuple[str, ...], data: st.DataObject
) -> None:
    """A correction counts though what it corrects comes afterwards."""
    times = st.integers(PAST, 2 * PAST)
    later = [r._replace(received_at=data.draw(times)) for r in rows]

    def said(label: Label | None) -> tuple[str, int] | None:
        return None if label is None else (label.source, label.observed_at)

    assert said(standing_label(later, sources)) == said(standing_label(rows, sources))


@given(labels(ahead=True), st.integers(1, PAST))
def test_label_of_tomorrow_does_not_outlast_a_correction(rows: list[Label], wait: int) -> None:
    newest = max((r.received_at for r in rows), default=PAST)
    correction = Label("ledger", newest + wait, newest + wait, "upsert", "repay")
    assert standing_label([*rows, correction], ("ledger",)) == correction


@given(labels(ahead=True))
def test_label_of_the_past_changes_nothing_that_is_newer(rows: list[Label]) -> None:
    before = last_words(rows).get("ledger")
    old = Label("ledger", -1, 3 * PAST, "upsert", "default")
    assert last_words([*rows, old])["ledger"] == (before or old)


def test_two_labels_of_one_time_are_told_apart_by_their_arrival() -> None:
    """One claimed a time ahead and came then; the other was observed then, and came late."""
    ahead, late = Label("a", 99, 10, "upsert", "x"), Label("a", 10, 50, "upsert", "y")
    assert age_key(ahead)[0] == age_key(late)[0]
    assert standing_label([late, ahead], ()) == late


# --- the same, through SQL ---

THROUGH_SQL = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8, deadline=None
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = new_database(f"sqlite:///{tmp_path / 'standing.db'}")
    yield made
    made.dispose()


def stored(label: Label) -> dict[str, Any]:
    return {
        "model": CONFIG.model, "id": "row-1", "source": label.source,
        "observed_at": label.observed_at, "id_hash": 1, "label": label.label, "op": label.op,
        "confidence": None, "p_include": None, "uniform": True, "version": None,
        "prediction": None, "slices": None, "state": "waiting", "check_at": 0, "bound": False,
    }  # fmt: skip


def standing(database: Database, arrivals: list[list[Label]]) -> tuple[str, int, str | None] | None:
    """What an outcome says of a prediction after labels came in flushes, a second apart."""
    with database.begin() as conn:
        for table in (t.labels, t.outcomes, t.accuracy_states, t.join_rows, t.counters):
            conn.execute(sa.delete(table))
        conn.execute(
            sa.insert(t.join_rows).values(
                model=CONFIG.model, id_hash=1, version="7", prediction="repay", served_at=0,
                topic_id="t", partition=0, window=0, stored_at=0,
            )
        )  # fmt: skip
    now = 10 * PAST
    for rows in arrivals:
        now += PAST
        if rows:
            flush(database, FlushBatch(labels=[stored(r) for r in rows]), now=now)
        join_labels(database, CONFIG, now=now, state_key=b"k" * 32)
    with database.read() as conn:
        o = conn.execute(sa.select(t.outcomes)).one_or_none()
    return None if o is None or o.label is None else (o.source, o.observed_at, o.label)


@THROUGH_SQL
@given(rows=labels(ahead=False), rng=st.randoms())
def test_labels_may_come_in_any_order_and_flush(
    database: Database, rows: list[Label], rng: random.Random
) -> None:
    at_once = standing(database, [rows])
    shuffled = list(rows)
    rng.shuffle(shuffled)
    assert standing(database, [[r] for r in shuffled]) == at_once


@THROUGH_SQL
@given(rows=labels(ahead=True), again=st.data())
def test_import_of_an_old_file_undoes_nothing(
    database: Database, rows: list[Label], again: st.DataObject
) -> None:
    arrivals = [[r] for r in rows]
    before = standing(database, arrivals)
    old = again.draw(st.lists(st.sampled_from(rows), max_size=5)) if rows else []
    assert standing(database, [*arrivals, old]) == before
