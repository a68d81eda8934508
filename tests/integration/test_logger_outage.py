"""A broker that is frozen under a logger at work: nothing is lost, leaked or repeated in the log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import kafka_server as kafka
import pytest
from logged_rows import ids, make_topics
from waiting import PATIENCE_SECONDS

from redistill.streams.kafka.broker import Broker

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]


def test_frozen_broker_costs_a_logger_no_thread_and_a_line_a_minute(
    kafka_server: kafka.KafkaServer, tmp_path: Path
) -> None:
    """Producers are made anew all the time: each takes its threads and sockets along when it goes.
    Ten minutes' worth of that is made short."""
    broker = Broker(kafka_server.bootstrap, namespace=f"t{uuid.uuid4().hex[:8]}")
    make_topics(broker, "predictions", "labels")
    assert kafka_server.process is not None
    program = f"""
        import json, logging, os, signal, sys, threading, time
        from redistill import PredictionLogger
        from redistill.streams.client import sender
        sender._DELIVERY_MS = 600  # 30 s otherwise
        broken = []
        made = sender.Sender._disconnect
        sender.Sender._disconnect = lambda self: (broken.append(self.producer), made(self))[1]
        lines = []
        class Keep(logging.Handler):
            def emit(self, record):
                lines.append(record.getMessage())
        logging.getLogger("redistill").addHandler(Keep())
        log = PredictionLogger({broker.servers!r}, namespace={broker.namespace!r})
        number = 0
        def rows(until):
            global number
            end = time.monotonic() + {PATIENCE_SECONDS}
            while not until() and time.monotonic() < end:
                log.log(model="credit", version="7", prediction="no",
                        features={{"x": 1.0, "y": 2.0}}, id=f"r-{{number}}")
                number += 1
                time.sleep(0.01)
        rows(lambda: log.stats().sent > 20)
        before = threading.active_count()
        os.kill({kafka_server.process.pid}, signal.SIGSTOP)
        rows(lambda: broken)
        trouble = []
        rows(lambda: trouble.append(log.stats().trouble) or trouble[-1] is not None)
        os.kill({kafka_server.process.pid}, signal.SIGCONT)
        rows(lambda: log.stats().trouble is None)
        assert log.flush({PATIENCE_SECONDS})
        stats = log.stats()
        print(json.dumps([number, stats.sent, stats.dropped, len(broken) > 0,
                          threading.active_count() - before, len(lines) < 6, lines]))
    """
    script = tmp_path / "outage.py"
    script.write_text(textwrap.dedent(program))
    try:
        done = subprocess.run(
            [sys.executable, str(script)],
            capture_output=True, text=True, timeout=4 * PATIENCE_SECONDS, check=False, cwd=ROOT,
        )  # fmt: skip
    finally:
        os.kill(kafka_server.process.pid, signal.SIGCONT)
    assert (done.returncode, done.stderr.count("Exception ignored")) == (0, 0), done.stderr
    number, sent, dropped, broke, threads, few, lines = json.loads(done.stdout)
    assert (sent, dropped, broke, threads, few) == (number, 0, True, 0, True), lines
    assert {*ids(broker)} == {f"r-{n}" for n in range(number)}
