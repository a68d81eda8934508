"""Label rows: labels read, the unbelievable refused, and each as a row of the table ``labels``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import msgspec

from redistill.streams.engine.dead_letters import Unreadable
from redistill.streams.errors import WireError
from redistill.streams.wire.codec import decode
from redistill.streams.wire.envelope import RecordLike
from redistill.streams.wire.events import LABEL_AHEAD, LabelObserved
from redistill.streams.wire.hashing import id_hashes, signed
from redistill.streams.wire.reading import read_each
from redistill.textform import text_of
from redistill.times import microseconds, to_us

__all__ = ["label_row", "not_ahead", "read_labels"]


def label_row(event: LabelObserved, id_hash: int, *, believed: bool) -> dict[str, Any]:
    """A row of the table ``labels``, but for the time at which it is stored.

    Parameters
    ----------
    id_hash
        Signed hash of the id.
    believed
        The source is one of the model's: others are stored, and no detector sees them.
    """
    return {
        "model": event.model,
        "id": event.id,
        "source": event.source,
        "observed_at": microseconds(event.observed_at),
        "id_hash": id_hash,
        "label": event.label,
        "op": event.op,
        "confidence": event.confidence,
        "p_include": event.inclusion_probability,
        "uniform": True,
        "version": event.version,
        "prediction": event.prediction,
        "slices": _json(event.segment) if event.segment else None,
        "state": "waiting" if believed else "ignored",
        "check_at": 0,
    }


def read_labels(
    records: Iterable[RecordLike], *, now: int, salt: bytes
) -> tuple[list[tuple[LabelObserved, int]], list[Unreadable]]:
    """Read records of the topic ``labels``.

    Parameters
    ----------
    now
        Microseconds since 1970.
    salt
        Of the hashes of ids.

    Returns
    -------
    tuple
        Each label with the signed hash of its id; and the records that hold none, with the reason.
    """

    def read(record: RecordLike) -> LabelObserved:
        label: LabelObserved = decode(record, expect=LabelObserved)
        not_ahead(label, now)
        return in_words(label)

    labels, dead = read_each(records, read)
    hashes = signed(id_hashes([label.id for label in labels], salt)).tolist()
    return list(zip(labels, hashes, strict=True)), [*dead]


def not_ahead(event: LabelObserved, now: int) -> None:
    """Refuse a label from the future.

    Raises
    ------
    WireError
        It was observed more than ``LABEL_AHEAD`` after ``now``, microseconds since 1970.
    """
    if microseconds(event.observed_at) - now > to_us(LABEL_AHEAD.total_seconds()):
        raise WireError(
            "invalid_field", f"observed_at {event.observed_at.isoformat()} is more than a day ahead"
        )


def in_words(event: LabelObserved) -> LabelObserved:
    """The label, and the prediction that it brings, as texts.

    Raises
    ------
    WireError
        One of them is a number that could be two.
    """
    found = {"label": event.label, "prediction": event.prediction}
    made: dict[str, Any] = {}
    for name, value in found.items():
        if value is not None and not isinstance(value, str):
            try:
                made[name] = text_of(value)
            except ValueError as why:  # NoText, or more digits than Python writes
                raise WireError("invalid_field", f"{name} {why}") from None
    return dataclasses.replace(event, **made) if made else event


def _json(value: Any) -> str:
    """With sorted keys."""
    return msgspec.json.encode(value, order="sorted").decode()
