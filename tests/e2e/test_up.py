"""``redistill up``: one command, four processes, and none left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from metric_scrapes import families, scrape
from ports import free_port
from processes import environment, redistill
from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.store import process_rows
from redistill.streams.store.database import connect
from redistill.workers.exit_codes import ExitCode
from redistill.workers.processes.supervisor import last_line

SHAPE = {"timestamp", "level", "event", "action", "logger", "process", "pid"}
"""What every log line has."""


def pid_of(home: Path, name: str) -> int | None:
    """The process ``redistill run NAME`` of this home."""
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            mine = str(home).encode() in (folder / "environ").read_bytes()
        except (OSError, ValueError):
            continue
        if mine and words[-3:-1] == [b"run", name.encode()]:
            return int(folder.name)
    return None


def alive(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def until_ready(up: subprocess.Popen[bytes]) -> bytes:
    """What it said until everything was ready."""
    out = b""
    while b"\nready after " not in out:
        line = up.stdout.readline() if up.stdout is not None else b""
        assert line, f"it ended before it was ready: {out!r}"
        out += line
    return out


def told(home: Path, name: str) -> set[str]:
    """Metrics of a process that runs."""
    log = (home / "logs" / f"{name}.log").read_text()
    found = re.search(r'"url": "(http://127[^"]+/metrics)"', log)
    return set(families(scrape(found[1]))) if found else set()


def documented(name: str) -> set[str]:
    """Those that docs/metrics.md lists for it."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text()
    return set(re.findall(rf"^\| {name} \| `(\w+)` \|", text, re.M))


@pytest.mark.slow
def test_up_restarts_what_dies_and_leaves_nothing_when_it_is_stopped(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    errors = tmp_path / "errors.txt"
    with errors.open("wb") as err:
        up = subprocess.Popen(
            [sys.executable, "-m", "redistill", "up", "--port", str(port)],
            env=environment(home=str(home), metrics_port="0"), umask=0, stdout=subprocess.PIPE,
            stderr=err,
        )  # fmt: skip
    try:
        eventually(lambda: alive(f"http://127.0.0.1:{port}/health/live"), "the web process answers")
        first = eventually(lambda: pid_of(home, "stream"), "the stream worker runs")
        eventually(lambda: last_line(home / "logs" / "stream.log"), "it has started to work")
        assert pid_of(home, "repair")
        before = until_ready(up)
        for name in ("stream", "repair", "alerts"):
            eventually(lambda name=name: told(home, name) == documented(name), f"{name} tells all")
        with connect(f"sqlite:///{home / 'redistill.db'}").read() as conn:
            assert {r.kind for r in process_rows.seen(conn) if r.ready} >= {
                "stream",
                "repair",
                "web",
            }
        os.kill(first, signal.SIGKILL)
        eventually(lambda: pid_of(home, "stream") not in (None, first), "it is started again")
        up.send_signal(signal.SIGTERM)
        out, _ = up.communicate(timeout=PATIENCE_SECONDS)
    finally:
        if up.poll() is None:
            up.kill()
            up.communicate()
    assert up.returncode == 0, errors.read_text()
    text = (before + out).decode()
    assert f"metrics at http://127.0.0.1:{port}\n" in text
    assert "FORGETS EVERYTHING" in text
    assert re.search(r"export REDISTILL_BROKER='dev://127\.0\.0\.1:\d+\?start=[0-9a-f-]{36}'", text)
    assert "stream ended with signal 9" in errors.read_text()
    for name in ("stream", "repair", "alerts", "web"):
        lines = [json.loads(x) for x in (home / "logs" / f"{name}.log").read_text().splitlines()]
        assert lines
        assert {x["process"] for x in lines} == {name}
        assert [x for x in lines if not x.keys() >= SHAPE] == []
        whole = [json.dumps({**x, "timestamp": ""}, sort_keys=True) for x in lines]
        assert [x for x in set(whole) if whole.count(x) > 1] == []
    assert [pid_of(home, n) for n in ("stream", "repair", "web")] == [None, None, None]
    # all in the home is its owner's alone, though the mask that `up` was given lets others in
    open_to_others = [p for p in (home, *home.rglob("*")) if p.lstat().st_mode & 0o077]
    assert open_to_others == []


def test_up_says_at_once_what_is_wrong_with_the_settings(tmp_path: Path) -> None:
    done = redistill(["up"], environment(home=str(tmp_path), database="mysql://somewhere/x"))
    assert done.returncode == 2
    assert "REDISTILL_DATABASE" in done.stderr
    assert "Traceback" not in done.stderr


def test_up_says_at_once_that_metrics_may_not_be_served_there(tmp_path: Path) -> None:
    env = environment(home=str(tmp_path), metrics_port="0", metrics_host="0.0.0.0")
    done = redistill(["up"], env)
    assert done.returncode == 2
    assert "REDISTILL_METRICS_TOKEN" in done.stderr
    assert "starts" not in done.stdout


def test_up_says_at_once_that_there_are_too_few_ports(tmp_path: Path) -> None:
    done = redistill(["up"], environment(home=str(tmp_path), metrics_port="65534"))
    assert done.returncode == 2
    assert "REDISTILL_METRICS_PORT = 65534: 3 ports are needed" in done.stderr
    assert "starts" not in done.stdout


def test_port_of_the_broker_in_memory_that_is_taken_is_wrong_usage(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        args = ["up", "--broker-port", str(port)]
        done = redistill(args, environment(home=str(tmp_path)))
    assert done.returncode == 2
    assert f"127.0.0.1:{port}: Address already in use; choose another" in done.stderr


@pytest.mark.slow
def test_terminal_that_is_gone_ends_no_process(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    up = subprocess.Popen(
        [sys.executable, "-m", "redistill", "up", "--port", str(port)],
        env=environment(home=str(home)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert up.stdout is not None
    try:
        for line in up.stdout:
            if line == b"Ctrl-C stops everything\n":
                break
        up.stdout.close()
        eventually(lambda: alive(f"http://127.0.0.1:{port}/health/live"), "it goes on")
        web = pid_of(home, "web")
        assert web is not None
        os.kill(web, signal.SIGKILL)  # of which nobody can be told
        eventually(lambda: pid_of(home, "web") not in (None, web), "it is started again")
        up.send_signal(signal.SIGTERM)
        up.wait(PATIENCE_SECONDS)
        assert pid_of(home, "web") is None
    finally:
        if up.poll() is None:
            up.kill()
            up.wait()


@pytest.mark.slow
def test_second_signal_kills_what_does_not_end(tmp_path: Path) -> None:
    home = tmp_path / "home"
    up = subprocess.Popen(
        [sys.executable, "-m", "redistill", "up", "--port", str(free_port())],
        env=environment(home=str(home)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert up.stdout is not None
    try:
        until_ready(up)
        hangs = pid_of(home, "stream")
        assert hangs is not None
        os.kill(hangs, signal.SIGSTOP)
        up.send_signal(signal.SIGINT)
        for line in up.stdout:
            if line.startswith(b"stopping; Ctrl-C once more kills"):
                break
        # one that comes with the first is its echo, so it is sent until it is believed
        eventually(
            lambda: pid_of(home, "stream") is None or up.send_signal(signal.SIGINT), "it is killed"
        )
        assert up.wait(PATIENCE_SECONDS) == 0
    finally:
        if up.poll() is None:
            up.kill()
        up.communicate()


def test_up_says_at_once_when_the_database_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "redistill.db").write_text("not a database, but long enough to be read as one" * 40)
    done = redistill(["up"], environment(home=str(tmp_path)))
    assert done.returncode == ExitCode.FAILED
    assert "is not an intact SQLite database" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_broker_in_memory_keeps_its_address_over_starts(tmp_path: Path) -> None:
    home, port, web = tmp_path / "home", free_port(), free_port()
    args = ["up", "--broker-port", str(port), "--port", str(web)]
    address = f"dev://127.0.0.1:{port}"
    starts = set()
    for _ in range(2):
        up = subprocess.Popen(
            [sys.executable, "-m", "redistill", *args],
            env=environment(home=str(home)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            said = until_ready(up).decode()
            assert f"export REDISTILL_BROKER='{address}' " in said
            listed = redistill(["models", "--json"], environment(home=str(home), servers=address))
            assert listed.returncode == 0, listed.stderr
            assert json.loads(listed.stdout)["lag"] == 0
            starts.add((home / "dev-broker").read_text())
        finally:
            up.send_signal(signal.SIGTERM)
            up.communicate(timeout=PATIENCE_SECONDS)
    assert len(starts) == 2, "what was counted of one start is not taken for the next one's"


@pytest.mark.kafka
def test_missing_topics_are_named_at_once_with_the_command(
    tmp_path: Path, kafka_server: Any
) -> None:
    env = environment(home=str(tmp_path), servers=kafka_server.bootstrap, namespace="nothere")
    done = redistill(["up"], env)
    assert done.returncode == ExitCode.FAILED
    assert "missing topics: " in done.stderr
    assert "nothere.predictions" in done.stderr
    assert "redistill topics apply" in done.stderr
    assert "starts" not in done.stdout


def test_port_of_the_broker_in_memory_is_refused_beside_another_broker(tmp_path: Path) -> None:
    args = ["up", "--broker", "127.0.0.1:9", "--broker-port", "19092"]
    assert redistill(args, environment(home=str(tmp_path))).returncode == 2
