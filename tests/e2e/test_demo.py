"""``redistill demo`` from end to end, as CI and a newcomer run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import environment
from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.kafka.broker import Broker, admin

SECONDS = 280
"""Some four times what it takes on two idle cores."""


def play(*options: str, seconds: float = SECONDS) -> tuple[int, list[dict[str, Any]], str]:
    """Run the demo; its exit status, its JSON lines, and its standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "redistill", "demo", "--json", *options],
        env=environment(), capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def check(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """What must hold of every run, whatever its seed and broker; the summary."""
    by_event = {line["event"]: line for line in lines}
    order = [line["event"] for line in lines if line["event"] != "gate"]
    for earlier, later in (
        ("healthy", "finding"), ("finding", "incident"), ("incident", "diagnosis"),
        ("diagnosis", "repair"), ("repair", "swapped"), ("swapped", "recovered"),
        ("recovered", "harmless"), ("harmless", "killed"), ("killed", "rejected"),
        ("rejected", "rolled_back"), ("rolled_back", "forward"), ("forward", "caught_up"),
        ("caught_up", "counted"), ("counted", "history"), ("history", "summary"),
    ):  # fmt: skip
        assert order.index(earlier) < order.index(later), (earlier, later)
    assert by_event["diagnosis"]["cause"] == "compression_gap"
    gates = [line["gate"] for line in lines if line["event"] == "gate"]
    assert gates
    assert all(gate["passed"] for gate in gates)
    summary = by_event["summary"]
    before, during, after = (summary[k]["truth"]["accuracy"] for k in ("before", "during", "after"))
    assert before - during > 0.2
    assert after > before - 0.04
    for scene in ("before", "during", "after"):
        known = summary[scene]["measured"]
        assert known["n"] > 20
        assert known["low"] <= known["accuracy"] <= known["high"]
    assert 0 < summary["detection"]["labels"] < 200
    repair = summary["repair"]
    assert repair["cpu_seconds"] > 0
    assert repair["size_ratio"] < 0.5
    assert repair["latency_ratio"] < 1.0
    assert len(repair["published_to_served_seconds"]) == 3
    for way in ("rolled_back", "forward"):
        assert len(summary["killed"]["rollback"][way]) == 3
        assert max(summary["killed"]["rollback"][way].values()) <= 2.0
    closing = summary["closing"]
    assert closing["failed"] == 0
    assert closing["requests"] == closing["counted"] > 5_000
    return summary


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 20)
def test_demo_tells_the_whole_story_when_it_runs_on_the_dev_broker(tmp_path: Path) -> None:
    status, lines, errors = play("--seed", "7", "--keep", str(tmp_path / "kept"))
    assert status == 0, (lines[-6:], errors)
    summary = check(lines)
    assert summary["ok"] is True
    assert "forgets everything" in lines[0]["text"]
    assert (tmp_path / "kept" / "home" / "redistill.db").exists()
    logs = "".join(
        p.read_text(errors="replace") for p in (tmp_path / "kept" / "logs").glob("*.log")
    )
    assert "Traceback" not in logs


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(SECONDS + 20)
def test_demo_tells_the_whole_story_when_it_runs_on_a_real_kafka(kafka_server: Any) -> None:
    status, lines, errors = play("--seed", "8", "--broker", kafka_server.bootstrap)
    assert status == 0, (lines[-6:], errors)
    check(lines)
    client = admin(Broker(kafka_server.bootstrap))
    left = [name for name in client.list_topics() if name.startswith("demo-")]
    client.close()
    assert left == []


def test_demo_refuses_a_folder_that_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    done = subprocess.run(
        [sys.executable, "-m", "redistill", "demo", "--keep", str(tmp_path)],
        env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "is not empty" in done.stderr


@pytest.mark.slow
def test_demo_leaves_no_process_when_it_is_interrupted(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    demo = subprocess.Popen(
        [sys.executable, "-m", "redistill", "demo", "--json", "--keep", str(kept)],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    repair_log = kept / "logs" / "repair.log"
    eventually(lambda: repair_log.exists() or demo.poll() is not None, "it has begun")
    assert demo.poll() is None, demo.communicate()
    assert running(str(kept))
    demo.send_signal(signal.SIGINT)
    out, errors = demo.communicate(timeout=PATIENCE_SECONDS)
    assert demo.returncode == 130, (out, errors)
    assert "Traceback" not in errors
    # one that was just being started ends by itself, when it sees that its parent is gone
    eventually(lambda: not running(str(kept)), f"all of these end: {running(str(kept))}")


def running(word: str) -> list[str]:
    """Command lines of this user's processes whose environment or arguments hold a word."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            text = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if word.encode() in text:
            found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found
