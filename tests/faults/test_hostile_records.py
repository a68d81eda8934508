"""Records that say much in few bytes: a worker's memory stays bounded, every offset is counted, and
the rows of others with them.

Each kind is fed to an accumulator in a process whose address space is limited: what asks for more
dies, and says where.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MEGABYTES = 700
"""Above what the process takes once it is loaded."""
KINDS = (
    "unused lists of nulls", "nested features", "shared dictionaries", "long words", "long ids",
    "thousands of columns", "rows without features", "wide scores", "compressed", "own names",
    "own names of a registered model", "many segments", "new models", "new versions",
    "new versions of a registered model", "deep", "digits",
)  # fmt: skip

PROGRAM = """
import json, resource, sys, tempfile

from hostile_records import records_of
from stream_rows import chunk, new_database, prediction, record, watch
from redistill.streams.engine.accumulator import Accumulator
from redistill.streams.store.batch import Partition
from redistill.streams.store.flush import flush


def used():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmSize")) * 1024


def fed(kind):
    db = new_database(f"sqlite:///{tempfile.mkdtemp()}/x.db")
    watch(db)
    accumulator = Accumulator(db, state_key=b"k" * 32, kinds={"predictions": "predictions"})
    at = Partition("t", 0)
    accumulator.assign(at, "predictions", stored=None, start=0)
    bad = records_of(kind)
    for start in range(0, len(bad), 500):
        part = [r._replace(offset=start + i) for i, r in enumerate(bad[start : start + 500])]
        accumulator.take(at, chunk(part))
    end = len(bad)
    accumulator.take(at, chunk([record(prediction(i), end + i) for i in range(100)]))
    batch = accumulator.close()
    flush(db, batch, now=2)
    db.dispose()
    progress = batch.progress[at]
    return {
        "kind": kind, "records": len(bad), "next": progress.next_offset,
        "counted": progress.counted, "dead": progress.dead, "joins": len(batch.joins["credit"]),
        "names": len(batch.unregistered), "counters": len(batch.counters),
        "states": len(batch.states),
        "sample": sum(len(u.sample or b"") for u in batch.unregistered.values()),
    }


fed("deep")  # whatever is loaded when it is needed first
top = used() + (int(sys.argv[1]) << 20)
resource.setrlimit(resource.RLIMIT_AS, (top, top))
for kind in sys.argv[2:]:
    print(json.dumps(fed(kind)), flush=True)
"""


@pytest.fixture(scope="module")
def told() -> dict[str, dict[str, int]]:
    """What became of each kind, in one process."""
    support = Path(__file__).parents[1] / "support"
    paths = [str(support), str(support.parents[1])]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(MEGABYTES), *KINDS],
        capture_output=True, text=True, check=False, timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, (len(lines), done.stderr[-2_000:])
    return {line["kind"]: line for line in lines}


@pytest.mark.skipif(sys.platform != "linux", reason="reads the size of a process from /proc")
@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_bounded_and_every_offset_counted(
    kind: str, told: dict[str, dict[str, int]]
) -> None:
    said = told[kind]
    assert said["next"] == said["records"] + 100
    assert said["counted"] + said["dead"] == said["next"]
    assert said["joins"] >= 100  # the rows of others
    assert said["names"] <= 100
    assert said["counters"] <= 10
    assert said["states"] <= 1
    assert said["sample"] <= 8 << 20
