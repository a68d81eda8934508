"""The model client in processes that fork: each child answers, and follows the pointer."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
import urllib.request
import uuid
from datetime import UTC, datetime
from pathlib import Path

import kafka_server as kafka
import pytest
from logged_rows import make_topics
from prefork import gunicorn
from release_kit import Installation, install
from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.client.logger import PredictionLogger
from redistill.streams.kafka.broker import Broker
from redistill.streams.wire.events import PointerMoved

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shop(tmp_path: Path) -> Installation:
    """An installation that serves v1 of ``credit`` and has v2 ready."""
    made = install(tmp_path / "home", f"sqlite:///{tmp_path}/r.db", clock=time.time)
    made.register("credit")
    made.add("credit", "v1", 1, "baseline")
    made.add("credit", "v2", 2)
    made.publish("credit", "v1")
    (tmp_path / "trust.json").write_bytes(made.trust)
    return made


def client(shop: Installation, tmp_path: Path, options: str) -> str:
    """A service's lines that make a client."""
    return (
        f"ModelClient('credit', repository={str(shop.layout.repository)!r},"
        f" trust={str(tmp_path / 'trust.json')!r}, cache={str(tmp_path / 'cache')!r}, {options})"
    )


HEAD = """
import multiprocessing, os, signal, sys, threading, time
from pathlib import Path
from redistill import ModelClient

ROW = {"income": 1.0, "age": 2.0, "region": "US"}
"""


def run(script: Path, body: str) -> subprocess.Popen[str]:
    script.write_text(HEAD + textwrap.dedent(body))
    return subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


def test_children_forked_at_any_moment_answer_and_follow(
    shop: Installation, tmp_path: Path
) -> None:
    """Forked while the parent polls, tries, loads and swaps; with sessions of several threads, by
    os.fork and by each way of multiprocessing, and children of children."""
    service = run(
        tmp_path / "service.py",
        f"""
        def make():
            return {client(shop, tmp_path, "poll_s=0.5, threads=2")}

        def live(name, model=None, depth=0):
            model = model or make()
            assert model.predict(ROW).version in ("v1", "v2")
            if depth and os.fork() == 0:
                live(name + "'", model, depth - 1)
            while model.version != "v2":
                time.sleep(0.05)
            assert model.predict_batch([ROW, ROW])[1].version == "v2"
            if depth:
                assert os.wait()[1] == 0
            sys.exit(0)  # the interpreter ends: what was inherited is not freed

        if __name__ == "__main__":
            model = make()
            begin = time.monotonic()
            model.predict(ROW)
            children = {{}}
            for ms in (0, 50, 100, 200, 300, 500, 800, 1_200, 1_600, 2_000, 2_500, 3_000):
                while (left := begin + ms / 1_000 - time.monotonic()) > 0:
                    time.sleep(left)
                if ms == 200:
                    print("publish", flush=True)
                if (pid := os.fork()) == 0:
                    live(str(ms), model, depth=ms % 100 == 50)
                children[pid] = ms
            for pid, ms in children.items():
                if code := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
                    print("child", ms, "ended with", code)
            for method in ("fork", "spawn", "forkserver"):
                mine = (method, model) if method == "fork" else (method,)
                child = multiprocessing.get_context(method).Process(target=live, args=mine)
                child.start()
                child.join()
                if child.exitcode:
                    print(method, "ended with", child.exitcode)
            print(model.version, model.last_error)
        """,
    )
    assert service.stdout is not None
    assert service.stdout.readline() == "publish\n"
    shop.publish("credit", "v2")
    said, complaints = service.communicate(timeout=4 * PATIENCE_SECONDS)
    assert (service.returncode, said, complaints) == (0, "v2 None\n", "")


def test_threads_import_nothing(shop: Installation, tmp_path: Path) -> None:
    """Not even where the first release comes after a start with a fallback only."""
    shop.layout.repository.rename(shop.layout.home / "away")
    fallback = shop.layout.home / "candidates" / "credit-v1" / "model.onnx"
    service = run(
        tmp_path / "service.py",
        f"""
        model = {client(shop, tmp_path, f"fallback={str(fallback)!r}, poll_s=3_600")}
        before = set(sys.modules)
        Path({str(shop.layout.home / "away")!r}).rename({str(shop.layout.repository)!r})
        assert model.refresh(), model.last_error
        assert model.predict(ROW).version == "v1"
        print(sorted(set(sys.modules) - before))
        """,
    )
    said, complaints = service.communicate(timeout=PATIENCE_SECONDS)
    assert (service.returncode, said) == (0, "[]\n"), complaints


@pytest.mark.kafka
def test_gunicorn_with_preload_and_a_warm_up_prediction_follows_in_each_worker(
    shop: Installation, tmp_path: Path, kafka_server: kafka.KafkaServer
) -> None:
    """No poll comes: the workers' own loggers hear of the pointer."""
    broker = Broker(kafka_server.bootstrap, namespace=f"t{uuid.uuid4().hex[:8]}")
    make_topics(broker, "predictions", "labels", "activations", "pointers")
    (tmp_path / "app.py").write_text(
        HEAD
        + textwrap.dedent(f"""
        import json
        from redistill import PredictionLogger

        log = PredictionLogger({broker.servers!r}, namespace={broker.namespace!r})
        model = {client(shop, tmp_path, "poll_s=3_600, threads=2, log=log")}
        log.log(model.predict(ROW))  # in the master, before it forks

        def app(environ, start_response):
            out = model.predict(ROW)
            log.log(out)
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps([os.getpid(), out.version]).encode()]
        """)
    )
    with gunicorn(tmp_path, "--preload", "--workers", "2") as url:
        seen: dict[int, str] = {}

        def asked(version: str) -> bool:
            with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
                pid, said = json.load(answer)
            seen[pid] = said
            return len(seen) == 2 and set(seen.values()) == {version}

        eventually(lambda: asked("v1"), every=0.01)
        moved = shop.publish("credit", "v2")
        with PredictionLogger(broker.servers, namespace=broker.namespace) as announcer:
            announcer.report(
                PointerMoved(
                    model="credit", stable="v2", stable_sha256="0" * 64, epoch=moved.epoch,
                    reason="", at=datetime.now(UTC),
                )
            )  # fmt: skip
            assert announcer.flush(PATIENCE_SECONDS)
        eventually(lambda: asked("v2"), every=0.01)
