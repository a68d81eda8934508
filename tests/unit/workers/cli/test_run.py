"""A process that is asked to end while it is still importing ends as one that was asked to."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from redistill import child_path

ASKED = """
import os, signal, sys
from redistill.workers.cli import common, run

class Asked:
    def find_spec(self, name, *_):
        if name == sys.argv[2]:
            os.kill(os.getpid(), int(sys.argv[3]))

sys.meta_path.insert(0, Asked())
common.load = lambda *_, **__: None
command = getattr(run, sys.argv[1])
command(None, None)
"""


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("command", "module"),
    [("stream", "redistill.streams.engine.app"), ("web", "redistill.workers.web.app")],
)
def test_signal_during_the_imports_is_no_failure(
    command: str, module: str, sign: signal.Signals
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASKED, command, module, str(int(sign))],
        env=dict(child_path.variables()), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


STOPPED = """
import os, signal, sys
from redistill.workers.cli import common, run
from redistill.workers.processes import repair_worker

def load(*_, **__):
    os.kill(os.getpid(), signal.SIGTERM)

common.load = load
repair_worker.run = lambda settings, *, stop: 0 if stop.wait(60) else 1
run._leave = sys.exit
run.repair(metrics_port=None, metrics_host=None)
"""


def test_repair_worker_that_is_asked_early_stops_in_its_own_way() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STOPPED],
        env=dict(child_path.variables()), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
