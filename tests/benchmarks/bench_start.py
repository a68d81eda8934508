"""Start of a command: processor seconds until ``redistill models`` of an empty home has answered.

The baseline is what no command that reads settings and a database can do without, in the same run:
``python -c 'import sqlalchemy, pydantic_settings'``.

    python tests/benchmarks/bench_start.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile

BASE = ("-c", "import sqlalchemy, pydantic_settings")
COMMANDS = (
    ("--version",),
    ("models",),
    ("models", "--json"),
    ("incidents", "--json"),
    ("jobs", "--json"),
    ("db", "show", "--json"),
)


def cpu_seconds(args: tuple[str, ...], env: dict[str, str]) -> float:
    """User and system seconds of one process."""
    before = os.times()
    subprocess.run([sys.executable, *args], env=env, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])


def main() -> int:
    """Print a table: medians, and their ratio to the baseline's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "REDISTILL_HOME": home}
        env.pop("REDISTILL_DATABASE", None)
        calls = {" ".join(BASE): BASE}
        calls |= {"redistill " + " ".join(c): ("-m", "redistill", *c) for c in COMMANDS}
        for args in calls.values():  # makes the database, and the files of bytecode
            cpu_seconds(args, env)
        took: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):  # in turn: what else the machine does hits all alike
            for name, args in calls.items():
                took[name].append(cpu_seconds(args, env))
    base = statistics.median(took[" ".join(BASE)])
    print(f"{'command':<55} {'CPU s':>7} {'of base':>8}")
    for name, seconds in took.items():
        print(
            f"{name:<55} {statistics.median(seconds):7.3f} {statistics.median(seconds) / base:8.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
