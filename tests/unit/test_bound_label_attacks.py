"""Where a model binds a source: whatever anybody writes elsewhere changes nothing that judges. From the
record to what each judge reads, which is compared to the letter."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from stream_rows import CONFIG, START, chunk, label, new_database, prediction, record, truth, watch

from redistill.streams.engine.accumulator import Accumulator
from redistill.streams.monitor.label_trust import Cutover, partition_key
from redistill.streams.store import properties
from redistill.streams.store import tables as t
from redistill.streams.store.batch import Partition
from redistill.streams.store.database import Database
from redistill.streams.store.flush import flush
from redistill.streams.store.join_step import join_labels
from redistill.streams.wire.codec import Record
from redistill.streams.wire.events import LabelObserved
from redistill.times import MINUTE, SECOND, microseconds, to_seconds
from redistill.workers.jobs import monitored_labels, training_window
from redistill.workers.jobs.second_labels import differed_before, with_second_labels
from redistill.workers.releases.post_release_monitor import MonitoredRelease
from redistill.workers.store import usual_gaps

KEY = b"k" * 32
PREDICTIONS, LABELS, LEDGER = (Partition(f"id-{x}", 0) for x in ("p", "l", "ledger"))
TOPICS = {PREDICTIONS: "predictions", LABELS: "labels", LEDGER: "labels.ledger"}
BOUND = dataclasses.replace(CONFIG, label_sources=("ledger", "analyst"), bound_sources=("ledger",))
N = 120

Forged = Iterable[LabelObserved]


class Town:
    """A stream worker without Kafka, its honest ledger on its own topic, and a forger."""

    def __init__(self, folder: Path, config: Any = BOUND) -> None:
        self.db: Database = new_database(f"sqlite:///{folder / 'town.db'}")
        self.config, self.now = config, microseconds(START) + 3_600 * SECOND
        watch(self.db, config)
        with self.db.begin() as conn:
            properties.put(conn, properties.SALT, "5a" * 32)  # so that two towns can be compared
        self.intake = Accumulator(
            self.db,
            state_key=KEY,
            kinds={name: name for name in TOPICS.values()},
            clock=lambda: to_seconds(self.now),
        )
        self.ends = dict.fromkeys(TOPICS, 0)
        for partition, topic in TOPICS.items():
            self.intake.assign(partition, topic, stored=None, start=0)

    def read(self, partition: Partition, events: Iterable[Any]) -> None:
        """Records are read, flushed and joined, as often as there is work."""
        made = [record(e, self.ends[partition] + i) for i, e in enumerate(events)]
        self.take(partition, made)

    def take(self, partition: Partition, records: list[Record]) -> None:
        self.now += MINUTE
        if records:
            self.intake.take(partition, chunk(records))
            self.ends[partition] += len(records)
        if (batch := self.intake.close()) is not None:
            flush(self.db, batch, now=self.now)
        self.now += 2 * MINUTE  # what brings a prediction has waited for the log
        while (done := join_labels(self.db, self.config, now=self.now, state_key=KEY)) is not None:
            if not done.more:
                return

    def honest(self, rows: range) -> None:
        """Rows are served, one of ten wrongly, and labelled by the ledger."""
        self.read(PREDICTIONS, [prediction(i, right=i % 10 > 0) for i in rows])
        self.read(LEDGER, [label(i) for i in rows])

    def rows(self, table: sa.Table, *without: str) -> list[dict[str, Any]]:
        with self.db.read() as conn:
            found = [dict(r) for r in conn.execute(sa.select(table)).mappings()]
        for row in found:
            for name in without:
                del row[name]
        return sorted(found, key=repr)

    def judged(self) -> dict[str, Any]:
        """What detectors, diagnosis, training, gates, recovery, base error and the post-release
        monitor go by."""
        sources = self.config.bound_sources
        query = training_window.WindowQuery(
            model="credit",
            version="7",
            features=("income", "age"),
            salt="s",
            train_rows=10**6,
            since=microseconds(START),
        )
        release = MonitoredRelease(
            model="credit", epoch=2, version="7", predecessor="6", last_seq=0,
            since=microseconds(START), until=2**60,
        )  # fmt: skip
        later = dataclasses.replace(query, since=microseconds(START) + 600_000)
        with self.db.read() as conn:
            window = training_window.read(conn, query)
            return {
                "outcomes": self.rows(t.outcomes),
                "detectors": self.rows(t.accuracy_states),
                "findings": self.rows(t.findings),
                "base errors": self.rows(t.profiles),
                "announced": self.rows(t.outbox, "event_id", "headers"),
                "window": with_second_labels(conn, query, sources, window.table).to_pylist(),
                "counts": window.counts,
                "differed": differed_before(conn, later, sources, CONFIG.schema.classes),
                "labelled": training_window.labelled_outcomes(conn, "credit", "7", None),
                "monitored": monitored_labels.read(
                    conn, release, self.config, {"label_sources": ["ledger"]}
                ),
                "usual gap": usual_gaps.of_labels(conn, "credit", self.now),
                "last label": usual_gaps.last_label(conn, "credit"),
            }


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path)
    yield made
    made.db.dispose()


def wrong(i: int) -> str:
    return "default" if truth(i) == "repay" else "repay"


def forged(**how: Any) -> Callable[[int], LabelObserved]:
    return lambda i: label(i, **({"label": wrong(i)} | how))


AHEAD = START + timedelta(hours=24)
ATTACKS: dict[str, Callable[[int], LabelObserved]] = {
    "wrong": forged(seconds=90.0),
    "right": forged(label="repay", seconds=90.0),
    "with the key of the true one": forged(),
    "of almost a day ahead": forged(observed_at=AHEAD),
    "of 1970": forged(observed_at=START.replace(year=1970)),
    "of another source that is believed where nothing is bound": forged(source="analyst"),
    "of a source that nobody names": forged(source="gossip"),
    "of a source with an odd name": forged(source="labels.ledger\n\u202eledger"),
    "of a source that differs in case": forged(source="Ledger", seconds=90.0),
    "taken back": forged(label=None, op="retract", observed_at=AHEAD),
    "taken back by its key": forged(label=None, op="retract"),
    "that brings another prediction": forged(version="7", prediction="repay", seconds=90.0),
    "of rows that were never served": lambda i: label(
        i, id=f"made-up-{i}", label="repay", version="7", prediction="default"
    ),
    "drawn with a small probability": forged(inclusion_probability=1e-6, seconds=90.0),
    "in slices of their own": lambda i: label(
        i, id=f"made-up-{i}", version="7", prediction=wrong(i), segment={"region": "EU"}
    ),
}


@pytest.mark.parametrize("first", [False, True], ids=["after", "before"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_unbound_labels_change_nothing_that_judges(
    tmp_path: Path, attack: str, first: bool
) -> None:
    """Whether they come before the true ones, or after them."""
    towns = []
    for forges in (False, True):
        (tmp_path / str(forges)).mkdir()
        town = Town(tmp_path / str(forges))
        said = [ATTACKS[attack](i) for i in range(N)] if forges else []
        for step in ("forge", "serve") if first else ("serve", "forge"):
            if step == "serve":
                town.honest(range(N))
            else:
                town.read(LABELS, said)
        town.honest(range(N, N + 10))
        towns.append(town)
    clean, attacked = (town.judged() for town in towns)
    assert clean["labelled"] == N + 10
    for what in clean:
        assert attacked[what] == clean[what], what
    stored = [r for r in towns[1].rows(t.labels) if not r["bound"]]
    assert {r["state"] for r in stored} <= {"ignored"}
    for town in towns:
        town.db.dispose()


def test_attacks_change_what_judges_where_nothing_is_bound(tmp_path: Path) -> None:
    """Or the test above could not fail."""
    config = dataclasses.replace(BOUND, bound_sources=())
    town = Town(tmp_path, config)
    town.honest(range(N))
    before = town.judged()
    town.read(LABELS, [ATTACKS["wrong"](i) for i in range(N)])
    assert town.judged()["outcomes"] != before["outcomes"]
    town.db.dispose()


def test_on_the_topic_of_a_source_others_are_dead_letters(town: Town) -> None:
    town.honest(range(N))
    before = town.judged()
    names = ("analyst", "Ledger", "ledger ", "ledg\u0435r", "labels.ledger", "x" * 80)
    town.read(LEDGER, [label(i, source=s, label=wrong(i)) for i, s in enumerate(names)])
    dead = [json.loads(r["value"]) for r in town.rows(t.outbox) if r["topic"] == "dlq"]
    assert len(dead) == len(names)
    after = town.judged()
    for what in set(before) - {"announced"}:
        assert after[what] == before[what], what


@pytest.mark.parametrize("where", [LABELS, LEDGER])
@pytest.mark.parametrize("source", [b'"a\\u0000b"', b'""', b"null", b"7", b'"' + b"x" * 81 + b'"'])
def test_name_of_a_source_that_is_none_is_a_dead_letter(
    town: Town, where: Partition, source: bytes
) -> None:
    good = record(label(0, source="ledger"), 0)
    value = (good.value or b"").replace(b'"ledger"', source)
    assert value != good.value
    town.take(where, [good._replace(value=value)])
    assert town.rows(t.labels) == []
    assert [r["topic"] for r in town.rows(t.outbox)] == ["dlq"]


# --- where the past counts ----------------------------------------------------------------------


@pytest.mark.parametrize(("offset", "counts"), [(4, True), (5, False), (6, False)])
def test_cut_over_ends_with_the_last_record_that_was_there(
    tmp_path: Path, offset: int, counts: bool
) -> None:
    """The end of a partition is the offset of the next record: five lay there, 0 to 4."""
    ends = {partition_key(LABELS.topic_id, 0): 5}
    config = dataclasses.replace(BOUND, cutover=Cutover(sources=("ledger",), offsets=ends))
    town = Town(tmp_path, config)
    town.read(PREDICTIONS, [prediction(i) for i in range(10)])
    town.take(LABELS, [record(label(i, label=wrong(i)), i) for i in range(offset + 1)])
    assert [r["id"] for r in town.rows(t.outcomes)] == sorted(
        f"row-{i}" for i in range(min(offset + 1, 5))
    )
    (last,) = [r for r in town.rows(t.labels) if r["id"] == f"row-{offset}"]
    assert (last["bound"], last["state"]) == (counts, "joined" if counts else "ignored")
    town.db.dispose()


def test_common_topic_that_is_made_again_has_no_past(tmp_path: Path) -> None:
    """Its records are other ones, whatever their offsets."""
    ends = {partition_key("id of the topic that was deleted", 0): 1_000}
    config = dataclasses.replace(BOUND, cutover=Cutover(sources=("ledger",), offsets=ends))
    town = Town(tmp_path, config)
    town.read(PREDICTIONS, [prediction(i) for i in range(10)])
    town.read(LABELS, [label(i, label=wrong(i)) for i in range(10)])
    assert town.rows(t.outcomes) == []
    town.db.dispose()


# --- files, sent again --------------------------------------------------------------------------


def test_old_file_that_is_sent_again_undoes_no_correction(town: Town) -> None:
    town.read(PREDICTIONS, [prediction(i) for i in range(N)])
    file = [label(i, label=wrong(i)) for i in range(N)]
    town.read(LEDGER, file)
    town.read(LEDGER, [label(i, seconds=3_000.0) for i in range(N)])
    before = town.judged()
    for where, _ in itertools.product((LEDGER, LABELS), range(2)):
        town.read(where, file)
    assert town.judged() == before
    assert {r["label"] == truth(int(r["id"][4:])) for r in town.rows(t.outcomes)} == {True}
