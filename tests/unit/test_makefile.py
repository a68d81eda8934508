"""Makefile, pins and metadata agree on the interpreters: asked for, found, and made anew where they
differ."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, BUILD = PYPROJECT["project"], PYPROJECT["build-system"]
LOCKS = ROOT / "locks"
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
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(LOCKS, tmp_path / "locks")
    (tmp_path / "streams").mkdir()
    (tmp_path / "streams" / "__init__.py").touch()
    (tmp_path / "redistill").mkdir()
    (tmp_path / "redistill" / "streams").symlink_to("../streams")
    interpreter(tmp_path / ".venv" / "bin" / "python", "3.12")
    (tmp_path / ".venv" / "lib" / "python3.12" / "site-packages" / "uv").mkdir(parents=True)
    return tmp_path


OF_MAKE = {
    "ARGS",
    "JOBS",
    "KILLS",
    "MAKEFLAGS",
    "MAKELEVEL",
    "MAKEOVERRIDES",
    "MFLAGS",
    "MINUTES",
    "PYTHON",
    "SCENARIOS",
    "SEED",
    "TESTS",
    "TORCH",
    "VENV",
}
"""What a make that runs the tests hands on: its flags, and each variable named on its command line."""


def make(checkout: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run make, without the settings of a make that runs these tests."""
    own = {k: v for k, v in os.environ.items() if k not in OF_MAKE} | more
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


def pins(lock: str, series: str) -> dict[str, Requirement]:
    """What a lock pins for Linux on this Python, by name."""
    here = {**default_environment(), "python_version": series, "python_full_version": series + ".0"}
    lines = (LOCKS / lock).read_text().replace("\\\n", " ").splitlines()
    found = [Requirement(line.partition("--hash")[0]) for line in lines]
    here_ = [pin for pin in found if pin.marker is None or pin.marker.evaluate(here)]
    named = {pin.name: pin for pin in here_}
    assert len(named) == len(here_)
    return named


@pytest.mark.parametrize("series", SERIES)
def test_each_direct_dependency_has_one_pin_that_is_allowed(series: str) -> None:
    extras = PROJECT["optional-dependencies"]
    of_demo = [extras[name] for name in ("client", "stream", "compress", "worker", "demo")]
    for lock, groups in (("demo.txt", of_demo), ("dev.txt", list(extras.values()))):
        versions = {n: str(p.specifier).removeprefix("==") for n, p in pins(lock, series).items()}
        for need in (Requirement(r) for g in (PROJECT["dependencies"], *groups) for r in g):
            if need.name != "redistill":
                assert need.specifier.contains(versions[need.name]), (lock, need.name)


@pytest.mark.parametrize("series", SERIES)
def test_what_builds_and_installs_is_pinned_and_the_locks_agree(series: str) -> None:
    bootstrap, demo, dev = (pins(f"{name}.txt", series) for name in ("bootstrap", "demo", "dev"))
    for need in map(Requirement, BUILD["requires"]):
        version = str(bootstrap[need.name].specifier).removeprefix("==")
        assert need.specifier.contains(version)
    assert set(bootstrap) == {"setuptools", "uv"}
    assert demo.keys() < dev.keys()
    both = {**bootstrap, **demo}
    assert {n: both[n].specifier for n in both if n in dev} == {
        n: dev[n].specifier for n in both if n in dev
    }


@pytest.mark.parametrize("lock", ["bootstrap.txt", "demo.txt", "dev.txt"])
def test_every_pin_has_its_hashes_and_no_address(lock: str) -> None:
    pin = r"[a-z0-9-]+==[0-9][0-9a-z.+!]*(?: ; [^\\]+)? \\\n"
    hashes = r"(?:    --hash=sha256:[0-9a-f]{64} \\\n)*    --hash=sha256:[0-9a-f]{64}\n"
    assert re.fullmatch(f"(?:{pin}{hashes})+", (LOCKS / lock).read_text())


def installs(checkout: Path, *words: str) -> list[str]:
    """Commands with which make would install."""
    lines = make(checkout, "--dry-run", *words).stdout.splitlines()
    return [line for line in lines if " pip install " in line]


@needs_make
@pytest.mark.parametrize(("target", "lock"), [("demo", "demo"), ("test-fast", "dev")])
def test_everything_is_installed_by_its_hash(checkout: Path, target: str, lock: str) -> None:
    python = interpreter(checkout / "elsewhere" / "python", "3.13")
    pip, needs, own = installs(checkout, f"PYTHON={python}", target)
    assert pip.endswith("--require-hashes -r locks/bootstrap.txt")
    assert needs.endswith(f"--require-hashes -r locks/{lock}.txt")
    assert own.endswith("--no-deps --build-constraints locks/bootstrap.txt -e .")


@needs_make
def test_another_build_of_torch_is_all_that_has_no_hash(checkout: Path) -> None:
    others, torch, own = installs(checkout, "TORCH=cpu", "demo")
    assert others.endswith("--require-hashes --no-deps -r .venv/others.txt")
    assert "--torch-backend cpu" in torch
    assert own.endswith("--no-deps --build-constraints locks/bootstrap.txt -e .")
    filter_, = [
        line for line in make(checkout, "--dry-run", "TORCH=cpu", "demo").stdout.splitlines()
        if line.startswith("awk")
    ]  # fmt: skip
    subprocess.run(filter_, shell=True, cwd=checkout, check=True)
    written = (checkout / ".venv" / "others.txt").read_text()
    left = {line.partition("==")[0] for line in written.splitlines() if "==" in line}
    all_ = {
        line.partition("==")[0]
        for line in (LOCKS / "demo.txt").read_text().splitlines()
        if "==" in line
    }
    assert {n for n in all_ - left if not n.startswith(("nvidia-", "cuda-"))} == {"torch", "triton"}
    assert "torch==" + str(pins("demo.txt", "3.11")["torch"].specifier)[2:] == subprocess.run(
        torch[torch.index("$(") + 2 : torch.rindex(")")],
        shell=True, cwd=checkout, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip


@needs_make
def test_package_that_is_not_the_one_that_was_locked_is_refused(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    series = f"{sys.version_info.major}.{sys.version_info.minor}"
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if uv is None:
        pytest.skip("uv is not installed")
    shutil.rmtree(checkout / ".venv")
    subprocess.run(
        [uv, "venv", "--quiet", "--python", sys.executable, ".venv"], cwd=checkout, check=True
    )
    (checkout / ".venv" / "bin" / "uv").symlink_to(uv)
    site = checkout / ".venv" / "lib" / f"python{series}" / "site-packages"
    (site / "uv").mkdir()
    shelf = tmp_path_factory.mktemp("shelf")
    with zipfile.ZipFile(shelf / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "")
        about = "tiny-1.0.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(
            f"{about}/RECORD", f"tiny.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n"
        )
    digest = hashlib.sha256((shelf / "tiny-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    said = {}
    for name, pin in (
        ("other hash", f"tiny==1.0 --hash=sha256:{'0' * 64}"),
        ("no hash", "tiny==1.0"),
        ("its hash", f"tiny==1.0 --hash=sha256:{digest}"),
    ):
        (checkout / "locks" / "demo.txt").write_text(pin + "\n")
        done = make(
            checkout,
            "--silent",
            f".venv/.installed-{series}-demo",
            UV_NO_INDEX="1",
            UV_FIND_LINKS=str(shelf),
        )
        said[name] = (done.stderr, (site / "tiny.py").exists())
    assert "Hash mismatch" in said["other hash"][0]
    assert "hash" in said["no hash"][0]
    assert [there for _, there in said.values()] == [False, False, True], said


def test_metadata_names_the_same_interpreters_as_the_tests() -> None:
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert [s for s in (f"3.{n}" for n in range(8, 20)) if allowed.contains(s)] == list(SERIES)
    prefix = "Programming Language :: Python :: "
    told = [c.removeprefix(prefix) for c in PROJECT["classifiers"] if c.startswith(prefix)]
    assert told == list(SERIES)
