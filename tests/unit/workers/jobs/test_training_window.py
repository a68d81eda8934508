"""Which rows a job gets: sides that never change, labels by whom they come from, bounded amounts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import loop
import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from loop import NOW
from served_rows import joinable, labelled, said, served

from redistill.compress.plan import GraphSpec
from redistill.compress.rows import read_rows
from redistill.streams.store.database import Database
from redistill.streams.store.tables import outcomes
from redistill.times import DAY, SECOND
from redistill.workers.jobs import training_window

WANTED = training_window.WindowQuery(
    model="credit",
    version="v1",
    features=("x", "y"),
    salt="s",
    train_rows=1_000,
    since=NOW,
)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = loop.opened(database_url)
    yield opened
    opened.dispose()


def read(
    database: Database, wanted: training_window.WindowQuery = WANTED
) -> training_window.TrainingWindow:
    with database.read() as conn:
        return training_window.read(conn, wanted)


def column(
    found: training_window.TrainingWindow, name: str, side: str | None = None
) -> list[object]:
    rows = found.table.to_pylist()
    return [r[name] for r in rows if side in (None, r["split"])]


def test_rows_keep_their_side_and_gate_rows_are_labelled(database: Database) -> None:
    served(database, range(1, 201))
    labelled(database, range(1, 101))
    found = read(database)
    gate = set(column(found, "id_hash", "gate"))
    train = set(column(found, "id_hash", "train"))
    assert gate
    assert not gate & train
    assert all(v is not None for v in column(found, "label", "gate"))
    assert gate | train >= set(range(1, 101))
    assert found.counts["gate_labelled"] == len(gate)
    assert found.counts["labelled"] == 100
    labelled(database, range(101, 201))
    later = read(database)
    assert gate < set(column(later, "id_hash", "gate"))
    assert train >= set(column(later, "id_hash", "train")) - set(range(101, 201))


def test_values_labels_and_sources_arrive_as_stored(database: Database) -> None:
    served(database, range(1, 11))
    labelled(database, range(1, 11), label="default")
    found = read(database)
    rows = found.table.to_pylist()
    assert [r["x"] for r in rows] == [float(r["id_hash"]) for r in rows]
    assert {(r["label"], r["source"], r["p_include"]) for r in rows} == {
        ("default", "ledger", 0.25)
    }
    assert found.table.schema.field("x").type == pa.float32()


def test_retracted_label_is_no_label(database: Database) -> None:
    served(database, range(1, 41))
    labelled(database, range(1, 41), label=None)
    found = read(database)
    assert found.counts["labelled"] == 0
    assert column(found, "id_hash", "gate") == []


def test_rows_before_the_change_and_of_other_versions_are_left_out(database: Database) -> None:
    served(database, range(1, 11), at=NOW - 5 * SECOND)
    served(database, range(101, 111), version="v0")
    found = read(database)
    assert set(column(found, "id_hash")) <= set(range(6, 11))
    assert found.counts["scanned"] == 10


def test_training_rows_end_where_the_window_was_frozen_gate_rows_do_not(
    database: Database,
) -> None:
    served(database, range(1, 101))
    labelled(database, range(1, 101))
    frozen = NOW + 30 * SECOND
    found = read(database, replace(WANTED, frozen_at=frozen))
    train = [r for r in found.table.to_pylist() if r["split"] == "train"]
    gate = [r for r in found.table.to_pylist() if r["split"] == "gate"]
    assert max(r["served_at"].timestamp() * 1e6 for r in train) <= frozen
    assert max(r["served_at"].timestamp() * 1e6 for r in gate) > frozen


def test_labels_that_raised_the_alarm_do_not_judge(database: Database) -> None:
    served(database, range(1, 41))
    labelled(database, range(1, 41))
    judged = read(database)
    raised = read(database, replace(WANTED, raised_seq=40))
    assert judged.counts["gate_labelled"] > 0
    assert raised.counts["gate_labelled"] == 0
    assert raised.counts["labelled"] == judged.counts["labelled"]
    assert set(raised.table.column("split").to_pylist()) == {"train"}
    before = replace(WANTED, raised_seq=0)
    assert read(database, before).counts == judged.counts


def test_labels_that_came_after_the_alarm_judge_whatever_time_they_claim(
    database: Database,
) -> None:
    """Labels dated a day ahead raised alarms, after which no label was fresh, and no repair could
    be judged."""
    served(database, range(1, 41))
    labelled(database, range(1, 41))
    tomorrow = sa.update(outcomes).where(outcomes.c.seq <= 20).values(observed_at=NOW + DAY)
    with database.begin() as conn:
        conn.execute(tomorrow)
    found = read(database, replace(WANTED, raised_seq=20))
    judging = column(found, "id_hash", "gate")
    assert judging
    assert all(h > 20 for h in judging if isinstance(h, int))


def test_unlabelled_training_rows_are_the_newest_and_bounded(database: Database) -> None:
    for start in (1, 101, 201):
        served(database, range(start, start + 100), at=NOW + start * SECOND)
    found = read(database, replace(WANTED, train_rows=20))
    assert found.counts["train"] == 20
    assert min(h for h in column(found, "id_hash") if isinstance(h, int)) > 200


def test_same_id_served_twice_is_one_row(database: Database) -> None:
    served(database, range(1, 51))
    served(database, range(1, 51), at=NOW + 100 * SECOND)
    hashes = column(read(database), "id_hash")
    assert len(hashes) == len(set(hashes))


def test_window_without_a_change_is_the_last_rows(database: Database) -> None:
    served(database, range(1, 101))
    served(database, range(101, 201), at=NOW + 100 * SECOND)
    found = read(database, replace(WANTED, since=None, last_rows=50))
    assert min(h for h in column(found, "id_hash") if isinstance(h, int)) > 150
    assert found.since == NOW + 150 * SECOND
    again = read(database, replace(WANTED, since=found.since))
    assert again.table.equals(found.table)


def test_source_that_was_asked_for_trains_and_the_believed_one_judges(database: Database) -> None:
    served(database, range(1, 101))
    labelled(database, range(1, 51), label="repay")
    said(database, range(1, 101), "contractor", "default")
    plain = read(database)
    assert set(column(plain, "source")) <= {"ledger", None}
    found = read(database, replace(WANTED, source="contractor"))
    for row in found.table.to_pylist():
        believed = row["split"] == "gate" and row["id_hash"] <= 50
        assert row["source"] == ("ledger" if believed else "contractor")
        assert row["label"] == ("repay" if believed else "default")
    trained = sum(r["split"] == "train" for r in found.table.to_pylist())
    assert (found.counts["asked"], "asked" in plain.counts) == (trained, False)


def test_rows_that_an_asked_source_labelled_train_from_before_the_window(
    database: Database,
) -> None:
    """On a busy service a person labels what was served long before the last rows."""
    served(database, range(1, 101))
    served(database, range(101, 201), at=NOW + 100 * SECOND)
    labelled(database, range(1, 201), label="repay")
    said(database, range(1, 81), "contractor", "default")
    said(database, range(301, 401), "contractor", "default")  # rows that nobody has stored
    last = replace(WANTED, since=None, last_rows=100)
    plain = read(database, last)
    found = read(database, replace(last, source="contractor"))
    old = [r for r in found.table.to_pylist() if r["id_hash"] <= 100]
    assert {r["id_hash"] for r in old} == to_train_on(range(1, 81))
    assert {(r["split"], r["source"], r["label"]) for r in old} == {
        ("train", "contractor", "default")
    }
    assert found.counts["asked"] == len(old)
    assert found.counts["train"] == plain.counts["train"] + len(old)
    # what judges, and where the window begins and ends, is as without them
    assert column(found, "id_hash", "gate") == column(plain, "id_hash", "gate")
    assert (found.since, found.newest) == (plain.since, plain.newest)
    again = read(database, replace(last, source="contractor", since=found.since))
    assert again.table.equals(found.table)
    frozen = read(database, replace(last, source="contractor", frozen_at=NOW + 40 * SECOND))
    assert set(column(frozen, "id_hash", "train")) == to_train_on(range(1, 42))


def test_of_older_rows_that_an_asked_source_labelled_the_newest_train(database: Database) -> None:
    for first in (1, 101, 201):
        served(database, range(first, first + 100), at=NOW + first * SECOND)
    said(database, range(1, 221), "contractor", "default")
    wanted = replace(WANTED, since=None, last_rows=100, train_rows=20, source="contractor")
    own = sorted(to_train_on(range(1, 221)))[-20:]
    found = read(database, wanted)
    assert [h for h in column(found, "id_hash", "train") if h in to_train_on(range(1, 221))] == own
    assert found.counts["asked"] == 20


def test_labels_of_an_asked_source_that_name_no_class_do_not_count(database: Database) -> None:
    served(database, range(1, 101))
    served(database, range(101, 201), at=NOW + 100 * SECOND)
    said(database, range(1, 41), "contractor", "default")
    said(database, range(41, 81), "contractor", "defualt")
    said(database, range(101, 141), "contractor", "defualt")
    wanted = replace(WANTED, since=None, last_rows=100, source="contractor")
    found = read(database, replace(wanted, classes=("repay", "default")))
    assert found.counts["asked"] == len(to_train_on(range(1, 41)))
    assert set(column(found, "id_hash")) & set(range(1, 101)) == to_train_on(range(1, 41))


def to_train_on(hashes: range) -> set[int]:
    """Those of the ids that do not only judge."""
    gate = training_window.split_is_gate(np.array(hashes), WANTED.salt)
    return {h for h, judges in zip(hashes, gate.tolist(), strict=True) if not judges}


def test_where_a_source_is_bound_no_other_judges_and_nobody_speaks_in_its_name(
    database: Database,
) -> None:
    served(database, range(1, 101))
    labelled(database, range(1, 51), label="repay")
    said(database, range(1, 101), "contractor", "default")
    bound = replace(WANTED, bound_sources=("ledger",))
    rows = read(database, replace(bound, source="contractor")).table.to_pylist()
    assert {(r["split"], r["source"]) for r in rows} == {
        ("gate", "ledger"),
        ("train", "contractor"),
    }
    said(database, range(51, 101), "ledger", "default")  # on the common topic
    said(database, range(51, 61), "ledger", "repay", bound=True)
    rows = read(database, replace(bound, source="ledger")).table.to_pylist()
    asked = [r for r in rows if r["id_hash"] > 50 and r["label"] is not None]
    assert {r["id_hash"] for r in asked} == set(range(51, 61))
    assert {r["label"] for r in asked} == {"repay"}


def test_source_may_take_a_label_back(database: Database) -> None:
    served(database, range(1, 21))
    said(database, range(1, 21), "contractor", "default")
    said(database, range(1, 11), "contractor", "", op="retract")
    found = read(database, replace(WANTED, source="contractor"))
    with_label = {r["id_hash"] for r in found.table.to_pylist() if r["label"] is not None}
    assert with_label == set(range(11, 21))


def test_missing_features_are_said_with_the_setting_that_left_them_out(
    database: Database,
) -> None:
    served(database, range(1, 11), names=("x",))
    with pytest.raises(training_window.WindowError, match=r"'y'.*store_features"):
        read(database)


def test_features_called_as_the_windows_own_columns_keep_their_values(
    database: Database, tmp_path: Path
) -> None:
    names = ("source", "label")
    served(database, range(1, 11), names=names)
    labelled(database, range(1, 11), label="default")
    found = read(database, replace(WANTED, features=names))
    training_window.write(found, tmp_path / "fresh.parquet")
    rows, _ = read_rows(
        tmp_path / "fresh.parquet", GraphSpec(features=names, classes=("repay", "default"))
    )
    assert rows.x[:, 0].tolist() == [float(h) for h in rows.id_hash.tolist()]
    assert set(rows.source) == {"ledger"}
    assert (rows.y == 1).all()
    empty = read(database, replace(WANTED, features=names, version="other"))
    assert len(empty.table.column_names) == len(found.table.column_names)


def test_segments_of_labelled_rows_arrive_as_columns(database: Database, tmp_path: Path) -> None:
    served(database, range(1, 101))
    labelled(database, range(1, 31), slices='{"channel": "web", "sex": "f"}')
    labelled(database, range(31, 61), slices='{"channel": "app", "hue": "red"}')
    labelled(database, range(61, 81))
    wanted = replace(WANTED, segments=("channel", "sex"))
    found = read(database, wanted)
    for row in found.table.to_pylist():
        h = row["id_hash"]
        assert row["channel"] == ("web" if h <= 30 else "app" if h <= 60 else None)
        assert row["sex"] == ("f" if h <= 30 else None)
    assert "hue" not in found.table.column_names
    path = tmp_path / "fresh.parquet"
    training_window.write(found, path)
    graph = GraphSpec(features=("x", "y"), classes=("repay", "default"), slices={"channel": ()})
    rows, _ = read_rows(path, graph)
    assert set(rows.segments["channel"]) == {"web", "app", None}
    empty = read(database, replace(wanted, since=NOW + 10**9))
    assert empty.table.schema.equals(found.table.schema)


def test_segments_of_a_source_that_was_asked_for_come_from_the_prediction(
    database: Database,
) -> None:
    served(database, range(1, 41))
    joinable(database, range(1, 11), slices='{"channel": "web"}')
    said(database, range(1, 21), "contractor", "default", slices='{"channel": "app"}')
    said(database, range(21, 41), "contractor", "default")
    found = read(database, replace(WANTED, source="contractor", segments=("channel",)))
    assert len(found.table) == 40
    for row in found.table.to_pylist():
        h = row["id_hash"]
        assert row["channel"] == ("web" if h <= 10 else "app" if h <= 20 else None)


def test_no_rows_are_an_empty_table_with_every_column(database: Database) -> None:
    found = read(database)
    assert len(found.table) == 0
    assert found.newest is None
    assert found.table.column_names == [
        "id_hash", "served_at", "x", "y", "label", "source", "p_include", "split", "prediction",
    ]  # fmt: skip


def test_split_is_even_and_another_for_each_salt() -> None:
    hashes = np.random.default_rng(0).integers(0, 2**50, 20_000)
    one, two = (
        training_window.split_is_gate(hashes, "a"),
        training_window.split_is_gate(hashes, "b"),
    )
    assert abs(one.mean() - 0.5) < 0.02
    assert abs((one == two).mean() - 0.5) < 0.02
