"""Accumulator: records into batches, by decoding, observing and sampling. No Kafka, no asyncio, so
that tests and benchmarks drive it.

One thread owns an accumulator. It reads SQL (specifications, states) and never writes: what changed
since the last batch is in the batch that :meth:`Accumulator.close` returns, which another thread
may flush while this one goes on. If that flush did not happen, :meth:`Accumulator.reset` forgets
everything that SQL does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import sqlalchemy as sa
import structlog
from numpy.typing import NDArray

from redistill.quiet import Quiet
from redistill.streams.engine import counted
from redistill.streams.engine.dead_letters import DeadLetters, Unreadable, failed_block
from redistill.streams.engine.fetched import Chunk
from redistill.streams.engine.label_rows import LabelIntake, Origin, read_labels
from redistill.streams.engine.progress import ReadProgress
from redistill.streams.engine.sampling import Sampler
from redistill.streams.engine.serving_times import leave_out_of_time, times_of
from redistill.streams.engine.state_cache import CachedState, StateCache
from redistill.streams.engine.unregistered import UnregisteredRows
from redistill.streams.engine.version_room import VersionRoom
from redistill.streams.errors import WireError
from redistill.streams.monitor.observe import Observed, observe, tick
from redistill.streams.store import specs
from redistill.streams.store.batch import FlushBatch, NameLimits, Partition, ProfileRow, WindowRow
from redistill.streams.store.database import Database
from redistill.streams.store.properties import salt
from redistill.streams.store.specs import WatchedModel
from redistill.streams.store.tables import model_locks
from redistill.streams.wire.block import PredictionBlock, Schema, joined
from redistill.streams.wire.codec import BlockRun, Decoded, decode_predictions
from redistill.streams.wire.events import source_of
from redistill.streams.wire.hashing import id_hashes
from redistill.streams.wire.reading import is_ours
from redistill.streams.wire.recordset import RecordSet
from redistill.times import to_us

__all__ = ["Accumulator"]

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
        Seals stored states.
    kinds
        What each topic (as the broker names it) holds: its name without the namespace. Topics may
        be added.
    clock
        Seconds since 1970: only for times of arrival and for rates; ``None``: the database's.
    names
        How many names of unregistered models and versions are kept.
    """

    def __init__(
        self,
        database: Database,
        *,
        state_key: bytes,
        kinds: Mapping[str, str],
        clock: Callable[[], float] | None = None,
        names: NameLimits | None = None,
    ) -> None:
        self._database = database
        self._kinds = kinds
        self._clock = clock or database.clock.seconds
        self._sampler = Sampler(total_cap=5_000 if database.is_sqlite else None)
        self._most_written = 5_000 if database.is_sqlite else 20_000
        names = names or NameLimits()
        self._unregistered = UnregisteredRows(database, names)
        self._versions = VersionRoom(database, names)
        self._labels = LabelIntake(self._versions, self._unregistered)
        self._states = StateCache(database, state_key)
        self._progress = ReadProgress()
        self._batch = FlushBatch()
        self.rows = 0
        """Rows in the open batch."""
        self._quiet = Quiet()
        self._dead_letters = DeadLetters(self._quiet)
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

    @property
    def states(self) -> int:
        """Input states in memory."""
        return len(self._states)

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
            self._versions.refresh(conn)

    def _schema(self, model: str) -> Schema | None:
        watched = self._watched.get(model)
        return None if watched is None else watched.config.schema

    def _times(self, model: str) -> tuple[int, int] | None:
        watched = self._watched.get(model)
        return None if watched is None else times_of(watched.config, self._now())

    def _known(self, model: str, version: str) -> WatchedModel | None:
        """The model, if this version of it is watched."""
        watched = self._watched.get(model)
        if watched is None or not watched.knows(version):
            return None
        registered = version in watched.profiles
        return watched if registered or self._versions.has(model, version) else None

    def _decoded(self, records: RecordSet) -> Decoded:
        """Read with the schemas that hold while the rows are counted, also of models just
        registered."""
        decoded = decode_predictions(records, self._schema)
        met = dict.fromkeys((b.model, b.version) for b in decoded.blocks)
        if not [key for key in met if not self._known(*key) and self._unregistered.is_new(*key)]:
            return decoded
        before = {model: self._schema(model) for model, _ in met}
        self.refresh()  # asked once for each unregistered version
        same = all(self._schema(model) == schema for model, schema in before.items())
        return decoded if same else decode_predictions(records, self._schema)

    # --- partitions --------------------------------------------------------------------------

    def assign(self, partition: Partition, topic: str, *, stored: int | None, start: int) -> None:
        """A partition is ours from now on; see :meth:`ReadProgress.assign`."""
        self._progress.assign(partition, topic, stored=stored, start=start)

    def position(self, partition: Partition) -> int | None:
        """The next offset to take; ``None``: the partition is not ours."""
        return self._progress.next_offset(partition)

    def lost(self, partition: Partition, first: int, last: int) -> None:
        """Record that offsets left the log before they were read (both ends inclusive)."""
        self._batch.gaps.append(self._progress.lost(partition, first, last))

    def reset(self) -> None:
        """Forget every partition and everything that was not flushed."""
        self._states.clear()
        self._progress.clear()
        self._batch = FlushBatch()
        self._sampler.clear()
        self._unregistered.clear()
        self._versions.clear()
        self._dead_letters.clear()
        self.rows = 0

    # --- records -----------------------------------------------------------------------------

    def take(
        self, partition: Partition, chunk: Chunk, *, condemned: WireError | None = None
    ) -> int:
        """Count a chunk of one partition in; what was counted before is skipped.

        A chunk that unpacks to much is taken in parts, and left where the batch is full: then
        :meth:`position` lies within it.

        Parameters
        ----------
        condemned
            Why the records become dead letters, and nobody looks into them.

        Returns
        -------
        int
            Rows that were taken.
        """
        progress = self._progress[partition]
        if chunk.end <= progress.next_offset:
            return 0
        before = progress.rows
        left = chunk._replace(first=max(chunk.first, progress.next_offset))
        for i, (records, end, aborted) in enumerate(left.read()):
            if i and self.full:
                break
            start = 0
            while start < len(records):
                part = records.part(start, min(start + TAKEN_RECORDS, len(records)))
                taken, rows, dead = self._records(progress.topic, partition, part, condemned)
                start += taken
                progress.counted += taken - dead
                progress.dead += dead
                progress.rows += rows
                self.rows += rows + dead
            progress.skipped += end - progress.next_offset - len(records)
            progress.aborted += aborted
            progress.next_offset = end
        return progress.rows - before

    def _records(
        self, topic: str, partition: Partition, records: RecordSet, condemned: WireError | None
    ) -> tuple[int, int, int]:
        """How many of some records were taken, their rows, and dead letters among them."""
        taken, rows, dead = len(records), 0, list[Unreadable]()
        if condemned is not None:
            dead = [(record, condemned) for record in records]
        elif self._kinds[topic] == "predictions":
            taken, rows, dead = self._take_predictions(partition, records)
        else:
            origin = Origin(partition, source_of(self._kinds[topic]))
            rows, dead = self._take_labels(origin, records)
        for record, error in dead:
            self._dead_letters.add(topic, partition.number, record, error)
        return taken, rows, len(dead)

    def _take_predictions(
        self, partition: Partition, records: RecordSet
    ) -> tuple[int, int, list[Unreadable]]:
        decoded = self._decoded(records)
        for model, over in leave_out_of_time(decoded, self._times).items():
            self._batch.count(model, "invalid_served_at", over)
        dead: list[Unreadable] = [(records[i], why) for i, why in decoded.dead]
        rows = 0
        for run in decoded.runs():
            fault = self._try(partition, run, records)
            if fault is None:
                rows += sum(len(block) for block, _ in run)
                continue
            for part in run:  # one of them is at fault, not all
                if len(run) > 1:
                    fault = self._try(partition, [part], records)
                if fault is None:
                    rows += len(part[0])
                else:
                    dead += failed_block(self._quiet, partition, part, records, fault)
        return decoded.records, rows, dead

    def _try(self, partition: Partition, run: BlockRun, records: RecordSet) -> Exception | None:
        """Count blocks in as one; or why that cannot be done, and nothing of them was counted."""
        try:
            record_of = np.concatenate([of for _, of in run])
            self._count_in(partition, joined([block for block, _ in run]), records, record_of)
        except Exception as error:
            if is_ours(error):
                raise  # nothing is wrong with the rows: they are read again
            return error
        return None

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
            # under its name where it is ours: of a stranger ``unregistered`` has the rows
            named = block.model if block.model in self._watched else ""
            self._batch.count(named, "rows_unknown", len(block))
            return
        profile, _ = watched.profiles.get(block.version, (None, None))
        cached = self._states.get(block.model, block.version, partition)
        observed = observe(
            cached.state, block, profile=profile, config=watched.config, partition=partition
        )
        hashes = id_hashes(block.ids, self._salt)
        self._sampler.add(
            block, hashes, observed.row_windows, config=watched.config, partition=partition
        )
        if block.failed is not None:
            self._batch.count(block.model, "rows_failed", int((block.failed.codes >= 0).sum()))
        for name, n in block.invalid.items():
            self._batch.count(block.model, f"invalid_{name}", n)
        self._keep(cached, observed, block.model, block.version, partition)

    def _keep(
        self,
        cached: CachedState,
        observed: Observed,
        model: str,
        version: str,
        partition: Partition,
    ) -> None:
        cached.state, cached.dirty = observed.state, True
        batch = self._batch
        batch.findings += observed.findings
        for w in observed.windows:
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
        if observed.learned is not None:
            profile = observed.learned.to_bytes()
            batch.profiles.append(ProfileRow(model=model, version=version, profile=profile))

    def _take_labels(self, origin: Origin, records: RecordSet) -> tuple[int, list[Unreadable]]:
        labels, dead = read_labels(records, now=self._now(), salt=self._salt, source=origin.source)
        self._labels.add(labels, self._watched, self._batch, origin)
        return len(labels), dead

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
                observed = tick(cached.state, now, profile=profile, config=watched.config)
            except Exception as error:  # a defect in one model stops nobody else's monitoring
                if self._quiet.ask(f"tick {model}") is not None:
                    log.error(
                        "tick_failed",
                        action="tick_failed",
                        model=model,
                        version=version,
                        exc_info=error,
                    )
                continue
            if observed.windows or observed.findings:
                self._keep(cached, observed, model, version, partition)

    def close(self) -> FlushBatch | None:
        """What changed since the last call, to be flushed; ``None``: nothing.

        The batch expects SQL as it is once the batch before it is flushed.
        """
        batch, self._batch = self._batch, FlushBatch()
        batch.progress = self._progress.close(self._states.changed)
        for partition in batch.progress:
            batch.states += self._states.rows(partition)
        for model in self._states.rebuilt:
            batch.count(model, "states_rebuilt")
        self._states.next_batch()
        configs = {m: w.config for m, w in self._watched.items()}
        self._sampler.close(batch, configs, now=self._clock())
        self._unregistered.close(batch)
        batch.dead = self._dead_letters.take()
        counted.warn(batch.counters)
        self.rows = 0
        return batch if batch.progress else None

    def _now(self) -> int:
        return to_us(self._clock())
