"""Label rows: labels read, the unbelievable refused, and each as a row of the table ``labels``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from redistill.rowcells import NULL_WORDS
from redistill.rownames import Names
from redistill.streams.engine.dead_letters import Unreadable
from redistill.streams.engine.unregistered import UnregisteredRows
from redistill.streams.engine.version_room import VersionRoom
from redistill.streams.errors import WireError
from redistill.streams.monitor.label_trust import counts
from redistill.streams.store.batch import FlushBatch
from redistill.streams.store.specs import WatchedModel
from redistill.streams.wire.codec import decode
from redistill.streams.wire.columns import MAX_SEGMENTS, MAX_TEXT
from redistill.streams.wire.envelope import RecordLike
from redistill.streams.wire.events import LABEL_AHEAD, LABEL_EARLIEST, LabelObserved
from redistill.streams.wire.hashing import id_hashes, signed
from redistill.streams.wire.reading import read_each
from redistill.textform import text_of
from redistill.times import microseconds, to_us

__all__ = ["LabelIntake", "in_time", "label_row", "read_labels"]


def label_row(
    event: LabelObserved, id_hash: int, *, state: str, bound: bool = False
) -> dict[str, Any]:
    """A row of the table ``labels``, but for the time at which it is stored.

    Parameters
    ----------
    id_hash
        Signed hash of the id.
    state
        ``waiting`` for its prediction; ``ignored``: it is stored, and counts for nothing.
    bound
        It came from the topic of its source.
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
        "state": state,
        "check_at": 0,
        "bound": bound,
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
        in_time(label, now)
        return in_words(label)

    labels, dead = read_each(records, read)
    hashes = signed(id_hashes([label.id for label in labels], salt)).tolist()
    return list(zip(labels, hashes, strict=True)), [*dead]


def in_time(event: LabelObserved, now: int) -> None:
    """Refuse a label from the future, and one from a time that was never set.

    Raises
    ------
    WireError
        It was observed more than ``LABEL_AHEAD`` after ``now``, microseconds since 1970, or before
        ``LABEL_EARLIEST``.
    """
    moment = event.observed_at.isoformat()
    if microseconds(event.observed_at) - now > to_us(LABEL_AHEAD.total_seconds()):
        raise WireError("invalid_field", f"observed_at {moment} is more than a day ahead")
    if event.observed_at < LABEL_EARLIEST:
        raise WireError("invalid_field", f"observed_at {moment} is before 1970")


class LabelIntake:
    """Labels on their way into a batch.

    Parameters
    ----------
    room
        Versions that are watched though nobody registered them.
    names
        Unregistered models: labels of others are counted under no name.
    """

    def __init__(self, room: VersionRoom, names: UnregisteredRows) -> None:
        self._room = room
        self._names = names

    def add(
        self,
        labels: Iterable[tuple[LabelObserved, int]],
        watched: Mapping[str, WatchedModel],
        batch: FlushBatch,
    ) -> None:
        """Put labels of watched models into a batch, and count the others."""
        for event, id_hash in labels:
            model = watched.get(event.model)
            if model is None:
                named = event.model if self._names.knows(event.model) else ""
                batch.count(named, "labels_unknown")
                continue
            if event.op == "upsert" and _is_missing(event.label, model):
                batch.count(event.model, "labels_null_word")
                continue
            event = self._fitting(event, model, batch)
            config = model.config
            believed = counts(
                event.source,
                False,
                sources=config.label_sources,
                bound_sources=config.bound_sources,
            )
            state = "waiting" if believed else "ignored"
            batch.labels.append(label_row(event, id_hash, state=state))

    def _fitting(
        self, event: LabelObserved, model: WatchedModel, batch: FlushBatch
    ) -> LabelObserved:
        """Without what there is no room for: the label itself counts."""
        if _is_missing(event.prediction, model):
            event = dataclasses.replace(event, prediction=None)
        version = event.version
        registered = version is None or version in model.profiles
        if not registered and not self._room.has(event.model, str(version)):
            batch.count(event.model, "labels_version_left_out")
            event = dataclasses.replace(event, version=None, prediction=None)
        kept = {k: v for k, v in event.segment.items() if max(len(k), len(v)) <= MAX_TEXT}
        if len(kept) > MAX_SEGMENTS:
            kept = {k: kept[k] for k in sorted(kept)[:MAX_SEGMENTS]}
        if len(kept) < len(event.segment):
            batch.count(event.model, "invalid_segment")
            event = dataclasses.replace(event, segment=kept)
        return event


def _is_missing(text: Any, model: WatchedModel) -> bool:
    """Whether it says that there is none (``nan``, ``None``: what other languages make of a missing
    value that they write as text) and names none of the model's classes. Other words that name no
    class count: the world may have got a class that the model does not know."""
    if not isinstance(text, str) or text.strip().lower() not in NULL_WORDS:
        return False
    classes = model.config.schema.classes
    return bool(classes) and Names(classes).find(text) < 0


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
            if len(made[name] or "") > MAX_TEXT:
                raise WireError("invalid_field", f"{name} has more than {MAX_TEXT} characters")
    return dataclasses.replace(event, **made) if made else event


def _json(value: Any) -> str:
    """With sorted keys."""
    return msgspec.json.encode(value, order="sorted").decode()
