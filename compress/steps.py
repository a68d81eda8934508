"""Steps that survive ``kill -9``: written aside, synced, renamed, and recorded with their hash.

A step is known by its *key*, the hash of all that determines its result. A recorded step whose file
is still whole is not done again; anything else is, and gives the same bytes. The record itself
(``steps.json``) is replaced by renaming, so that it is always one of its whole versions.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from redistill.compress.errors import BadJob, DeadlineExceeded
from redistill.decodable import decodable
from redistill.files import put, sha256_of_tree, write

__all__ = ["WORK", "Deadline", "Progress", "Steps", "array_key", "key_of", "nothing"]

RECORD, WORK = "steps.json", "work"

Progress = Callable[[str, float], None]
"""Called with a step's name and the share of it that is done: 0 when it starts, 1 when it is
done."""


def nothing(step: str, share: float) -> None:
    """A ``Progress`` that tells nobody."""


@dataclass(kw_only=True)
class Deadline:
    """The job's deadline.

    Parameters
    ----------
    seconds
        From now.
    clock
        Monotonic seconds.
    """

    seconds: float
    clock: Callable[[], float] = time.monotonic
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock()

    def left(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self.seconds - (self.clock() - self.began)

    def check(self, step: str) -> None:
        """Stop here if the deadline has passed.

        Raises
        ------
        DeadlineExceeded
            Naming the step that was reached.
        """
        spent = self.clock() - self.began
        if spent > self.seconds:
            raise DeadlineExceeded(
                f"the deadline of {self.seconds:g} s passed at step {step!r}, after {spent:.1f} s;"
                " finished steps are kept and are not done again"
            )


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A finished step in ``steps.json``."""

    key: str
    """Hash of all that determines the result."""
    path: str
    """What it made, below the job's folder: a file or a folder."""
    sha256: str
    seconds: float
    """Wall-clock seconds that it took when it was done."""
    cpu_seconds: float


@decodable
class _Record(msgspec.Struct, frozen=True, kw_only=True):
    format: int = 1
    steps: dict[str, Step] = {}


def array_key(*arrays: NDArray[np.generic]) -> str:
    """Hash of the content, shape and type of arrays."""
    digest = hashlib.sha256()
    for a in arrays:
        digest.update(f"{a.dtype.str}{a.shape}".encode())
        digest.update(np.ascontiguousarray(a).tobytes())
    return digest.hexdigest()


def key_of(*parts: object) -> str:
    """Hash of strings, numbers, dataclasses and containers of them."""
    encoded = msgspec.json.encode(parts, order="sorted")
    return hashlib.sha256(encoded).hexdigest()


class Steps:
    """The steps of one job folder.

    Parameters
    ----------
    folder
        The job's folder. One process at a time works in it.
    deadline
        Checked before each step.
    progress
        Told about each step.
    scope
        What the recorded names begin with: steps of the same name in another scope are others.
    """

    def __init__(
        self,
        folder: Path,
        *,
        deadline: Deadline,
        progress: Progress = nothing,
        scope: str = "",
    ) -> None:
        self.folder = folder
        self._scope = scope
        self.deadline = deadline
        self.progress = progress
        self.seconds: dict[str, float] = {}
        """What each step took in this run; a reused one took 0."""
        self._work = folder / WORK
        self._work.mkdir(exist_ok=True)
        for left in self._work.glob(".*"):  # unfinished pieces of a run that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        self._record = _Record()
        record = folder / RECORD
        if record.is_file():
            try:
                self._record = msgspec.json.decode(record.read_bytes(), type=_Record)
            except msgspec.DecodeError as error:
                raise BadJob(
                    f"{RECORD} cannot be read ({error}): remove it to start again"
                ) from error
            if self._record.format != 1:
                raise BadJob(
                    f"{RECORD} has format {self._record.format}, this program reads 1: it was"
                    " written by a newer one"
                )

    def _whole(self, name: str) -> Step | None:
        """A recorded step whose result is still what it was."""
        step = self._record.steps.get(self._scope + name)
        if step is None:
            return None
        path = self.folder / step.path
        return step if path.exists() and sha256_of_tree(path) == step.sha256 else None

    def make(self, name: str, key: str, make: Callable[[Path], None], *, suffix: str = "") -> Path:
        """Do a step, unless it was done before with the same key and its result is whole.

        Parameters
        ----------
        name
            The step.
        key
            Hash of all that determines the result.
        make
            Writes the result, a file or a folder, to the path that it is given.
        suffix
            Of the file's name, with the dot.

        Returns
        -------
        Path
            The result, named by the key.

        Raises
        ------
        DeadlineExceeded
            Before the step is started.
        """
        self.deadline.check(name)
        done = self._whole(name)
        if done is not None and done.key == key:
            self.seconds[name] = 0.0
            self.progress(name, 1.0)
            return self.folder / done.path
        self.progress(name, 0.0)
        began, cpu = time.perf_counter(), time.process_time()
        final = self._work / f"{self._scope}{name}-{key[:16]}{suffix}"
        part = self._work / f".{name}{suffix}"
        make(part)
        put(part, final)
        self.seconds[name] = time.perf_counter() - began
        step = Step(
            key=key,
            path=str(final.relative_to(self.folder)),
            sha256=sha256_of_tree(final),
            seconds=self.seconds[name],
            cpu_seconds=time.process_time() - cpu,
        )
        self._record = _Record(steps={**self._record.steps, self._scope + name: step})
        write(
            self.folder / RECORD,
            msgspec.json.format(msgspec.json.encode(self._record), indent=1) + b"\n",
        )
        self.progress(name, 1.0)
        return final

    @property
    def earlier_cpu_seconds(self) -> float:
        """CPU seconds of all recorded steps that were not done in this run."""
        here = {self._scope + name for name, seconds in self.seconds.items() if seconds > 0.0}
        return sum(s.cpu_seconds for name, s in self._record.steps.items() if name not in here)

    def has(self, name: str) -> bool:
        """Whether a step was ever done in this folder, in this scope."""
        return self._scope + name in self._record.steps

    def made(self, sha256: str) -> bool:
        """Whether a recorded step of any scope made a file with this hash."""
        return any(step.sha256 == sha256 for step in self._record.steps.values())

    def finished(self, name: str) -> Path:
        """Result of a step of an earlier run, whatever its key.

        Raises
        ------
        BadJob
            It was never done, or its result was changed since.
        """
        step = self._record.steps.get(self._scope + name)
        if step is None:
            raise BadJob(
                f"mode 'gate' judges a finished candidate, but step {self._scope + name!r} was"
                " never done in this folder: run it in mode 'repair' first"
            )
        if self._whole(name) is None:
            raise BadJob(
                f"{step.path} was changed or removed since step {name!r} made it: run the job in"
                " mode 'repair' again"
            )
        return self.folder / step.path
