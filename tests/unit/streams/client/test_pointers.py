"""Who hears of a pointer: the newest at once, each move once, whatever a callback does."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import hostile
import pytest
from kafka import TopicPartition
from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.client import pointers as module
from redistill.streams.client.pointers import PointerListener
from redistill.streams.errors import BrokerUnavailable
from redistill.streams.kafka.broker import Broker
from redistill.streams.wire.codec import Record, encode
from redistill.streams.wire.events import PointerMoved


def pointer(epoch: int, model: str = "credit") -> PointerMoved:
    return PointerMoved(
        model=model, stable=f"v{epoch}", stable_sha256="ab" * 32, epoch=epoch, reason="test",
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip


def record(event: PointerMoved) -> Record:
    made = encode(event, source="/t")
    return Record("pointers", 0, 0, 0, made.key, made.value, made.headers)


class FakeConsumer:
    """A topic with so many partitions, whose records are given by hand."""

    def __init__(self) -> None:
        self.partitions: set[int] | None = {0}
        self.assigned: set[TopicPartition] = set()
        self.sought: list[set[TopicPartition]] = []
        self.records: list[list[Record]] = []
        self.closed = False

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        assert topic == "ns.pointers"
        return self.partitions

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    def assign(self, wanted: list[TopicPartition]) -> None:
        self.assigned = set(wanted)

    def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        self.sought.append(set(partitions))

    def poll(self, timeout_ms: int) -> dict[Any, list[Record]]:
        return {None: self.records.pop(0)} if self.records else {}

    def close(self) -> None:
        self.closed = True


class Rig:
    """A listener and what it told."""

    def __init__(self) -> None:
        self.trouble: list[str | None] = []
        self.failed: list[tuple[str, Exception]] = []
        self.heard: list[int] = []
        self.listener = PointerListener(
            Broker("b:1", namespace="ns"),
            trouble=self.trouble.append,
            failed=lambda model, error: self.failed.append((model, error)),
        )

    def hear(self, *events: PointerMoved) -> None:
        self.listener._hear([record(e) for e in events])


@pytest.fixture
def rig() -> Rig:
    return Rig()


def add(rig: Rig, model: str = "credit") -> list[int]:
    heard: list[int] = []
    rig.listener.add(model, lambda event: heard.append(event.epoch))
    return heard


def test_only_the_newest_of_what_came_together_is_told(rig: Rig) -> None:
    heard = add(rig)
    rig.hear(pointer(1), pointer(9, "other"), pointer(2))
    assert heard == [2]
    rig.hear(pointer(3))
    assert heard == [2, 3]


def test_repetition_is_no_move(rig: Rig) -> None:
    heard = add(rig)
    rig.hear(pointer(1))
    rig.hear(pointer(1))
    assert heard == [1]


def test_who_comes_later_is_told_the_last_pointer_once(rig: Rig) -> None:
    early = add(rig)
    rig.hear(pointer(1))
    late = add(rig)
    rig.hear()
    rig.hear()
    assert (early, late) == ([1], [1])
    newest = add(rig)
    rig.hear(pointer(2))
    assert (early, late, newest) == ([1, 2], [1, 2], [2])


def test_callback_that_raises_holds_up_no_other(rig: Rig) -> None:
    def raises(event: PointerMoved) -> None:
        raise OSError("no disk")

    rig.listener.add("credit", raises)
    heard = add(rig)
    rig.hear(pointer(1))
    assert heard == [1]
    assert [(model, str(error)) for model, error in rig.failed] == [("credit", "no disk")]


def test_records_that_are_no_pointers_are_left_to_their_writer(rig: Rig) -> None:
    heard = add(rig)
    rig.listener._hear([record(pointer(1))._replace(value=b"{"), record(pointer(2))])
    assert heard == [2]


def test_strange_records_are_passed_over_and_those_beside_them_are_heard(rig: Rig) -> None:
    heard = add(rig)
    strange = hostile.strange_records(lambda i: pointer(i + 2))
    records = [Record("pointers", 0, 0, 0, None, value, heads) for value, heads in strange]
    for one in [record(pointer(1)), *records, record(pointer(99))]:
        rig.listener._hear([one])
    assert heard == [1, *(i + 2 for i in hostile.READABLE), 99]
    assert rig.failed == []


def test_record_that_our_own_code_chokes_on_is_said_and_the_next_is_heard(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.decode

    def choking(one: Any, *, expect: Any) -> Any:
        if one.key == b"bad":
            raise KeyError("a defect")
        return real(one, expect=expect)

    monkeypatch.setattr(module, "decode", choking)
    heard = add(rig)
    rig.listener._hear([record(pointer(1))._replace(key=b"bad"), record(pointer(2))])
    assert heard == [2]
    ((where, why),) = rig.failed
    assert (where, "KeyError" in str(why)) == ("topic pointers", True)


def test_missing_topic_is_said(rig: Rig) -> None:
    client = FakeConsumer()
    client.partitions = None
    assert not rig.listener._listen(client)
    assert "'ns.pointers' is missing" in str(rig.trouble[-1])


def test_partitions_that_are_new_are_read_from_their_start(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REFRESH_POLLS", 1)
    client = FakeConsumer()
    heard = add(rig)
    client.records = [[record(pointer(1))]]
    assert rig.listener._listen(client)
    client.partitions = {0, 1}
    assert rig.listener._listen(client)
    assert rig.listener._listen(client)
    zero, one = (TopicPartition("ns.pointers", n) for n in (0, 1))
    assert client.assigned == {zero, one}
    assert client.sought == [{zero}, {one}]
    assert (heard, rig.trouble) == ([1], [None] * 3)


def test_thread_connects_again_after_whatever_befell_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.001)
    client = FakeConsumer()
    client.records = [[record(pointer(1))]]
    answers: list[Any] = [BrokerUnavailable("is the broker running?"), OSError("cut"), client]

    def connect(broker: Broker, **options: Any) -> Any:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(module, "consumer", connect)
    heard = add(rig)
    thread = threading.Thread(target=rig.listener.run, daemon=True)
    thread.start()
    eventually(lambda: heard == [1])
    rig.listener.stopping.set()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    assert rig.trouble[:2] == ["is the broker running?", "pointers: OSError: cut"]
    assert rig.trouble[2] is None
    assert client.closed
