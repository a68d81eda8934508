"""The first load of a release: in a child with little memory and time, which may crash alone.

``python -m redistill.streams.client.probe FOLDER MEMORY_BYTES CPU_SECONDS`` checks the file, loads
it, runs the golden inputs and prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from redistill import child_path, confinement
from redistill.streams.client import forks
from redistill.streams.errors import ReleaseError

__all__ = ["MEMORY_BYTES", "SECONDS", "ProbeDied", "probe"]

MEMORY_BYTES = 4 * 1024**3
"""Address space of the child. A small model loads within half a GiB; weights count several times.
"""

SECONDS = 30.0
"""CPU time of the child: a load takes less than one second, importing takes two."""
PATIENCE = 4.0
"""Seconds by the clock for each second of CPU time: a machine that is busy, or a container with a
share of a core, says nothing against a release.
"""


class ProbeDied(ReleaseError):
    """The limited child did not answer: it crashed, was killed, took too long or did not start. The
    release may be to blame, or the machine."""

    retriable = True


def probe(folder: Path, *, memory_bytes: int = MEMORY_BYTES, seconds: float = SECONDS) -> None:
    """Load a release in a limited child process before this process loads it.

    Parameters
    ----------
    folder
        Holds ``manifest.json``, ``model.onnx`` and ``golden.npz``.
    memory_bytes
        Address space of the child.
    seconds
        CPU time of the child; by the clock it may take ``PATIENCE`` times as long.

    Raises
    ------
    ReleaseError
        The release was refused.
    ProbeDied
        The child crashed, was killed by a limit, or could not be started; the message says which.
    """
    command = [
        _python(),
        "-m",
        "redistill.streams.client.probe",
        str(folder),
        str(memory_bytes),
        str(max(1, round(seconds))),
    ]
    env = {**child_path.variables(), "OMP_NUM_THREADS": "1", "PATH": os.defpath}
    try:
        # A child forked while the pipes are open would hold them for as long as it lives.
        with forks.guarded():
            child = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
            )
    except OSError as error:
        raise ProbeDied(f"the limited child that tries a release cannot start: {error}") from error
    with child:
        try:
            said, complained = child.communicate(timeout=PATIENCE * seconds)
        except subprocess.TimeoutExpired as error:
            raise ProbeDied(
                f"{folder.name}: loading it took longer than {PATIENCE * seconds:g} s"
            ) from error
        finally:
            child.kill()  # does nothing where it has ended
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        raise ProbeDied(f"{folder.name}: loading it ended the limited child with {name}")
    try:
        answer = json.loads(said.decode().strip().splitlines()[-1])
    except (ValueError, IndexError) as error:
        last = complained.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
        raise ProbeDied(
            f"{folder.name}: the limited child ended with {child.returncode} and said: {last[0]}"
        ) from error
    if answer.get("error"):
        raise ReleaseError(str(answer["error"]))


def _python() -> str:
    """The interpreter: a server that embeds Python may itself be ``sys.executable``."""
    for path in (sys.executable, str(Path(sys.prefix) / "bin" / "python3")):
        if path and Path(path).name.startswith("python") and Path(path).exists():
            return path
    raise ReleaseError(
        f"no Python interpreter found to try a release with (looked in {sys.prefix})"
    )


def main(arguments: list[str]) -> int:
    """What the child does."""
    import resource

    folder, memory, seconds = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    confinement.die_with_parent()
    confinement.deny_network()
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    from redistill import onnxfile
    from redistill.onnxports import OnnxError
    from redistill.streams.client.release import GOLDEN_FILE, MODEL_FILE
    from redistill.streams.client.session import load, self_test

    answer: dict[str, object]
    try:
        onnxfile.check(folder / MODEL_FILE)
        answer = {"off": self_test(load(folder), folder / GOLDEN_FILE)}
    except (OnnxError, ReleaseError) as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": f"{folder.name}: loading it needs more than {memory} bytes of memory"}
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
