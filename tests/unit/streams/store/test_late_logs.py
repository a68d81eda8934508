"""A prediction that is logged after a label has brought it: it changes nothing, and a clash is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from stream_intake import StreamIntake
from stream_rows import label, new_database, prediction, truth, watch

from redistill.streams.store import ledger
from redistill.streams.store import tables as t
from redistill.streams.store.join_step import JoinStep
from redistill.times import MINUTE

N = 20


class Stream(StreamIntake):
    """Labels are joined two minutes after they came."""

    def join(self, **changes: Any) -> JoinStep:
        self.now += 2 * MINUTE
        return super().join(**changes)


@pytest.fixture
def stream(database_url: str) -> Iterator[Stream]:
    db = new_database(database_url)
    watch(db)
    yield Stream(db)
    db.dispose()


def wrong(i: int) -> str:
    return "default" if truth(i) == "repay" else "repay"


def brought(i: int, said: str, **how: Any) -> Any:
    return label(i, version="7", prediction=said, **how)


def detected(stream: Stream) -> dict[str, tuple[str, int]]:
    """What a detector saw of each row."""
    return {o.id: (o.prediction, o.correct) for o in stream.rows(t.outcomes)}


@pytest.mark.parametrize(("says", "clashes"), [(truth, None), (wrong, N)])
def test_log_that_comes_after_its_minute_is_compared_and_changes_nothing(
    stream: Stream, says: Any, clashes: int | None
) -> None:
    stream.send(*(brought(i, says(i)) for i in range(N)))
    stream.join()
    before = detected(stream)
    assert len(before) == N
    for _ in range(2):  # the second time it is a row that is there
        stream.send(*(prediction(i) for i in range(N)))
        stream.join()
    stream.send(*(brought(i, says(i), seconds=90.0) for i in range(N)))  # said again
    stream.join()
    assert detected(stream) == before
    assert stream.counters().get("labels_clash") == clashes
    told = [f for f in stream.rows(t.findings) if "labels brought another" in str(f.body)]
    assert len(told) == (clashes is not None)
    decided = sum(stream.counters().get(f"labels_{s}", 0) for s in ledger.DECIDED)
    assert decided - stream.counters()[ledger.DECIDED_EXPIRED] == 2 * N


def test_log_of_a_prediction_that_failed_contradicts_a_label_that_brings_one(
    stream: Stream,
) -> None:
    stream.send(*(brought(i, truth(i)) for i in range(N)))
    stream.join()
    stream.send(*(dataclasses.replace(prediction(i), failed="error") for i in range(N)))
    stream.join()
    assert stream.counters()["labels_clash"] == N
    (told,) = [str(f.body) for f in stream.rows(t.findings) if "brought another" in str(f.body)]
    assert "logged was no answer of the model (error)" in told


def test_nothing_is_looked_for_where_nobody_brings_predictions(stream: Stream) -> None:
    stream.send(*(prediction(i) for i in range(N)))
    stream.send(*(label(i) for i in range(N)))
    stream.join()
    assert "labels_brought" not in stream.counters()
    assert len(stream.rows(t.outcomes)) == N
