"""A module that ends when its parent is gone, also where the parent was gone before it began."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from redistill import child_path

WATCH = [sys.executable, "-m", "redistill.workers.processes.parent_watch"]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    paths = dict(child_path.variables())
    (tmp_path / "told.py").write_text(
        "import sys, pathlib\npathlib.Path(sys.argv[1]).write_text(__name__ + ' ' + sys.argv[2])\n"
    )
    paths["PYTHONPATH"] += f":{tmp_path}"
    return paths


def test_the_module_runs_as_main_with_its_own_arguments(
    tmp_path: Path, env: dict[str, str]
) -> None:
    out = tmp_path / "out"
    command = [*WATCH, str(os.getpid()), "told", str(out), "x"]
    subprocess.run(command, env=env, check=True, timeout=60)
    assert out.read_text() == "__main__ x"


@pytest.mark.skipif(sys.platform != "linux", reason="parent death signals are Linux's")
def test_a_parent_that_is_gone_already_ends_it_at_once(tmp_path: Path, env: dict[str, str]) -> None:
    out = tmp_path / "out"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    done = subprocess.run(
        [*WATCH, str(gone.pid), "told", str(out), "x"], env=env, check=False, timeout=60
    )
    assert done.returncode == 0
    assert not out.exists()  # the module never ran
