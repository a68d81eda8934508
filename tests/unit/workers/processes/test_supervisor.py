"""Real processes under the supervisor: started, restarted with pauses, given up, stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from types import ModuleType

import pytest
from pids import gone
from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.store.waits import CONNECT_SECONDS, SILENT_SECONDS
from redistill.workers.errors import UsageError, WorkersError
from redistill.workers.processes import alert_worker, repair_worker
from redistill.workers.processes import supervisor as module
from redistill.workers.processes.supervisor import (
    STOP_SECONDS,
    Death,
    ProcessSpec,
    Supervisor,
    delay,
    last_line,
    last_words,
    spawn,
)

PROGRAMS = {
    "sleeper": "import time\nprint('up', flush=True)\ntime.sleep(600)\n",
    "crasher": "import sys\nprint('no database', flush=True)\nsys.exit(1)\n",
    "misused": "import sys\nprint('bad option', flush=True)\nsys.exit(2)\n",
    "deaf": (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('up', flush=True)\ntime.sleep(600)\n"
    ),
    "polite": (
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "print('up', flush=True)\ntime.sleep(600)\n"
    ),
}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    for name, text in PROGRAMS.items():
        (tmp_path / f"{name}.py").write_text(text)
    root = str(Path(__file__).resolve().parents[4])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), root])}


@pytest.fixture
def deaths() -> list[Death]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, deaths: list[Death]) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path / "logs", on_death=deaths.append)
    yield made
    made.stop()


def until(supervisor: Supervisor, check: Callable[[], bool]) -> None:
    """Poll the supervisor until something has happened."""

    def polled() -> bool:
        if done := check():
            return done
        supervisor.poll()
        return False

    eventually(polled, every=0.02)


def test_killed_process_is_started_again(
    supervisor: Supervisor, env: dict[str, str], deaths: list[Death]
) -> None:
    supervisor.start(ProcessSpec(name="a", module="sleeper", env=env))
    until(supervisor, lambda: last_line(supervisor.log("a")) == "up")
    old = supervisor.kill("a")
    until(supervisor, lambda: supervisor.starts("a") == 2)
    assert supervisor.pid("a") not in (None, old)
    assert [(d.status, d.again_in) for d in deaths] == [(-signal.SIGKILL, 0.2)]
    assert "signal 9" in str(deaths[0])


def test_pauses_grow_when_a_process_cannot_start(
    supervisor: Supervisor, env: dict[str, str], deaths: list[Death]
) -> None:
    supervisor.start(ProcessSpec(name="b", module="crasher", env=env))
    until(supervisor, lambda: len(deaths) == 3)
    assert [d.again_in for d in deaths] == [0.2, 0.4, 0.8]
    assert str(deaths[0]).startswith("b ended with status 1 after")
    assert "no database" in str(deaths[0])


def test_steady_run_forgets_earlier_deaths(tmp_path: Path, env: dict[str, str]) -> None:
    now = [0.0]
    deaths: list[Death] = []
    supervisor = Supervisor(tmp_path / "logs", on_death=deaths.append, clock=lambda: now[0])
    supervisor.start(ProcessSpec(name="b", module="crasher", env=env))
    for _ in range(3):
        until(supervisor, lambda: supervisor.pid("b") is None)
        supervisor.poll()
        now[0] += 100.0 if len(deaths) == 2 else 1.0
        supervisor.poll()
    until(supervisor, lambda: len(deaths) == 3)
    assert [d.again_in for d in deaths[:2]] == [0.2, 0.4]
    supervisor.stop()


def test_wrong_usage_is_not_tried_again(tmp_path: Path, env: dict[str, str]) -> None:
    now = [0.0]
    deaths: list[Death] = []
    supervisor = Supervisor(tmp_path / "logs", on_death=deaths.append, clock=lambda: now[0])
    supervisor.start(ProcessSpec(name="c", module="misused", env=env))
    until(supervisor, lambda: bool(deaths))
    assert deaths[0].again_in is None
    now[0] += 1_000.0
    supervisor.poll()
    assert supervisor.starts("c") == 1


def test_process_that_ran_steadily_is_started_again_whatever_its_status(
    tmp_path: Path, env: dict[str, str]
) -> None:
    """What it was given was right: one wrong file in mid-run stopped the whole installation."""
    now = [0.0]
    deaths: list[Death] = []
    supervisor = Supervisor(tmp_path / "logs", on_death=deaths.append, clock=lambda: now[0])
    supervisor.start(ProcessSpec(name="c", module="misused", env=env))
    eventually(lambda: supervisor.pid("c") is None)
    now[0] += 100.0
    until(supervisor, lambda: len(deaths) == 1)
    assert (deaths[0].status, deaths[0].again_in) == (2, 0.2)
    now[0] += 1.0
    until(supervisor, lambda: len(deaths) == 2)
    assert deaths[1].again_in is None, "it is not there at the start either"
    assert supervisor.starts("c") == 2


def test_stop_terminates_and_kills_only_the_deaf(tmp_path: Path, env: dict[str, str]) -> None:
    deaths: list[Death] = []
    # while it stops, all its time is gone once the polite one has ended
    clock = repeat(0.0)
    supervisor = Supervisor(tmp_path / "logs", on_death=deaths.append, clock=lambda: next(clock))
    for name in ("polite", "deaf"):
        supervisor.start(ProcessSpec(name=name, module=name, env=env))
    for name in ("polite", "deaf"):
        until(supervisor, lambda name=name: last_line(supervisor.log(name)) == "up")  # type: ignore[misc]
    clock = iter([0.0, 0.0, 2 * PATIENCE_SECONDS])
    assert supervisor.stop(seconds=PATIENCE_SECONDS) == {"polite": 0, "deaf": -signal.SIGKILL}
    assert deaths == []


def test_stop_in_a_hurry_waits_for_nobody(supervisor: Supervisor, env: dict[str, str]) -> None:
    supervisor.start(ProcessSpec(name="deaf", module="deaf", env=env))
    until(supervisor, lambda: last_line(supervisor.log("deaf")) == "up")
    looks = iter([False, True, True])
    stopped = supervisor.stop(seconds=10 * PATIENCE_SECONDS, hurry=lambda: next(looks))
    assert stopped == {"deaf": -signal.SIGKILL}


def test_same_name_is_refused(supervisor: Supervisor, env: dict[str, str]) -> None:
    supervisor.start(ProcessSpec(name="a", module="sleeper", env=env))
    with pytest.raises(UsageError, match="a runs already"):
        supervisor.start(ProcessSpec(name="a", module="sleeper", env=env))


@pytest.mark.skipif(sys.platform != "linux", reason="parent death signals are Linux's")
def test_children_end_when_the_supervisor_is_killed(tmp_path: Path, env: dict[str, str]) -> None:
    program = (
        "import os, sys, time\nfrom pathlib import Path\n"
        "from redistill.workers.processes.supervisor import ProcessSpec, Supervisor\n"
        "s = Supervisor(Path(sys.argv[1]))\n"
        "s.start(ProcessSpec(name='a', module='sleeper', env=os.environ))\n"
        "print(s.pid('a'), flush=True)\ntime.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "logs")], env=env, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    eventually(lambda: last_line(tmp_path / "logs" / "a.log") == "up", "it is up")
    assert not gone(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: gone(child), "the child ends with its supervisor")


def test_delay_is_bounded() -> None:
    assert max(delay(n) for n in range(1, 2_000)) == 10.0


def test_last_line_skips_empty_ones_and_survives_a_missing_file(tmp_path: Path) -> None:
    assert last_line(tmp_path / "none.log") == ""
    (tmp_path / "a.log").write_bytes(b"one\ntwo \xff\n\n")
    assert last_line(tmp_path / "a.log") == "two \ufffd"


def test_last_words_are_read_whole_before_they_are_cut(tmp_path: Path) -> None:
    """Half a line of JSON is no line: fields and punctuation, and the error nowhere."""
    log = tmp_path / "a.log"
    line = {"action": "crashed", "event": "crashed", "level": "critical", "timestamp": "t" * 500}
    trace = "Traceback\n" + "  File x\n" * 2_000
    line["exception"] = trace + "OSError: disk full"
    log.write_text(json.dumps(line) + "\n")
    assert last_words(log) == "crashed: exception=OSError: disk full"
    log.write_text(json.dumps({"event": "cannot_start", "error": "x" * 5_000}) + "\n")
    assert last_words(log).startswith("cannot_start: error=xxx")
    assert len(last_words(log)) == 400


def test_process_that_cannot_be_started_is_tried_again(
    tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine out of processes or memory is no reason to stop the processes that run."""
    deaths: list[Death] = []
    supervisor = Supervisor(tmp_path / "logs", on_death=deaths.append)

    def refused(*_: object) -> subprocess.Popen[bytes]:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as full:
        full.setattr(module, "spawn", refused)
        supervisor.start(ProcessSpec(name="a", module="sleeper", env=env))
        until(supervisor, lambda: len(deaths) == 2)
    assert "a could not be started: [Errno 11]" in str(deaths[0])
    assert [d.again_in for d in deaths] == [0.2, 0.4]
    assert (supervisor.keeps("a"), supervisor.starts("a")) == (True, 0)
    until(supervisor, lambda: supervisor.pid("a") is not None)
    supervisor.stop()


def test_what_is_given_up_is_not_kept(supervisor: Supervisor, env: dict[str, str]) -> None:
    assert not supervisor.keeps("c")
    for name, program in (("c", "misused"), ("b", "crasher")):
        supervisor.start(ProcessSpec(name=name, module=program, env=env))
    assert supervisor.keeps("c")
    until(supervisor, lambda: not supervisor.keeps("c"))
    until(supervisor, lambda: supervisor.starts("b") > 1)
    assert supervisor.keeps("b")


def test_logs_that_have_no_place_are_told(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "logs").touch()
    supervisor = Supervisor(tmp_path / "logs")
    with pytest.raises(WorkersError, match="logs cannot be made: File exists"):
        supervisor.start(ProcessSpec(name="a", module="sleeper", env=env))


def test_last_words_are_found_in_a_log_that_was_just_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    (tmp_path / "a.log.1").write_text("why it ended\n")
    assert last_line(log) == "why it ended"
    log.write_text("\n")
    assert last_line(log) == "why it ended"
    log.write_text("newer\n")
    assert last_line(log) == "newer"


def test_logs_are_their_owners_and_move_while_the_process_runs(
    supervisor: Supervisor, env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "chatty.py").write_text(
        "import sys, time\nfrom redistill.workers.processes import log_file\n"
        "log_file.LOOK_SECONDS = 0.01\nwhile True:\n    print('x' * 99, flush=True)\n"
        "    time.sleep(0.01)\n"
    )
    supervisor.start(ProcessSpec(name="a", module="chatty", env=env))
    log = supervisor.log("a")
    eventually(lambda: log.stat().st_size > 0, "it writes")
    assert log.stat().st_mode & 0o777 == 0o600
    os.truncate(log, 25_000_000)  # as after a long time
    eventually(log.with_name("a.log.1").exists, "the log is put aside")
    eventually(lambda: 0 < log.stat().st_size < 1_000_000, "it writes on, in a new one")
    supervisor.stop()


def test_process_runs_without_a_log_that_cannot_be_opened(tmp_path: Path) -> None:
    """As on a full disk; a folder in its place stands for it."""
    log = tmp_path / "x.log"
    log.mkdir()
    process = spawn(ProcessSpec(name="x", module="this", env=dict(os.environ)), log)
    assert process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.parametrize("worker", [repair_worker, alert_worker])
def test_a_process_whose_task_hangs_has_time_to_end(worker: ModuleType) -> None:
    hangs = SILENT_SECONDS + CONNECT_SECONDS  # silence, and the question that nobody answers
    another = CONNECT_SECONDS  # made in its place, before a statement is sent
    assert hangs + another + 5.0 <= worker.STOP_SECONDS
    gives_back = CONNECT_SECONDS  # its leases; the first that fails speaks for all
    assert worker.STOP_SECONDS + gives_back + 5.0 <= STOP_SECONDS
