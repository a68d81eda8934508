"""Dead letters that go on coming, and offsets that were lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operational import Watched, watched

from redistill.streams.store.tables import gaps, offsets
from redistill.times import HOUR, MINUTE
from redistill.workers.alerts.operational.checks import lost_records
from redistill.workers.alerts.operational.checks.lost_records import grown


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[Watched]:
    with watched(database_url, tmp_path / "home") as made:
        yield made


def partition(n: int, dead: int) -> dict[str, object]:
    return {
        "topic_id": "t", "partition": n, "topic": "labels", "first_offset": 0, "next_offset": 9,
        "counted": 9, "dead": dead, "skipped": 0, "rows": 9, "updated_at": 0,
    }  # fmt: skip


def test_dead_letters_open_at_five_an_hour_and_end_after_an_hour_without(world: Watched) -> None:
    world.insert(offsets, partition(0, 100), partition(1, 0))
    assert world.firing(lost_records.dead_letters) == [], "they are old, for all that is known"
    with world.database.begin() as conn:
        conn.execute(offsets.update().where(offsets.c.partition == 1).values(dead=4))
    assert world.firing(lost_records.dead_letters, later=MINUTE) == []
    with world.database.begin() as conn:
        conn.execute(offsets.update().where(offsets.c.partition == 1).values(dead=5))
    assert world.firing(lost_records.dead_letters, later=MINUTE) == ["labels"]
    found = world.look(lost_records.dead_letters)
    assert found is not None
    assert found["labels"].said.startswith("labels: 5 records within 3 min could not be read")
    for _ in range(58):
        assert world.firing(lost_records.dead_letters, later=MINUTE) == ["labels"]
    assert world.firing(lost_records.dead_letters, later=MINUTE) == []


@given(st.lists(st.integers(0, 100), min_size=1, max_size=60))
def test_a_counter_never_grows_by_less_than_nothing(totals: list[int]) -> None:
    lows = list(enumerate(totals))
    assert 0 <= grown(totals[-1], lows) <= max(totals)


def test_lost_offsets_are_told_for_an_hour(world: Watched) -> None:
    assert world.firing(lost_records.lost) == []
    gap = {"topic_id": "t", "partition": 3, "topic": "labels", "found_at": world.now}
    world.insert(gaps, gap | {"first": 4, "last": 15}, gap | {"first": 20, "last": 20})
    assert world.firing(lost_records.lost) == ["labels"]
    found = world.look(lost_records.lost)
    assert found is not None
    assert found["labels"].said.startswith("labels: 13 records in 2 places are lost")
    assert world.firing(lost_records.lost, later=HOUR - 1) == ["labels"]
    assert world.firing(lost_records.lost, later=1) == []
