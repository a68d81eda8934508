"""With which probability a row was labelled, whichever draw took it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from stream_rows import new_database

from redistill.streams.store.request_draws import Draw, Draws, in_slice, of_model
from redistill.streams.store.tables import label_requests


def draw(p: float, first: int = 0, last: int = 99, **more: str) -> Draw:
    return Draw(
        **{"request_id": f"{p}", "version": "7", "slice": None} | more,
        first_served_at=first, last_served_at=last, p_include=p,
    )  # fmt: skip


DRAWS = Draws.of([draw(0.5), draw(0.2, 50, 60), draw(0.9, slice="region=EU"), draw(1, version="8")])
EU = '{"region": "EU"}'


@pytest.mark.parametrize(
    ("ordinary", "at", "slices", "asked", "union"),
    [
        (0.1, 10, None, False, 1 - 0.9 * 0.5),
        (0.1, 55, None, False, 1 - 0.9 * 0.5 * 0.8),
        (0.1, 55, EU, False, 1 - 0.9 * 0.5 * 0.8 * 0.1),
        (0.1, 100, EU, False, 0.1),
        (None, 10, None, False, None),  # the service chose: nobody knows how
        (None, 10, None, True, 0.5),
        (None, 100, None, True, None),
    ],
)
def test_probability_is_the_union_over_all_draws(
    ordinary: float | None, at: int, slices: str | None, asked: bool, union: float | None
) -> None:
    found = DRAWS.union(ordinary, "7", at, slices, asked)
    assert found == (None if union is None else pytest.approx(union))


def test_weights_by_the_union_are_right_on_average() -> None:
    """Horvitz-Thompson: the weighted number of labelled rows is that of all rows."""
    rng = np.random.default_rng(0)
    p = DRAWS.union(0.1, "7", 55, EU, False)
    assert p is not None
    estimates = []
    for _ in range(400):
        taken = rng.random((200, 4)) < np.array([0.1, 0.5, 0.2, 0.9])
        estimates.append(taken.any(1).sum() / p)
    assert np.mean(estimates) == pytest.approx(200, abs=1.0)


@pytest.mark.parametrize(
    ("name", "slices", "inside"),
    [
        ("region=EU", EU, True),
        ("region=US", EU, False),
        ("other=EU", EU, False),
        ("a=b=c", '{"a": "b=c"}', True),
        ("region=EU", None, False),
    ],
)
def test_slice_of_a_row(name: str, slices: str | None, inside: bool) -> None:
    assert in_slice(name, slices) is inside


def test_only_draws_that_could_have_taken_a_row_are_read(tmp_path: Path) -> None:
    db = new_database(f"sqlite:///{tmp_path / 'r.db'}")
    with db.begin() as conn:
        for first, last in ((0, 9), (10, 19), (20, 29)):
            conn.execute(
                sa.insert(label_requests).values(
                    request_id=f"{first}", model="credit", version="7", why="harm", asked_at=0,
                    first_served_at=first, last_served_at=last, p_include=0.5, rows=1, cost=0.0,
                    budget=1, budget_left=0,
                )
            )  # fmt: skip

        def read(served: tuple[int, int] | None) -> list[str]:
            draws = of_model(conn, "credit", served=served).by_version["7"]
            return sorted(d.request_id for d in draws)

        assert read(None) == ["0", "10", "20"]
        assert read((9, 10)) == ["0", "10"]
        assert read((19, 19)) == ["10"]
        assert read((30, 40)) == []
    db.dispose()
