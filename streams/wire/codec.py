"""Codec: bytes <-> events. Everything that other rooms call, in one place.

Predictions come in thousands and become blocks of numpy columns (``decode_predictions``); all other
events are small and become the dataclasses of ``events`` (``decode``).
"""

from __future__ import annotations

from redistill.streams.wire.arrow_encode import encode_batch
from redistill.streams.wire.envelope import (
    ARROW,
    MAX_EVENT_BYTES,
    Record,
    headers_of,
)
from redistill.streams.wire.hashing import id_hashes
from redistill.streams.wire.messages import MAX_LETTER_BYTES, decode, encode, identified
from redistill.streams.wire.predictions import BlockRun, Decoded, decode_predictions

__all__ = [
    "ARROW",
    "MAX_EVENT_BYTES",
    "MAX_LETTER_BYTES",
    "BlockRun",
    "Decoded",
    "Record",
    "decode",
    "decode_predictions",
    "encode",
    "encode_batch",
    "headers_of",
    "id_hashes",
    "identified",
]
