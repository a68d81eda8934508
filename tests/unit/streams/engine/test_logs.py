from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from redistill.streams.engine import logs


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield root
    root.handlers[:], root.level = before
    structlog.reset_defaults()


def test_lines_are_json_with_their_action(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("info")
    structlog.get_logger("redistill.streams.engine").warning("gap", action="gap", first=3, last=5)
    logging.getLogger("aiokafka.x").error("Unable to connect to %s", "host:1")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["action"], first["first"], first["level"]) == ("gap", 3, "warning")
    assert (second["event"], second["logger"]) == ("Unable to connect to host:1", "aiokafka.x")


def test_warning_that_is_repeated_word_for_word_is_said_once(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("info")
    log = structlog.get_logger("redistill.streams.engine")
    for offset in (1, 1, 1, 2):
        log.warning("dead", action="dead", offset=offset)
        log.info("assigned", action="assigned")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [x["offset"] for x in lines if x["action"] == "dead"] == [1, 2]
    assert sum(x["action"] == "assigned" for x in lines) == 4, (
        "what is no trouble is never held back"
    )


def test_warning_that_goes_on_is_said_again_with_the_number_held_back() -> None:
    times = iter([0.0, 1.0, 59.0, 61.0])
    limit = logs.FloodLimit(clock=lambda: next(times))

    def line() -> logging.LogRecord:
        event = {"action": "store_away", "timestamp": str(object())}
        return logging.LogRecord("streams", logging.WARNING, "", 0, event, None, None)

    assert [limit.filter(line()) for _ in range(3)] == [True, False, False]
    last = line()
    assert limit.filter(last)
    assert last.msg["more_like_this"] == 2  # type: ignore[index]


def test_flood_of_one_kind_is_one_line(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("info")
    for i in range(200):
        logging.getLogger("aiokafka").error("Unable to connect to %s", i)
        logging.getLogger("aiokafka").error("another kind")
    assert len(capsys.readouterr().err.splitlines()) == 2
