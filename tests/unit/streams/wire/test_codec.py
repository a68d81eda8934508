"""Envelopes and small events: what is read, and the code under which the rest goes to the dlq."""

from __future__ import annotations

import dataclasses
import json
import math
from datetime import UTC, datetime, timedelta, timezone
from hashlib import blake2b
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.streams.errors import WireError
from redistill.streams.wire.codec import (
    MAX_EVENT_BYTES,
    Record,
    decode,
    encode,
    headers_of,
    id_hashes,
    signed,
)
from redistill.streams.wire.events import (
    DeadLetter,
    LabelObserved,
    LabelsRequested,
    PredictionMade,
    RequestedLabel,
)
from redistill.streams.wire.ids import Ids

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


def test_ce_time_and_content_type_parameters_are_accepted() -> None:
    headers = [(k, v) for k, v in _record(b"").headers if k != "content-type"]
    headers += [("ce_time", b"2026-01-01T00:00:00Z"), ("Content-Type", b"application/json; q=1")]
    assert decode(_record(_json(), headers)) == LABEL


@pytest.mark.parametrize("name", ["ce_specversion", "ce_type", "ce_id", "ce_source"])
def test_missing_attribute_is_a_missing_field(name: str) -> None:
    headers = [h for h in _record(b"").headers if h[0] != name]
    assert _code(_record(_json(), headers)) == "missing_field"


@pytest.mark.parametrize(
    ("header", "text", "code"),
    [
        ("ce_type", b"redistill.label.v2", "unknown_version"),
        ("ce_type", b"redistill.lable.v1", "unknown_type"),
        ("ce_type", b"com.example.thing", "unknown_type"),
        ("ce_type", b"\xff\xfe", "unknown_type"),
        ("ce_specversion", b"0.3", "unknown_version"),
        ("content-type", b"text/xml", "invalid_field"),
    ],
)
def test_foreign_attribute_is_refused(header: str, text: bytes, code: str) -> None:
    headers = [(k, text if k == header else v) for k, v in _record(b"").headers]
    assert _code(_record(_json(), headers)) == code


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
        (_json(label=True), "invalid_field"),
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


def test_another_event_than_expected_is_an_unknown_type() -> None:
    assert _code(_record(_json()), expect=PredictionMade) == "unknown_type"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"specversion": "0.3"}, "unknown_version"),
        ({"type": "redistill.label.v9"}, "unknown_version"),
        ({"datacontenttype": "text/xml"}, "invalid_field"),
        ({"id": 3}, "invalid_field"),
        ({"data": {}}, "missing_field"),
        ({"data": ...}, "missing_field"),
    ],
)
def test_broken_structured_event_is_named(change: dict[str, Any], code: str) -> None:
    body: dict[str, Any] = {
        "specversion": "1.0",
        "type": "redistill.label.v1",
        "id": "1",
        "source": "/t",
        "data": json.loads(_json()),
    }
    body = {k: v for k, v in (body | change).items() if v is not ...}
    headers = [("content-type", b"application/cloudevents+json; charset=utf-8")]
    assert _code(_record(json.dumps(body).encode(), headers)) == code


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


def siphash(text: bytes, k0: int, k1: int) -> int:
    """SipHash-2-4 as its paper states it, a word at a time."""
    v = [
        0x736F6D6570736575 ^ k0,
        0x646F72616E646F6D ^ k1,
        0x6C7967656E657261 ^ k0,
        0x7465646279746573 ^ k1,
    ]

    def turn(x: int, bits: int) -> int:
        return (x << bits | x >> (64 - bits)) % 2**64

    def rounds(times: int) -> None:
        for _ in range(times):
            for a, b, bits in ((0, 1, 13), (2, 3, 16), (0, 3, 21), (2, 1, 17)):
                v[a] = (v[a] + v[b]) % 2**64
                v[b] = turn(v[b], bits) ^ v[a]
                if (a, b) in ((0, 1), (2, 1)):
                    v[a] = turn(v[a], 32)

    whole = len(text) // 8 * 8
    last = text[whole:].ljust(7, b"\0") + bytes([len(text) % 256])
    for part in [*(text[i : i + 8] for i in range(0, whole, 8)), last]:
        word = int.from_bytes(part, "little")
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


@pytest.mark.parametrize(
    ("size", "want"),
    [(0, 0x726FDB47DD0E0E31), (7, 0xAB0200F58B01D137), (15, 0xA129CA6149BE45E5), (63, 0x958A324CEB064572)],
)  # fmt: skip
def test_the_reference_is_that_of_the_paper(size: int, want: int) -> None:
    k0, k1 = (int.from_bytes(bytes(range(i, i + 8)), "little") for i in (0, 8))
    assert siphash(bytes(range(size)), k0, k1) == want


@given(st.lists(st.text(max_size=200), max_size=30))
def test_id_hashes_are_those_of_siphash(ids: list[str]) -> None:
    ids = [i.encode("utf-8", "ignore").decode() for i in ids]
    key = blake2b(b"salt", digest_size=16).digest()
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    want = [siphash(i.encode(), k0, k1) for i in ids]
    assert id_hashes(ids, b"salt").tolist() == want
    column = Ids.of(["first", *ids, "last"])[1:-1]
    assert id_hashes(column, b"salt").tolist() == want
    assert Ids.joined([column, [], ids]) == [*ids, *ids]
    assert id_hashes([], b"salt").shape == (0,)


def test_id_hashes_sample_uniformly_and_depend_on_the_salt() -> None:
    ids = [f"request-{i}" for i in range(20_000)]
    one, two = id_hashes(ids, b"one"), id_hashes(ids, b"two")
    for hashes in (one, two):
        assert abs((hashes < 2.0**61).mean() - 0.125) < 4 * math.sqrt(0.125 * 0.875 / 20_000)
    both = ((one < 2.0**63) & (two < 2.0**63)).mean()
    assert abs(both - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 20_000)


def test_signed_keeps_all_64_bits() -> None:
    hashes = np.array([0, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)
    assert signed(hashes).tolist() == [0, 2**63 - 1, -(2**63), -1]
    assert signed(hashes).view(np.uint64).tolist() == hashes.tolist()
