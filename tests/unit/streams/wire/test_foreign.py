"""Foreign bytes and names: what they are is said, nothing but a ``WireError`` comes of them, and
the records beside them are read as if they were alone.
"""

from __future__ import annotations

import base64
import gzip
import json
import pickle
import random
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redistill.streams.errors import StoreUnavailable, WireError
from redistill.streams.wire import columns
from redistill.streams.wire.block import Feature, PredictionBlock, Schema
from redistill.streams.wire.codec import (
    ARROW,
    Decoded,
    Record,
    decode,
    decode_predictions,
    encode_batch,
    headers_of,
)
from redistill.streams.wire.columns import printable
from redistill.streams.wire.envelope import open_envelope
from redistill.streams.wire.events import LabelObserved, PredictionMade
from redistill.streams.wire.foreign import looks_like, other_content, told
from redistill.streams.wire.messages import read_value

GOLDEN = Path(__file__).parents[3] / "golden"
START_US = 1_767_000_000_000_000


def schema_with(*names: str, kind: Any = "float") -> Schema:
    own = [Feature(name=n, kind=kind, values=("q",) if kind == "category" else ()) for n in names]
    return Schema(features=(Feature(name="y"), *own), classes=("yes", "no"))


def row(i: int = 0, **changes: Any) -> bytes:
    body = {
        "id": f"r{i}", "model": "m", "version": "1", "served_at": "2026-01-02T03:04:05Z",
        "prediction": "yes", "features": {"y": 1.0},
    }  # fmt: skip
    return json.dumps(body | changes).encode()


def record(
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]] | None = None,
    *,
    event: type = PredictionMade,
) -> Record:
    if headers is None:
        headers = headers_of(event, source="/t", event_id="1")
    return Record("predictions", 0, 0, 0, b"m", value, headers)


def batch(**given: Any) -> Record:
    raw = encode_batch(
        model="m", version="1", ids=["a", "b"], served_at=np.array([START_US, START_US]),
        prediction=["yes", "no"], **given,
    )  # fmt: skip
    headers = headers_of(PredictionMade, source="/t", event_id="1", content_type=ARROW)
    return record(raw, headers)


def places(decoded: Decoded) -> list[str]:
    """Where each record is: once in blocks, or among the dead; all of them are somewhere."""
    where: dict[int, str] = {}
    for of in decoded.record_of:
        for i in set(of.tolist()):
            where[i] = "block"
    for i, why in decoded.dead:
        assert i not in where, "a record is counted, or dead, and never both"
        where[i] = why.code
    assert sorted(where) == list(range(len(where)))
    return [where[i] for i in sorted(where)]


# ------------------------------------------------------------------------------ what it is


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (b"\x00\x00\x00\x00\x07" + row(), "magic byte 0, schema 7) before JSON"),
        (b"\x00\x00\x00\x01\x00\x02yes", "schema 256) before Avro or Protobuf"),
        (b"\x03\x00" + bytes(16) + row(), "AWS Glue"),
        (row().decode().encode("utf-16"), "UTF-16"),
        (row().decode().encode("utf-16-be"), "UTF-16"),
        (row().decode().encode("utf-16-le"), "UTF-16"),
        (row().decode().encode("utf-32"), "UTF-32"),
        (row().decode().encode("utf-32-be"), "UTF-32"),
        (row().decode().encode("utf-32-le"), "UTF-32"),
        (gzip.compress(row()), "gzip"),
        (zlib.compress(row()), "zlib"),
        (b"\x28\xb5\x2f\xfd1234", "zstd"),
        (pickle.dumps({"id": "r"}), "pickle"),
        (base64.b64encode(row()), "base64"),
        (str(json.loads(row())).encode(), "json.dumps"),
        (json.dumps(row().decode()).encode(), "serialized twice"),
        (b"[" + row() + b"]", "JSON array"),
        (b"<event/>", "XML"),
        (b"PAR1....", "Parquet"),
        (b"ARROW1\0\0", "Arrow file"),
        (batch().value or b"", "say so in the header content-type"),
        (b"Obj\x01..", "Avro"),
        (b"  ", "empty"),
        (b"", "empty"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
@pytest.mark.parametrize("bare", [False, True], ids=["events", "no headers"])
def test_foreign_value_is_called_by_its_name(value: bytes, what: str, bare: bool) -> None:
    for event in (PredictionMade, LabelObserved):
        made = record(value, [] if bare else None, event=event)
        if event is PredictionMade:
            ((_, why),) = decode_predictions([made, record(row())], lambda _: None).dead
        else:
            with pytest.raises(WireError) as caught:
                decode(made)
            why = caught.value
        assert what in why.reason
        assert "codec can't" not in why.reason


def test_what_is_an_event_of_ours_looks_like_nothing() -> None:
    for path in GOLDEN.glob("*.v1.json"):
        value = json.loads(path.read_text())["value"]
        if isinstance(value, dict):
            assert told(json.dumps(value).encode()) == "", path
    assert looks_like(b"\xef\xbb\xbf" + row()) == ""


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (row(), "JSON: say so in the header content-type"),
        (gzip.compress(row()), "gzip"),
        (b"ARROW1\0\0", "Arrow file"),
        (b"\x00\x00\x00\x00\x07abc", "schema registry"),
        (b"abc", "something else"),
        (b"\xff\xff\xff\xff\x10", "no Arrow IPC stream: "),
    ],
)
def test_value_that_should_have_been_arrow_is_called_by_its_name(value: bytes, what: str) -> None:
    headers = headers_of(PredictionMade, source="/t", event_id="1", content_type=ARROW)
    ((_, why),) = decode_predictions([record(value, headers)], lambda _: None).dead
    assert why.code == "malformed"
    assert what in why.reason


@pytest.mark.parametrize("between", [b"", b"\n", b",\r\n"])
def test_several_events_in_one_record_are_called_json_lines(between: bytes) -> None:
    label = json.dumps(json.loads((GOLDEN / "label.v1.json").read_text())["value"]).encode()
    ((_, why),) = decode_predictions([record(row(1) + between + row(2))], lambda _: None).dead
    assert "JSON lines" in why.reason
    with pytest.raises(WireError, match="JSON lines"):
        decode(record(label + between + label, event=LabelObserved))


def test_byte_order_mark_of_utf_8_is_let_in() -> None:
    decoded = decode_predictions([record(b"\xef\xbb\xbf" + row())], lambda _: None)
    assert places(decoded) == ["block"]
    raw = json.loads((GOLDEN / "label.v1.json").read_text())["value"]
    made = record(b"\xef\xbb\xbf" + json.dumps(raw).encode(), event=LabelObserved)
    assert isinstance(decode(made), LabelObserved)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"application/cloudevents-batch+json; charset=utf-8", "batch mode"),
        (b"application/cloudevents+avro", "structured mode is read as"),
        (b"application/avro", "Avro is not read"),
        (b"application/x-protobuf", "Protobuf is not read"),
        (b"application/vnd.apache.arrow.file", "IPC stream"),
        (b"text/plain", "text/plain"),
    ],
)
def test_foreign_content_type_is_called_by_its_name(content: bytes, what: str) -> None:
    headers = headers_of(PredictionMade, source="/t", event_id="1", content_type=content)
    ((_, why),) = decode_predictions([record(b"[]", headers)], lambda _: None).dead
    assert why.code == "invalid_field"
    assert what in why.reason
    assert other_content(content).code == "invalid_field"


# ------------------------------------------------------------------------------------ names

HOSTILE = [
    'pipe 6" wide', "a\\b", "a\tb", "a\nb", "", " ", "class", "__init__", "__dict__", "f0", "x0",
    "self", "id", "features", "é", "\u2028", "\x7f", "\0", "n\0l", "x" * 5_000, "\ufeff", "None",
    "feature.x", "segment.x", '"', "\\", '\\"', "\\u0000", "{", "age_(20, 30]", "x[0-3]",
]  # fmt: skip
names = st.one_of(
    st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
)


def every_hostile_name(test: Any) -> Any:
    for name in HOSTILE:
        test = example(name=name)(test)
    return test


@every_hostile_name
@settings(deadline=None, max_examples=50)
@given(name=names)
def test_name_is_read_as_it_is_and_its_neighbours_count(name: str) -> None:
    """Of an unregistered model, a registered number or category, and an unknown extra."""
    if name == "y":
        return
    given_rows = [
        row(i, features={"y": 1, name: (7.0, "q")[i % 2]} if i % 3 else {"y": 2}) for i in range(9)
    ]
    records = [record(v) for v in given_rows]

    def block(schema: Schema | None) -> PredictionBlock:
        decoded = decode_predictions(records, lambda _: schema)
        assert decoded.dead == []
        (only,) = decoded.blocks
        assert only.ids == [f"r{i}" for i in range(9)]
        return only

    numbers = [float("nan"), float("nan"), 7.0] * 3  # rows 1, 4, 7 and 2, 5, 8: a word, or 7
    words = [float("nan"), 0.0, -1.0] * 3
    for i in range(9):
        if i % 3:
            numbers[i] = (7.0, float("nan"))[i % 2]
            words[i] = (-1.0, 0.0)[i % 2]
    number = block(schema_with(name))
    np.testing.assert_array_equal(number.features[:, 1], np.array(numbers, np.float32))
    assert number.wrong_type == {name: 3}
    category = block(schema_with(name, kind="category"))
    np.testing.assert_array_equal(category.features[:, 1], np.array(words, np.float32))
    assert block(schema_with()).unknown_features == {printable(name): 6}
    assert block(None).flawless


@every_hostile_name
@settings(deadline=None, max_examples=30)
@given(name=names)
def test_name_in_an_arrow_batch_is_read_as_it_is(name: str) -> None:
    made = batch(
        feature_names=["y", "-" + name], features=np.ones((2, 2), np.float32),
        categories={"+" + name: [name, None]}, segments={name: [name, "b"]},
    )  # fmt: skip
    decoded = decode_predictions([made, record(row())], lambda _: None)
    assert places(decoded) == ["block", "block"]
    assert decoded.blocks[0].flawless
    decoded = decode_predictions([made], lambda _: schema_with("-" + name))
    assert decoded.blocks[0].unknown_features == {printable("+" + name): 2}


def test_name_that_no_field_may_have_is_expected_like_any_other() -> None:
    """An unknown extra that keeps coming does not send every row the slow way, and is counted."""
    records = [record(row(i, features={"y": i, 'w"': None, "v": [1]})) for i in range(200)]
    (block,) = decode_predictions(records, lambda _: schema_with()).blocks
    assert block.unknown_features == {'w"': 200, "v": 200}
    assert block.features[:, 0].tolist() == list(range(200))


@pytest.mark.parametrize("registered", [True, False], ids=["registered", "unregistered"])
@pytest.mark.parametrize("text", [b'"\\ud800"', b'"a\\udfffb"'])
def test_half_a_surrogate_pair_is_one_dead_letter(text: bytes, registered: bool) -> None:
    schema = schema_with() if registered else None
    for place in (b"{%s: 1}", b'{"y": %s}'):
        odd = row(features="?").replace(b'"?"', place % text)
        decoded = decode_predictions([record(row()), record(odd), record(row())], lambda _: schema)
        assert places(decoded) == ["block", "malformed", "block"]
        assert "surrogate pair" in decoded.dead[0][1].reason


# ------------------------------------------------------------------------------------ bytes

TOKENS = [
    b'"', b"\\", b"\\u0000", b"\\ud800", b"NaN", b"null", b"Infinity", b"1e999", b"-0", b"{", b"}",
    b"[[[[[", b"]", b",", b":", b"\xff", b"\0", b"\xed\xa0\x80", b"true", b"9" * 400, b'""',
    b"9223372036854775808", b"\xef\xbb\xbf", b"0001-01-01T00:00:00+23:59",
    b"9999-12-31T23:59:59-23:59",
]  # fmt: skip


def mutated(rng: random.Random, value: bytes) -> bytes:
    out = bytearray(value)
    for _ in range(rng.choice([1, 1, 2, 3, 8])):
        at, kind = rng.randrange(len(out) + 1), rng.randrange(4)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at:at] = rng.choice(TOKENS)
        elif kind == 2:
            del out[at : at + rng.randrange(1, 9)]
        else:
            out[at : at + rng.randrange(9)] = rng.choice(TOKENS)
    return bytes(out[: rng.randrange(len(out) + 1)] if rng.random() < 0.05 else out)


def mutated_headers(rng: random.Random, headers: Any) -> list[tuple[str, bytes | None]]:
    out: list[tuple[str, bytes | None]] = list(headers)
    at = rng.randrange(len(out))
    name, text = out[at]
    kind = rng.randrange(5)
    if kind == 0:
        del out[at]
    elif kind == 1:
        out[at] = (name, None)
    elif kind == 2:
        out[at] = (name, mutated(rng, text or b""))
    elif kind == 3:
        out[at] = (name.upper() + "\ufffd", text)
    else:
        out.insert(at, ("x", b"\xff"))
    return out


def good_records() -> list[Record]:
    x = np.ones((2, 2), np.float32)
    full: dict[str, Any] = {
        "segment": {"channel": "web"}, "scores": [0.5, 0.5], "latency_ms": 2.5, "sample_rate": 0.5,
    }  # fmt: skip
    return [
        record(row(0, **full)),
        record(row(1, model="other", features={"q": "s", 'p"': 1})),
        batch(feature_names=["y", "z"], features=x, categories={"c": ["a", None], "f": [True, None]},
              scores=x, segments={"k": ["v", None]}, latency_ms=x[0], sample_rate=x[0] / 2),
        batch(),
    ]  # fmt: skip


def read_golden(path: Path) -> Record:
    made = json.loads(path.read_text())
    headers = [(name, text.encode()) for name, text in made["headers"]]
    return record(json.dumps(made["value"]).encode(), headers)


@pytest.mark.parametrize("seed", range(4))
def test_no_bytes_of_predictions_raise_and_good_neighbours_count(seed: int) -> None:
    rng = random.Random(seed)
    good = good_records()
    schemas = {"m": schema_with("z")}.get
    for _ in range(150):
        picked = [(rng.choice(good), rng.random() < 0.5) for _ in range(rng.choice([1, 2, 5, 9]))]
        records = [
            r._replace(
                value=mutated(rng, r.value or b""),
                headers=mutated_headers(rng, r.headers) if rng.random() < 0.2 else r.headers,
                key=rng.choice([b"m", b"\xff", None, b"other", b""]),
            )
            if spoiled
            else r
            for r, spoiled in picked
        ]
        where = places(decode_predictions(records, schemas))
        assert len(where) == len(records)
        assert "failed" not in where, "our own code raised"
        alone = [at for at, (_, spoiled) in zip(where, picked, strict=True) if not spoiled]
        assert set(alone) <= {"block"}


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.v1.json")), ids=lambda p: p.stem)
def test_no_bytes_of_any_event_raise_anything_but_a_wire_error(path: Path) -> None:
    rng = random.Random(path.stem)
    golden = read_golden(path)
    for _ in range(300):
        headers: Any = golden.headers
        if rng.random() < 0.5:
            headers = mutated_headers(rng, headers)
        made = golden._replace(value=mutated(rng, golden.value or b""), headers=headers)
        for read in (open_envelope, decode):
            try:
                read(made)
            except WireError as why:
                str(why).encode()  # it can be told


# ---------------------------------------------------------------------------- defects of ours


def test_record_that_our_own_code_chokes_on_is_the_only_one_that_is_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = columns.times

    def choking(texts: Sequence[str]) -> Any:
        if any("05.7" in text for text in texts):
            raise KeyError("a defect")
        return read(texts)

    monkeypatch.setattr("redistill.streams.wire.grouped.times", choking)
    records = [record(row(i, served_at=f"2026-01-02T03:04:05.{i}Z")) for i in range(9)]
    decoded = decode_predictions(records, lambda _: schema_with())
    assert places(decoded) == ["block"] * 7 + ["failed", "block"]
    assert [i for b in decoded.blocks for i in b.ids] == [f"r{i}" for i in range(9) if i != 7]
    reason = decoded.dead[0][1].reason
    assert reason.startswith("KeyError at test_foreign.py:")
    assert reason.endswith(": 'a defect'")


@pytest.mark.parametrize("error", [MemoryError(), StoreUnavailable("away")])
def test_what_is_no_fault_of_the_records_is_passed_on(error: Exception) -> None:
    def schemas(_: str) -> Schema | None:
        raise error

    with pytest.raises(type(error)):
        decode_predictions([record(row())], schemas)


CAUSES: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "connect": (lambda e: {"schema": {"type": "struct"}, "payload": e}, "schemas.enable=false"),
    "debezium": (lambda e: {"before": None, "after": e, "op": "c", "ts_ms": 1}, "Debezium"),
    "wrapped": (lambda e: {"value": e}, "its field 'value'"),
    "capitals": (lambda e: {k.upper(): v for k, v in e.items()}, "'id' instead of 'ID'"),
}


@pytest.mark.parametrize("name", CAUSES)
def test_an_object_that_is_not_the_event_says_where_it_is(name: str) -> None:
    change, what = CAUSES[name]
    label = json.loads((GOLDEN / "label.v1.json").read_text())
    ((_, why),) = decode_predictions(
        [record(json.dumps(change(json.loads(row()))).encode())], lambda _: None
    ).dead
    assert what in why.reason
    value = json.dumps(change(label["value"])).encode()
    with pytest.raises(WireError, match=what):
        read_value(value, LabelObserved)


def test_times_and_numbers_that_json_has_not_say_how_they_are_written() -> None:
    label = json.loads((GOLDEN / "label.v1.json").read_text())["value"]
    with pytest.raises(WireError, match="a time is written as in 2026"):
        read_value(json.dumps(label | {"observed_at": 1767225600000}).encode(), LabelObserved)
    with pytest.raises(WireError, match="NaN, which is no JSON"):
        read_value(json.dumps(label | {"confidence": float("nan")}).encode(), LabelObserved)
    ((_, why),) = decode_predictions(
        [record(json.dumps(json.loads(row()) | {"served_at": 1767225600000}).encode())],
        lambda _: None,
    ).dead
    assert "a time is written as in 2026" in why.reason


def test_number_of_thousands_of_digits_is_told() -> None:
    value = row().replace(b'"r0"', b"9" * 5_000)
    ((_, why),) = decode_predictions([record(value)], lambda _: None).dead
    assert "more digits than are read" in why.reason


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        ([("content-type", b"text/plain")], "application/json and"),
        ([("content-type", b'"application/json"')], "encodeStrings"),
        ([("content-type", b"application/json"), ("ce-id", b"1")], "ce-id is there"),
        ([("cloudEvents:type", b"x")], "headers ce_id"),
    ],
    ids=["text", "spring", "http", "amqp"],
)
def test_headers_of_other_bindings_are_told(headers: list[tuple[str, bytes]], what: str) -> None:
    given = [*headers]
    if headers[0][1] in (b"text/plain", b'"application/json"'):
        given += headers_of(PredictionMade, source="/t", event_id="1")[1:]
    ((_, why),) = decode_predictions([record(row(), given)], lambda _: None).dead
    assert what in why.reason


def test_a_type_in_quotes_is_told() -> None:
    headers = dict(headers_of(PredictionMade, source="/t", event_id="1"))
    headers["ce_type"] = b'"' + headers["ce_type"] + b'"'
    ((_, why),) = decode_predictions([record(row(), [*headers.items()])], lambda _: None).dead
    assert "encodeStrings" in why.reason
