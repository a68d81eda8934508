"""Makefile, pins and metadata agree on the interpreters: asked for, found, and made anew where they
differ."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SERIES = ("3.11", "3.12", "3.13")

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def interpreter(path: Path, series: str) -> Path:
    """What answers to the Makefile's question like a Python of this series."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {series} {path.parents[0]}/base{series}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile in a folder of its own, with an environment made by Python 3.12."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "streams").mkdir()
    (tmp_path / "streams" / "__init__.py").touch()
    (tmp_path / "redistill").mkdir()
    (tmp_path / "redistill" / "streams").symlink_to("../streams")
    interpreter(tmp_path / ".venv" / "bin" / "python", "3.12")
    (tmp_path / ".venv" / "lib" / "python3.12" / "site-packages" / "uv").mkdir(parents=True)
    return tmp_path


OF_MAKE = {
    "ARGS",
    "KILLS",
    "MAKEFLAGS",
    "MAKELEVEL",
    "MAKEOVERRIDES",
    "MFLAGS",
    "PYTHON",
    "SEED",
    "TESTS",
    "TORCH",
    "VENV",
}
"""What a make that runs the tests hands on: its flags, and each variable named on its command line."""


def make(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run make, without the settings of a make that runs these tests."""
    own = {k: v for k, v in os.environ.items() if k not in OF_MAKE}
    return subprocess.run(
        ["make", *words],
        cwd=checkout, env=own, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@needs_make
def test_environment_is_kept_when_no_interpreter_is_named(checkout: Path) -> None:
    done = make(checkout, "--dry-run", "test-fast")
    assert "rm -rf" not in done.stdout
    assert ".venv/.installed-3.12-dev" in done.stdout
    (checkout / ".venv" / ".installed-3.12-dev").touch()
    assert make(checkout, "--dry-run", "test-fast").stdout.split("\n")[0].endswith("redistill ")


@needs_make
@pytest.mark.parametrize("series", ["3.11", "3.13"])
def test_environment_is_made_anew_when_another_interpreter_is_named(
    checkout: Path, series: str
) -> None:
    (checkout / ".venv" / ".installed-3.12-dev").touch()
    python = interpreter(checkout / "elsewhere" / "python", series)
    done = make(checkout, "--dry-run", f"PYTHON={python}", "test-fast")
    assert "rm -rf .venv\n" in done.stdout
    assert f'"{checkout}/elsewhere/base{series}" -m venv .venv\n' in done.stdout


@needs_make
def test_environment_is_kept_when_its_own_series_is_named(checkout: Path) -> None:
    python = interpreter(checkout / "elsewhere" / "python", "3.12")
    assert "rm -rf" not in make(checkout, "--dry-run", f"PYTHON={python}", "test-fast").stdout


@needs_make
def test_interpreter_that_does_not_run_or_is_too_old_is_told(checkout: Path) -> None:
    done = make(checkout, "PYTHON=false", "test-fast")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("redistill needs Python 3.11, 3.12 or 3.13")
    assert (checkout / ".venv").exists()


@needs_make
@pytest.mark.parametrize("target", ["help", "test", "demo"])
def test_checkout_without_symbolic_links_is_told_in_a_sentence(checkout: Path, target: str) -> None:
    (checkout / "redistill" / "streams").unlink()
    (checkout / "redistill" / "streams").write_text("../streams")
    done = make(checkout, target)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "redistill/streams is no symbolic link" in line
    assert "core.symlinks" in line
    assert done.stdout == ""


@pytest.mark.parametrize("series", SERIES)
def test_each_direct_dependency_has_one_pin_that_is_allowed(series: str) -> None:
    here = {**default_environment(), "python_version": series, "python_full_version": series + ".0"}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    all_pins = [Requirement(line) for line in lines]
    pins = [pin for pin in all_pins if pin.marker is None or pin.marker.evaluate(here)]
    versions = {pin.name: str(pin.specifier).removeprefix("==") for pin in pins}
    assert len(versions) == len(pins)
    extras = PROJECT["optional-dependencies"].values()
    wanted = [Requirement(r) for group in (PROJECT["dependencies"], *extras) for r in group]
    for need in wanted:
        if need.name != "redistill":
            assert need.specifier.contains(versions[need.name]), need.name


def test_pins_name_no_address() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert not re.search(r"//|^\s*-|@|#", text, re.M)


def test_metadata_names_the_same_interpreters_as_the_tests() -> None:
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert [s for s in (f"3.{n}" for n in range(8, 20)) if allowed.contains(s)] == list(SERIES)
    prefix = "Programming Language :: Python :: "
    told = [c.removeprefix(prefix) for c in PROJECT["classifiers"] if c.startswith(prefix)]
    assert told == list(SERIES)
