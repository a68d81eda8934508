"""Parquet in bounded memory: small files that stand for gigabytes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redistill.rowfiles import open_rows
from redistill.rowparquet import BATCH_BYTES, ParquetTable

READ = """
import resource, sys
from pathlib import Path
from redistill.rowcsv import RowFileError
from redistill.rowfiles import open_rows
from redistill.rowvalues import texts
file, rows = open_rows(Path(sys.argv[1])), 0
usage = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (usage + (700 << 20),) * 2)
try:
    for batch in file.batches({"id": "id"}):
        rows += len(texts(batch["id"]).codes)
except RowFileError as error:
    print(error)
print(rows)
"""


def _run_lengths(path: Path) -> None:
    long, n = "x" * 100_000, 50_000
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([long]))
    pq.write_table(pa.table({"id": column}), path)


def _fixed(path: Path) -> None:
    table = pa.table({"id": pa.array([b"\0" * 1_000_000] * 2_000, pa.binary(1_000_000))})
    pq.write_table(table, path, compression="zstd")


def _one_page(path: Path) -> None:
    table = pa.table({"id": ["y" * 1_000_000] * 800})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits need Linux")
@pytest.mark.parametrize(
    ("write", "said"),
    [
        pytest.param(_run_lengths, "50000", id="5 GB of one text"),
        pytest.param(_fixed, "packed to next to nothing", id="2 GB of fixed bytes"),
        pytest.param(_one_page, "in one row group are packed to next to nothing", id="one page"),
    ],
)
def test_a_small_file_does_not_fill_the_memory(
    tmp_path: Path, write: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "f.parquet"
    write(path)
    assert path.stat().st_size < 200_000
    run = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2_000:]
    assert said in run.stdout


def test_long_texts_come_in_smaller_batches(tmp_path: Path) -> None:
    rows = ["x" * 10_000 + str(i) for i in range(5_000)]
    pq.write_table(pa.table({"id": rows, "n": range(5_000)}), tmp_path / "f.parquet")
    file = open_rows(tmp_path / "f.parquet")
    assert [len(b) for b in file.batches({"n": "number"})] == [5_000]
    sizes = [len(b) for b in file.batches({"id": "id"})]
    assert sum(sizes) == 5_000
    assert max(sizes) <= BATCH_BYTES // 10_000
    opened = ParquetTable.opened(tmp_path / "f.parquet")
    assert next(opened.read(["n"], 100)).num_rows == 100
