"""Environments of other tools, each of its own, that uv makes below ``build/bench``: what they need
does not meet what redistill needs."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["FOLDER", "SECONDS", "last_words", "python_of"]

FOLDER = Path("build/bench/peers")
PYTHON = "3.11"
SECONDS = 1_800
"""For an installation, or a run of a tool."""


def _uv() -> str | None:
    own = Path(sys.executable).with_name("uv")
    return str(own) if own.exists() else shutil.which("uv")


def last_words(text: str) -> str:
    """What a program said last, in a line."""
    return " ".join(text.split())[-300:]


def python_of(tool: str, packages: Sequence[str], *, folder: Path = FOLDER) -> Path | str:
    """Interpreter of a tool's environment, which is made where it is not there yet; or why there is
    none.

    Parameters
    ----------
    tool
        Name of its folder.
    packages
        What is installed, as pip says it. Another list makes the environment anew.
    """
    uv = _uv()
    if uv is None:
        return "uv is not installed"
    home = folder.resolve() / tool
    python, stamp = home / "bin" / "python", home / "installed"
    known = hashlib.sha256("\n".join(packages).encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == known:
        return python
    for command in (
        [uv, "venv", "--quiet", "--python", PYTHON, "--clear", str(home)],
        [uv, "pip", "install", "--quiet", "--python", str(python), *packages],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{command[1]}: {error}"
        if done.returncode:
            return last_words(done.stderr)
    stamp.write_text(known)
    return python
