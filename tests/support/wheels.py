"""The distribution as users get it: built from the checkout, installed with one extra, alone.

Packages come from where uv is told to look, or from its cache; once they are there an environment
is links, and takes a second or two.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Unavailable(Exception):
    """Nothing can be built or installed on this machine; the message says why."""


@dataclass
class Wheels:
    """What is built once, and the environments into which it was installed."""

    folder: Path
    _made: dict[str, Path] = field(default_factory=dict)

    @cached_property
    def tree(self) -> Path:
        """The files that git knows or would take, with their links: what is built lies elsewhere."""
        done = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise Unavailable(f"this is no checkout of git: {done.stderr.strip()}")
        for name in filter(None, done.stdout.split("\0")):
            target = self.folder / "tree" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).exists():  # or it was deleted and that is not committed
                shutil.copy(ROOT / name, target, follow_symlinks=False)
        return self.folder / "tree"

    @cached_property
    def sdist(self) -> Path:
        """The source distribution."""
        _uv("build", "--sdist", "--out-dir", str(self.folder / "sdist"), str(self.tree))
        return next((self.folder / "sdist").glob("*.tar.gz"))

    @cached_property
    def wheel(self) -> Path:
        """The wheel that is made from the source distribution, as pip does."""
        _uv("build", "--wheel", "--out-dir", str(self.folder / "wheel"), str(self.sdist))
        return next((self.folder / "wheel").glob("*.whl"))

    @cached_property
    def direct_wheel(self) -> Path:
        """The wheel that is made from the files at once."""
        _uv("build", "--wheel", "--out-dir", str(self.folder / "direct"), str(self.tree))
        return next((self.folder / "direct").glob("*.whl"))

    def environment(self, extra: str) -> Path:
        """Folder of the programs of an environment with the wheel, one extra (or none), and nothing
        else of ours."""
        if extra not in self._made:
            home = self.folder / f"env-{extra or 'base'}"
            programs = home / "bin"
            _uv("venv", "--python", sys.executable, str(home))
            build = metadata.version("torch").partition("+")[2]
            _uv(
                "pip", "install", "--python", str(programs / "python"), "-c", str(ROOT / "locks" / "dev.txt"),
                # the locks have no hash of another build of torch
                *(["--torch-backend", build, "--no-verify-hashes"] if build else []),
                str(self.wheel) + (f"[{extra}]" if extra else ""),
            )  # fmt: skip
            self._made[extra] = programs
        return self._made[extra]

    def remove(self) -> None:
        """Delete all of it: the full set is gigabytes where it could not be linked."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _uv(command: str, *words: str) -> None:
    """Run uv; from its cache alone where the registry is away."""
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise Unavailable("uv is not installed (pip install uv)")
    why = ""
    for more in ((), ("--offline",)):
        done = subprocess.run(
            [uv, command, "--quiet", *more, *words],
            capture_output=True, text=True, timeout=600, check=False, cwd="/",
        )  # fmt: skip
        if not done.returncode:
            return
        why = why or done.stderr.strip()[-600:]
    raise Unavailable(f"uv {command} {words[-1]}: {why}")
