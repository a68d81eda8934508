"""What a logger has in a process: rows go in, records come out, and everything is counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.client import pipeline as module
from redistill.streams.client.batcher import Logged, Outgoing
from redistill.streams.client.pipeline import Pipeline
from redistill.streams.client.send_buffer import SendBuffer
from redistill.streams.kafka.broker import Broker
from redistill.streams.wire.events import LabelObserved, PointerMoved

AT = datetime(2026, 1, 1, tzinfo=UTC)
LABEL = LabelObserved(id="a", model="m", label="x", observed_at=AT)


class FakeSender:
    """Acknowledges everything while the broker is there."""

    made: list[FakeSender]

    def __init__(self, broker: Broker, buffer: SendBuffer, **calls: Any) -> None:
        self.buffer, self.calls = buffer, calls
        self.stopping = threading.Event()
        self.away = FakeSender.away_from_start
        self.sent: list[Outgoing] = []
        self.forgotten = False
        FakeSender.made.append(self)

    away_from_start = False

    def run(self) -> None:
        while not self.stopping.is_set():
            if self.away or (taken := self.buffer.take((), 1 << 30)) is None:
                self.buffer.wait(0.01)
                continue
            self.buffer.settle(taken[0], self._settled)

    def _settled(self, record: Outgoing) -> None:
        self.sent.append(record)
        self.calls["sent"](record)

    def forget(self) -> None:
        self.forgotten = True


class FakeListener:
    """What it was asked to hear."""

    def __init__(self, broker: Broker, **calls: Any) -> None:
        self.calls = calls
        self.stopping = threading.Event()
        self.asked: list[tuple[str, Any]] = []

    def add(self, model: str, callback: Any) -> None:
        self.asked.append((model, callback))

    def run(self) -> None:
        self.stopping.wait()


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeSender.made, FakeSender.away_from_start = [], False
    monkeypatch.setattr(module, "Sender", FakeSender)
    monkeypatch.setattr(module, "PointerListener", FakeListener)


@pytest.fixture
def exits() -> list[int]:
    return []


@pytest.fixture
def pipe(exits: list[int]) -> Iterator[Pipeline]:
    made = Pipeline(Broker("b:1"), source="/t", max_bytes=1 << 20, at_exit=lambda: exits.append(1))
    yield made
    made.close(0)


def rows(n: int) -> list[Logged]:
    return [
        Logged("m", "7", f"r{i}", 1, "yes", None, {"x": i / 2}, None, None, 1.0) for i in range(n)
    ]


def put(pipe: Pipeline, *entries: Any) -> None:
    pipe.queue.extend(entries)
    pipe.wake()


def test_nothing_starts_before_something_is_logged(pipe: Pipeline, exits: list[int]) -> None:
    assert pipe.flush(0)
    assert (FakeSender.made, exits) == ([], [])
    assert pipe.stats().logged == 0


def test_rows_and_events_arrive_in_batches_and_are_counted(
    pipe: Pipeline, exits: list[int]
) -> None:
    put(pipe, *rows(120), LABEL)
    assert pipe.flush(PATIENCE_SECONDS)
    stats = pipe.stats()
    assert (stats.logged, stats.sent, stats.pending, stats.pending_bytes) == (121, 121, 0, 0)
    (sender,) = FakeSender.made
    assert sorted(r.rows for r in sender.sent) == [1, 120]
    assert {r.topic for r in sender.sent} == {"predictions", "labels"}
    assert exits == [1]


def test_few_rows_are_sent_without_a_flush(pipe: Pipeline) -> None:
    put(pipe, *rows(3))
    eventually(lambda: pipe.stats().sent == 3)
    eventually(lambda: pipe.asleep, "the encoder rests when there is nothing to do")
    put(pipe, *rows(2))
    eventually(lambda: pipe.stats().sent == 5)


def test_rows_wait_counted_while_the_broker_is_away(pipe: Pipeline) -> None:
    FakeSender.away_from_start = True
    put(pipe, *rows(30))
    assert not pipe.flush(0.05)
    stats = pipe.stats()
    assert (stats.logged, stats.sent, stats.pending) == (30, 0, 30)
    assert stats.pending_bytes > 0
    FakeSender.made[0].away = False
    assert pipe.flush(PATIENCE_SECONDS)
    assert pipe.stats().sent == 30


def test_silence_is_said_by_whoever_looks_and_forgotten_when_rows_move_again(
    pipe: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SILENCE_SECONDS", 0.1)
    FakeSender.away_from_start = True  # it hangs: it neither sends nor says why not
    put(pipe, *rows(3))
    eventually(lambda: pipe.stats().trouble is not None)
    assert "nothing was sent to b:1" in str(pipe.stats().trouble)
    (sender,) = FakeSender.made
    sender.away = False
    assert pipe.flush(PATIENCE_SECONDS)
    sender.calls["trouble"](None)  # as the real one does with each answer
    eventually(lambda: pipe.asleep)
    assert pipe.stats().trouble is None


def test_rest_before_the_first_row_is_no_silence(
    pipe: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SILENCE_SECONDS", 3_600.0)
    pipe._moved = (0, pipe._moved[1] - 7_200)  # made two hours ago, and nothing logged since
    FakeSender.away_from_start = True
    put(pipe, *rows(3))
    eventually(lambda: pipe.stats().pending_bytes > 0)
    assert pipe.stats().trouble is None


def test_what_nobody_could_read_is_invalid_and_never_lost_count_of(pipe: Pipeline) -> None:
    put(
        pipe,
        *rows(3),
        rows(1)[0]._replace(model=None),
        LabelObserved(id="", model="m", observed_at=AT),
    )
    assert pipe.flush(PATIENCE_SECONDS)
    stats = pipe.stats()
    assert (stats.logged, stats.sent, stats.invalid, stats.pending) == (5, 3, 2, 0)


def test_records_beyond_the_room_are_dropped_and_counted(exits: list[int]) -> None:
    FakeSender.away_from_start = True
    pipe = Pipeline(Broker("b:1"), source="/t", max_bytes=1_000, at_exit=lambda: None)
    put(pipe, *rows(10))  # each a record of its own
    eventually(lambda: pipe.stats().dropped)
    eventually(lambda: pipe.stats().dropped + pipe.stats().pending == 10)
    assert pipe.stats().pending_bytes <= 1_000
    assert pipe.stats().logged == 10
    pipe.close(0)
    eventually(lambda: pipe.stats().dropped == 10, "what is unsent at the end is dropped")


def test_encoder_survives_what_it_cannot_take(
    pipe: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd:
        """No row and no event."""

    put(pipe, Odd())
    put(pipe, *rows(2))
    assert pipe.flush(PATIENCE_SECONDS)
    assert pipe.stats().sent == 2


def test_close_sends_what_waits_and_ends_the_threads(pipe: Pipeline) -> None:
    put(pipe, *rows(40))
    pipe.close(PATIENCE_SECONDS)
    assert (pipe.stats().sent, pipe.closed) == (40, True)
    eventually(lambda: not any(t.is_alive() for t in pipe._threads))
    pipe.close(PATIENCE_SECONDS)


def test_listener_is_started_once_and_asked_for_each_model(pipe: Pipeline) -> None:
    def heard(event: PointerMoved) -> None:
        """Called back."""

    pipe.listen({"a": [heard], "b": [heard]})
    pipe.listen({"a": [heard]})
    listener = pipe._listener
    assert isinstance(listener, FakeListener)
    assert listener.asked == [("a", heard), ("b", heard), ("a", heard)]
    listener.calls["trouble"]("a topic is missing")
    assert pipe.stats().trouble == "a topic is missing"
    pipe.close(0)
    pipe.listen({"c": [heard]})
    assert len(listener.asked) == 4


def test_child_of_a_fork_forgets_the_parents_connection(pipe: Pipeline) -> None:
    pipe.forget()
    put(pipe, *rows(1))
    assert pipe.flush(PATIENCE_SECONDS)
    pipe.forget()
    assert FakeSender.made[0].forgotten
