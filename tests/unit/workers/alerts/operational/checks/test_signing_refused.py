"""Signing that is refused: told until all agrees, or for a day where it was one request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from operational import NOW, Watched, watched

from redistill.times import DAY, MINUTE
from redistill.workers.alerts.operational.checks import signing_refused
from redistill.workers.store import signing_refusal
from redistill.workers.store.signing_refusal import SigningRefusal


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[Watched]:
    with watched(database_url, tmp_path / "home") as made:
        yield made


def put(world: Watched, until: int | None) -> None:
    with world.database.begin() as conn:
        signing_refusal.put(
            conn,
            SigningRefusal(
                why="the row of credit in pointers: it is at epoch 3", remedy="put it back",
                since=NOW, until=until, holder="h-1",
            ),
        )  # fmt: skip


def test_it_opens_at_once_and_ends_when_all_agrees(world: Watched) -> None:
    assert world.firing(signing_refused.refused) == []
    put(world, None)
    assert world.firing(signing_refused.refused, later=MINUTE) == ["repository"]
    found = world.look(signing_refused.refused)
    assert found is not None
    assert found["repository"].said == (
        "nothing has been signed for 1 min: the row of credit in pointers: it is at epoch 3"
    )
    assert found["repository"].remedy == "put it back"
    with world.database.begin() as conn:
        signing_refusal.clear(conn)
    assert world.firing(signing_refused.refused) == []


def test_one_request_is_told_for_its_time(world: Watched) -> None:
    put(world, NOW + DAY)
    assert world.firing(signing_refused.refused, later=DAY - 1) == ["repository"]
    found = world.look(signing_refused.refused)
    assert found is not None
    assert found["repository"].said.startswith("something was refused 23 h ago: ")
    assert world.firing(signing_refused.refused, later=1) == []
