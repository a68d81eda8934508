"""RAPL counters: read from a folder like the kernel's, with every way in which they may be missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from redistill.compress import energy
from redistill.compress.energy import Reading


def zone(root: Path, name: str, label: str, microjoules: int, full: int = 262_143_328_850) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{label}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{full}\n")
    return folder


def test_packages_are_counted_and_nothing_below_or_around_them(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    zone(tmp_path, "intel-rapl:1", "package-1", 7_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 900)
    zone(tmp_path, "intel-rapl:2", "psys", 900)
    found = energy.read(tmp_path)
    assert isinstance(found, Reading)
    assert found.joules == {"intel-rapl:0": 5.0, "intel-rapl:1": 7.0}


@pytest.mark.parametrize(
    ("label", "content", "why"),
    [
        (None, "", "is missing"),
        ("psys", "5", "no energy counter of a CPU package"),
        ("package-0", "soon", "cannot be read"),
    ],
)
def test_why_there_is_no_counter_is_told(
    tmp_path: Path, label: str | None, content: str, why: str
) -> None:
    root = tmp_path / "powercap"
    if label is not None:
        (zone(root, "intel-rapl:0", label, 1) / "energy_uj").write_text(content)
    found = energy.read(root)
    assert isinstance(found, str)
    assert why in found


def test_a_counter_that_only_root_may_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    usual = Path.read_text

    def refuse(path: Path, *given: object) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return usual(path)

    monkeypatch.setattr(Path, "read_text", refuse)
    assert "Permission denied" in str(energy.read(tmp_path))


def reading(*joules: float, full: float = 100_000.0) -> Reading:
    zones = [f"intel-rapl:{k}" for k in range(len(joules))]
    return Reading(dict(zip(zones, joules, strict=True)), dict.fromkeys(zones, full))


def test_joules_of_all_packages_add_up_also_where_a_counter_began_again() -> None:
    drawn = energy.joules_between(reading(10.0, 99_999.0), reading(12.5, 3.0), seconds=2.0)
    assert drawn == pytest.approx(2.5 + 4.0)


@pytest.mark.parametrize(
    ("before", "after", "seconds", "why"),
    [
        ("none here", reading(1.0), 1.0, "none here"),
        (reading(1.0), "gone now", 1.0, "gone now"),
        (reading(1.0), reading(1.0, 2.0), 1.0, "changed while it ran"),
        (reading(1.0), reading(2.0), 101.0, "more than once"),
    ],
)
def test_joules_are_not_guessed(
    before: Reading | str, after: Reading | str, seconds: float, why: str
) -> None:
    found = energy.joules_between(before, after, seconds=seconds)
    assert isinstance(found, str)
    assert why in found


def test_busy_seconds_leave_out_idle_time_and_guests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy.os, "sysconf", lambda name: 100)
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 20 30 5000 600 7 8 9 100 20\ncpu0 1 2 3\n")
    assert energy.busy_seconds(stat) == pytest.approx(1.74)


@pytest.mark.parametrize("content", ["", "cpu  words\n"])
def test_busy_seconds_are_none_where_the_system_does_not_tell(tmp_path: Path, content: str) -> None:
    stat = tmp_path / "stat"
    assert energy.busy_seconds(stat) is None
    stat.write_text(content)
    assert energy.busy_seconds(stat) is None
