"""Small events -> records and back: everything but predictions, which come in thousands."""

from __future__ import annotations

import math
import re
import uuid
from codecs import BOM_UTF8
from contextlib import suppress
from dataclasses import fields
from typing import Any, TypeVar

import msgspec

from redistill.streams.errors import WireError
from redistill.streams.wire.envelope import (
    JSON,
    MAX_EVENT_BYTES,
    Encoded,
    RecordLike,
    headers_of,
    invalid,
    open_envelope,
    type_name,
)
from redistill.streams.wire.events import (
    TOPICS,
    TYPES,
    DeadLetter,
    Event,
    LabelObserved,
    bound_topic,
)
from redistill.streams.wire.faults import Faults, id_text
from redistill.streams.wire.foreign import looks_like, no_json, other_content, wrapped

__all__ = ["MAX_LETTER_BYTES", "decode", "encode", "identified"]

MAX_LETTER_BYTES = 262_144
"""A dead letter carries no more of the raw value than this."""

MAX_ID = 1_000
"""Characters of an event's id: it is a key of tables."""

E = TypeVar("E")

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000").search
"""The escape of NUL, and not of a backslash before the letters u0000."""
_ENCODER = msgspec.json.Encoder()
_DECODERS = {event: msgspec.json.Decoder(event) for event in TYPES.values()}


def encode(
    event: Event, *, source: str, event_id: str | None = None, bound: bool = False
) -> Encoded:
    """An event as a Kafka record.

    Parameters
    ----------
    event
        Any event of ``events``.
    source
        Who says it: CloudEvents' ``source``, a URI reference such as ``/redistill/stream/0``.
    event_id
        CloudEvents' ``id``: the same id means the same event, sent again. Default: a random one.
    bound
        A label goes to the topic of its own source.

    Raises
    ------
    WireError
        ``invalid_field``: the event breaks its own contract (a name that is none, NaN, a time
        without a zone); nobody could read it. ``oversized``: it is larger than is read.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from redistill.streams.wire.envelope import Record
    >>> from redistill.streams.wire.events import LabelObserved
    >>> at = datetime(2026, 1, 2, tzinfo=UTC)
    >>> made = encode(LabelObserved(id="a", model="m", label="x", observed_at=at), source="/doc")
    >>> made.topic, made.key, decode(Record("labels", 0, 0, 0, made.key, made.value, made.headers))
    ('labels', b'm', LabelObserved(id='a', model='m', label='x', ...))
    """
    kind = type(event)
    _check(event)  # before NaN is written, which JSON has no other word for than null
    value = _ENCODER.encode(event)
    if len(value) > MAX_EVENT_BYTES:
        raise WireError("oversized", f"{len(value)} bytes; at most {MAX_EVENT_BYTES} are read")
    read_value(value, kind)  # what is written can be read
    key = event.key if isinstance(event, DeadLetter) else event.model.encode()
    event_id = event_id or str(uuid.uuid4())
    headers = headers_of(kind, source=source, event_id=event_id)
    topic = TOPICS[kind]
    if bound and isinstance(event, LabelObserved):
        try:
            topic = bound_topic(event.source)
        except ValueError as error:
            raise WireError("invalid_field", f"source {error}") from None
    return Encoded(topic, key, value, headers, event_id)


def decode(record: RecordLike, *, expect: type[E] | None = None) -> E | Any:
    """Read one event.

    Parameters
    ----------
    record
        Binary or structured mode, JSON.
    expect
        The class that may come on this topic.

    Returns
    -------
    Event
        An instance of ``expect``, or of any class of ``events``. Fields that this program does not
        know are ignored.

    Raises
    ------
    WireError
        With a code for counting and a reason for a person: the record belongs in ``dlq``.
    """
    return identified(record, expect=expect)[1]


def identified(record: RecordLike, *, expect: type[E] | None = None) -> tuple[str, E | Any]:
    """As ``decode``, with the event's id before it: in structured mode no header tells it.

    Raises
    ------
    WireError
        As ``decode``; and where the id is none that a database stores.
    """
    envelope = open_envelope(record)
    if len(envelope.event_id) > MAX_ID or "\0" in envelope.event_id:
        raise WireError("invalid_field", f"the event's id is no text of at most {MAX_ID} letters")
    if expect is not None and envelope.event is not expect:
        raise WireError(
            "unknown_type", f"{type_name(envelope.event)} where {type_name(expect)} is expected"
        )
    if envelope.content_type != JSON:
        raise other_content(envelope.content_type)
    return envelope.event_id, read_value(envelope.data, envelope.event)


def read_value(data: bytes, event: type[E]) -> E:
    """Read the JSON of one event of a known class.

    Raises
    ------
    WireError
        ``malformed``, ``missing_field`` or ``invalid_field``.
    """
    made = _parsed(data, event)
    _check(made)
    return made


def _check(event: Any) -> None:
    """What no JSON Schema says of an event's fields.

    Raises
    ------
    WireError
        ``invalid_field``
    """
    if not isinstance(event, LabelObserved) or event.op == "retract":
        return
    if what := _instead_of_a_label(event.label):
        raise WireError(
            "invalid_field",
            f"the label is {what}: op `upsert` gives a label, `retract` takes it back",
        )


def _instead_of_a_label(label: Any) -> str:
    if label is None:
        return "null"
    if isinstance(label, float) and not math.isfinite(label):
        return str(label)
    return "empty" if isinstance(label, str) and not label.strip() else ""


def _parsed(data: bytes, event: type[E]) -> E:
    if b"\\u0000" in data and _NUL(data):
        raise WireError("invalid_field", "a text contains NUL, which no database stores")
    decoder: msgspec.json.Decoder[E] = _DECODERS[event]
    try:
        return decoder.decode(data.removeprefix(BOM_UTF8))
    except msgspec.ValidationError as exc:
        label = _relaxed(data) if event is LabelObserved else None
        if isinstance(label, event):
            return label
        if what := looks_like(data):
            raise WireError("invalid_field", f"no JSON object, but {what}") from None
        why = invalid(exc)
        raise WireError(why.code, why.reason + _wrapped(data, event)) from None
    except (RecursionError, ValueError) as exc:  # what is no JSON, no UTF-8, no date
        raise no_json(data, exc) from None


def _wrapped(data: bytes, event: type[Any]) -> str:
    """What an object of other fields seems to be."""
    with suppress(RecursionError, ValueError):
        if isinstance(raw := msgspec.json.decode(data.removeprefix(BOM_UTF8)), dict):
            return wrapped(raw, *(f.name for f in fields(event)))
    return ""


def _relaxed(data: bytes) -> LabelObserved | None:
    """A label of which the id, or a segment, came as a number: as its text, as in predictions;
    ``None`` where something else is wrong with it.
    """
    try:
        raw = msgspec.json.decode(data.removeprefix(BOM_UTF8))
        if not isinstance(raw, dict):
            return None
        raw["id"] = id_text(raw.get("id"))
        raw["segment"] = Faults().segment_of(raw.get("segment")) or {}
        return msgspec.convert(raw, LabelObserved)
    except (RecursionError, ValueError):  # what is no JSON, no UTF-8, no date
        return None
