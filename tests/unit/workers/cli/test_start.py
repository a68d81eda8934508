"""A command that lists is there at once: it loads what it needs, and nothing beside it.

Modules are counted, not seconds: ``tests/benchmarks/bench_start.py`` measures those.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from redistill import child_path

HEAVY = {
    *("alembic", "apscheduler", "attr", "fastapi", "faust", "kafka", "msgspec", "numpy", "onnx"),
    *("onnxruntime", "psycopg", "pyarrow", "pygments", "rich", "river", "scipy", "structlog"),
    *("torch", "tuf", "uvicorn"),
}
"""Libraries that a listing without rows has no use for; most take a tenth of a second."""
MOST = 550
"""Modules in all; 470 at the time of writing, of which SQLAlchemy, pydantic and typer are 190."""
MOST_OF_OURS = 60

CALL = """
import sys
from redistill.workers.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(*sys.modules, file=sys.stderr)
"""


def loaded_by(*args: str, home: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", CALL, *args],
        env={**child_path.variables(), "REDISTILL_HOME": str(home)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr.split()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("home")
    loaded_by("models", home=made)  # makes the database, by Alembic
    return made


@pytest.mark.parametrize(
    "words",
    ["models", "models --json", "incidents", "incidents --json", "jobs list", "jobs --json", "db show --json"],
)  # fmt: skip
def test_listing_loads_little(words: str, home: Path) -> None:
    modules = loaded_by(*words.split(), home=home)
    rooms = Counter(name.partition(".")[0] for name in modules)
    assert HEAVY & rooms.keys() == set()
    assert rooms["redistill"] <= MOST_OF_OURS
    assert len(modules) <= MOST
