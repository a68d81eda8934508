"""The logger in processes that fork: whenever it happens, each child sends what is its own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import urllib.request
import uuid
from pathlib import Path

import kafka_server as kafka
import pytest
from logged_rows import ids, make_topics
from prefork import gunicorn
from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.kafka.broker import Broker

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]


@pytest.fixture
def broker(kafka_server: kafka.KafkaServer) -> Broker:
    """The session's Kafka with this test's own topics."""
    made = Broker(kafka_server.bootstrap, namespace=f"t{uuid.uuid4().hex[:8]}")
    make_topics(made, "predictions", "labels")
    return made


def run(script: Path, broker: Broker, body: str) -> subprocess.CompletedProcess[str]:
    """A program that has a logger, from its own file: ``spawn`` reads it again."""
    head = f"""
        import os, sys, time
        from redistill import PredictionLogger

        def rows(log, n, name):
            for i in range(n):
                log.log(model="credit", version="7", prediction="no", features={{"x": i, "y": 1}},
                        id=f"{{name}}-{{i}}")

        def logger():
            return PredictionLogger({broker.servers!r}, namespace={broker.namespace!r})
    """
    script.write_text(textwrap.dedent(head) + textwrap.dedent(body))
    return subprocess.run(
        [sys.executable, str(script)],
        capture_output=True, text=True, timeout=4 * PATIENCE_SECONDS, check=False, cwd=ROOT,
    )  # fmt: skip


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What was said on standard error, but that for ten seconds nothing went out: true of a child
    among sixty on a busy machine. That its rows arrive after all is asked elsewhere."""
    slow = "redistill: nothing was sent to "
    return [line for line in done.stderr.splitlines() if not line.startswith(slow)]


def test_children_forked_at_any_moment_after_the_first_row_send_their_own(
    broker: Broker, tmp_path: Path
) -> None:
    """While the parent's threads load libraries, connect, encode, send: a fork takes their locks
    along. Sixty children at once cost the parent nothing."""
    done = run(
        tmp_path / "forks.py",
        broker,
        f"""
        import threading
        log = logger()
        begin = time.monotonic()
        rows(log, 10, "parent")
        children = {{}}
        for ms in range(0, 3_001, 50):
            while (left := begin + ms / 1_000 - time.monotonic()) > 0:
                time.sleep(left)
            if (pid := os.fork()) == 0:
                rows(log, 25, f"child{{ms}}")  # enough for a batch in Arrow
                log.close({PATIENCE_SECONDS})
                os._exit(0 if log.stats().sent == 25 else 1)
            children[pid] = ms
            rows(log, 50, f"parent{{ms}}")
        for pid, ms in children.items():
            if code := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
                print("child", ms, "ended with", code)
        assert log.flush({PATIENCE_SECONDS})
        assert threading.active_count() < 6, threading.enumerate()
        assert len(os.listdir("/proc/self/fd")) < 20
        """,
    )
    assert (done.returncode, done.stdout, complaints(done)) == (0, "", [])
    moments = range(0, 3_001, 50)
    wanted = [f"child{ms}-{i}" for ms in moments for i in range(25)]
    wanted += [f"parent{ms}-{i}" for ms in moments for i in range(50)]
    assert sorted(ids(broker)) == sorted(wanted + [f"parent-{i}" for i in range(10)])


def test_threads_import_nothing(broker: Broker, tmp_path: Path) -> None:
    """A child that is forked while a thread imports waits for that thread's lock for ever."""
    done = run(
        tmp_path / "imports.py",
        broker,
        f"""
        log = logger()
        before = set(sys.modules)
        log.on_pointer("credit", print)
        rows(log, 100, "batch")
        for i in range(100):
            log.log(model="odd", version="7", prediction=i / 3, scores=[0.5, 0.5], latency_ms=1.0,
                    features={{"x": i, "words": "w"}}, segment={{"s": "t"}}, sample_rate=0.5)
        log.label("credit", id="batch-1", label="no")
        log.label("credit", id="batch-1", label=None)  # refused
        assert log.flush({PATIENCE_SECONDS})
        assert log.stats().sent == 201, log.stats()
        print(sorted(set(sys.modules) - before))
        """,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_send_their_own(
    broker: Broker, tmp_path: Path, method: str
) -> None:
    """Forked ones use their parent's logger; the others, which share nothing, make one."""
    done = run(
        tmp_path / "children.py",
        broker,
        f"""
        import multiprocessing

        log = logger()

        def child(name):
            rows(log, 20, name)

        if __name__ == "__main__":
            rows(log, 20, "parent")
            context = multiprocessing.get_context({method!r})
            children = [context.Process(target=child, args=(f"child{{c}}",)) for c in range(2)]
            for c in children:
                c.start()
            for c in children:
                c.join()
            sys.exit(max(c.exitcode for c in children))
        """,
    )
    assert (done.returncode, done.stdout, complaints(done)) == (0, "", [])
    names = ("parent", "child0", "child1")
    assert sorted(ids(broker)) == sorted(f"{name}-{i}" for name in names for i in range(20))


def test_gunicorn_with_preload_and_a_warm_up_prediction_loses_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(
        textwrap.dedent(f"""
            import itertools, json, os
            from redistill import PredictionLogger

            log = PredictionLogger({broker.servers!r}, namespace={broker.namespace!r})
            numbers = itertools.count()

            def predict(name):
                log.log(model="credit", version="7", prediction="no",
                        features={{"x": 1.0, "y": 2.0}}, id=name)
                return name

            predict("warm-up")  # in the master, before it forks: its threads are running

            def app(environ, start_response):
                name = predict(f"{{os.getpid()}}-{{next(numbers)}}")
                start_response("200 OK", [("Content-Type", "application/json")])
                return [json.dumps(name).encode()]
        """)
    )
    with gunicorn(tmp_path, "--preload", "--workers", "3") as url:
        answers: list[str] = []

        def asked() -> bool:
            with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
                answers.append(json.load(answer))
            return len({name.partition("-")[0] for name in answers}) >= 2 and len(answers) >= 60

        eventually(asked)
    # told to stop, workers end in good order: what was waiting is sent
    assert sorted(ids(broker)) == sorted(["warm-up", *answers])


def test_sigterm_ends_a_process_in_good_order_when_asked_for(
    broker: Broker, tmp_path: Path
) -> None:
    done = run(
        tmp_path / "stopped.py",
        broker,
        """
        import signal
        log = logger()
        assert log.exit_on_sigterm()
        assert not log.exit_on_sigterm(), "somebody handles it now"
        rows(log, 500, "r")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        """,
    )
    assert (done.returncode, done.stdout, complaints(done)) == (143, "", [])
    assert sorted(ids(broker)) == sorted(f"r-{i}" for i in range(500))
