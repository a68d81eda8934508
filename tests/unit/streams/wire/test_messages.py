"""Small events: what is written can be read, and the code under which the rest goes to the dlq."""

from __future__ import annotations

import dataclasses
import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.streams.errors import WireError
from redistill.streams.wire.envelope import MAX_EVENT_BYTES, Record, headers_of
from redistill.streams.wire.events import (
    DeadLetter,
    LabelObserved,
    LabelsRequested,
    PredictionMade,
    RequestedLabel,
)
from redistill.streams.wire.messages import decode, encode

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LABEL = LabelObserved(id="a", model="m", label="x", observed_at=AT)


def _record(value: bytes | None, headers: list[tuple[str, bytes]] | None = None) -> Record:
    if headers is None:
        headers = headers_of(LabelObserved, source="/t", event_id="1")
    return Record("labels", 0, 0, 0, b"m", value, headers)


def _json(**changes: Any) -> bytes:
    body = json.loads(encode(LABEL, source="/t").value) | changes
    return json.dumps({k: v for k, v in body.items() if v is not ...}).encode()


def _code(record: Record, **kwargs: Any) -> str:
    with pytest.raises(WireError) as caught:
        decode(record, **kwargs)
    return caught.value.code


def test_event_survives_the_round_trip_as_a_tuple_of_headers_too() -> None:
    made = encode(LABEL, source="/t", event_id="e")
    record = Record("labels", 0, 0, 0, made.key, made.value, tuple(made.headers))
    assert decode(record, expect=LabelObserved) == LABEL
    assert (made.topic, made.key, made.event_id) == ("labels", b"m", "e")


def test_unknown_fields_are_ignored() -> None:
    assert decode(_record(_json(invented_later=1))) == LABEL


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "malformed"),
        (b"", "malformed"),
        (b"{", "malformed"),
        (b"\xff\xfe{}", "malformed"),
        (b'{"id": "\xff"}', "malformed"),
        (b'{"x":' * 100_000, "malformed"),
        (b"[]", "invalid_field"),
        (b"{}", "missing_field"),
        (_json(label=[1]), "invalid_field"),
        (_json(id=[1]), "invalid_field"),
        (_json(id=2.0**53 + 2), "invalid_field"),
        (_json(model="No Such Name"), "invalid_field"),
        (_json(id=""), "invalid_field"),
        (_json(id="x" * 201), "invalid_field"),
        (_json(id="a\0b"), "invalid_field"),
        (_json(observed_at="2026-01-02T03:04:05"), "invalid_field"),
        (_json(observed_at="soon"), "invalid_field"),
        (_json(observed_at=...), "missing_field"),
        (_json(confidence=1.5), "invalid_field"),
        (_json(op="delete"), "invalid_field"),
        (b" " * (MAX_EVENT_BYTES + 1), "oversized"),
    ],
)
def test_broken_value_is_named(value: bytes | None, code: str) -> None:
    assert _code(_record(value)) == code


@pytest.mark.parametrize(
    ("text", "contains"),
    [("a\0b", True), ("a\\u0000b", False), ("a\\\0b", True), ("\\\\u0000", False)],
)
def test_nul_is_refused_and_the_letters_of_its_escape_are_not(text: str, contains: bool) -> None:
    if contains:
        assert _code(_record(_json(label=text))) == "invalid_field"
    else:
        assert decode(_record(_json(label=text))).label == text


@pytest.mark.parametrize(
    ("label", "what"),
    [(None, "null"), ("", "empty"), (" \t", "empty"), (math.nan, "nan"), (-math.inf, "-inf")],
)
def test_upsert_without_a_label_is_neither_written_nor_read(label: Any, what: str) -> None:
    with pytest.raises(WireError, match=f"the label is {what}: op `upsert` gives"):
        encode(dataclasses.replace(LABEL, label=label), source="/t")
    assert _code(_record(_json(label=label))) in ("invalid_field", "malformed")  # NaN is no JSON
    taken_back = dataclasses.replace(LABEL, label=None, op="retract")
    assert decode(_record(encode(taken_back, source="/t").value)) == taken_back


def test_upsert_whose_label_is_left_out_is_refused() -> None:
    assert _code(_record(_json(label=...))) == "invalid_field"


def test_event_that_is_not_json_is_refused() -> None:
    headers = [(k, b"text/xml" if k == "content-type" else v) for k, v in _record(b"").headers]
    assert _code(_record(_json(), headers)) == "invalid_field"


def test_key_is_the_models_name_and_of_a_dead_letter_its_own() -> None:
    letter = DeadLetter(
        topic="t", partition=0, offset=0, code="malformed", reason="", key=b"\xff", value=b"",
        value_bytes=0, at=AT,
    )  # fmt: skip
    assert encode(letter, source="/t").key == b"\xff"
    one, two = encode(LABEL, source="/t"), encode(LABEL, source="/t")
    assert one.event_id != two.event_id


def test_another_event_than_expected_is_an_unknown_type() -> None:
    assert _code(_record(_json()), expect=PredictionMade) == "unknown_type"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_event_that_nobody_could_read_is_not_written(value: float) -> None:
    event = dataclasses.replace(LABEL, confidence=value)
    made = encode(event, source="/t")  # may be unknown: written as null
    assert decode(_record(made.value)).confidence is None
    with pytest.raises(WireError, match="invalid_field"):
        encode(dataclasses.replace(LABEL, model="Not A Name"), source="/t")
    with pytest.raises(WireError, match="invalid_field"):
        encode(dataclasses.replace(LABEL, observed_at=datetime(2026, 1, 1)), source="/t")  # noqa: DTZ001
    row = RequestedLabel(id="a", served_at=AT, inclusion_probability=value)
    wish = LabelsRequested(
        request_id=UUID(int=1), model="m", version="1", rows=[row], reason="", at=AT
    )
    with pytest.raises(WireError, match="invalid_field"):
        encode(wish, source="/t")


def test_oversized_event_is_not_written() -> None:
    letter = DeadLetter(
        topic="t", partition=0, offset=0, code="malformed", reason="", key=None,
        value=b"x" * MAX_EVENT_BYTES, value_bytes=MAX_EVENT_BYTES, at=AT,
    )  # fmt: skip
    with pytest.raises(WireError, match="oversized"):
        encode(letter, source="/t")


def test_times_keep_their_instant_whatever_the_offset() -> None:
    east = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    made = encode(dataclasses.replace(LABEL, observed_at=east), source="/t")
    assert decode(_record(made.value)).observed_at == AT


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_wire_error(value: bytes) -> None:
    with pytest.raises(WireError):
        decode(_record(value))
