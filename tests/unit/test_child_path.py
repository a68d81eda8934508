"""Child processes of ours import from the parent's path, without the folder of its script and the
current one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from redistill import child_path, streams
from redistill.workers.jobs.child_process import scrubbed_environment
from redistill.workers.settings.environment import environment

SERVICE = """
import subprocess, sys
from redistill import child_path
child = "import kafka, redistill.streams as s; print(kafka.__file__, s.__file__)"
raise SystemExit(subprocess.call([sys.executable, "-c", child], env=child_path.variables()))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A service's folder: a module of its own that is named like a library."""
    (tmp_path / "kafka.py").write_text("raise SystemExit('somebody else')")
    (tmp_path / "service.py").write_text(SERVICE)
    return tmp_path


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A Python process, unsafe as a user's is."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd, env=kept, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("link", [False, True])
def test_children_do_not_find_what_lies_beside_the_service(folder: Path, link: bool) -> None:
    script = folder / "service.py"
    if link:
        (folder / "bin").mkdir()
        script = folder / "bin" / "service"
        script.symlink_to("../service.py")
    done = run(str(script), cwd=Path("/"))
    assert done.returncode == 0, done.stderr
    found = [Path(word) for word in done.stdout.split()]
    assert found[1].samefile(streams.__file__)
    assert not any(path.is_relative_to(folder) for path in found)


def test_module_form_does_not_look_into_the_current_folder(folder: Path) -> None:
    (folder / "typer.py").write_text("raise SystemExit('somebody else')")
    done = run("-m", "redistill", "--version", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")


def test_order_of_the_path_is_kept_and_redistill_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/srv/service.py"])
    parent = child_path.PACKAGE_PARENT
    for path, expected in (
        (["", str(tmp_path), "/srv", "/a", "/b"], ["/a", "/b", parent]),
        (["/a", parent, "/b"], ["/a", parent, "/b"]),
    ):
        monkeypatch.setattr(sys, "path", path)
        assert child_path.python_path().split(os.pathsep) == expected


def test_folder_that_is_gone_is_no_hindrance(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(os, "getcwd", gone)
    assert child_path.PACKAGE_PARENT in child_path.python_path()


def test_environments_of_workers_and_jobs_are_safe() -> None:
    for made in (
        environment({}, process="none"),
        scrubbed_environment({**os.environ, **child_path.variables()}),
    ):
        assert made["PYTHONSAFEPATH"] == "1"
        assert made["PYTHONPATH"] == child_path.python_path()
