from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

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
    assert second["action"] == "library"
    assert {x["process"] for x in (first, second)} == {"command"}


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
        slow = f"Task <kafka.net.selector.Task at {hex(id(i))}> ran for {i / 999:.3f}s"
        logging.getLogger("kafka.net.selector").warning(slow)  # formatted before it is logged
    assert len(capsys.readouterr().err.splitlines()) == 3


class Mute:
    """What cannot be put in words."""

    def __str__(self) -> str:
        raise ZeroDivisionError("no words")

    __repr__ = __str__


@pytest.mark.parametrize("name", ["aiokafka.x", "kafka.net.transport", "redistill.x"])
@pytest.mark.parametrize(
    ("said", "args"), [("%d records", ("x",)), ("%s %s", ("x",)), (Mute(), ()), ({"a": Mute()}, ())]
)
def test_line_that_cannot_be_put_in_words_reaches_nobody_who_wrote_it(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch, name: str, said: object, args: Any
) -> None:
    logs.configure("info")
    asked: list[logging.LogRecord] = []
    monkeypatch.setattr(logging.Handler, "handleError", lambda self, record: asked.append(record))
    for _ in range(3):
        try:
            raise OSError("gone")
        except OSError:
            logging.getLogger(name).error(said, *args, exc_info=True)
    monkeypatch.setattr(logs.time, "monotonic", lambda: 1e12)
    logging.getLogger(name).error(said, *args)  # the one that would say how many were held back
    assert asked, "the handler complains as it always does"


def test_connection_that_ended_is_a_line_and_no_traceback(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(name: str, what: str = "data") -> str:
        capsys.readouterr()
        try:
            None.recv(1)  # type: ignore[attr-defined]  # what close() does to a read of kafka's
        except AttributeError:
            logging.getLogger(name).exception("%s: Error receiving network " + what, "peer")
        return capsys.readouterr().err

    logs.configure("info")
    line = fail("kafka.net.transport")
    assert "Traceback" not in line
    assert "'NoneType' object has no attribute 'recv'" in json.loads(line)["event"]
    assert "Traceback" in fail("faust.worker"), "a fault of a worker's own keeps where it was"
    logs.configure("debug")
    # another text: a client that this process made lets each through once a minute
    assert "Traceback" in fail("kafka.net.transport", "things")


def test_libraries_that_talk_to_the_broker_are_silent_while_its_absence_was_said(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    for level, lines in (("info", ["sqlalchemy.pool"]), ("debug", ["aiokafka", "kafka.net"])):
        logs.configure(level, hushed=lambda: True)
        for name in ("aiokafka", "kafka.net", "faust.transport", "mode", "sqlalchemy.pool"):
            logging.getLogger(name).error("away")
        said = [json.loads(x)["logger"] for x in capsys.readouterr().err.splitlines()]
        assert set(lines) <= set(said)
        assert len(said) == (1 if level == "info" else 5)


@pytest.mark.parametrize("thread", [False, True])
def test_what_nobody_caught_is_a_line_too(thread: bool) -> None:
    code = (
        "import threading, sys; from redistill.streams.engine import logs\n"
        "logs.configure(process='web'); logs.log_uncaught()\n"
        "import warnings; warnings.warn('beware')\n"
        "def fail(): raise ValueError('why')\n"
        + (
            "t = threading.Thread(target=fail, name='t'); t.start(); t.join()"
            if thread
            else "fail()"
        )
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    warned, crashed = map(json.loads, done.stderr.splitlines())
    assert (warned["action"], crashed["process"]) == ("library", "web")
    assert "beware" in warned["event"]
    assert crashed["action"] == ("thread_crashed" if thread else "crashed")
    assert crashed["exception"].endswith("ValueError: why")


def test_terminal_gets_lines_for_people(
    root: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    logs.configure("info", process="web")
    structlog.get_logger("redistill.x").warning("gap", action="gap", first=3)
    line = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().err)
    assert "gap" in line
    assert "first=3" in line
    assert "pid" not in line
