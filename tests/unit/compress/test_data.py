"""Roles of a job's rows: who trains, who judges, and that nobody does both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from compress_rows import GRAPH, job_of, rows_of

from redistill.compress import data
from redistill.compress.errors import BadData, BadJob
from redistill.compress.plan import Training


def test_digests_tell_rows_apart_and_every_missing_value_is_one() -> None:
    odd = np.frombuffer(np.uint32(0x7FC00001).tobytes(), np.float32)[0]  # another NaN
    x = np.array([[1.0, np.nan], [1.0, odd], [1.0, 2.0]], np.float32)
    first, second, third = data.digests(x)
    assert first == second != third


def test_unique_rows_keep_the_labelled_one_of_two_equal_ids() -> None:
    rows = rows_of(6)
    ids = rows.id_hash.copy()
    ids[3] = ids[1]
    y = rows.y.copy()
    y[1] = -1  # the later of the two has the label
    kept, dropped, compared = data.unique_rows(replace(rows, id_hash=ids, y=y))
    assert (len(kept), dropped, compared) == (5, 1, True)
    assert rows.x[3].tolist() in kept.x.tolist()
    assert rows.x[1].tolist() not in kept.x.tolist()


def test_unique_rows_drop_a_retry_with_another_id() -> None:
    rows = rows_of(8)
    x = rows.x.copy()
    x[5] = x[2]
    kept, dropped, compared = data.unique_rows(replace(rows, x=x))
    assert (len(kept), dropped, compared) == (7, 1, True)


def test_unique_rows_leave_rows_alone_that_repeat_by_nature() -> None:
    rows = rows_of(20)
    x = np.tile(rows.x[:2], (10, 1))
    kept, dropped, compared = data.unique_rows(replace(rows, x=x))
    assert (len(kept), dropped, compared) == (20, 0, False)


def test_gate_rows_are_none_that_was_trained_on() -> None:
    rows = rows_of(40)
    trained = data.digests(rows.x[rows.gate][:3])
    judged, dropped = data.gate_rows(rows, trained)
    assert (len(judged), dropped) == (17, 3)
    assert not np.isin(data.digests(judged.x), trained).any()


def test_prepare_gives_every_row_one_role() -> None:
    fresh, reference, trusted = rows_of(200), rows_of(300, seed=1), rows_of(80, seed=2)
    roles = data.prepare(job_of(), fresh, reference, trusted)
    parts = [set(data.digests(r.x).tolist()) for r in (roles.train, roles.replay, roles.gate)]
    assert [len(p) for p in parts] == [100, 100, 100]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    assert roles.counts == {
        "fresh": 200, "dropped_duplicates": 0, "train": 100, "replay": 100, "gate": 100,
        "gate_labelled": 100, "dropped_gate": 0, "trusted": 80,
    }  # fmt: skip
    again = data.prepare(job_of(), fresh, reference, trusted)
    assert (again.replay.x == roles.replay.x).all()
    other = data.prepare(job_of(seed=1), fresh, reference, trusted)
    assert (other.replay.x != roles.replay.x).any()


def test_prepare_never_trains_on_trusted_rows() -> None:
    fresh, reference = rows_of(200), rows_of(300, seed=1)
    trusted = rows_of(80, seed=2)
    leaked = np.concatenate([fresh.x[:4:2], reference.x[:5], trusted.x[7:]])
    roles = data.prepare(job_of(), fresh, reference, replace(trusted, x=leaked))
    known = data.digests(leaked)
    assert not np.isin(data.digests(roles.train_x), known).any()
    assert roles.counts["dropped_trusted"] == 5
    assert any("5 reference rows equal trusted rows" in w for w in roles.warnings)


def test_prepare_takes_the_latest_of_too_many_fresh_rows() -> None:
    job = job_of(training=Training(max_fresh_rows=40, min_replay_rows=0))
    roles = data.prepare(job, rows_of(200), rows_of(300, seed=1), rows_of(80, seed=2))
    assert roles.train.served_at.tolist() == list(range(121, 200, 2))


def test_prepare_keeps_rows_of_the_source_that_was_asked_for_before_later_ones() -> None:
    job = job_of(
        train_on="labels", source="ann", training=Training(max_fresh_rows=40, min_replay_rows=0)
    )
    said_by = ["ann" if i < 60 else "clerks" for i in range(200)]
    roles = data.prepare(
        job, rows_of(200, source=said_by), rows_of(300, seed=1), rows_of(80, seed=2)
    )
    assert roles.train.source.count("ann") == 30  # the first 60 of 200, half of which only judge
    assert roles.train.served_at.tolist() == [*range(1, 60, 2), *range(181, 200, 2)]


def test_prepare_replays_at_least_so_many_and_at_most_what_there_is() -> None:
    job = job_of(training=Training(min_replay_rows=250))
    few = data.prepare(job, rows_of(80), rows_of(300, seed=1), rows_of(80, seed=2))
    assert len(few.replay) == 250
    small = data.prepare(job, rows_of(80), rows_of(90, seed=1), rows_of(80, seed=2))
    assert len(small.replay) == 90


@pytest.mark.parametrize(
    ("fresh", "reference", "fields", "said"),
    [
        (40, 300, {}, "20 fresh rows to train on, at least 32"),
        (200, 10, {}, "10 rows, at least 32 are needed for replay"),
    ],
)
def test_prepare_says_how_many_rows_are_missing(
    fresh: int, reference: int, fields: dict[str, object], said: str
) -> None:
    with pytest.raises(BadData, match=said):
        data.prepare(
            job_of(**fields), rows_of(fresh), rows_of(reference, seed=1), rows_of(80, seed=2)
        )


def test_prepare_on_labels_needs_two_classes() -> None:
    fresh = rows_of(200)
    one = replace(fresh, y=np.where(fresh.y == 1, -1, fresh.y))
    with pytest.raises(BadData, match="of 1 class"):
        data.prepare(job_of(train_on="labels"), one, rows_of(300, seed=1), rows_of(80, seed=2))


def test_schedule_repeats_few_fresh_rows_so_that_replay_does_not_drown_them() -> None:
    job = job_of(training=Training(min_replay_rows=240))
    roles = data.prepare(job, rows_of(80), rows_of(300, seed=1), rows_of(80, seed=2))
    epoch = roles.schedule(replay_ratio=1.0, max_repeats=4)
    counts = np.bincount(epoch)
    assert counts[:40].tolist() == [4] * 40
    assert counts[40:].tolist() == [1] * 240


def test_encode_fills_one_hot_and_flags() -> None:
    x = np.array([[1.0, np.nan, 1.0], [2.0, 3.0, np.nan]], np.float32)
    encoded = data.encode(x, GRAPH, np.array([9.0, 7.0, 0.0], np.float32))
    assert encoded.tolist() == [
        [1.0, 7.0, 0.0, 1.0, 0.0, 1.0, 0.0],
        [2.0, 3.0, 0.0, 0.0, 0.0, 0.0, 1.0],
    ]


def test_categories_are_columns_of_the_graph() -> None:
    assert data.categories(GRAPH) == ((2, 2),)
    with pytest.raises(BadJob, match="'other'"):
        data.categories(replace(GRAPH, categories={"other": ("x",)}))


def test_with_labels_fills_only_what_is_missing() -> None:
    rows = rows_of(4, y=np.array([1, -1, 0, -1]))
    assert data.with_labels(rows, np.array([0, 1, 1, 0])).y.tolist() == [1, 1, 0, 0]
