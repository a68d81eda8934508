"""Records between the encoder and the broker: bounded, in order per topic, each settled or given up."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from waiting import PATIENCE_SECONDS

from redistill.streams.client.batcher import Outgoing
from redistill.streams.client.send_buffer import SendBuffer

PLENTY = 1 << 20


def record(text: str, topic: str = "predictions", *, rows: int = 1) -> Outgoing:
    return Outgoing(topic, b"m", text.encode(), [], rows)


@pytest.fixture
def buffer() -> SendBuffer:
    return SendBuffer(PLENTY)


def fill(buffer: SendBuffer, *records: Outgoing) -> None:
    for made in records:
        assert buffer.put(made)


def take(buffer: SendBuffer, held_back: Any = (), flying: int = PLENTY) -> tuple[int, str] | None:
    taken = buffer.take(held_back, flying)
    return None if taken is None else (taken[0], taken[1].value.decode())


def settle(buffer: SendBuffer, number: int) -> list[Outgoing]:
    counted: list[Outgoing] = []
    buffer.settle(number, counted.append)
    return counted


def test_record_is_counted_before_anybody_sees_it_settled(buffer: SendBuffer) -> None:
    """Else a flush ends, and its caller reads that nothing was sent."""
    fill(buffer, record("a"))
    seen: list[bool] = []

    def count(_: Outgoing) -> None:
        other = threading.Thread(target=lambda: seen.append(buffer.is_settled(1)))
        other.start()
        other.join(0.2)
        assert seen == [], "who asks waits until it is counted"

    take(buffer)
    buffer.settle(1, count)
    with buffer.changed:
        assert buffer.is_settled(1)


def test_records_are_taken_in_order_whatever_their_topic(buffer: SendBuffer) -> None:
    fill(buffer, record("a"), record("b", "labels"), record("c"))
    assert [take(buffer) for _ in range(4)] == [(1, "a"), (2, "b"), (3, "c"), None]


def test_topic_that_is_held_back_holds_up_no_other(buffer: SendBuffer) -> None:
    fill(buffer, record("a"), record("b", "labels"), record("c"))
    assert take(buffer, {"predictions"}) == (2, "b")
    assert take(buffer, {"predictions"}) is None
    assert take(buffer) == (1, "a")


def test_bytes_are_bounded_and_free_again_when_settled() -> None:
    size = record("a").size
    buffer = SendBuffer(2 * size)
    fill(buffer, record("a", rows=3), record("b"))
    assert not buffer.put(record("c"))
    assert (buffer.bytes, buffer.rows) == (2 * size, 4)
    taken = buffer.take((), PLENTY)
    assert taken is not None
    assert not buffer.put(record("c")), "what is on its way is kept as well"
    assert settle(buffer, taken[0]) == [taken[1]]
    assert (buffer.bytes, buffer.rows) == (size, 1)
    assert buffer.put(record("c"))


def test_bytes_on_their_way_are_bounded_but_for_one_record(buffer: SendBuffer) -> None:
    fill(buffer, record("a" * 500), record("b"), record("c"))
    assert take(buffer, flying=100) is not None, "one that is larger goes alone"
    assert take(buffer, flying=100) is None
    settle(buffer, 1)
    assert take(buffer, flying=2 * record("b").size) == (2, "b")
    assert take(buffer, flying=2 * record("b").size) == (3, "c")


def test_record_that_came_back_is_the_next_of_its_topic_again(buffer: SendBuffer) -> None:
    fill(buffer, record("a"), record("b"), record("c"), record("d"))
    assert [take(buffer) for _ in range(3)] == [(1, "a"), (2, "b"), (3, "c")]
    buffer.give_back(1)
    buffer.give_back(2)
    assert [take(buffer) for _ in range(3)] == [(1, "a"), (2, "b"), (4, "d")]
    assert take(buffer, flying=1) is None, "four are on their way"


def test_all_up_to_a_record_are_settled_when_none_before_it_is_open(buffer: SendBuffer) -> None:
    assert buffer.is_settled(buffer.last())
    fill(buffer, record("a"), record("b"))
    mark = buffer.last()
    take(buffer), take(buffer)
    settle(buffer, 2)
    assert not buffer.is_settled(mark)
    settle(buffer, 1)
    assert buffer.is_settled(mark)
    fill(buffer, record("c"))
    assert buffer.is_settled(mark)
    assert not buffer.is_settled(buffer.last())


def test_what_was_abandoned_is_told_once_and_settled_no_more(buffer: SendBuffer) -> None:
    fill(buffer, record("a", rows=5), record("b", rows=2))
    take(buffer)
    gone: list[int] = []
    buffer.abandon(gone.append)
    buffer.abandon(gone.append)
    assert gone == [7]
    assert (buffer.bytes, buffer.rows, take(buffer)) == (0, 0, None)
    assert settle(buffer, 1) == []
    buffer.give_back(1)
    assert take(buffer) is None


def test_nothing_is_kept_once_nobody_would_send_it(buffer: SendBuffer) -> None:
    buffer.abandon(lambda rows: None)
    assert not buffer.put(record("late"))
    assert (buffer.rows, buffer.bytes, take(buffer)) == (0, 0, None)


def test_waiting_ends_with_a_change(buffer: SendBuffer) -> None:
    waiting = threading.Thread(target=buffer.wait, args=(PATIENCE_SECONDS,))
    waiting.start()
    while waiting.is_alive():
        buffer.put(record("a"))
        waiting.join(0.001)
