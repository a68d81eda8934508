"""Label rows: labels read, the unbelievable refused, and each as a row of the table ``labels``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import msgspec

from redistill.streams.engine.dead_letters import Unreadable
from redistill.streams.engine.unregistered import UnregisteredRows
from redistill.streams.engine.version_room import VersionRoom
from redistill.streams.errors import WireError
from redistill.streams.monitor.label_trust import Cutover, counts, partition_key
from redistill.streams.monitor.missing_words import is_missing, is_null_word
from redistill.streams.store.batch import FlushBatch, Partition
from redistill.streams.store.specs import WatchedModel
from redistill.streams.wire.codec import decode
from redistill.streams.wire.columns import MAX_SEGMENTS, MAX_TEXT
from redistill.streams.wire.envelope import RecordLike
from redistill.streams.wire.events import LABEL_AHEAD, LABEL_EARLIEST, LabelObserved
from redistill.streams.wire.hashing import id_hashes, signed
from redistill.streams.wire.reading import read_each
from redistill.textform import text_of
from redistill.times import microseconds, to_us

__all__ = ["LabelIntake", "Origin", "ReadLabel", "in_time", "label_row", "read_labels"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where labels were read."""

    partition: Partition
    source: str | None = None
    """Whose topic it is; ``None``: everybody's."""

    def bound(self, label: ReadLabel, cutover: Cutover) -> bool:
        """Whether a label that was read here is bound to its source."""
        if self.source is not None:
            return True
        key = partition_key(self.partition.topic_id, self.partition.number)
        return cutover.covers(label.event.source, key, label.offset)


class LoggedRecord(RecordLike, Protocol):
    """A record that knows where it stood."""

    @property
    def offset(self) -> int:
        """In its partition."""


class ReadLabel(NamedTuple):
    """A label as it stood in the log."""

    event: LabelObserved
    id_hash: int
    """Signed."""
    offset: int


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
        "uniform": event.uniform,
        "version": event.version,
        "prediction": event.prediction,
        "slices": _json(event.segment) if event.segment else None,
        "state": state,
        "check_at": 0,
        "bound": bound,
        "request_id": None if event.request_id is None else str(event.request_id),
        "arrival": event.arrival,
    }


def read_labels(
    records: Iterable[LoggedRecord], *, now: int, salt: bytes, source: str | None = None
) -> tuple[list[ReadLabel], list[Unreadable]]:
    """Read records of a topic of labels.

    Parameters
    ----------
    now
        Microseconds since 1970.
    salt
        Of the hashes of ids.
    source
        Whose topic it is: nobody else is believed there.

    Returns
    -------
    tuple
        The labels; and the records that hold none, with the reason.
    """

    def read(record: LoggedRecord) -> tuple[LabelObserved, int]:
        label: LabelObserved = decode(record, expect=LabelObserved)
        if source is not None and label.source != source:
            raise WireError(
                "invalid_field", f"source {label.source!r} on the topic of the source {source!r}"
            )
        in_time(label, now)
        return in_words(label), record.offset

    found, dead = read_each(records, read)
    hashes = signed(id_hashes([label.id for label, _ in found], salt)).tolist()
    labels = [ReadLabel(label, h, at) for (label, at), h in zip(found, hashes, strict=True)]
    return labels, [*dead]


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
        labels: Iterable[ReadLabel],
        watched: Mapping[str, WatchedModel],
        batch: FlushBatch,
        origin: Origin,
    ) -> None:
        """Put labels of watched models into a batch, and those that were read where their source
        alone may write; count the others."""
        for label in labels:
            event = label.event
            model = watched.get(event.model)
            if model is None:
                self._of_a_stranger(label, batch, origin)
                continue
            config = model.config
            if event.op == "upsert" and is_missing(event.label, config.schema.classes):
                batch.count(event.model, "labels_null_word")
                continue
            event = self._fitting(event, model, batch)
            bound = origin.bound(label, config.cutover)
            believed = counts(
                event.source,
                bound,
                sources=config.label_sources,
                bound_sources=config.bound_sources,
            )
            state = "waiting" if believed else "ignored"
            batch.labels.append(label_row(event, label.id_hash, state=state, bound=bound))

    def _of_a_stranger(self, label: ReadLabel, batch: FlushBatch, origin: Origin) -> None:
        """A label of a model that nobody registered: anybody may make names up, but not on the
        topic of a source. There it waits until its model is registered, or expires."""
        event = label.event
        if origin.source is None:
            named = event.model if self._names.knows(event.model) else ""
            batch.count(named, "labels_unknown")
            return
        if is_null_word(event.prediction):  # which classes there are is not known yet
            event = dataclasses.replace(event, prediction=None)
        event = _bounded(event, batch)
        batch.labels.append(label_row(event, label.id_hash, state="unregistered", bound=True))

    def _fitting(
        self, event: LabelObserved, model: WatchedModel, batch: FlushBatch
    ) -> LabelObserved:
        """Without what there is no room for: the label itself counts."""
        if is_missing(event.prediction, model.config.schema.classes):
            event = dataclasses.replace(event, prediction=None)
        version = event.version
        registered = version is None or version in model.profiles
        if not registered and not self._room.has(event.model, str(version)):
            batch.count(event.model, "labels_version_left_out")
            event = dataclasses.replace(event, version=None, prediction=None)
        return _bounded(event, batch)


def _bounded(event: LabelObserved, batch: FlushBatch) -> LabelObserved:
    """With segments of a size that can be stored."""
    kept = {k: v for k, v in event.segment.items() if max(len(k), len(v)) <= MAX_TEXT}
    if len(kept) > MAX_SEGMENTS:
        kept = {k: kept[k] for k in sorted(kept)[:MAX_SEGMENTS]}
    if len(kept) < len(event.segment):
        batch.count(event.model, "invalid_segment")
        event = dataclasses.replace(event, segment=kept)
    return event


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
