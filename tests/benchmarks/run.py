"""``make bench``: every ``bench_*.py`` in turn, each in a process of its own, so that none disturbs
another.

    python tests/benchmarks/run.py [NAME ...] [--list]

Each prints a table in which every figure stands beside its baseline from the same run. Nothing here
asserts a time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run the chosen benchmarks; exit 1 if one of them could not run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="part of a benchmark's name; default: all")
    parser.add_argument("--list", action="store_true", help="list the benchmarks and exit")
    args = parser.parse_args()
    chosen = [
        path
        for path in sorted(HERE.glob("bench_*.py"))
        if not args.names or any(name in path.stem for name in args.names)
    ]
    if args.list or not chosen:
        print("\n".join(path.stem.removeprefix("bench_") for path in chosen) or "no such benchmark")
        return 0 if chosen else 2
    env = {**os.environ, "PYTHONPATH": str(HERE.parent / "support"), "OMP_NUM_THREADS": "1"}
    failed = []
    for path in chosen:
        name = path.stem.removeprefix("bench_")
        print(f"\n=== {name} ===", flush=True)
        began = time.monotonic()
        if subprocess.run([sys.executable, str(path)], env=env, check=False).returncode:
            failed.append(name)
        print(f"({name}: {time.monotonic() - began:.0f} s)", flush=True)
    if failed:
        print(f"\ncould not run: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
