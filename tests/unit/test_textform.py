"""One text of a value: what each value is called, and that every way in calls it so, the logger,
JSON and Arrow from other producers, and files.
"""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redistill.streams.client.batcher import Batcher, Logged, Outgoing
from redistill.streams.client.logger import PredictionLogger
from redistill.streams.client.release import FALLBACK
from redistill.streams.engine.label_rows import read_labels
from redistill.streams.wire.block import Codes, Feature, PredictionBlock, Schema
from redistill.streams.wire.codec import ARROW, Record, decode_predictions, headers_of
from redistill.streams.wire.events import LabelObserved, PredictionMade
from redistill.textform import NoText, category_text, number_text, scalar, text_of
from redistill.workers.models import label_import

NOW = datetime(2026, 11, 25, tzinfo=UTC)


class Colour(Enum):
    RED = "red"


class Word(str, Enum):  # noqa: UP042 - as services wrote it before StrEnum
    RED = "red"


class Plain(StrEnum):
    RED = "red"


class Grade(IntEnum):
    A = 1


class NAType:
    """As pandas has it: neither equal nor different, and no truth either."""

    def __eq__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = None  # type: ignore[assignment]


class NaTType(datetime):
    """As pandas has it: a datetime."""

    def isoformat(self, *_: Any) -> str:  # type: ignore[override]
        return "NaT"


class Tensor:
    """A tensor without dimensions, as torch has them: its text is no value's."""

    ndim = 0

    def __init__(self, value: Any, dtype: Any) -> None:
        self.value, self.dtype = value, np.dtype(dtype)

    def item(self) -> Any:
        return self.dtype.type(self.value).item()

    def __str__(self) -> str:
        return f"tensor({self.value})"


class ObjectId:
    """An id of somebody's database: its class says what its text is."""

    def __str__(self) -> str:
        return "65f0c0ffee"


UUID7 = uuid.UUID(int=7)
VALUES: dict[str, tuple[Any, str]] = {
    "text": ("007", "007"),
    "numpy text": (np.str_("a"), "a"),
    "empty text": ("", ""),
    "enum of texts": (Word.RED, "red"),
    "StrEnum": (Plain.RED, "red"),
    "enum": (Colour.RED, "red"),
    "IntEnum": (Grade.A, "1"),
    "true": (True, "true"),
    "numpy true": (np.bool_(True), "true"),
    "false": (np.False_, "false"),
    "int": (7, "7"),
    "whole float": (7.0, "7"),
    "numpy int": (np.int64(7), "7"),
    "numpy float": (np.float64(7.0), "7"),
    "float32": (np.float32(7), "7"),
    "uint64": (np.uint64(2**64 - 1), "18446744073709551615"),
    "float id of pandas": (143349558619.0, "143349558619"),
    "int beyond 2^53": (2**53 + 1, "9007199254740993"),
    "minus zero": (-0.0, "0"),
    "fraction": (0.1, "0.1"),
    "fraction of float32": (np.float32(0.1), "0.1"),
    "many digits": (0.1234567890123, "0.1234567890123"),
    "decimal": (Decimal("1.50"), "1.5"),
    "whole decimal": (Decimal("2.00"), "2"),
    "long decimal": (Decimal("12345678901234567890"), "12345678901234567890"),
    "bytes": (b"caf\xc3\xa9", "café"),
    "numpy bytes": (np.bytes_(b"a"), "a"),
    "bytearray": (bytearray(b"a"), "a"),
    "array without dimensions": (np.array(7), "7"),
    "tensor": (Tensor(3, np.int64), "3"),
    "flag of a tensor": (Tensor(True, np.bool_), "true"),
    "float32 of a tensor": (Tensor(0.1, np.float32), "0.1"),
    "scalar of Arrow": (pa.scalar(7), "7"),
    "uuid": (UUID7, str(UUID7)),
    "date": (date(2026, 3, 1), "2026-03-01"),
    "naive time": (datetime(2026, 3, 1, 12), "2026-03-01T12:00:00"),  # noqa: DTZ001
    "time": (datetime(2026, 3, 1, 12, tzinfo=UTC), "2026-03-01T12:00:00Z"),
    "time with an offset": (
        datetime(2026, 3, 1, 14, tzinfo=timezone(timedelta(hours=2))),
        "2026-03-01T12:00:00Z",
    ),
    "numpy time": (np.datetime64("2026-03-01T12:00:00.000000000"), "2026-03-01T12:00:00"),
    "numpy day": (np.datetime64("2026-03-01"), "2026-03-01"),
    "object with a text": (ObjectId(), "65f0c0ffee"),
    "ratio": (Fraction(1, 3), "1/3"),
}
MISSING = {
    "none": None,
    "nan": float("nan"),
    "numpy nan": np.float32("nan"),
    "decimal nan": Decimal("NaN"),
    "NA": NAType(),
    "NaT": NaTType(2026, 1, 1),
    "numpy NaT": np.datetime64("NaT"),
    "none of Arrow": pa.scalar(None),
}
NONE: dict[str, tuple[Any, str]] = {
    "infinity": (float("inf"), "infinite"),
    "decimal infinity": (Decimal("-Infinity"), "infinite"),
    "float beyond 2^53": (2.0**53 + 2, "beyond 2.53"),
    "float32 beyond 2^24": (np.float32(2**24 + 2), "beyond 2.24"),
    "bytes of another encoding": (b"\xff", "no UTF-8"),
    "list": ([1], "is a list"),
    "dict": ({"a": 1}, "is a dict"),
    "array": (np.array([1.0]), "is a ndarray"),
    "object": (object(), "is a object"),
    "complex": (1j, "is a complex"),
}


@pytest.mark.parametrize("name", VALUES)
def test_every_value_has_one_text(name: str) -> None:
    value, text = VALUES[name]
    found = text_of(value)
    assert found == text
    assert type(found) is str


@pytest.mark.parametrize("name", MISSING)
def test_missing_values_have_none(name: str) -> None:
    assert text_of(MISSING[name]) is None
    assert category_text(MISSING[name]) is None


@pytest.mark.parametrize("name", NONE)
def test_what_could_be_two_values_or_none_is_refused(name: str) -> None:
    value, why = NONE[name]
    with pytest.raises(NoText, match=why):
        text_of(value)


def test_numbers_that_name_nothing_have_a_text_all_the_same() -> None:
    shown = [number_text(v) for v in (2.0**53 + 2, np.float32(2**24 + 2), 10**400, -(10**400))]
    assert shown == ["9007199254740994.0", "1.6777218e+07", "inf", "-inf"]
    assert scalar([1]) == [1]


# --- the ways in ---------------------------------------------------------------------------


def logged(rows: int, **arguments: Any) -> tuple[list[Outgoing], list[str]]:
    """Rows through the logger and its batcher: records, and reasons of what was refused."""
    log = PredictionLogger("127.0.0.1:1")
    why: list[str] = []
    batcher = Batcher("/t", lambda reason, _: why.append(reason))
    log._pipe.asleep = False
    for i in range(rows):
        log.log(**({"model": "m", "version": "1", "id": f"r{i}", "prediction": "no"} | arguments))
    queue = list(log._pipe.queue)
    log._pipe.queue.clear()
    out = [o for item in queue if isinstance(item, Logged) for o in batcher.add(item, 0.0)]
    refused = log._pipe.ledger.invalid
    log.close(timeout=0)
    return out + batcher.drain(), why + ["refused"] * refused


def read(records: list[Outgoing], schema: Schema) -> list[PredictionBlock]:
    found = decode_predictions(
        [Record("p", 0, i, 0, o.key, o.value, o.headers) for i, o in enumerate(records)],
        lambda _: schema,
    )
    assert found.dead == []
    return found.blocks


def predicted(blocks: list[PredictionBlock]) -> set[str]:
    out: set[str] = set()
    for block in blocks:
        p = block.prediction
        texts = p.strings() if isinstance(p, Codes) else map(number_text, p.tolist())
        out |= {str(t) for t in texts}
    return out


@pytest.mark.parametrize("rows", [1, 30], ids=["JSON", "Arrow"])
@pytest.mark.parametrize("name", [n for n in VALUES if n != "empty text"])
def test_the_logger_calls_every_value_so(name: str, rows: int) -> None:
    value, text = VALUES[name]
    category = Feature(name="c", kind="category", values=(text,))
    schema = Schema(features=(category,), classes=("other", text), slices=("s",))
    arguments = {"prediction": value, "features": {"c": value}, "segment": {"s": value}}
    records, why = logged(rows, **arguments)
    assert why == []
    found = read(records, schema)
    assert predicted(found) == {text}
    for block in found:
        assert block.unseen == block.wrong_type == {}
        assert set(block.features[:, 0].tolist()) == {0.0}
        assert set(block.segments["s"].strings()) == {text}
    records, why = logged(1, id=value)
    assert why == []
    assert read(records, schema)[0].ids[0] == text


@pytest.mark.parametrize("rows", [1, 30], ids=["JSON", "Arrow"])
@pytest.mark.parametrize("name", MISSING)
def test_the_logger_knows_a_missing_value(name: str, rows: int) -> None:
    value = MISSING[name]
    schema = Schema(features=(Feature(name="x"), Feature(name="c", kind="category", values=("a",))))
    records, why = logged(rows, features={"x": value, "c": value}, segment={"s": value})
    assert why == []
    for block in read(records, schema):
        assert np.isnan(block.features).all()
        assert block.wrong_type == block.unseen == block.segments == {}
    records, why = logged(rows, prediction=value)
    assert records == []
    assert len(why) == rows


@pytest.mark.parametrize("rows", [1, 30], ids=["JSON", "Arrow"])
@pytest.mark.parametrize("name", NONE)
def test_a_feature_without_a_form_is_of_a_wrong_type_and_its_row_counts(
    name: str, rows: int
) -> None:
    value = NONE[name][0]
    schema = Schema(features=(Feature(name="c", kind="category", values=("a",)), Feature(name="x")))
    records, why = logged(rows, features={"c": value, "x": 1.0})
    assert why == []
    found = read(records, schema)
    assert sum(map(len, found)) == rows
    odd = sum(b.wrong_type.get("c", 0) + sum(b.unseen.get("c", {}).values()) for b in found)
    assert odd == rows
    for block in found:
        assert set(block.features[:, 1].tolist()) == {1.0}


@pytest.mark.parametrize("name", [n for n in NONE if "beyond" not in n])
def test_an_answer_an_id_or_a_segment_without_a_text_is_counted_with_its_reason(name: str) -> None:
    value, why = NONE[name]
    for field in ("prediction", "segment", "id"):
        records, reasons = logged(1, **{field: {"s": value} if field == "segment" else value})
        assert records == [], field
        assert len(reasons) == 1
    _, (reason,) = logged(1, prediction=value)
    assert why.replace("2.", "2^") in reason


@pytest.mark.parametrize("name", VALUES)
def test_a_label_is_called_so_from_the_logger(name: str) -> None:
    value, text = VALUES[name]
    log = PredictionLogger("127.0.0.1:1")
    log._pipe.asleep = False
    log.label("m", id="a", label=value, version="1", prediction=value, segment={"s": value})
    (event,) = log._pipe.queue
    log._pipe.queue.clear()
    log.close(timeout=0)
    assert isinstance(event, LabelObserved)
    assert (event.label, event.prediction, event.segment) == (text, text, {"s": text})


FOREIGN: dict[str, tuple[str, str]] = {
    "text": ('"007"', "007"),
    "true": ("true", "true"),
    "int": ("7", "7"),
    "whole float": ("7.0", "7"),
    "exponent": ("1.43349558619e+11", "143349558619"),
    "int beyond 2^53": ("9007199254740993", "9007199254740993"),
    "fraction": ("0.1", "0.1"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_json_of_other_producers_is_called_so(name: str) -> None:
    raw, text = FOREIGN[name]
    schema = Schema(
        features=(Feature(name="c", kind="category", values=(text,)),),
        classes=("other", text), slices=("s",),
    )  # fmt: skip
    value = (
        f'{{"id": {raw if raw != "true" else 7}, "model": "m", "version": "1",'
        f' "served_at": "2026-03-01T00:00:00Z", "prediction": {raw},'
        f' "features": {{"c": {raw}}}, "segment": {{"s": {raw}}}}}'
    )
    headers = headers_of(PredictionMade, source="/x", event_id="1")
    found = decode_predictions(
        [Record("p", 0, 0, 0, b"m", value.encode(), headers)], lambda _: schema
    )
    assert found.dead == []
    (block,) = found.blocks
    assert block.ids[0] == (text if raw != "true" else "7")
    assert predicted([block]) == {text}
    assert block.features[0, 0] == 0
    assert block.segments["s"].strings() == [text]
    labelled = (
        f'{{"id": {raw if raw != "true" else 7}, "model": "m", "label": {raw},'
        f' "observed_at": "2026-03-01T00:00:00Z", "segment": {{"s": {raw}}}}}'
    )
    headers = headers_of(LabelObserved, source="/x", event_id="1")
    record = Record("l", 0, 0, 0, b"m", labelled.encode(), headers)
    ((label, *_),), dead = read_labels([record], now=2**60, salt=b"")
    assert dead == []
    assert (label.id, label.label) == (block.ids[0], text)
    assert label.segment == {"s": text}


COLUMNS: dict[str, tuple[pa.Array, str]] = {
    "string": (pa.array(["007"]), "007"),
    "large_string": (pa.array(["a"], pa.large_string()), "a"),
    "string_view": (pa.array(["a"], pa.string_view()), "a"),
    "dictionary": (pa.array(["a"]).dictionary_encode(), "a"),
    "dictionary of numbers": (pa.array([7]).dictionary_encode(), "7"),
    "bool": (pa.array([True]), "true"),
    "int": (pa.array([7]), "7"),
    "uint64": (pa.array([2**64 - 1], pa.uint64()), "18446744073709551615"),
    "float64": (pa.array([143349558619.0]), "143349558619"),
    "float32": (pa.array([0.1], pa.float32()), "0.1"),
    "half": (pa.array(np.array([2.0], np.float16)), "2"),
    "decimal": (pa.array([Decimal("1.50")]), "1.5"),
    "binary": (pa.array([b"caf\xc3\xa9"]), "café"),
    "fixed bytes": (pa.array([b"ab"], pa.binary(2)), "ab"),
    "uuid": (pa.array([UUID7.bytes], pa.uuid()), str(UUID7)),
    "date": (pa.array([date(2026, 3, 1)]), "2026-03-01"),
    "time": (pa.array([datetime(2026, 3, 1, tzinfo=UTC)]), "2026-03-01T00:00:00Z"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_batch_and_a_file_of_other_producers_call_a_column_so(tmp_path: Path, name: str) -> None:
    column, text = COLUMNS[name]
    schema = Schema(
        features=(Feature(name="c", kind="category", values=(text,)),),
        classes=("other", text), slices=("s",),
    )  # fmt: skip
    batch = pa.record_batch(
        {
            "id": column,
            "served_at": pa.array([NOW], pa.timestamp("us", "UTC")),
            "prediction": column,
            "feature.c": column,
            "segment.s": column,
        }
    ).replace_schema_metadata({"redistill.model": "m", "redistill.version": "1"})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    headers = headers_of(PredictionMade, source="/x", event_id="1", content_type=ARROW)
    value = sink.getvalue().to_pybytes()
    found = decode_predictions([Record("p", 0, 0, 0, b"m", value, headers)], lambda _: schema)
    assert found.dead == []
    (block,) = found.blocks
    assert block.ids[0] == text
    assert predicted([block]) == {text}
    assert block.features[0, 0] == 0
    assert block.segments["s"].strings() == [text]

    pq.write_table(pa.table({"id": column, "label": column}), tmp_path / "f.parquet")
    ((label,),) = [
        b.labels
        for b in label_import.read(
            tmp_path / "f.parquet", label_import.Columns(), model="m", source="s", now=NOW
        )
    ]
    assert (label.id, label.label) == (text, text)


def test_a_fallback_of_no_release_has_no_id_to_refuse() -> None:
    records, why = logged(1, version=FALLBACK, id=np.int64(7))
    assert (records, why) == ([], [])
