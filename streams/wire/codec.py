"""Codec: bytes <-> events. Everything that other rooms call, in one place.

Predictions come in thousands and become blocks of numpy columns (``decode_predictions``); all other
events are small and become the dataclasses of ``events`` (``decode``).
"""

from __future__ import annotations

from redistill.streams.wire.arrow_encode import encode_batch
from redistill.streams.wire.columns import infer_schema
from redistill.streams.wire.envelope import (
    ARROW,
    JSON,
    MAX_EVENT_BYTES,
    MAX_ROWS,
    Encoded,
    Record,
    headers_of,
    type_name,
)
from redistill.streams.wire.hashing import id_hashes, signed
from redistill.streams.wire.messages import MAX_LETTER_BYTES, decode, encode
from redistill.streams.wire.predictions import BlockRun, Decoded, decode_predictions

__all__ = [
    "ARROW",
    "JSON",
    "MAX_EVENT_BYTES",
    "MAX_LETTER_BYTES",
    "MAX_ROWS",
    "BlockRun",
    "Decoded",
    "Encoded",
    "Record",
    "decode",
    "decode_predictions",
    "encode",
    "encode_batch",
    "headers_of",
    "id_hashes",
    "infer_schema",
    "signed",
    "type_name",
]
