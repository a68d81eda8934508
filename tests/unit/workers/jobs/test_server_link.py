"""The link to a fork server: it never waits for the other side, and knows whether it is there."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from deadly_job import ENTRY, environment
from pids import gone
from structlog.testing import capture_logs
from waiting import PATIENCE_SECONDS, eventually

from redistill.workers.jobs import server_link
from redistill.workers.jobs.server_link import ServerLink


@pytest.fixture
def link() -> Iterator[ServerLink]:
    made = ServerLink(ENTRY, environment(), silent_s=PATIENCE_SECONDS)
    assert made.ready.wait(PATIENCE_SECONDS)
    yield made
    made.end("the test is over")
    made.join()
    assert gone(made.pid)


def test_frozen_process_blocks_nobody_and_is_heard_again_when_it_goes_on(link: ServerLink) -> None:
    os.kill(link.pid, signal.SIGSTOP)
    for _ in range(2_000):  # more than a socket takes
        link.send({"kill": "nobody" * 200})
    question = link.kill("nobody")
    assert not link.heard(question)
    os.kill(link.pid, signal.SIGCONT)
    eventually(lambda: link.heard(question))
    assert not link.over.is_set()


def test_question_is_asked_all_the_time(link: ServerLink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_link, "PING_SECONDS", 0.01)
    eventually(lambda: link.heard(5))


def speaker(folder: Path, code: str) -> dict[str, str]:
    """An environment in which the module ``speaker`` says something to the worker."""
    (folder / "speaker.py").write_text(f"def warm():\n    import os, sys, time\n    {code}")
    path = environment()["PYTHONPATH"]
    return environment(PYTHONPATH=f"{folder}{os.pathsep}{path}")


@pytest.mark.parametrize("said", ["no JSON", "[1]", '{"ready": true}', '{"pong": null}'])
def test_process_that_speaks_in_no_known_way_is_ended(tmp_path: Path, said: str) -> None:
    made = speaker(
        tmp_path, f"os.write(int(sys.argv[1]), {said + chr(10)!r}.encode()); time.sleep(99)"
    )
    link = ServerLink("speaker:run", made, silent_s=PATIENCE_SECONDS)
    assert link.gone.wait(PATIENCE_SECONDS)
    assert "it spoke in no known way" in link.why
    assert gone(link.pid)


def test_process_that_does_not_load_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_link, "START_SECONDS", 0.2)
    made = speaker(tmp_path, "time.sleep(99)")
    link = ServerLink("speaker:run", made, silent_s=0.1)
    assert link.gone.wait(PATIENCE_SECONDS)
    assert (link.why, gone(link.pid)) == ("it was not loaded after 0.2 s", True)


def test_process_that_cannot_be_started_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(FileNotFoundError):
        ServerLink(ENTRY, environment(), silent_s=1.0)


def test_network_that_cannot_be_taken_away_is_said_once(tmp_path: Path) -> None:
    made = speaker(tmp_path, "import platform; platform.machine = lambda: 'vax'")
    with capture_logs() as logs:
        link = ServerLink("speaker:run", made, silent_s=PATIENCE_SECONDS)
        assert link.ready.wait(PATIENCE_SECONDS)
        link.end("the test is over")
        link.join()
    assert [(x["log_level"], x["action"]) for x in logs] == [("info", "jobs_have_network")]
    assert "vax" in logs[0]["why"]
