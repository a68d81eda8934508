"""Trial of a large ONNX file: first read in a child that may have little memory.

Half a gigabyte of empty nodes is 28 GB when it is read, and nothing can be asked of a file before.
"""

from __future__ import annotations

import os
import subprocess
import sys

from redistill import child_path, confinement, onnxwalk
from redistill.onnxports import OnnxError

__all__ = ["try_large"]

LARGE = 16 << 20
"""Bytes of a file that is tried first; a smaller one cannot become a gigabyte."""
TIMES, SPARE = 8, 1 << 30
"""Memory that reading may take: so many times the file, and this much for the interpreter. Forests
take four times their size, weights once."""
SECONDS = 60.0


def try_large(name: str, data: bytes) -> None:
    """Read a large file where it harms nobody.

    Parameters
    ----------
    name
        The file's, for messages.
    data
        What it holds.

    Raises
    ------
    OnnxError
        It takes more memory or time than any model of its size.
    """
    if len(data) <= LARGE:
        return
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(TIMES * len(data) + SPARE)],
            env={**child_path.variables(), "OMP_NUM_THREADS": "1", "PATH": os.defpath},
            cwd="/",
            input=data,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise OnnxError(f"{name}: reading it took longer than {SECONDS:g} s") from error
    if done.returncode:
        raise OnnxError(
            f"{name} has {len(data):,} bytes and cannot be read in {TIMES} times as much memory"
            f" (the child ended with {done.returncode}): it is made of millions of empty parts;"
            " export it again"
        )


def main(memory: int) -> int:
    """What the child does."""
    import resource

    confinement.die_with_parent()
    confinement.deny_network()
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        onnxwalk.parse("it", sys.stdin.buffer.read())
    except OnnxError as error:  # of any other fault is told when it is read again
        return int("alloc" in str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
