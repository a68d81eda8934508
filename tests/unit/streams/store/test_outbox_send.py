"""What comes of rows that are handed to a producer."""

from __future__ import annotations

from typing import Any

import pytest

from redistill.streams.store import outbox_send as module
from redistill.streams.store.outbox_send import Round, send


class MessageSizeTooLargeError(Exception):
    """As kafka-python names it."""


class Producer:
    """Takes rows; says of some topics and values what is wrong, at once or later."""

    def __init__(self, *, at_once: bool) -> None:
        self.at_once = at_once
        self.asked: list[str] = []

    def send(self, topic: str, value: bytes | None = None, **_: Any) -> Any:
        self.asked.append(topic)
        wrong: Exception | None = None
        if topic == "n.closed":
            wrong = PermissionError(topic)
        elif value == b"large":
            wrong = MessageSizeTooLargeError()
        if wrong is not None and self.at_once:
            raise wrong

        class Answer:
            def get(self, timeout: float | None = None) -> None:
                if wrong is not None:
                    raise wrong

        return Answer()


def row(seq: int, topic: str, value: bytes = b"x") -> dict[str, Any]:
    return {"seq": seq, "topic": topic, "key": "", "headers": "{}", "value": value}


@pytest.mark.parametrize("at_once", [True, False])
def test_each_row_is_acknowledged_refused_or_failed_with_its_topic(at_once: bool) -> None:
    out = Round()
    rows = [row(1, "closed"), row(2, "closed"), row(3, "open"), row(4, "open", b"large")]
    assert send(Producer(at_once=at_once), [*rows, row(5, "open")], "n", out) == [3, 5]
    assert list(out.failed) == ["closed"]
    assert list(out.refused) == [4]


def test_topic_that_failed_is_not_tried_again_in_the_round() -> None:
    """A missing one takes three seconds each time."""
    producer = Producer(at_once=True)
    send(producer, [row(i, "closed") for i in range(9)], "n", Round())
    assert producer.asked == ["n.closed"]


def test_record_that_is_too_large_for_a_compacted_topic_is_its_topics_failure() -> None:
    out = Round()
    send(Producer(at_once=True), [row(1, "pointers", b"large"), row(2, "pointers")], "n", out)
    assert (list(out.failed), out.refused) == (["pointers"], {})


def test_round_that_takes_too_long_hands_over_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HAND_OVER_SECONDS", -1.0)
    out = Round()
    assert send(Producer(at_once=True), [row(1, "open")], "n", out) == []
    assert out == Round(), "it goes in the next one"
