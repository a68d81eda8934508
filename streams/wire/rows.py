"""Rows: single JSON predictions -> columns, the hottest path of the product, some 2 us a row.

For each schema a ``msgspec.Struct`` type is made whose fields are the model's features, so that
nearly all work happens in C: decode into structs, pack the numbers of all rows into one buffer, let
numpy cast it. A row that does not fit the type (a string in a numeric feature, ``NaN``, a feature
that the schema does not know) is read again by the tolerant path, which counts what was wrong and
yields a row of the same type.

A name may be any text, and msgspec takes no field with a quote, a backslash or a control character
in its name: such a model's features are decoded as a mapping, at nearly twice the cost.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import starmap
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import astuple

from redistill.decodable import decodable
from redistill.streams.errors import WireError
from redistill.streams.wire.block import Schema
from redistill.streams.wire.columns import Category, count
from redistill.streams.wire.envelope import invalid
from redistill.streams.wire.events import ClassText, RowId, SegmentText, VersionName
from redistill.streams.wire.failures import Failure
from redistill.streams.wire.faults import Faults, as_float, id_text
from redistill.streams.wire.foreign import no_json, told, wrapped

__all__ = ["ANY", "AnyPlan", "Plan", "Row", "lenient", "plan_of"]

_NO_FIELD = re.compile(r'["\\\x00-\x1f\ud800-\udfff]').search
"""What msgspec takes in no name of a field."""
_FIELDS = ("id", "model", "version", "served_at", "prediction")
_MET = msgspec.Raw(b"")
"""In place of the value of an extra feature: all that is asked of it is whether it was there."""


@decodable
class Row(msgspec.Struct, gc=False):
    """A prediction as it stands in JSON; its features' type is made per schema."""

    id: RowId
    model: str
    version: VersionName
    served_at: str
    prediction: ClassText | int | float | bool
    features: Any = None
    inputs: None = None  # tensors take the slow path, which refuses them
    scores: list[float] | None = None
    segment: dict[SegmentText, SegmentText] | None = None
    latency_ms: float | None = None
    sample_rate: float = 1.0
    failed: Failure | None = None
    prediction_interval: tuple[float, float] | None = None


class Plan:
    """How rows of one schema are read. ``extras`` are further feature names to expect and count."""

    def __init__(self, schema: Schema, extras: tuple[str, ...] = ()) -> None:
        self.schema = schema
        self.extras = extras
        self.names = schema.names
        self.numeric = [f for f in schema.features if f.kind != "category"]
        self.categories = [Category(f) for f in schema.features if f.kind == "category"]
        self._known = frozenset(self.names)
        at = {name: j for j, name in enumerate(self.names)}
        self.numeric_at = [at[f.name] for f in self.numeric]
        self.category_at = [at[c.name] for c in self.categories]
        order = [*(f.name for f in self.numeric), *(c.name for c in self.categories)]
        text = str | int | float | bool | None
        number = float | bool | None
        fields: list[tuple[str, Any, Any]] = [
            (f"f{i}", number if i < len(self.numeric) else text, None) for i in range(len(order))
        ]
        fields += [(f"x{i}", msgspec.Raw, None) for i in range(len(extras))]
        names = [*order, *extras]
        are_fields = not any(map(_NO_FIELD, names))
        self.features_type = msgspec.defstruct(
            "Features",
            fields,
            rename=dict(zip([f[0] for f in fields], names, strict=True)) if are_fields else None,
            forbid_unknown_fields=True,
            gc=False,
        )
        self._order = [(name, i < len(self.numeric)) for i, name in enumerate(order)]
        self._expected = frozenset(names)
        self.decode: Callable[[bytes], Row] = self._decode_mapping
        if are_fields:
            row_type = msgspec.defstruct(
                "Row", [("features", self.features_type | None, None)], bases=(Row,), gc=False
            )
            decoder: Any = msgspec.json.Decoder(row_type)
            self.decode = decoder.decode
        numbers = struct.Struct(f"{len(self.numeric)}d")
        self.pack = numbers.pack
        self.unpack = numbers.unpack
        self.packs = not self.categories and not extras
        """Whether the features of a row can be one piece of bytes."""

    def _decode_mapping(self, data: bytes) -> Row:
        """As msgspec would with fields of these names: an error, if the features do not fit."""
        row = ANY.decode(data)
        given = row.features
        if given is None:
            return row
        if not self._expected.issuperset(given):
            raise msgspec.ValidationError("a feature that is not expected")
        values: list[Any] = []
        for name, is_number in self._order:
            value = given.get(name)
            if value is not None and not _fits(value, is_number):
                raise msgspec.ValidationError("a feature of another type")
            values.append(value)
        values += [None if name not in given else _MET for name in self.extras]
        row.features = self.features_type(*values)
        return row

    def settled(self, features: list[Any]) -> list[Any]:
        """Features as pieces of bytes while they are warm in the processor's cache: 20 objects a
        row less to keep, .8 us. Where a value is missing they stay as they are.
        """
        if not self.packs:
            return features
        try:
            return list(starmap(self.pack, map(astuple, features)))
        except (struct.error, TypeError):
            return features

    def packed(self, features: Any) -> bytes:
        """The features of one row, NaN where they are missing."""
        values = astuple(features) if features is not None else (None,) * len(self.numeric)
        return self.pack(*(np.nan if v is None else v for v in values))

    def tolerant(self, raw: dict[str, Any], faults: Faults) -> Row:
        """Read one row that does not fit; what is wrong is counted in ``faults``.

        Raises
        ------
        WireError
            The row's own fields are broken: it is a dead letter.
        """
        row = _tolerant(raw, faults)
        row.features = self.features(row.features, faults)
        return row

    def features(self, given: Mapping[str, Any] | None, faults: Faults) -> Any:
        """Any features as this plan's type: of a wrong type -> missing, and counted."""
        if given is None:
            return None
        values: list[Any] = []
        for name, is_number in self._order:
            value = given.get(name)
            if value is not None and not _fits(value, is_number):
                count(faults.wrong, name)
                value = None
            values.append(as_float(value) if is_number and isinstance(value, int) else value)
        for name in given.keys() - self._known:
            faults.unknown(name, 1)
        return self.features_type(*values)


class AnyPlan:
    """How rows are read whose schema nobody knows: the features stay as they are."""

    def __init__(self) -> None:
        row_type = msgspec.defstruct(
            "Row", [("features", dict[str, Any] | None, None)], bases=(Row,), gc=False
        )
        decoder: Any = msgspec.json.Decoder(row_type)
        self.decode: Callable[[bytes], Row] = decoder.decode

    def settled(self, features: list[Any]) -> list[Any]:
        """Nothing: what the columns mean is unknown."""
        return [None] * len(features)

    def tolerant(self, raw: dict[str, Any], faults: Faults) -> Row:
        """Read one row that does not fit, as ``Plan.tolerant`` does."""
        return _tolerant(raw, faults)


ANY = AnyPlan()


def plan_of(schema: Schema, extras: tuple[str, ...] = ()) -> Plan:
    """The plan of a schema; it is made once."""
    return _extended(schema, extras) if extras else _plan_of(schema)


@lru_cache(maxsize=512)
def _plan_of(schema: Schema) -> Plan:
    return Plan(schema)


@lru_cache(maxsize=32)  # whoever writes chooses the extras
def _extended(schema: Schema, extras: tuple[str, ...]) -> Plan:
    return Plan(schema, extras)


def _fits(value: Any, is_number: bool) -> bool:
    """Whether a value that is not missing is one of a number, or else of a category."""
    return isinstance(value, int | float) or (isinstance(value, str) and not is_number)


def _tolerant(raw: dict[str, Any], faults: Faults) -> Row:
    given = raw.pop("features", None)
    if given is not None and not isinstance(given, dict):
        raise WireError("invalid_field", "features is no object")
    if raw.pop("inputs", None) is not None and given is None:
        raise WireError("invalid_field", "tensor inputs are not read by this version")
    scores, segment = raw.pop("scores", None), raw.pop("segment", None)
    latency, rate = raw.pop("latency_ms", None), raw.pop("sample_rate", None)
    failed, interval = raw.pop("failed", None), raw.pop("prediction_interval", None)
    if "id" in raw:
        raw["id"] = id_text(raw["id"])
    try:
        row = msgspec.convert(raw, Row)
    except msgspec.ValidationError as exc:
        raise WireError((why := invalid(exc)).code, why.reason + wrapped(raw, *_FIELDS)) from None
    if isinstance(row.prediction, float) and not math.isfinite(row.prediction):
        raise WireError("invalid_field", f"prediction is {row.prediction}")
    row.features = given
    row.scores = faults.scores_of(scores)
    row.segment = faults.segment_of(segment)
    row.latency_ms = faults.number_of("latency_ms", latency)
    rate = faults.number_of("sample_rate", rate)
    row.sample_rate = 1.0 if rate is None else rate
    row.failed = faults.failure_of(failed)
    row.prediction_interval = faults.pair_of("prediction_interval", interval)
    return row


def lenient(data: bytes) -> dict[str, Any]:
    """A JSON object as Python's own writer makes it: ``NaN`` and ``Infinity`` are let in.

    Raises
    ------
    WireError
        ``malformed``.
    """
    try:
        raw = json.loads(data.decode("utf-8-sig"))  # bytes would be read as UTF-16 and 32 too
        json.dumps(raw, ensure_ascii=False).encode()  # lone surrogates have no bytes
    except (ValueError, RecursionError) as exc:
        raise no_json(data, exc) from None
    if not isinstance(raw, dict):
        raise WireError("malformed", told(data) or "the value is no JSON object")
    return raw
