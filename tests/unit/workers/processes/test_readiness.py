"""Ready is what says so itself, lately, and was started here."""

from __future__ import annotations

from typing import Any

from redistill.streams.store.process_rows import ProcessRow
from redistill.times import MINUTE
from redistill.workers.processes.readiness import SILENT, STARTING, waits


def row(**other: Any) -> ProcessRow:
    given = {
        "process_id": "a",
        "kind": "stream",
        "started_at": 10,
        "seen_at": 10,
        "ready": True,
        "said": "",
    }
    return ProcessRow(**{**given, **other})


def test_one_that_waits_says_for_what() -> None:
    own = row(ready=False, said="the broker: away")
    assert waits([own], {"stream": 1}, now=11) == {"stream": "the broker: away"}
    assert waits([own, row(process_id="b")], {"stream": 1}, now=11) == {}


def test_one_that_was_there_before_or_fell_silent_does_not_count() -> None:
    assert waits([row()], {"stream": 11}, now=12) == {"stream": STARTING}
    assert waits([row()], {"stream": 1}, now=10 + MINUTE) == {"stream": SILENT}
