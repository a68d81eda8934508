"""Accumulator: records into batches, by decoding, observing and sampling. No Kafka, no asyncio, so
that tests and benchmarks drive it.

One thread owns an accumulator. It reads SQL (specifications, states) and never writes: what changed
since the last batch is in the batch that :meth:`Accumulator.close` returns, which another thread
may flush while this one goes on. If that flush did not happen, :meth:`Accumulator.reset` forgets
everything that SQL does not know.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import sqlalchemy as sa
import structlog
from numpy.typing import NDArray

from redistill.streams.engine.dead_letters import DeadLetters
from redistill.streams.engine.fetched import Chunk
from redistill.streams.engine.label_rows import label_row, not_ahead
from redistill.streams.engine.sampling import Sampler
from redistill.streams.engine.state_cache import CachedState, StateCache
from redistill.streams.engine.unregistered import UnregisteredRows
from redistill.streams.errors import StoreUnavailable, StoreUnusable, WireError
from redistill.streams.monitor.observe import Observed, observe, tick
from redistill.streams.store import specs
from redistill.streams.store.batch import (
    FlushBatch,
    Gap,
    Partition,
    ProfileRow,
    Progress,
    WindowRow,
)
from redistill.streams.store.database import Database
from redistill.streams.store.properties import salt
from redistill.streams.store.specs import WatchedModel
from redistill.streams.store.tables import model_locks
from redistill.streams.wire.block import PredictionBlock, Schema, joined
from redistill.streams.wire.codec import Decoded, decode, decode_predictions
from redistill.streams.wire.events import LabelObserved
from redistill.streams.wire.hashing import id_hashes, signed
from redistill.streams.wire.recordset import RecordSet
from redistill.times import to_us

log = structlog.get_logger(__name__)

FULL_ROWS = 250_000
"""Rows of one batch: they are read again after a crash."""
TAKEN_RECORDS = 2_000
"""Records that are decoded at once: a chunk of one large batch may hold more."""


class Accumulator:
    """Turns records into one batch after the other.

    Parameters
    ----------
    database
        Read for specifications, states and rates.
    state_key
        Authenticates the pickled part of stored states.
    kinds
        What each topic (as the broker names it) holds: ``predictions`` or ``labels``.
    clock
        Seconds since 1970: only for times of arrival and for rates.
    """

    def __init__(
        self,
        database: Database,
        *,
        state_key: bytes,
        kinds: Mapping[str, str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._kinds = dict(kinds)
        self._clock = clock
        self._sampler = Sampler(total_cap=5_000 if database.is_sqlite else None)
        self._most_written = 5_000 if database.is_sqlite else 20_000
        self._unregistered = UnregisteredRows(database)
        self._states = StateCache(database, state_key)
        self._progress: dict[Partition, Progress] = {}
        self._position: dict[Partition, int] = {}
        self._batch = FlushBatch()
        self.rows = 0
        """Rows in the open batch."""
        self._dead_letters = DeadLetters()
        with database.begin() as conn:
            self._salt = salt(conn)
        self._watched: dict[str, WatchedModel] = {}
        self.refresh()

    @property
    def full(self) -> bool:
        """Whether the open batch is large enough to be flushed before anything is added.

        On SQLite 5,000 join rows or labels take some 100 ms, during which nobody else writes.
        """
        return (
            self.rows >= FULL_ROWS
            or self._sampler.pending() + len(self._batch.labels) >= self._most_written
            or self._dead_letters.full
        )

    # --- what is watched ---------------------------------------------------------------------

    @property
    def watched(self) -> Mapping[str, WatchedModel]:
        """What was last read from SQL."""
        return self._watched

    def refresh(self) -> None:
        """Read what changed in specifications, profiles and rates. Cheap when nothing did."""
        with self._database.read() as conn:
            self._watched = specs.load(conn, self._watched)
            c = model_locks.c
            for model, join, feature in conn.execute(
                sa.select(c.model, c.join_exponent, c.feature_exponent)
            ):
                self._sampler.join_exponents[model] = join
                self._sampler.feature_exponents[model] = feature

    def _schema(self, model: str) -> Schema | None:
        watched = self._watched.get(model)
        return None if watched is None else watched.config.schema

    def _known(self, model: str, version: str) -> WatchedModel | None:
        """The model, if this version of it is watched."""
        watched = self._watched.get(model)
        return watched if watched is not None and watched.knows(version) else None

    def _decoded(self, records: RecordSet) -> Decoded:
        """Read with the schemas that hold while the rows are counted, also of models just registered."""
        decoded = decode_predictions(records, self._schema)
        met = {(b.model, b.version) for b in decoded.blocks}
        if not [key for key in met if not self._known(*key) and self._unregistered.is_new(*key)]:
            return decoded
        before = {model: self._schema(model) for model, _ in met}
        self.refresh()  # asked once for each unregistered version
        same = all(self._schema(model) == schema for model, schema in before.items())
        return decoded if same else decode_predictions(records, self._schema)

    # --- positions ---------------------------------------------------------------------------

    def assign(self, partition: Partition, topic: str, *, stored: int | None, start: int) -> None:
        """A partition is ours from now on.

        Parameters
        ----------
        partition, topic
            Which, and its name at the broker.
        stored
            ``next_offset`` in SQL; ``None``: never read.
        start
            Where reading begins: ``stored``, or else the log's start.
        """
        self._position[partition] = start
        self._progress[partition] = Progress(
            topic=topic, expected=stored, first_offset=start, next_offset=start
        )

    def position(self, partition: Partition) -> int | None:
        """The next offset to take; ``None``: the partition is not ours."""
        return self._position.get(partition)

    def lost(self, partition: Partition, first: int, last: int) -> None:
        """Record that offsets left the log before they were read (both ends inclusive)."""
        p = self._progress[partition]
        self._batch.gaps.append(Gap(partition=partition, topic=p.topic, first=first, last=last))
        if last >= p.next_offset:
            p.skipped += last + 1 - p.next_offset
            p.next_offset = self._position[partition] = last + 1

    def reset(self) -> None:
        """Forget every partition and everything that was not flushed."""
        self._states.clear()
        self._progress.clear()
        self._position.clear()
        self._batch = FlushBatch()
        self._sampler.clear()
        self._unregistered.clear()
        self._dead_letters = DeadLetters()
        self.rows = 0

    # --- records -----------------------------------------------------------------------------

    def take(self, partition: Partition, chunk: Chunk) -> int:
        """Count a chunk of one partition in; what was counted before is skipped.

        A chunk that unpacks to much is taken in parts, and left where the batch is full: then
        :meth:`position` lies within it.

        Returns
        -------
        int
            Rows that were taken.
        """
        p = self._progress[partition]
        if chunk.end <= p.next_offset:
            return 0
        before = p.rows
        left = chunk._replace(first=max(chunk.first, p.next_offset))
        for i, (records, end) in enumerate(left.read()):
            if i and self.full:
                break
            for start in range(0, len(records), TAKEN_RECORDS):
                part = records.part(start, min(start + TAKEN_RECORDS, len(records)))
                rows, dead = self._records(p.topic, partition, part)
                p.counted += len(part) - dead
                p.dead += dead
                p.rows += rows
                self.rows += rows + dead
            p.skipped += end - p.next_offset - len(records)
            p.next_offset = self._position[partition] = end
        return p.rows - before

    def _records(self, topic: str, partition: Partition, records: RecordSet) -> tuple[int, int]:
        """Rows and dead letters of some records."""
        predictions = self._kinds[topic] == "predictions"
        take = self._take_predictions if predictions else self._take_labels
        rows, dead = take(partition, records)
        for record, error in dead:
            self._dead_letters.add(topic, partition.number, record, error)
        return rows, len(dead)

    def _take_predictions(
        self, partition: Partition, records: RecordSet
    ) -> tuple[int, list[tuple[Any, Exception]]]:
        decoded = self._decoded(records)
        dead: list[tuple[Any, Exception]] = [(records[i], why) for i, why in decoded.dead]
        rows = 0
        for run in decoded.runs():
            blocks = [block for block, _ in run]
            try:
                whole = joined(blocks)
                self._count_in(partition, whole, records, np.concatenate([of for _, of in run]))
                rows += len(whole)
                continue
            except (StoreUnavailable, StoreUnusable):
                raise  # nothing is wrong with the rows: they are read again
            except Exception as error:
                if len(run) == 1:
                    dead += self._failed(partition, *run[0], records, error)
                    continue
            for block, record_of in run:  # one of them is at fault, not all
                try:
                    self._count_in(partition, block, records, record_of)
                    rows += len(block)
                except (StoreUnavailable, StoreUnusable):
                    raise
                except Exception as error:
                    dead += self._failed(partition, block, record_of, records, error)
        return rows, dead

    def _failed(
        self,
        partition: Partition,
        block: PredictionBlock,
        record_of: NDArray[np.int64],
        records: RecordSet,
        error: Exception,
    ) -> list[tuple[Any, Exception]]:
        """A row that the monitor chokes on is a defect of ours, and no reason to stop everybody
        else's monitoring: the state is a value, so nothing of this block was counted.
        """
        log.error(
            "block_failed",
            action="block_failed",
            model=block.model,
            version=block.version,
            partition=partition.number,
            offset=int(records[int(record_of[0])].offset),
            exc_info=error,
        )
        why = WireError("failed", f"{type(error).__name__}: {error}")
        return [(records[i], why) for i in np.unique(record_of).tolist()]

    def _count_in(
        self,
        partition: Partition,
        block: PredictionBlock,
        records: RecordSet,
        record_of: NDArray[np.int64],
    ) -> None:
        watched = self._known(block.model, block.version)
        if watched is None:
            self._unregistered.add(block, records, record_of, self._now())
            self._batch.count(block.model, "rows_unknown", len(block))
            return
        profile, _ = watched.profiles.get(block.version, (None, None))
        cached = self._states.get(block.model, block.version, partition)
        seen = observe(
            cached.state, block, profile=profile, config=watched.config, partition=partition
        )
        hashes = id_hashes(block.ids, self._salt)
        self._sampler.add(
            block, hashes, seen.row_windows, config=watched.config, partition=partition
        )
        self._keep(cached, seen, block.model, block.version, partition)

    def _keep(
        self, cached: CachedState, seen: Observed, model: str, version: str, partition: Partition
    ) -> None:
        cached.state, cached.dirty = seen.state, True
        batch = self._batch
        batch.findings += seen.findings
        for w in seen.windows:
            batch.windows.append(
                WindowRow(
                    model=model,
                    version=version,
                    partition=partition,
                    number=w.number,
                    rows=w.rows,
                    first_served_at=w.first_served_at,
                    last_served_at=w.last_served_at,
                )
            )
        if seen.learned is not None:
            profile = seen.learned.to_bytes()
            batch.profiles.append(ProfileRow(model=model, version=version, profile=profile))

    def _take_labels(
        self, partition: Partition, records: RecordSet
    ) -> tuple[int, list[tuple[Any, Exception]]]:
        dead: list[tuple[Any, Exception]] = []
        events: list[LabelObserved] = []
        now = self._now()
        for record in records:
            try:
                event = decode(record, expect=LabelObserved)
                not_ahead(event, now)
                events.append(event)
            except WireError as error:
                dead.append((record, error.alone()))
        hashes = signed(id_hashes([e.id for e in events], self._salt)).tolist()
        for event, id_hash in zip(events, hashes, strict=True):
            watched = self._watched.get(event.model)
            if watched is None:
                self._batch.count(event.model, "labels_unknown")
                continue
            sources = watched.config.label_sources
            believed = not sources or event.source in sources
            self._batch.labels.append(label_row(event, id_hash, believed=believed))
        return len(events), dead

    # --- batches -----------------------------------------------------------------------------

    def tick(self) -> None:
        """Close windows by the clock, for the states that are in memory."""
        now = self._now()
        for (model, version, partition), cached in self._states:
            watched = self._watched.get(model)
            if watched is None or cached.state is None or partition not in self._progress:
                continue
            profile, _ = watched.profiles.get(version, (None, None))
            try:
                seen = tick(cached.state, now, profile=profile, config=watched.config)
            except Exception:  # a defect of ours in one model stops nobody else's monitoring
                log.exception("tick_failed", action="tick_failed", model=model, version=version)
                continue
            if seen.windows or seen.findings:
                self._keep(cached, seen, model, version, partition)

    def close(self) -> FlushBatch | None:
        """What changed since the last call, to be flushed; ``None``: nothing.

        The batch expects SQL as it is once the batch before it is flushed.
        """
        batch, self._batch = self._batch, FlushBatch()
        for partition, p in self._progress.items():
            begin = p.first_offset if p.expected is None else p.expected
            read = p.next_offset != begin or p.expected is None
            if not read and not self._states.changed(partition):
                continue
            batch.progress[partition] = p
            at = p.next_offset
            self._progress[partition] = Progress(
                topic=p.topic, expected=at, first_offset=p.first_offset, next_offset=at
            )
            batch.states += self._states.rows(partition)
        for model in self._states.rebuilt:
            batch.count(model, "states_rebuilt")
        self._states.next_batch()
        configs = {m: w.config for m, w in self._watched.items()}
        self._sampler.close(batch, configs, now=self._clock())
        self._unregistered.close(batch)
        batch.dead = self._dead_letters.taken()
        self.rows = 0
        return batch if batch.progress else None

    def _now(self) -> int:
        return to_us(self._clock())
