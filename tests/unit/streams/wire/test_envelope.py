"""CloudEvents around events: both modes, and what is wrong with a record that cannot be read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from redistill.streams.errors import WireError
from redistill.streams.wire.envelope import (
    ARROW,
    JSON,
    MAX_EVENT_BYTES,
    UNREADABLE,
    Envelope,
    Record,
    checked_names,
    find_type,
    headers_of,
    open_envelope,
    type_name,
)
from redistill.streams.wire.events import TYPES, LabelObserved, PredictionMade


def record(value: bytes | None = b"{}", headers: Any = None) -> Record:
    if headers is None:
        headers = headers_of(LabelObserved, source="/t", event_id="1")
    return Record("labels", 0, 0, 0, b"m", value, headers)


def code(made: Record) -> str:
    with pytest.raises(WireError) as caught:
        open_envelope(made)
    return caught.value.code


def test_headers_that_are_written_are_read() -> None:
    headers = headers_of(PredictionMade, source="/t", event_id="1", content_type=ARROW)
    assert open_envelope(record(b"x", headers)) == Envelope(PredictionMade, ARROW, b"x", "1")
    assert [name for name, _ in headers][-1] == "ce_id", "all before it are alike in one producer"


def test_parameters_of_the_content_type_other_cases_and_ce_time_are_accepted() -> None:
    headers = [(k, v) for k, v in record().headers if k != "content-type"]
    assert open_envelope(record(b"{}", headers)).content_type == JSON
    headers += [("ce_time", b"2026-01-01T00:00:00Z"), ("Content-Type", b"Application/JSON; q=1")]
    assert open_envelope(record(b"{}", tuple(headers))).content_type == JSON


@pytest.mark.parametrize("name", ["ce_specversion", "ce_type", "ce_id", "ce_source"])
@pytest.mark.parametrize("text", [None, b"", ...], ids=["null", "empty", "absent"])
def test_missing_attribute_is_a_missing_field(name: str, text: Any) -> None:
    headers = [(k, text if k == name else v) for k, v in record().headers]
    assert code(record(b"{}", [h for h in headers if h[1] is not ...])) == "missing_field"


@pytest.mark.parametrize("text", [None, b""])
def test_content_type_that_is_null_is_json(text: bytes | None) -> None:
    headers = [(k, text if k == "content-type" else v) for k, v in record().headers]
    assert open_envelope(record(b"{}", headers)).content_type == JSON


def test_structured_event_that_does_not_say_so_is_told_how() -> None:
    with pytest.raises(WireError, match="content-type must be application/cloudevents"):
        open_envelope(structured()._replace(headers=()))


@pytest.mark.parametrize(
    ("header", "text", "want"),
    [
        ("ce_type", b"redistill.label.v2", "unknown_version"),
        ("ce_type", b"redistill.lable.v1", "unknown_type"),
        ("ce_type", b"com.example.thing", "unknown_type"),
        ("ce_type", b"\xff\xfe", "unknown_type"),
        ("ce_specversion", b"0.3", "unknown_version"),
    ],
)
def test_foreign_attribute_is_refused(header: str, text: bytes, want: str) -> None:
    headers = [(k, text if k == header else v) for k, v in record().headers]
    assert code(record(b"{}", headers)) == want


def test_tombstones_and_unreadable_batches_say_why() -> None:
    with pytest.raises(WireError, match="a tombstone"):
        open_envelope(record(None))
    with pytest.raises(WireError, match="does not decompress"):
        open_envelope(record(None, [(UNREADABLE, b"it does not decompress")]))


def test_size_is_bounded() -> None:
    assert len(open_envelope(record(b"x" * MAX_EVENT_BYTES)).data) == MAX_EVENT_BYTES
    assert code(record(b"x" * (MAX_EVENT_BYTES + 1))) == "oversized"


def structured(**changes: Any) -> Record:
    body: dict[str, Any] = {
        "specversion": "1.0", "type": "redistill.label.v1", "id": "1", "source": "/t",
        "data": {"id": "a"},
    }  # fmt: skip
    body = {k: v for k, v in (body | changes).items() if v is not ...}
    headers = [("content-type", b"application/cloudevents+json; charset=utf-8")]
    return record(json.dumps(body).encode(), headers)


def test_structured_event_is_opened_to_its_data() -> None:
    made = open_envelope(structured(datacontenttype="application/json; charset=utf-8", extra=1))
    assert (made.event, made.content_type, json.loads(made.data), made.event_id) == (
        LabelObserved, JSON, {"id": "a"}, "1",
    )  # fmt: skip


def test_structured_event_may_carry_its_data_in_base64() -> None:
    given = structured(data=..., data_base64="eyJpZCI6ImEifQ==", datacontenttype=None)
    assert open_envelope(given)[1:3] == (JSON, b'{"id":"a"}')
    given = structured(data=..., data_base64="AAE=", datacontenttype=ARROW.decode())
    assert open_envelope(given)[1:3] == (ARROW, b"\0\1")


@pytest.mark.parametrize(
    ("change", "want"),
    [
        ({"specversion": "0.3"}, "unknown_version"),
        ({"type": "redistill.label.v9"}, "unknown_version"),
        ({"datacontenttype": "text/xml"}, "invalid_field"),
        ({"datacontenttype": ARROW.decode()}, "invalid_field"),
        ({"id": ""}, "missing_field"),
        ({"data_base64": "not base64", "data": ...}, "invalid_field"),
        ({"id": 3}, "invalid_field"),
        ({"data": ...}, "missing_field"),
    ],
)
def test_broken_structured_event_is_named(change: dict[str, Any], want: str) -> None:
    assert code(structured(**change)) == want


@pytest.mark.parametrize("value", [b"", b"{", b"\xff", b'{"x":' * 100_000])
def test_structured_event_that_is_no_json_is_malformed(value: bytes) -> None:
    assert code(record(value, structured().headers)) == "malformed"


def test_every_type_is_found_by_its_name() -> None:
    for name, event in TYPES.items():
        assert find_type(name) is event
        assert type_name(event) == name
    with pytest.raises(WireError, match=r"this program reads redistill\.label\.v1"):
        find_type("redistill.label.v7")


@pytest.mark.parametrize(
    ("model", "version", "want"),
    [
        ("credit-eu.v2_x", "2026-03 (b)", None),
        (None, "1", "missing_field"),
        ("m", "", "missing_field"),
        ("Credit", "1", "invalid_field"),
        ("a/b", "1", "invalid_field"),
        ("m" * 81, "1", "invalid_field"),
        ("m", "v" * 81, "invalid_field"),
        ("m", "a\nb", "invalid_field"),
    ],
)
def test_names_that_are_none_are_refused(
    model: str | None, version: str | None, want: str | None
) -> None:
    if want is None:
        assert checked_names(model, version) == (model, version)
        return
    with pytest.raises(WireError) as caught:
        checked_names(model, version)
    assert caught.value.code == want
