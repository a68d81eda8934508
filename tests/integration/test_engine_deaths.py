"""Records that kill the worker that takes them, and workers that are killed: with real processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from processes import Worker, redistill
from stream_lab import PARTITIONS, Lab
from stream_rows import label, prediction
from waiting import eventually

from redistill.streams.kafka.dev_broker import DevBroker
from redistill.streams.store import tables as t
from redistill.workers.invariants import check

ROWS = 80


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with DevBroker(namespace="dev") as broker:
        url = f"sqlite:///{tmp_path / 'redistill.db'}"
        made = Lab(broker.servers, url, tmp_path, namespace="dev")
        yield made
        made.close()


def send(lab: Lab, *, deadly: int | None = None, deadly_label: int | None = None) -> None:
    """Rows and labels, of which one may kill."""
    lab.send(prediction(i, version="deadly" if i == deadly else "7") for i in range(ROWS))
    lab.send(
        label(i, source="deadly" if i == deadly_label else "ledger") for i in range(PARTITIONS)
    )


def revive(workers: Sequence[Worker], done: Callable[[], bool], what: str) -> int:
    """Start what is dead, as a supervisor does, until it is done; how many died."""
    deaths = 0

    def look() -> bool:
        nonlocal deaths
        for worker in workers:
            if not worker.alive:
                deaths += worker.starts > 0
                worker.start()
        return done()

    eventually(look, what, every=0.2, patience=400)
    return deaths


def passed(lab: Lab) -> bool:
    rows = lab.offsets()
    return (
        sum(r.counted + r.dead for (topic, _), r in rows.items() if topic == "predictions") == ROWS
        and sum(r.counted + r.dead for (topic, _), r in rows.items() if topic == "labels")
        == PARTITIONS
    )


def letters(lab: Lab) -> list[Any]:
    return [r for r in lab.rows(t.outbox) if r.topic == "dlq"]


def broken(lab: Lab) -> list[str]:
    """Invariants that do not hold, but for the one on registration: nobody registered this model."""
    told = redistill(["check-history"], lab.env)
    lines = [line for line in told.stdout.splitlines() if line.startswith(("holds", "BROKEN"))]
    assert len(lines) == len(check.RULES), told.stdout + told.stderr
    return [line for line in lines if line.startswith("BROKEN") and "BROKEN 11." not in line]


def assert_all_but_one_counted(lab: Lab, topic: str, partition: int) -> None:
    where = lab.logs()
    for (name, number), row in lab.offsets().items():
        dead = int((name, number) == (topic, partition))
        produced = ROWS // PARTITIONS if name == "predictions" else 1
        assert (row.counted, row.dead, row.skipped) == (produced - dead, dead, 0), where
    (letter,) = letters(lab)
    assert b'"kills"' in letter.value
    counted = lab.scalar(sa.select(sa.func.sum(t.input_states.c.rows)))
    assert counted == ROWS - (topic == "predictions")
    assert broken(lab) == []


@pytest.mark.parametrize(
    ("how", "patience"),
    [
        pytest.param("abort", 30.0, id="abort"),
        pytest.param("hang", 8.0, id="hang", marks=pytest.mark.slow),
        pytest.param("held", 8.0, id="held", marks=pytest.mark.slow),
    ],
)
def test_record_that_kills_is_set_aside_and_the_worker_goes_on(
    lab: Lab, how: str, patience: float
) -> None:
    send(lab, deadly=42)
    worker = lab.deadly("stream", how, patience)
    deaths = revive([worker], lambda: passed(lab), f"all rows are passed\n{lab.logs()}")
    assert deaths >= 4, worker.tail()
    assert_all_but_one_counted(lab, "predictions", 42 % PARTITIONS)
    assert worker.says("set_aside")
    assert worker.stop() == 0, worker.tail()


@pytest.mark.slow
def test_label_that_kills_is_set_aside(lab: Lab) -> None:
    send(lab, deadly_label=2)
    worker = lab.deadly("stream", "abort", 30.0)
    revive([worker], lambda: passed(lab), f"all labels are passed\n{lab.logs()}")
    assert_all_but_one_counted(lab, "labels", 2)


def test_kill_from_outside_with_rows_in_hand_costs_none_of_them(lab: Lab) -> None:
    send(lab, deadly=42)
    where = "predictions", 42 % PARTITIONS
    for tries in (1, 2, 3):
        # it waits with the rows in hand, and is killed
        worker = lab.deadly(f"stream-{tries}", "hang", 600.0).start()
        eventually(
            lambda n=tries: where in lab.offsets() and lab.offsets()[where].tries == n,  # type: ignore[misc]
            f"{tries} tries\n{lab.logs()}",
        )
        worker.kill()
    lab.worker().start()
    lab.wait_counted(ROWS)
    assert letters(lab) == []
    assert {r.dead for r in lab.offsets().values()} == {0}
    assert lab.scalar(sa.select(sa.func.sum(t.unregistered.c.rows))) == 1
    assert broken(lab) == []


@pytest.mark.kafka
@pytest.mark.slow
def test_record_that_kills_one_worker_after_the_other_is_set_aside(
    kafka_server: Any, postgres_url: str, tmp_path: Path
) -> None:
    lab = Lab(kafka_server.bootstrap, postgres_url, tmp_path).make_topics()
    try:
        send(lab, deadly=42)
        workers = [lab.deadly(name, "abort", 30.0) for name in ("a", "b")]
        revive(workers, lambda: passed(lab), f"all rows are passed\n{lab.logs()}")
        assert_all_but_one_counted(lab, "predictions", 42 % PARTITIONS)
    finally:
        lab.close()
