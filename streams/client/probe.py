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

from redistill import child_path
from redistill.streams.errors import ReleaseError

__all__ = ["MEMORY_BYTES", "SECONDS", "probe"]

MEMORY_BYTES = 4 * 1024**3
"""Address space of the child. A small model loads within half a GiB; weights count several times.
"""

SECONDS = 30.0
"""Wall clock of the child; a load takes less than one second, importing takes two on a busy
machine.
"""


def probe(folder: Path, *, memory_bytes: int = MEMORY_BYTES, seconds: float = SECONDS) -> None:
    """Load a release in a limited child process before this process loads it.

    Parameters
    ----------
    folder
        Holds ``manifest.json``, ``model.onnx`` and ``golden.npz``.
    memory_bytes
        Address space of the child.
    seconds
        How long the child may take, by the wall clock and by its CPU.

    Raises
    ------
    ReleaseError
        The release was refused, or the child crashed, was killed by a limit, or could not be
        started; the message says which.
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
        done = subprocess.run(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
            cwd="/",
        )
    except subprocess.TimeoutExpired as error:
        raise ReleaseError(f"{folder.name}: loading it took longer than {seconds:g} s") from error
    except OSError as error:
        raise ReleaseError(
            f"the limited child that tries a release cannot start: {error}"
        ) from error
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise ReleaseError(f"{folder.name}: loading it ended the limited child with {name}")
    try:
        answer = json.loads(done.stdout.decode().strip().splitlines()[-1])
    except (ValueError, IndexError) as error:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
        raise ReleaseError(
            f"{folder.name}: the limited child ended with {done.returncode} and said: {said[0]}"
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
