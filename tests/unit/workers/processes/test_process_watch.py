"""What `redistill up` tells of its processes: who waits for what, who is ready, what went wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import loop
import pytest
import sqlalchemy as sa
from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.errors import StoreUnavailable
from redistill.streams.store.clock import DatabaseClock
from redistill.streams.store.database import Database
from redistill.streams.store.process_rows import Kind, Presence
from redistill.times import SECOND
from redistill.workers.processes import process_watch as module
from redistill.workers.processes.process_watch import (
    MOST_LINES,
    REMIND_SECONDS,
    SILENT_SECONDS,
    ProcessWatch,
)

NAMES: tuple[Kind, ...] = ("stream", "alerts")


class FakeSupervisor:
    """Keeps what it is told to, and has logs."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self.kept: set[str] = set(NAMES)

    def keeps(self, name: str) -> bool:
        return name in self.kept

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"


class Rig:
    """A watch whose clocks are moved by hand."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.seconds, self.us = 100.0, loop.NOW
        database.clock = DatabaseClock(shared=False, process=lambda: self.us)
        self.supervisor = FakeSupervisor(folder)
        self.said: list[str] = []
        self.complaints: list[str] = []
        self.stop = threading.Event()
        self.watch = ProcessWatch(
            database,
            self.supervisor,  # type: ignore[arg-type]
            NAMES,
            say=self.said.append,
            complain=self.complaints.append,
            stop=self.stop,
            monotonic=lambda: self.seconds,
        )
        self.rows: dict[str, Presence] = {}

    def tells(self, kind: Kind, waits_for: str = "", *, start: str = "a") -> None:
        """A process says how it is."""
        key = f"{kind}:{start}"
        self.rows.setdefault(key, Presence(self.database, kind, key)).say(waits_for)

    def later(self, seconds: float = 1.0, *, read: bool = True) -> list[str]:
        """What is said after some time."""
        self.seconds += seconds
        self.us += round(seconds * SECOND)
        if read:
            self.watch.read()
        self.watch.look(lambda: "here")
        told, self.said[:] = list(self.said), []
        return told


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    made = Rig(database, tmp_path)
    yield made
    made.stop.set()
    made.watch.close()
    database.dispose()


def test_each_says_what_it_waits_for_and_ready_when_all_are(rig: Rig) -> None:
    assert rig.later() == ["stream  waits: it starts", "alerts  waits: it starts"]
    rig.tells("alerts")
    rig.tells("stream", "the broker: away")
    assert rig.later() == ["alerts  ready", "stream  waits: the broker: away"]
    assert rig.later() == []
    rig.tells("stream")
    assert rig.later() == ["ready after 4.0 s: here"]
    assert rig.later() == []


def test_what_is_waited_for_is_said_again_after_a_while(rig: Rig) -> None:
    rig.tells("alerts")
    assert rig.later() == ["stream  waits: it starts"]
    assert rig.later(REMIND_SECONDS - 1) == []
    rig.tells("alerts")
    assert rig.later() == ["stream  waits: it starts"]


def test_nobody_is_ready_because_nothing_can_be_read(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.later()

    @contextmanager
    def away() -> Iterator[sa.Connection]:
        raise StoreUnavailable("the server is away")
        yield

    with monkeypatch.context() as outage:
        outage.setattr(rig.database, "read", away)
        assert rig.later() == ["database waits: the server is away"]
    rig.tells("alerts")
    assert rig.later() == ["alerts  ready", "stream  waits: it starts"]
    rig.tells("stream")
    rig.later()
    with monkeypatch.context() as outage:
        outage.setattr(rig.database, "read", away)
        rig.later()
    assert rig.later() == ["ready again after 6.0 s: here"]


def test_one_that_was_killed_is_not_ready_for_what_its_row_still_says(rig: Rig) -> None:
    for kind in NAMES:
        rig.tells(kind)
    assert rig.later() == ["ready after 1.0 s: here"]
    rig.watch.died("stream")
    assert rig.later() == ["stream  waits: it starts"]
    rig.tells("stream", start="b")
    assert rig.later() == ["ready again after 3.0 s: here"]


def test_one_that_is_given_up_is_neither_waited_for_nor_ready(rig: Rig) -> None:
    assert rig.later() == ["stream  waits: it starts", "alerts  waits: it starts"]
    rig.supervisor.kept.remove("alerts")
    assert rig.later() == []
    rig.tells("stream")
    assert rig.later() == ["ready after 3.0 s: here"]


def test_database_that_hangs_is_told_and_holds_nobody_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in NAMES:
        rig.tells(kind)
    rig.later()
    asked, answers = threading.Event(), threading.Event()

    @contextmanager
    def hangs() -> Iterator[sa.Connection]:
        asked.set()
        assert answers.wait(PATIENCE_SECONDS)
        raise StoreUnavailable("it hangs")
        yield

    monkeypatch.setattr(rig.database, "read", hangs)
    rig.watch.start()
    assert asked.wait(PATIENCE_SECONDS)
    assert rig.later(SILENT_SECONDS, read=False) == []
    assert rig.later(read=False) == ["database waits: it does not answer"]
    answers.set()


def test_errors_of_each_log_are_told_once_and_no_flood_of_them(rig: Rig) -> None:
    def error(number: int) -> str:
        line = {"level": "error", "event": "gap", "action": "gap", "lost": number}
        return json.dumps(line) + "\n"

    log = rig.supervisor.log("stream")
    log.write_bytes(b'{"level": "info", "event": "fine"}\n' + b"not \xff UTF-8\n" + b"x" * 9_999)
    rig.watch.tell_errors()
    assert rig.complaints == ["stream: not � UTF-8"]
    rig.complaints.clear()
    with log.open("a") as file:
        file.write("\n" + "".join(map(error, range(MOST_LINES + 9))))
    rig.watch.tell_errors()
    first, second, *_, last = rig.complaints
    assert (len(first), second) == (len("stream: ") + 400, "stream: gap: lost=0")
    assert last == f"stream: and 10 more such lines in {log}"
    assert len(rig.complaints) == MOST_LINES + 1


def test_address_of_the_web_process_is_the_one_that_it_logged(rig: Rig) -> None:
    assert rig.watch.web is None
    line = {"level": "info", "action": "web_started", "address": "http://127.0.0.1:8080"}
    rig.supervisor.log("alerts").write_text(json.dumps(line) + "\n")
    rig.watch.tell_errors()
    assert rig.watch.web == "http://127.0.0.1:8080"
    assert rig.complaints == []


def test_what_is_logged_while_it_stops_is_told(rig: Rig) -> None:
    rig.supervisor.log("stream").write_text("Segmentation fault\n")
    rig.watch.close()
    assert rig.complaints == ["stream: Segmentation fault"]


def test_rows_are_read_in_the_background(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    for kind in NAMES:
        rig.tells(kind)
    rig.watch.start()

    def ready() -> Any:
        rig.watch.look(lambda: "here")
        return rig.said

    assert eventually(ready, "it is read") == ["ready after 0.0 s: here"]
