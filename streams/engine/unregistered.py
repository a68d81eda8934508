"""Unregistered models and versions: their rows are counted, and a sample is kept for ``register``.

Their names are anybody's. So few new ones are stored at a time, those with most rows; and when
there are too many, those that were not seen for longest go: a service that makes up names never
hides one that means it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
import structlog
from numpy.typing import NDArray

from redistill.quiet import Quiet
from redistill.streams.engine.traffic_sample import TrafficSample
from redistill.streams.errors import WireError
from redistill.streams.store.batch import FlushBatch, NameLimits, Unregistered
from redistill.streams.store.database import Database
from redistill.streams.store.tables import unregistered
from redistill.streams.wire.block import PredictionBlock
from redistill.streams.wire.reading import is_ours

__all__ = ["UnregisteredRows"]

log = structlog.get_logger(__name__)

COUNTED = 10_000
"""Versions that are counted by name between two flushes."""
SAMPLES = 200
"""Samples in memory: so many of names that are stored, where the one that was used least recently
goes, and so many of new names, which none drives out."""
SAMPLES_BYTES = 64 * 1024 * 1024
"""Of all samples in memory together."""

Key = tuple[str, str]


class UnregisteredRows:
    """Counts and samples between two flushes.

    Parameters
    ----------
    database
        Read for the names that are stored, and for the samples of those that come back.
    limits
        How many names are stored.
    """

    def __init__(self, database: Database, limits: NameLimits | None = None) -> None:
        self._database = database
        self._limits = limits or NameLimits()
        self._stored: set[Key] | None = None
        self._models: set[str] = set()
        self._samples: OrderedDict[Key, TrafficSample] = OrderedDict()
        self._new_samples: dict[Key, TrafficSample] = {}
        self._asked: set[Key] = set()
        self._counts: dict[Key, Unregistered] = {}
        self._nameless = 0
        self._left_out = 0
        self._quiet = Quiet()

    def is_new(self, model: str, version: str) -> bool:
        """Whether it was not met since the last flush."""
        key = (model, version)
        if key in self._asked:
            return False
        self._asked.add(key)
        return True

    def knows(self, model: str) -> bool:
        """Whether rows of a model are stored under its name."""
        self._names()
        return model in self._models

    def add(
        self, block: PredictionBlock, records: Sequence[Any], record_of: NDArray[np.int64], now: int
    ) -> None:
        """Count a block; ``record_of`` says from which of the records each row came."""
        key = (block.model, block.version)
        count = self._counts.get(key)
        if count is None:
            if len(self._counts) >= COUNTED:
                self._nameless += len(block)
                return
            count = self._counts[key] = Unregistered(rows=0, first_seen_at=now, last_seen_at=now)
        count.rows += len(block)
        count.last_seen_at = now
        if (sample := self._sample(key)) is None:
            return
        for i in np.unique(record_of).tolist():
            if sample.full:
                break
            self._left_out += sample.extend(records[i])
        while self._bytes() > SAMPLES_BYTES and len(self._samples) > 1:
            self._samples.popitem(last=False)

    def close(self, batch: FlushBatch) -> None:
        """Move the counts into a batch, with a sample where it has grown four times."""
        names = self._names()
        new = [key for key in self._counts if key not in names]
        if len(new) > self._limits.new:
            new.sort(key=lambda key: -self._counts[key].rows)
            for key in new[self._limits.new :]:
                self._nameless += self._counts.pop(key).rows
        for key, count in self._counts.items():
            names.add(key)
            self._models.add(key[0])
            sample = self._samples.get(key) or self._new_samples.get(key)
            if sample is not None and sample.due:
                count.sample = self._encoded(sample, key)
                sample.taken()
            batch.unregistered[key] = count
        for key, sample in self._new_samples.items():
            if key in self._counts:  # it has yet to come back, and goes before those that did
                self._samples[key] = sample
                self._samples.move_to_end(key, last=False)
        while len(self._samples) > SAMPLES:
            self._samples.popitem(last=False)
        self._new_samples.clear()
        batch.names = self._limits
        self._report(batch, len(new) - self._limits.new)
        self._counts = {}
        self._asked.clear()

    def clear(self) -> None:
        """Forget everything that was not flushed."""
        self._counts.clear()
        self._asked.clear()
        self._samples.clear()
        self._new_samples.clear()
        self._stored, self._nameless, self._left_out = None, 0, 0

    def _encoded(self, sample: TrafficSample, key: Key) -> bytes | None:
        """The sample as it is stored; without one its rows are still counted."""
        try:
            return sample.encode(*key)
        except Exception as error:
            if is_ours(error):
                raise
            why = WireError.failed(error)
            if (more := self._quiet.ask(why.kind)) is not None:
                log.error(
                    "sample_failed",
                    action="sample_failed",
                    model=key[0],
                    version=key[1],
                    reason=why.reason,
                    more=more,
                )
            return None

    def _report(self, batch: FlushBatch, more: int) -> None:
        if self._nameless:
            log.warning(
                "names_left_out",
                action="names_left_out",
                rows=self._nameless,
                names=max(0, more),
                reason=f"more than {self._limits.new} new unregistered names in one flush",
            )
        if self._left_out:
            log.warning(
                "sample_left_out",
                action="sample_left_out",
                values=self._left_out,
                reason="a sample of an unregistered model has no room for so many or so long names"
                " and texts",
            )
        batch.count("", "rows_nameless", self._nameless)
        batch.count("", "sample_values_left_out", self._left_out)
        self._nameless = self._left_out = 0

    def _names(self) -> set[Key]:
        """Those that are in SQL, as far as is known: others may write and delete there too."""
        if self._stored is None or len(self._stored) > 2 * self._limits.unregistered:
            c = unregistered.c
            with self._database.read() as conn:
                self._stored = {(m, v) for m, v in conn.execute(sa.select(c.model, c.version))}
            self._models = {model for model, _ in self._stored}
        return self._stored

    def _sample(self, key: Key) -> TrafficSample | None:
        """The sample in memory, or what an earlier worker stored; ``None``: there is no room."""
        if key in self._names():
            sample = self._samples.pop(key, None) or TrafficSample.of(self._stored_sample(key))
            self._samples[key] = sample
            if len(self._samples) > SAMPLES:
                self._samples.popitem(last=False)
            return sample
        if key not in self._new_samples:
            if len(self._new_samples) >= SAMPLES or self._bytes() > SAMPLES_BYTES:
                return None
            self._new_samples[key] = TrafficSample()
        return self._new_samples[key]

    def _bytes(self) -> int:
        return sum(s.bytes for s in (*self._samples.values(), *self._new_samples.values()))

    def _stored_sample(self, key: Key) -> bytes | None:
        c = unregistered.c
        with self._database.read() as conn:
            data = conn.execute(
                sa.select(c.sample).where(c.model == key[0], c.version == key[1])
            ).scalar_one_or_none()
        return None if data is None else bytes(data)
