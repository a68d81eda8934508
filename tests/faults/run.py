"""``make faults``: workers under load on a real Kafka and a real database, trouble of every named
kind, then the count.

Each scenario has a database, a home and topics of its own on servers that all share (PostgreSQL
where it is installed, else SQLite with one stream worker). Two stream workers, a repair worker and
the web process run under a load of JSON events, Arrow batches, late labels, null labels, rows of a
model that nobody registered and records that nobody can read; then the world shifts, so that a
repair is under way while things go wrong. At the end what was acknowledged is compared, id by id,
with what stands in the topics, and that with what stands in SQL.

A line a scenario; the last is ``n scenarios, x lost, y doubled, z invariants broken``. Exit 0 only
if x = y = z = 0 and every bound held. Every line says its seed; the logs of what failed are kept.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "chaos"), str(HERE.parent / "support")]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import process_trouble  # noqa: E402
import report  # noqa: E402
from catalogue import SCENARIOS  # noqa: E402
from scenario import Verdict, play, tell  # noqa: E402
from servers import Servers  # noqa: E402


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenarios", default="", help="names with commas; default: all")
    parser.add_argument("--list", action="store_true", help="say what there is, and end")
    parser.add_argument("--kills", type=int, default=10, help="of the scenario kill9")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is random")
    parser.add_argument("--rows-per-second", type=int, default=300)
    parser.add_argument(
        "--keep", type=Path, help="folder for logs and data; default: a temporary one"
    )
    parser.add_argument(
        "--database", choices=["postgres", "sqlite"], help="default: postgres where it is installed"
    )
    parser.add_argument("--report", type=Path, help="write the report into this file")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run it; 0 only if nothing was lost, doubled or broken, and every bound held."""
    args = arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers and workers end, too
    if args.list:
        for scenario in SCENARIOS.values():
            print(f"{scenario.name:<22} {scenario.what}")
        return 0
    names = [n for n in args.scenarios.split(",") if n] or list(SCENARIOS)
    if unknown := [n for n in names if n not in SCENARIOS]:
        print(f"no such scenario: {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
        return 2
    chosen = [SCENARIOS[n] for n in names]
    chosen = [
        replace(s, play=partial(process_trouble.kill9, kills=args.kills))
        if s.name == "kill9"
        else s
        for s in chosen
    ]
    folder = args.keep or Path(tempfile.mkdtemp(prefix="redistill-faults-"))
    print(f"seed {args.seed}, {len(chosen)} scenarios, logs in {folder}", flush=True)
    servers = Servers(folder, args.database, args.seed)
    verdicts: list[Verdict] = []
    try:
        servers.start()
        for scenario in chosen:
            print(f"  {scenario.name}: {scenario.what}", flush=True)
            verdict = play(scenario, servers, seed=args.seed, rows_per_second=args.rows_per_second)
            verdicts.append(verdict)
            if not verdict.good:
                tell(verdict)
            print(verdict.line(), flush=True)
            if args.report is not None:
                text = report.scenarios(args.report, [verdict], SCENARIOS, servers)
                report.write(args.report, "scenarios", text)
    finally:
        servers.stop()
    good = all(v.good for v in verdicts)
    if good and args.keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"logs in {folder}")
    print(report.summary(verdicts), flush=True)
    return 0 if good and len(verdicts) == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
