"""Disks that run full."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operational import watched

from redistill.workers.alerts.operational.checks import disk
from redistill.workers.alerts.operational.checks.disk import Room, readings, rooms
from redistill.workers.alerts.operational.reading import settle

GB = 10**9


def test_it_opens_below_a_tenth_and_ends_with_half_as_much_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 0
    monkeypatch.setattr(
        disk.shutil, "disk_usage", lambda _: SimpleNamespace(total=20 * GB, used=0, free=free)
    )
    with watched(f"sqlite:///{tmp_path / 'home' / 'r.db'}", tmp_path / "home") as world:
        world.opened.clear()
        for gb, full in ((2.1, False), (2.0, True), (2.9, True), (3.0, False), (2.1, False)):
            free = int(gb * GB)
            assert world.firing(disk.nearly_full) == (["home"] if full else [])
        free = 2 * GB
        found = world.look(disk.nearly_full)
    assert found is not None
    assert "has 2.0 GB of 20.0 GB left (90% used)" in found["home"].said


@given(st.integers(1, 10**15), st.floats(0, 1))
def test_a_large_disk_with_much_room_is_not_full(total: int, share: float) -> None:
    free = int(total * share)
    found = readings([Room(name="home", path="/h", total=total, free=free)])
    firing = bool(settle(found, ()).firing)
    assert firing == (free <= min(0.1 * total, 5 * GB) or free <= 1)


def test_a_file_on_the_disk_of_the_home_is_looked_at_once(tmp_path: Path) -> None:
    assert [r.name for r in rooms(tmp_path, tmp_path / "r.db") if isinstance(r, Room)] == ["home"]
    if Path("/dev/shm").stat().st_dev != tmp_path.stat().st_dev:
        both = rooms(tmp_path, Path("/dev/shm/r.db"))
        assert [r.name for r in both if isinstance(r, Room)] == ["home", "database"]
        assert [r.total for r in both if isinstance(r, Room)][1] == shutil.disk_usage(
            "/dev/shm"
        ).total


def test_of_a_disk_that_does_not_answer_nothing_is_known(tmp_path: Path) -> None:
    found = readings(rooms(tmp_path / "gone", None))
    assert [(r.subject, r.value) for r in found] == [("home", None)]
