"""Foreign values: what the bytes are that should have been JSON, and what their sender can do.

A person reads this at night in the reason of a dead letter, so it names the thing itself: what a
serializer with a schema registry writes is no "invalid character in column 1".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from redistill.streams.errors import WireError

__all__ = ["looks_like", "no_arrow", "no_json", "other_content", "quoted", "told", "wrapped"]

_COMPRESSED = "a value compressed by {}: leave it as it is, Kafka compresses (compression.type)"
_PLAIN = "use a plain JSON serializer"
_SINGLY = "send each event as a record of its own"
_ARROW = b"\xff\xff\xff\xff"
_BEGINS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    ((b"\x1f\x8b",), _COMPRESSED.format("gzip")),
    ((b"\x28\xb5\x2f\xfd",), _COMPRESSED.format("zstd")),
    ((b"\x04\x22\x4d\x18",), _COMPRESSED.format("lz4")),
    ((b"\x82SNAPPY\x00", b"\xff\x06\x00\x00sNaPpY"), _COMPRESSED.format("snappy")),
    ((b"\x78\x01", b"\x78\x9c", b"\x78\xda"), _COMPRESSED.format("zlib")),
    ((b"PK\x03\x04",), f"a ZIP archive: {_SINGLY}"),
    ((b"PAR1",), f"a Parquet file: {_SINGLY}, or an Arrow IPC stream"),
    ((b"ARROW1",), "an Arrow file: write an Arrow IPC stream"),
    ((_ARROW,), "an Arrow IPC stream: say so in the header content-type"),
    ((b"\x03\x00", b"\x03\x05"), f"schema registry framing (AWS Glue, version 3): {_PLAIN}"),
    ((b"\xc3\x01",), f"an Avro single object: {_PLAIN}"),
    ((b"Obj\x01",), f"an Avro object container: {_PLAIN}"),
    ((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), f"a Python pickle: {_PLAIN}"),
    ((b"eyJ",), "JSON in base64: send the JSON itself"),
    ((b"{'",), "the text of a Python dict, in single quotes: write it with json.dumps"),
    ((b"<",), f"XML or HTML: {_PLAIN}"),
    ((b"[",), f"a JSON array: {_SINGLY}"),
    ((b'"',), "a JSON text within a JSON string: it was serialized twice"),
)
_UTF_32 = (b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff", b"{\x00\x00\x00", b"\x00\x00\x00{\x00\x00\x00")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff", b"{\x00", b"\x00{\x00")
_SPACE = b" \t\r\n"
_WRAPPERS: tuple[tuple[frozenset[str], str], ...] = (
    (
        frozenset(("schema", "payload")),
        "a value of Kafka Connect with its schema: value.converter.schemas.enable=false",
    ),
    (
        frozenset(("before", "after")),
        "a change event of Debezium: unwrap it (ExtractNewRecordState), and send the event alone",
    ),
)
_CONTENT: tuple[tuple[bytes, str], ...] = (
    (b"cloudevents-batch", f"CloudEvents batch mode: {_SINGLY}"),
    (b"cloudevents", "a CloudEvent in structured mode is read as application/cloudevents+json"),
    (b"avro", f"Avro is not read: {_PLAIN}"),
    (b"protobuf", f"Protobuf is not read: {_PLAIN}"),
    (b"arrow", "Arrow is read as an IPC stream, application/vnd.apache.arrow.stream"),
)


def looks_like(value: bytes) -> str:
    """What a value seems to be by its first bytes; empty: nothing that is known.

    Examples
    --------
    >>> looks_like(b"\\x00\\x00\\x00\\x00\\x07{}")
    'schema registry framing (magic byte 0, schema 7) before JSON: use a plain JSON serializer'
    >>> looks_like(b'{"id": 1}')
    ''
    """
    if not value.strip(_SPACE):
        return "an empty value"
    if value.startswith(_UTF_32):
        return "JSON in UTF-32: write it in UTF-8"
    if value.startswith(_UTF_16):
        return "JSON in UTF-16: write it in UTF-8"
    if value[0] == 0 and len(value) > 5:
        kind = "JSON" if value[5:6] in (b"{", b"[", b'"') else "Avro or Protobuf"
        number = int.from_bytes(value[1:5], "big")
        return f"schema registry framing (magic byte 0, schema {number}) before {kind}: {_PLAIN}"
    text = value.removeprefix(b"\xef\xbb\xbf").lstrip(_SPACE)
    return next((what for begin, what in _BEGINS if text.startswith(begin)), "")


def told(value: bytes) -> str:
    """As ``looks_like``, of a value that could not be read as one JSON object."""
    if known := looks_like(value):
        return known
    with suppress(ValueError, RecursionError):
        text = value.decode("utf-8-sig").strip()
        _, end = json.JSONDecoder().raw_decode(text)
        if text[end:].lstrip(",").strip().startswith("{"):
            return f"several JSON objects (JSON lines): {_SINGLY}"
    return ""


def wrapped(value: Mapping[str, Any], *names: str) -> str:
    """What a JSON object seems to be that lacks fields, to follow the reason; empty: unknown.

    Parameters
    ----------
    names
        Of the fields that it should have.

    Examples
    --------
    >>> wrapped({"record": {"id": "a"}}, "id", "model")
    "; the event lies in its field 'record': send that alone"
    >>> wrapped({"Id": "a", "servedAt": 1}, "id", "served_at")
    "; names are as in the contract: 'id' instead of 'Id', 'served_at' instead of 'servedAt'"
    """
    for keys, what in _WRAPPERS:
        if keys <= value.keys():
            return f"; it looks like {what}"
    for key, inner in value.items():
        if isinstance(inner, dict) and not inner.keys().isdisjoint(names):
            return f"; the event lies in its field {key[:40]!r}: send that alone"
    loosely = {_letters(name): name for name in names if name not in value}
    other = [(loosely[k], key) for key in value if (k := _letters(key[:40])) in loosely]
    if not other:
        return ""
    written = ", ".join(f"{name!r} instead of {key!r}" for name, key in other[:3])
    return f"; names are as in the contract: {written}"


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()


def no_json(value: bytes, error: Exception) -> WireError:
    """The error of a value that could not be read as JSON."""
    if known := told(value):
        return WireError("malformed", f"no JSON, but {known}")
    constants: list[str] = []
    with suppress(ValueError, RecursionError):
        json.loads(value, parse_constant=constants.append)
    if constants:
        return WireError("malformed", f"{constants[0]}, which is no JSON: write null")
    if isinstance(error, UnicodeEncodeError):
        return WireError("malformed", "a text with half of a surrogate pair (\\ud800 to \\udfff)")
    if "integer string conversion" in str(error):
        return WireError("malformed", "a number of more digits than are read: write it as text")
    return WireError("malformed", f"no JSON: {str(error)[:200]}")


def no_arrow(value: bytes, error: Exception) -> WireError:
    """The error of a value that could not be read as an Arrow IPC stream."""
    if value.startswith(_ARROW):
        return WireError("malformed", f"no Arrow IPC stream: {str(error)[:200]}")
    what = looks_like(value)
    if not what and value.lstrip(_SPACE).startswith(b"{"):
        what = "JSON: say so in the header content-type"
    return WireError("malformed", f"no Arrow IPC stream, but {what or 'something else'}")


def other_content(content_type: bytes) -> WireError:
    """The error of a content type that is not read here."""
    read = "application/json and application/vnd.apache.arrow.stream are read"
    hint = next((what for part, what in _CONTENT if part in content_type), read)
    return WireError(
        "invalid_field", f"content-type {content_type[:80]!r}; {hint}{quoted(content_type)}"
    )


def quoted(header: bytes) -> str:
    """What to add of a header in quotes: Spring writes them as JSON if it is not told otherwise."""
    if not header.startswith(b'"'):
        return ""
    return " (it stands in quotes: with Spring set the header mapper's encodeStrings to false)"
