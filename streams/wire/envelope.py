"""Envelope: CloudEvents around our events, headers, types, and what is wrong with an unreadable
record.

Binary mode: attributes stand in Kafka headers (``ce_specversion``, ``ce_type``, ``ce_id``,
``ce_source``, optionally ``ce_time``), the event itself in the value. Structured mode: all of it in
one JSON object with content type ``application/cloudevents+json``.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import msgspec

from redistill.decodable import decodable
from redistill.streams.errors import WireError
from redistill.streams.wire.events import MODEL_PATTERN, TYPES
from redistill.streams.wire.foreign import looks_like, other_content, quoted, told

__all__ = [
    "ARROW",
    "JSON",
    "MAX_EVENT_BYTES",
    "MAX_ROWS",
    "UNREADABLE",
    "Encoded",
    "Envelope",
    "Record",
    "RecordLike",
    "checked_names",
    "find_type",
    "headers_of",
    "invalid",
    "open_envelope",
    "type_name",
]

JSON = b"application/json"
ARROW = b"application/vnd.apache.arrow.stream"
STRUCTURED = b"application/cloudevents+json"
_EVENTS = b"application/cloudevents"

MAX_EVENT_BYTES = 1_048_576
"""Largest value that is read; Kafka's own default limit."""
MAX_ROWS = 5_000
"""Most rows of one Arrow batch."""

Headers = Sequence[tuple[str, bytes | None]]
"""Names and values; a foreign producer may write a value that is null."""

_NAME_OF = {event: name for name, event in TYPES.items()}
_TYPE_PATTERN = re.compile(r"redistill\.([a-z-]+)\.v(\d+)")
_FAMILIES = {m[1] for t in TYPES if (m := _TYPE_PATTERN.fullmatch(t))}
_MODEL = re.compile(MODEL_PATTERN)
UNREADABLE = "redistill-unreadable"
"""Header of a record that stands for one in a batch of the log which cannot be read: why not."""
_MOMENTS = ("`$.observed_at`", "`$.served_at`")
_REQUIRED = ("ce_specversion", "ce_type", "ce_id", "ce_source")


class Record(NamedTuple):
    """One record as it stood in the log."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class RecordLike(Protocol):
    """What the codec needs of a record: also the records of aiokafka and kafka-python have it."""

    @property
    def key(self) -> bytes | None:
        """The model's name, as a hint."""

    @property
    def value(self) -> bytes | None:
        """The event."""

    @property
    def headers(self) -> Headers:
        """CloudEvents attributes and the content type."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An event as a Kafka record. ``topic`` stands before the namespace is put in front."""

    topic: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]
    event_id: str


class Envelope(NamedTuple):
    """What the headers said: the type of the event and how its data are written."""

    event: type[Any]
    content_type: bytes
    data: bytes
    event_id: str = ""
    """CloudEvents' ``id``, wherever it stood."""


def type_name(event: type[Any]) -> str:
    """``ce_type`` of an event's class.

    Examples
    --------
    >>> from redistill.streams.wire.events import LabelObserved
    >>> type_name(LabelObserved)
    'redistill.label.v1'
    """
    return _NAME_OF[event]


def headers_of(
    event: type[Any], *, source: str, event_id: str, content_type: bytes = JSON
) -> list[tuple[str, bytes]]:
    """Headers of an event. The id is last: readers compare all that precedes it in one step."""
    return [
        ("content-type", content_type),
        ("ce_specversion", b"1.0"),
        ("ce_type", _NAME_OF[event].encode()),
        ("ce_source", source.encode()),
        ("ce_id", event_id.encode()),
    ]


def open_envelope(record: RecordLike) -> Envelope:
    """Read a record's headers and check its size.

    Raises
    ------
    WireError
        ``malformed``, ``oversized``, ``missing_field``, ``invalid_field``, ``unknown_type`` or
        ``unknown_version``.
    """
    value = record.value
    if value is None:
        why = dict(record.headers or ()).get(UNREADABLE)
        raise WireError("malformed", _text(why) if why else "the record has no value (a tombstone)")
    if len(value) > MAX_EVENT_BYTES:
        raise WireError("oversized", f"{len(value)} bytes; at most {MAX_EVENT_BYTES} are read")
    headers = {name.lower(): text for name, text in record.headers or () if text}
    content = headers.get("content-type", JSON).split(b";")[0].strip().lower()
    if content == STRUCTURED:
        return _structured(value)
    if content.startswith(_EVENTS):  # of a batch, or in another format
        raise other_content(content)
    for name in _REQUIRED:
        if name not in headers:
            missing = f"header {name} is missing" + _other_binding(headers)
            what = "" if content == ARROW else looks_like(value) or _without_content_type(value)
            if what:
                missing += f", and the value looks like {what}"
            raise WireError("missing_field", missing)
    if headers["ce_specversion"] != b"1.0":
        raise WireError(
            "unknown_version", f"CloudEvents {_text(headers['ce_specversion'])}; 1.0 is read"
        )
    return Envelope(find_type(_text(headers["ce_type"])), content, value, _text(headers["ce_id"]))


def find_type(name: str) -> type[Any]:
    """Class of a ``ce_type``.

    Raises
    ------
    WireError
        ``unknown_version`` if another version of it is known, else ``unknown_type``.

    Examples
    --------
    >>> find_type("redistill.label.v1").__name__
    'LabelObserved'
    """
    if (event := TYPES.get(name)) is not None:
        return event
    match = _TYPE_PATTERN.fullmatch(name)
    if match and match[1] in _FAMILIES:
        known = ", ".join(t for t in TYPES if t.startswith(f"redistill.{match[1]}.v"))
        raise WireError("unknown_version", f"{name!r}; this program reads {known}")
    raise WireError("unknown_type", f"ce_type {name[:80]!r}{quoted(name[:1].encode())}")


def checked_names(model: str | None, version: str | None) -> tuple[str, str]:
    """A model's name and version, if they are ones.

    Raises
    ------
    WireError
        They are missing, or are no names.
    """
    if not model or not version:
        raise WireError("missing_field", "the name or the version of the model is missing")
    if not _MODEL.fullmatch(model):
        raise WireError("invalid_field", f"model {model[:100]!r} is no name ({MODEL_PATTERN})")
    if len(version) > 80 or not version.isprintable():
        raise WireError("invalid_field", f"version {version[:100]!r} is no name of a version")
    return model, version


def _structured(value: bytes) -> Envelope:
    try:
        outer = msgspec.json.decode(value.removeprefix(BOM_UTF8), type=_Structured)
    except msgspec.ValidationError as exc:
        raise WireError(_code(exc), f"structured CloudEvent: {told(value) or exc}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise WireError("malformed", f"structured CloudEvent: {told(value) or exc}") from None
    if outer.specversion != "1.0":
        raise WireError("unknown_version", f"CloudEvents {outer.specversion[:20]}; 1.0 is read")
    content = (outer.datacontenttype or JSON.decode()).split(";")[0].strip().lower().encode()
    data = bytes(outer.data) or outer.data_base64
    if data is None:
        raise WireError("missing_field", "structured CloudEvent: it has no data")
    if content != JSON and (content != ARROW or bytes(outer.data)):
        raise WireError("invalid_field", f"datacontenttype {content[:80]!r}")
    if not outer.id:
        raise WireError("missing_field", "structured CloudEvent: its id is empty")
    return Envelope(find_type(outer.type), content, data, outer.id)


def _other_binding(headers: Mapping[str, bytes]) -> str:
    """Attributes as another protocol's binding writes them: HTTP's ``ce-id``, AMQP's."""
    found = next((n for n in headers if n.startswith(("ce-", "cloudevents"))), None)
    if found is None:
        return ""
    return f" ({found[:40]} is there: in Kafka the attributes are headers ce_id, ce_type, ...)"


def _without_content_type(value: bytes) -> str:
    """A structured event whose record does not say so."""
    if b'"specversion"' not in value[:10_000]:
        return ""
    return f"a CloudEvent in structured mode: its content-type must be {STRUCTURED.decode()}"


def invalid(exc: msgspec.ValidationError) -> WireError:
    """The error of a value that is JSON but not what the event's class says."""
    why = str(exc)
    if why.endswith(_MOMENTS):
        why += "; a time is written as in 2026-03-01T12:00:00Z"
    return WireError(_code(exc), why)


def _code(exc: msgspec.ValidationError) -> str:
    return "missing_field" if "missing required field" in str(exc) else "invalid_field"


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


_NONE = msgspec.Raw(b"")


@decodable
class _Structured(msgspec.Struct):
    specversion: str
    type: str
    id: str
    source: str
    data: msgspec.Raw = _NONE
    data_base64: bytes | None = None
    datacontenttype: str | None = None
