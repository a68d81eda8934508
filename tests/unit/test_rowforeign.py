"""Files of other formats, given by mistake: each is called what it is, by every door."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.orc as orc
import pytest

from redistill.rowcsv import RowFileError
from redistill.rowfiles import open_rows
from redistill.rowforeign import foreign

TABLE = pa.table({"id": ["a", "b"], "label": ["no", "yes"]})


def _feather() -> bytes:
    sink = io.BytesIO()
    feather.write_feather(TABLE, sink)
    return sink.getvalue()


def _stream() -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return bytes(sink.getvalue().to_pybytes())


def _orc() -> bytes:
    sink = pa.BufferOutputStream()
    orc.write_table(TABLE, sink)
    return bytes(sink.getvalue().to_pybytes())


def _xlsx() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
    return sink.getvalue()


FILES = {
    "JSON lines": (b'{"id": "a"}\n{"id": "b"}\n', "it is JSON"),
    "JSON array": (b'[\n {"id": "a"},\n {"id": "b"}\n]', "it is JSON"),
    "JSON of rows": (b"[[1, 2], [3, 4]]", "it is JSON"),
    "Feather": (_feather(), "an Arrow or Feather file"),
    "Arrow stream": (_stream(), "an Arrow IPC stream"),
    "ORC": (_orc(), "an ORC file"),
    "workbook": (_xlsx(), "save the sheet as CSV, or unpack it"),
    "old workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "save the sheet as CSV"),
    "encrypted Parquet": (b"PARE" + b"\x15" * 99, "write it without encryption"),
    "Avro": (b"Obj\x01\x04\x16avro.schema", "an Avro file"),
    "SQLite": (b"SQLite format 3\0" + b"\0" * 90, "an SQLite database"),
    "pickle": (pickle.dumps({"id": [1]}), "a Python pickle"),
    "HTML": (b"<!DOCTYPE html><html>please log in</html>", "an error page"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "UTF-16 without a mark": ("id,label\na,no\n".encode("utf-16-le"), "UTF-16"),
    "big UTF-16": ("id,label\na,no\n".encode("utf-16-be"), "UTF-16"),
    "UTF-32": ("id,label\na,no\n".encode("utf-32"), "UTF-32"),
    "bytes": (bytes(range(256)) * 9, "it is no text"),
}


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ""])
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_format_is_called_what_it_is(
    tmp_path: Path, name: str, suffix: str
) -> None:
    content, said = FILES[name]
    path = tmp_path / f"f{suffix}"
    path.write_bytes(content)
    with pytest.raises(RowFileError, match=said) as caught:
        open_rows(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["id,label\n", "[a,b]\n", "{x},y\n", "<5,>5\n", "größe;maß\n", "a\tb\n", "ORCHID,x\n"[1:]],
)
def test_odd_headers_are_no_other_format(text: str) -> None:
    for encoding in ("utf-8", "latin-1", "utf-16", "utf-8-sig"):
        assert foreign(text.encode(encoding)) == ""


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.csv")
    with pytest.raises(RowFileError, match="a pipe can be read once only"):
        open_rows(tmp_path / "rows.csv")
