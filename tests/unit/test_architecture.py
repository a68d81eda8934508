"""The architecture is a test: lean imports, explicit packages, words that may not be written."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("streams", "compress", "workers")


def imported_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after a statement."""
    code = f"import sys; {statement}; print(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=120,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("from redistill import PredictionLogger", {"faust", "river", "sqlalchemy", "torch", "scipy", "onnxruntime"}),
        ("from redistill import ModelClient", {"faust", "river", "sqlalchemy", "torch", "scipy"}),
        ("import streams.wire.codec", {"kafka", "faust", "sqlalchemy", "river"}),
        ("import streams.engine.app", {"torch", "compress", "workers"}),
        ("import streams.replay", {"torch", "faust", "sqlalchemy", "workers", "kafka"}),
        ("import compress.plan", {"torch", "streams", "workers", "sqlalchemy"}),
        ("import compress.pipeline", {"streams", "workers", "sqlalchemy", "kafka", "torch"}),
        ("import compress.once", {"torch"}),
        ("from compress.shrink import export, quantize", {"torch", "onnxscript"}),
        ("import workers.cli.main", {"torch", "faust", "sqlalchemy", "river", "onnxruntime", "fastapi"}),
        ("from workers import baseline, explain, registration", {"torch", "faust", "river"}),
        ("from workers.releases import added, keeper", {"torch", "faust", "river"}),
        ("import workers.web.app", {"torch", "faust"}),
        ("import workers.repair", {"faust"}),
    ],
)  # fmt: skip
def test_import_stays_lean(statement: str, forbidden: set[str]) -> None:
    assert not imported_by(statement) & forbidden


def test_packages_in_pyproject_match_the_folders() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(p.parent.relative_to(ROOT).parts)
        for room in ROOMS
        for p in (ROOT / room).rglob("__init__.py")
    }
    assert sorted(listed) == sorted(found)


def test_only_one_home_for_each_framework() -> None:
    homes = {
        "faust": "streams/engine/",
        "river": "streams/monitor/detectors.py",
        "apscheduler": "workers/jobs/scheduler.py",
    }
    for framework, home in homes.items():
        pattern = re.compile(rf"^\s*(import|from) {framework}\b", re.M)
        strangers = [
            str(p.relative_to(ROOT))
            for room in ROOMS
            for p in (ROOT / room).rglob("*.py")
            if pattern.search(p.read_text()) and not str(p.relative_to(ROOT)).startswith(home)
        ]
        assert strangers == [], f"{framework} belongs in {home}"


def test_only_settings_read_the_environment() -> None:
    readers = [
        str(p.relative_to(ROOT))
        for room in ROOMS
        for p in (ROOT / room).rglob("*.py")
        if re.search(r"os\.(environ|getenv)\b", p.read_text())
        and p.name not in {"settings.py", "child.py"}
    ]
    assert readers == []


def test_no_promise_that_cannot_be_kept() -> None:
    spoken = re.compile(r"exactly[- ]once", re.I)
    allowed = {"docs/decisions.md", "tests/unit/test_architecture.py"}
    tracked = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    guilty = [
        f
        for f in tracked
        if f not in allowed
        and f.endswith((".py", ".md", ".toml"))
        and spoken.search((ROOT / f).read_text())
    ]
    assert guilty == []


def test_no_init_below_tests() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_no_module_is_named_like_the_standard_library() -> None:
    names = {p.stem for room in ROOMS for p in (ROOT / room).rglob("*.py")} - {
        "__init__",
        "__main__",
    }
    assert names & set(sys.stdlib_module_names) == set()
