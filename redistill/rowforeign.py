"""What a file is that is neither Parquet nor CSV, and how its rows become one of them."""

from __future__ import annotations

import re

__all__ = ["foreign"]

_WRITE = "write its rows as Parquet or CSV"
_EXPORT = "save the sheet as CSV"
_UNPACK = f"{_EXPORT}, or unpack it"
_MAGIC: tuple[tuple[tuple[bytes, ...], str, str], ...] = (
    ((b"ARROW1", b"FEA1"), "an Arrow or Feather file", _WRITE),
    ((b"\xff\xff\xff\xff",), "an Arrow IPC stream", _WRITE),
    ((b"ORC",), "an ORC file", _WRITE),
    ((b"PARE",), "an encrypted Parquet file", "write it without encryption"),
    ((b"Obj\x01",), "an Avro file", _WRITE),
    ((b"PK\x03\x04", b"PK\x05\x06"), "an Excel workbook or a ZIP archive", _UNPACK),
    ((b"\xd0\xcf\x11\xe0",), "an Excel workbook", _EXPORT),
    ((b"SQLite format 3\0",), "an SQLite database", _WRITE),
    ((b"\x89HDF", b"\x93NUMPY"), "an HDF5 or NumPy file", _WRITE),
    ((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), "a Python pickle", _WRITE),
    ((b"%PDF",), "a PDF", "save the table as CSV"),
    ((b"\x89PNG", b"\xff\xd8\xff", b"GIF8"), "an image", "name a file of rows"),
    ((b"\x7fELF", b"MZ\x90"), "a program", "name a file of rows"),
    ((b"7z\xbc\xaf", b"\xfd7zXZ", b"Rar!"), "a packed archive", "unpack it, or use gzip or zstd"),
    ((b"version https://git-lfs",), "a pointer of Git LFS", "run: git lfs pull"),
)  # fmt: skip
_JSON = re.compile(rb'\{\s*("|\}|$)|\[\s*[\[{"]|\[\s*$')
_MARKUP = re.compile(rb"<(!doctype|html|\?xml|head|body)", re.I)
_CONTROL = frozenset(range(32)) - {9, 10, 11, 12, 13, 27}
_CONTROLS = 0.05
"""Share of control characters above which a beginning is no text."""


def foreign(head: bytes) -> str:
    """What a file is that begins so, and what to do; empty where it may be CSV.

    Examples
    --------
    >>> foreign(b'{"id": 1}')
    'it is JSON: write its rows as Parquet or CSV'
    >>> foreign(b"id,label"), foreign("é;ü".encode("latin-1"))
    ('', '')
    """
    for begins, what, remedy in _MAGIC:
        if head.startswith(begins):
            return f"it is {what}: {remedy}"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if _JSON.match(text):
        return f"it is JSON: {_WRITE}"
    if _MARKUP.match(text):
        return "it is HTML or XML, perhaps an error page that was saved in its place"
    start = head[:4_096]
    if start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "it is text in UTF-32: save it as UTF-8"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return ""
    if len(start) > 1 and max(start[::2].count(0), start[1::2].count(0)) > 0.4 * len(start) // 2:
        return "it is text in UTF-16 without a mark of that: save it as UTF-8"
    if sum(map(start.count, (bytes([c]) for c in _CONTROL))) > _CONTROLS * len(start):
        return "it is no text"
    return ""
