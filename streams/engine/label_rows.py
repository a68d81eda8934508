"""Label rows: a label as a row of the table ``labels``, and which labels are let in."""

from __future__ import annotations

from typing import Any

import msgspec

from redistill.streams.errors import WireError
from redistill.streams.wire.columns import number_text
from redistill.streams.wire.events import LABEL_AHEAD, LabelObserved
from redistill.times import microseconds, to_us


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
        "label": _text(event.label),
        "op": event.op,
        "confidence": event.confidence,
        "p_include": event.inclusion_probability,
        "uniform": True,
        "version": event.version,
        "prediction": _text(event.prediction),
        "slices": as_json(event.segment) if event.segment else None,
        "state": "waiting" if believed else "ignored",
        "check_at": 0,
    }


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


def as_json(value: Any) -> str:
    """JSON with sorted keys."""
    return msgspec.json.encode(value, order="sorted").decode()


def _text(value: str | float | None) -> str | None:
    return value if value is None or isinstance(value, str) else number_text(value)
