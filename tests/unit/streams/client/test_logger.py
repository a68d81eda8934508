"""What a service's calls do, without a broker: nothing raises, nothing waits, everything is counted."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from waiting import PATIENCE_SECONDS

from redistill.streams.client import logger as module
from redistill.streams.client.batcher import BoundLabel, Logged
from redistill.streams.client.ledger import Ledger
from redistill.streams.client.logger import PredictionLogger
from redistill.streams.client.release import FALLBACK
from redistill.streams.wire.events import LabelObserved, PointerMoved
from redistill.streams.wire.messages import encode


class FakePipeline:
    """A queue that nobody empties."""

    def __init__(self, broker: Any, **options: Any) -> None:
        self.broker, self.options = broker, options
        self.queue: list[Any] = []
        self.asleep, self.closed = True, False
        self.ledger = Ledger()
        self.woken = 0
        self.asked: list[Any] = []
        self.forgotten = False

    def wake(self) -> None:
        self.woken += 1
        self.asleep = False

    def listen(self, asked: Any) -> None:
        self.asked.append(asked)

    def close(self, timeout: float) -> None:
        self.closed = True

    def forget(self) -> None:
        self.forgotten = True


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[PredictionLogger]:
    monkeypatch.setattr(module, "Pipeline", FakePipeline)
    made = PredictionLogger("b:1", namespace="ns", max_rows=10)
    yield made
    made.close(0)


def pipe(log: PredictionLogger) -> Any:
    return log._pipe


def test_row_is_kept_as_it_was_logged(log: PredictionLogger) -> None:
    features = {"x": 1.5}
    row_id = log.log(
        model="credit", version="7", prediction="no", features=features, id="a",
        segment={"c": "web"}, scores=[0.5, 0.5], latency_ms=2.5, sample_rate=0.5,
    )  # fmt: skip
    features["x"] = 9
    (row,) = pipe(log).queue
    assert row_id == "a"
    assert row._replace(served_at=0) == Logged(
        "credit", "7", "a", 0, "no", [0.5, 0.5], {"x": 1.5}, {"c": "web"}, 2.5, 0.5
    )
    assert abs(row.served_at - datetime.now(UTC).timestamp() * 1e6) < 60e6


def test_answer_of_a_model_is_logged_and_what_is_said_beside_it_wins(log: PredictionLogger) -> None:
    out = SimpleNamespace(
        model="credit",
        version="7",
        prediction="no",
        scores=[1.0],
        features={"x": 1},
        latency_ms=3.0,
    )
    log.log(out, id="a", version="8")
    (row,) = pipe(log).queue
    assert (row.model, row.version, row.prediction, row.latency_ms) == ("credit", "8", "no", 3.0)
    assert (row.scores, row.features) == ([1.0], {"x": 1})
    least = SimpleNamespace(model="m", version="1", prediction=2)
    log.log(least)
    assert (pipe(log).queue[1].scores, pipe(log).queue[1].features) == (None, None)


def test_ids_are_new_each_time_and_in_each_process(log: PredictionLogger) -> None:
    made = {log.log(model="m", version="1", prediction=1) for _ in range(10)}
    assert len(made) == 10
    other = PredictionLogger("b:1")
    assert not made & {other.log(model="m", version="1", prediction=1) for _ in range(10)}


def test_answers_of_an_unknown_fallback_are_not_logged(log: PredictionLogger) -> None:
    assert log.log(model="credit", version=FALLBACK, prediction="repay", id="r1") == "r1"
    assert pipe(log).queue == []


def test_encoder_is_woken_only_where_it_sleeps(log: PredictionLogger) -> None:
    for _ in range(3):
        log.log(model="m", version="1", prediction=1)
    assert pipe(log).woken == 1


def test_full_queue_drops_and_counts(log: PredictionLogger) -> None:
    for i in range(15):
        assert log.log(model="m", version="1", prediction=1, id=str(i)) == str(i)
    log.label("m", id="a", label="x")
    assert len(pipe(log).queue) == 10
    assert pipe(log).ledger.dropped == 6


def test_closed_logger_drops_and_counts(log: PredictionLogger) -> None:
    log.close()
    log.log(model="m", version="1", prediction=1)
    log.label("m", id="a", label="x")
    assert (pipe(log).queue, pipe(log).ledger.dropped) == ([], 2)


class Raises:
    """An answer whose every attribute raises."""

    @property
    def model(self) -> str:
        raise RuntimeError("boom")


def test_arguments_that_make_no_sense_never_raise_and_are_counted(log: PredictionLogger) -> None:
    bad: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((Raises(),), {}),
        ((object(),), {}),
        ((), {"model": "m", "version": "7", "prediction": "no", "features": [1, 2]}),
        ((), {"model": "m", "version": "7", "prediction": "no", "scores": 3}),
    ]
    for args, kwargs in bad:
        assert isinstance(log.log(*args, **kwargs), str)
    assert log.log(Raises(), id="mine") == "mine"
    assert pipe(log).ledger.invalid == len(bad) + 1


def test_label_is_an_event_with_now_as_its_time(log: PredictionLogger) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    log.label(
        "m", id="a", label=np.bool_(True), source="ledger", observed_at=at, prediction=np.int64(3)
    )
    log.label("m", id=7, label=None, op="retract")  # type: ignore[arg-type]
    first, second = pipe(log).queue
    assert first == LabelObserved(
        id="a", model="m", label="true", source="ledger", observed_at=at, prediction="3",
        arrival="api",
    )  # fmt: skip
    assert (second.id, second.op) == ("7", "retract")
    assert abs((datetime.now(UTC) - second.observed_at).total_seconds()) < 60


def test_label_that_answers_a_request_says_which(log: PredictionLogger) -> None:
    request = UUID(int=7)
    log.label("m", id="a", label="x", request_id=str(request), uniform=False)
    log.label("m", id="a", label="x", request_id=request)
    log.label("m", id="a", label="x", request_id="seven")
    first, second = pipe(log).queue
    assert (first.request_id, first.uniform) == (request, False)
    assert (second.request_id, second.uniform) == (request, True)
    assert pipe(log).ledger.invalid == 1


def test_answer_of_a_failed_row_need_not_be_told(log: PredictionLogger) -> None:
    log.log(model="m", version="1", features={"x": 1}, id="a", failed="error")
    log.log(model="m", version="1", prediction=2.0, id="b", prediction_interval=[1, 3])  # type: ignore[arg-type]
    first, second = pipe(log).queue
    assert (first.prediction, first.failed) == ("", "error")
    assert (second.failed, second.prediction_interval) == (None, (1, 3))


def test_label_of_a_bound_source_is_marked_for_its_topic(log: PredictionLogger) -> None:
    log.label("m", id="a", label="x", source="ledger", bound=True)
    log.label("m", id="a", label="x", source="ledger")
    first, second = pipe(log).queue
    assert isinstance(first, BoundLabel)
    assert (first.label.id, first.label.source) == ("a", "ledger")
    assert isinstance(second, LabelObserved)


def test_pointers_are_asked_for_and_again_after_a_fork(log: PredictionLogger) -> None:
    def heard(event: PointerMoved) -> None:
        """Called back."""

    log.on_pointer("m", heard)
    parent, prefix = pipe(log), log._prefix
    assert parent.asked == [{"m": [heard]}]
    log.log(model="m", version="1", prediction=1)
    log._forked()
    assert parent.forgotten
    assert pipe(log) is not parent
    assert pipe(log).asked == [{"m": [heard]}]
    assert (pipe(log).queue, len(parent.queue)) == ([], 1), "what waits is the parent's to send"
    assert log._prefix != prefix


def test_many_threads_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Pipeline", FakePipeline)
    log = PredictionLogger("b:1")

    def work() -> None:
        for _ in range(500):
            log.log(model="m", version="1", prediction=1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(PATIENCE_SECONDS)
    assert len({row.id for row in pipe(log).queue}) == 4_000


def test_exit_on_sigterm_leaves_somebody_elses_handler_alone(
    log: PredictionLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_: list[Any] = []
    monkeypatch.setattr(module.signal, "signal", lambda *args: set_.append(args))
    monkeypatch.setattr(module.signal, "getsignal", lambda _: print)
    assert not log.exit_on_sigterm()
    assert set_ == []
    monkeypatch.setattr(module.signal, "getsignal", lambda _: signal.SIG_DFL)
    assert log.exit_on_sigterm()
    ((number, handler),) = set_
    with pytest.raises(SystemExit) as ended:
        handler(number, None)
    assert ended.value.code == 143


def test_a_library_that_does_not_load_is_said_at_construction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise ImportError("cannot import name 'KafkaProducer'", name="kafka")

    monkeypatch.setattr(module, "preload", broken)
    with pytest.raises(ImportError, match="PredictionLogger"):
        PredictionLogger("b:1")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("id", 2.0**53 + 2, "arguments: id is the number 9007199254740994, beyond 2^53"),
        ("label", float("inf"), "arguments: label is infinite"),
        ("prediction", b"\xff", "arguments: prediction holds bytes that are no UTF-8"),
        ("segment", {"s": [1]}, "arguments: segment 's' is a list"),
    ],
)
def test_a_label_of_values_without_a_text_is_counted_with_its_reason(
    log: PredictionLogger,
    caplog: pytest.LogCaptureFixture,
    field: str,
    value: Any,
    said: str,
) -> None:
    log.label("m", **({"id": "a", "label": "yes"} | {field: value}))
    assert pipe(log).ledger.invalid == 1
    assert list(pipe(log).queue) == []
    assert said in caplog.text


def test_a_label_may_be_given_in_numpys_numbers(log: PredictionLogger) -> None:
    log.label(
        "m", id="a", label="x", confidence=np.float32(0.5), inclusion_probability=np.float64(1)
    )
    (event,) = pipe(log).queue
    assert (type(event.confidence), event.confidence) == (float, 0.5)
    assert encode(event, source="/t")


class Timestamp(datetime):
    """As pandas has it: a datetime, but no JSON library's."""


def test_the_time_of_a_label_may_be_of_another_library(log: PredictionLogger) -> None:
    log.label("m", id="a", label="x", observed_at=Timestamp(2026, 1, 2, 3, tzinfo=UTC))
    (event,) = pipe(log).queue
    assert event.observed_at == datetime(2026, 1, 2, 3, tzinfo=UTC)
    assert b"2026-01-02T03:00:00Z" in encode(event, source="/t").value
    log.label("m", id="a", label="x", observed_at=np.datetime64("2026-01-02"))  # type: ignore[arg-type]
    assert pipe(log).ledger.invalid == 1
