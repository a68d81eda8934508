"""Attacks by whoever may write labels, from the record to what is decided: each one worked once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from stream_rows import CONFIG, START, batch_record, chunk, label, new_database, truth, watch

from redistill.streams.engine.accumulator import Accumulator
from redistill.streams.engine.label_rows import label_row
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.store import properties
from redistill.streams.store import tables as t
from redistill.streams.store.batch import FlushBatch, Partition
from redistill.streams.store.database import Database
from redistill.streams.store.flush import flush
from redistill.streams.store.join_step import join_labels
from redistill.streams.wire.events import LabelObserved
from redistill.streams.wire.hashing import id_hashes, signed
from redistill.times import DAY, MINUTE, SECOND, microseconds, to_seconds
from redistill.workers.jobs import training_window

KEY = b"k" * 32
P0 = Partition("topic-id-p", 0)
NOW = microseconds(START) + 3_600 * SECOND


class Town:
    """A model that answers, its honest ledger, and somebody who writes labels, too."""

    def __init__(self, folder: Path, config: WatchConfig = CONFIG) -> None:
        self.db: Database = new_database(f"sqlite:///{folder / 'town.db'}")
        self.config, self.now, self.served = config, NOW, 0
        watch(self.db, config)
        self.intake = Accumulator(
            self.db,
            state_key=KEY,
            kinds={"predictions": "predictions"},
            clock=lambda: to_seconds(self.now),
        )
        self.intake.assign(P0, "predictions", stored=None, start=0)
        with self.db.begin() as conn:
            self.salt = properties.salt(conn)

    def serve(self, rows: Sequence[int]) -> None:
        """Serve rows; all answers are right."""
        self.intake.take(P0, chunk([batch_record(rows, self.served)]))
        self.served += 1
        batch = self.intake.close()
        assert batch is not None
        flush(self.db, batch, now=self.now)

    def said(self, labels: Sequence[LabelObserved], bound: Sequence[LabelObserved] = ()) -> None:
        """Labels come together, a minute after the last ones, and are joined; some of them from
        the topic of their source."""
        self.now += MINUTE
        events = [*labels, *bound]
        hashes = signed(id_hashes([e.id for e in events], self.salt)).tolist()
        rows = [
            label_row(e, h, state="waiting", bound=i >= len(labels))
            for i, (e, h) in enumerate(zip(events, hashes, strict=True))
        ]
        flush(self.db, FlushBatch(labels=rows), now=self.now)
        self.now += 2 * MINUTE  # what brings a prediction has waited for the log
        while (done := join_labels(self.db, self.config, now=self.now, state_key=KEY)) is not None:
            if not done.more:
                return

    def harm(self) -> list[Any]:
        """Findings of harm."""
        with self.db.read() as conn:
            found = sa.select(t.findings).where(t.findings.c.kind == "accuracy")
            return list(conn.execute(found))


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path)
    yield made
    made.db.dispose()


def wrong(i: int) -> str:
    return "default" if truth(i) == "repay" else "repay"


def test_labels_of_tomorrow_block_no_repair(town: Town) -> None:
    """They raised an alarm of tomorrow: every label that came before looked as old as the alarm,
    and every row as old as the change, and no row was left by which to judge a repair."""
    town.serve(range(400))
    tomorrow = START + timedelta(hours=23)
    made_up = [
        label(i, id=f"made-up-{i}", observed_at=tomorrow, version="7", prediction=wrong(i))
        for i in range(60)
    ]
    town.said(made_up)
    (finding,) = town.harm()
    assert finding.opened_at < NOW + DAY // 2
    town.serve(range(400, 600))
    town.said([label(i) for i in range(400, 600)])
    query = training_window.WindowQuery(
        model="credit",
        version="7",
        features=("income", "age"),
        salt="s",
        train_rows=1_000,
        since=NOW - 3_600 * SECOND,
        raised_seq=finding.raised_seq,
    )
    with town.db.read() as conn:
        window = training_window.read(conn, query)
    assert window.counts["gate_labelled"] > 60


@pytest.mark.parametrize(("binds", "found"), [(False, False), (True, True)])
def test_forged_right_labels_hide_no_error_of_a_source_that_is_bound(
    tmp_path: Path, binds: bool, found: bool
) -> None:
    """Three of them for each honest one hid an error of 40%. Where nothing is bound, they still do:
    nobody can see who wrote a record."""
    bound = ("ledger",) if binds else ()
    config = dataclasses.replace(CONFIG, label_sources=("ledger",), bound_sources=bound)
    town = Town(tmp_path, config)
    rng = np.random.default_rng(1)
    for start in range(0, 2_000, 500):
        rows = range(start, start + 500)
        town.serve(rows)
        honest = [
            label(i, label=wrong(i) if rng.random() < 0.4 else truth(i))
            for i in rows
            if rng.random() < 0.3
        ]
        forged = [
            label(i, id=f"made-up-{i}-{n}", label="repay", version="7", prediction="repay")
            for n in range(3)
            for i in rng.choice(rows, len(honest), replace=False).tolist()
        ]
        town.said(forged, bound=honest)
    assert bool(town.harm()) is found
    town.db.dispose()


def test_prediction_that_a_label_brings_does_not_replace_the_one_that_was_logged(
    town: Town,
) -> None:
    """Who knew ids could make any answer right, or wrong."""
    town.serve(range(200))
    town.said([label(i, version="7", prediction=wrong(i)) for i in range(200)])
    assert town.harm() == []
    with town.db.read() as conn:
        assert conn.execute(sa.select(sa.func.sum(t.outcomes.c.correct))).scalar() == 200


def test_correction_outdoes_a_label_of_tomorrow(town: Town) -> None:
    """Whoever dated a label ahead had the last word for a day."""
    town.serve(range(10))
    town.said([label(i, label=wrong(i), seconds=80_000) for i in range(10)])
    town.said([label(i, seconds=3_600 + 400) for i in range(10)])
    with town.db.read() as conn:
        stands = conn.execute(sa.select(t.outcomes.c.id, t.outcomes.c.label)).all()
    assert {(r.id, r.label) for r in stands} == {(f"row-{i}", truth(i)) for i in range(10)}
