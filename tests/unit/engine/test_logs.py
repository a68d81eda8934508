from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from streams.engine import logs


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
    structlog.get_logger("streams.engine").warning("gap", action="gap", first=3, last=5)
    logging.getLogger("aiokafka.x").error("Unable to connect to %s", "host:1")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["action"], first["first"], first["level"]) == ("gap", 3, "warning")
    assert (second["event"], second["logger"]) == ("Unable to connect to host:1", "aiokafka.x")


def test_flood_of_one_kind_is_one_line(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("info")
    for i in range(200):
        logging.getLogger("aiokafka").error("Unable to connect to %s", i)
        logging.getLogger("aiokafka").error("another kind")
    assert len(capsys.readouterr().err.splitlines()) == 2
