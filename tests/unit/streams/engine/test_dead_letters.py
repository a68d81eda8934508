"""Records that cannot be read: what is told of them, and how many are kept."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from redistill.quiet import Quiet
from redistill.streams.engine import dead_letters as module
from redistill.streams.engine.dead_letters import DEAD_BYTES, LOGGED, DeadLetters, dead_letter
from redistill.streams.errors import WireError
from redistill.streams.wire.codec import MAX_LETTER_BYTES, Record, decode, encode

WHY = WireError("malformed", "no JSON")


def record(**changes: Any) -> Record:
    made = Record("predictions", 3, 7, 1_700_000_000_000, b"credit", b"{", [("ce_id", b"1")])
    return made._replace(**changes)


def test_letter_tells_all_that_is_known_of_a_record() -> None:
    letter = dead_letter("ns.predictions", 3, record(), WHY)
    assert (letter.topic, letter.partition, letter.offset) == ("ns.predictions", 3, 7)
    assert (letter.code, letter.reason) == ("malformed", "no JSON")
    assert (letter.key, letter.value, letter.value_bytes) == (b"credit", b"{", 1)
    assert letter.headers == [("ce_id", "1")]
    assert letter.at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_letter_of_the_worst_record_can_be_sent() -> None:
    worst = record(
        key=b"\xff" * 5_000, value=b"\xfe" * 3_000_000,
        headers=[("h\0" * 400, b"\0\xff" * 9_000)] * 200,
    )  # fmt: skip
    letter = dead_letter("predictions", 3, worst, WireError("malformed", "x\0" * 9_000))
    assert (len(letter.value), letter.value_bytes, len(letter.key or b"")) == (
        DEAD_BYTES, 3_000_000, 1_000,
    )  # fmt: skip
    assert (len(letter.reason), len(letter.headers)) == (2_000, 50)
    made = encode(letter, source="/t")
    assert decode(Record("dlq", 0, 0, 0, None, made.value, made.headers)) == letter
    assert DEAD_BYTES <= MAX_LETTER_BYTES


def test_tombstone_and_a_defect_of_ours_have_letters_too() -> None:
    empty = dead_letter("labels", 0, record(key=None, value=None, headers=None), KeyError("x"))
    assert (empty.key, empty.value, empty.value_bytes, empty.headers) == (None, b"", 0, [])
    assert (empty.code, empty.reason) == ("failed", "KeyError: 'x'")


@pytest.mark.parametrize(
    "changes",
    [
        {"key": b"\xff\xfe"}, {"key": b"\0\0\0\7"}, {"key": b""}, {"key": b"k" * 100_000},
        {"headers": [("\ud800", b"\xff")]}, {"headers": [("x", None)]}, {"headers": [("", b"")]},
        {"headers": [("x", rb"\u0000")]}, {"headers": [("\x01" * 100, b"\x01" * 1_000)] * 50},
        {"value": b'"\\u0000'}, {"value": b""}, {"value": bytes(3_000_000)},
        {"timestamp_ms": -(2**63)}, {"timestamp_ms": 2**63 - 1}, {"offset": 2**63 - 1},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("reason", ["a", "\ud800", "\0", rb"\u0000".decode(), "\x01" * 9_000])
def test_letter_of_any_record_can_be_written_and_read(changes: dict[str, Any], reason: str) -> None:
    letter = dead_letter("predictions", 3, record(**changes), WireError("malformed", reason))
    made = encode(letter, source="/t")
    assert decode(Record("dlq", 0, 0, 0, made.key, made.value, made.headers)) == letter


def test_defect_of_ours_is_an_error_once_a_minute_for_each_kind() -> None:
    now = 0.0
    quiet = Quiet(clock=lambda: now)
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            letters = DeadLetters(quiet)
            for reason in ("KeyError at x.py:1: 'a'", "KeyError at x.py:1: 'b'", "OSError: c"):
                letters.add("labels", 0, record(), WireError("failed", reason))
        now = 60.0
        letters.add("labels", 0, record(), WireError("failed", "OSError: d"))
    assert [(x["log_level"], x["action"], x["more"]) for x in lines] == [
        ("error", "record_failed", 0), ("error", "record_failed", 0), ("error", "record_failed", 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ms", "year"), [(None, 1970), (-5, 1970), (1_700_000_000_000, 2023), (2**60, 9999)]
)
def test_time_of_a_record_is_one_that_can_be_written(ms: int | None, year: int) -> None:
    of_a_client = SimpleNamespace(offset=1, key=None, value=b"", headers=(), timestamp=ms)
    assert dead_letter("labels", 0, of_a_client, WHY).at.year == year


def test_first_letters_of_a_minute_are_logged_each_and_the_others_as_their_number() -> None:
    now = 0.0
    letters = DeadLetters(clock=lambda: now)
    with structlog.testing.capture_logs() as lines:
        for i in range(LOGGED + 5):
            letters.add("labels", 0, record(offset=i), WHY)
            if i % 10 == 0:  # whatever is flushed meanwhile
                letters.take()
        letters.clear()
        letters.add("labels", 0, record(), WHY)
        now = 60.0
        assert len(letters.take()) == 1
        letters.add("labels", 0, record(), WHY)
        now = 120.0
        letters.take()
    said = ["dead_letter"] * LOGGED + ["dead_letters", "dead_letter"]
    assert [line["action"] for line in lines] == said
    assert (lines[3]["offset"], lines[3]["code"], lines[-2]["more"]) == (3, "malformed", 6)


def test_number_and_bytes_of_letters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FULL_RECORDS", 4)
    monkeypatch.setattr(module, "FULL_BYTES", 100)
    many, large = DeadLetters(), DeadLetters()
    for _ in range(3):
        many.add("labels", 0, record(), WHY)
    for _ in range(2):
        large.add("labels", 0, record(value=b"x" * 49), WHY)
    assert (many.full, large.full) == (False, False)
    many.add("labels", 0, record(), WHY)
    large.add("labels", 0, record(value=b"xx"), WHY)
    assert (many.full, large.full) == (True, True)
    for letters in (many, large):
        letters.take()
        assert not letters.full
