"""The wheel in environments of its own: whole, with one import root, in folders of people who have
such names too."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import tarfile
import time
import tomllib
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from pids import descendants
from ports import free_port
from release_kit import install
from waiting import eventually
from wheels import ROOT, Wheels

from redistill import PredictionLogger
from redistill.streams.kafka.broker import consumer
from redistill.streams.kafka.dev_broker import DevBroker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Programs = Callable[[str], Path]

ROOMS = ("compress", "streams", "workers")
STRANGER = "raise RuntimeError('a module of the current folder was imported: ' + __file__)\n"


def bare(**more: str) -> dict[str, str]:
    """An environment without our settings and without paths of Python's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "REDISTILL_"))}
    return kept | {"OMP_NUM_THREADS": "1"} | more


def run(*words: str | Path, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """One process in the folder of somebody else."""
    return subprocess.run(
        [str(w) for w in words],
        cwd=cwd, env=bare(**more), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that has packages of its own with our rooms' old names."""
    made = tmp_path / "service"
    for room in ROOMS:
        (made / room).mkdir(parents=True)
        (made / room / "__init__.py").write_text("MINE = True\n")
    return made


# --------------------------------------------------------------------------------- the archives


def test_wheel_holds_the_package_and_nothing_beside_it(wheels: Wheels) -> None:
    with zipfile.ZipFile(wheels.wheel) as archive:
        names = {n for n in archive.namelist() if ".dist-info/" not in n}
    tree = wheels.tree
    own = {p.relative_to(tree).as_posix() for p in (tree / "redistill").iterdir() if p.is_file()}
    rooms = {
        "redistill/" + p.relative_to(tree).as_posix()
        for room in ROOMS
        for p in (tree / room).rglob("*")
        if p.is_file()
    }
    assert names == own | rooms
    assert "redistill/py.typed" in names
    for pattern in ("streams/wire/schemas/*.json", "workers/store/migrations/versions/0*.py"):
        assert any(Path(n).match("redistill/" + pattern) for n in names)


def test_sdist_holds_copies_for_links_and_builds_the_same_wheel(wheels: Wheels) -> None:
    with tarfile.open(wheels.sdist) as archive:
        members = archive.getmembers()
    assert [m.name for m in members if m.issym() or m.islnk()] == []
    assert any(m.name.endswith("/redistill/streams/client/logger.py") for m in members)
    contents = []
    for path in (wheels.wheel, wheels.direct_wheel):
        with zipfile.ZipFile(path) as archive:
            contents.append({n: archive.read(n) for n in archive.namelist() if "RECORD" not in n})
    assert contents[0] == contents[1]


def test_metadata_is_what_the_project_file_says(wheels: Wheels, programs_with: Programs) -> None:
    code = (
        "import json; from redistill import extras;"
        "print(json.dumps({e: sorted(extras.distributions(e)) for e in ('client', 'stream', 'compress', 'alerts', 'demo')}))"
    )
    done = run(programs_with("") / "python", "-c", code, cwd=Path("/"))
    told = json.loads(done.stdout)
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    named = {e: {Requirement(r).name for r in lines} for e, lines in declared.items()}
    for extra in ("client", "stream", "compress", "alerts"):
        assert set(told[extra]) == named[extra]
    parts = ("client", "stream", "compress", "alerts", "worker", "demo")
    whole = set().union(*(named[e] for e in parts))
    assert set(told["demo"]) == whole - {"redistill"}


# ---------------------------------------------------------------------------------- [client] only

SERVICE = """
import json, sys
import compress, streams, workers
from redistill import ModelClient, PredictionLogger

assert compress.MINE and streams.MINE and workers.MINE
servers, repository, trust, cache = sys.argv[1:]
with PredictionLogger(servers) as log, ModelClient(
    "credit", repository=repository, trust=trust, cache=cache, log=log
) as model:
    out = model.predict({"income": 1.0, "age": 40.0, "region": "EU"})
    for i in range(3):
        log.log(out, id=f"r{i}")
    log.label("credit", id="r0", label="repay", source="ledger")
    flushed = log.flush(60)
print(json.dumps([out.version, out.prediction, flushed, log.stats().sent]))
"""


def test_service_logs_and_serves_where_folders_have_our_names(
    programs_with: Programs, folder: Path, tmp_path: Path
) -> None:
    shop = install(tmp_path / "home", f"sqlite:///{tmp_path}/r.db", clock=time.time)
    shop.register("credit")
    shop.add("credit", "v1", 1, "baseline")
    shop.publish("credit", "v1")
    shop.database.dispose()
    trust = tmp_path / "root.json"
    trust.write_bytes(shop.trust)
    (folder / "service.py").write_text(SERVICE)
    with DevBroker() as broker:
        done = run(
            programs_with("client") / "python", "service.py", broker.servers, shop.layout.repository,
            trust, tmp_path / "cache", cwd=folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        version, prediction, flushed, sent = json.loads(done.stdout)
        assert (version, flushed, sent) == ("v1", True, 5)  # three rows, a label, an activation
        assert prediction in ("repay", "default")
        kept = []
        reader = consumer(broker, broker.topic("predictions"), broker.topic("labels"))

        def read() -> bool:
            for records in reader.poll(timeout_ms=200).values():
                kept.extend(records)
            return {r.topic for r in kept} == {"predictions", "labels"}

        eventually(read, "the prediction and the label are in the broker", every=0.0)
        reader.close()


def test_service_beside_its_own_kafka_is_told_which_file_hides_the_library(
    programs_with: Programs, folder: Path
) -> None:
    (folder / "kafka.py").write_text(STRANGER)
    (folder / "service.py").write_text("from redistill import PredictionLogger")
    done = run(programs_with("client") / "python", "service.py", cwd=folder)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert (
        f"{folder / 'kafka.py'} hides the library kafka, which redistill.PredictionLogger needs"
        in last
    )


EVERY_COMMAND = """
import contextlib, io, json
import typer
from redistill.workers.cli.main import COMMANDS, app, main

group = typer.main.get_command(app)
context = typer.Context(group)
told = {}
for name in COMMANDS:
    command = group.get_command(context, name)
    parts = command.list_commands(context) if hasattr(command, "list_commands") else []
    for words in ([name], *([name, part] for part in parts)):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = main(words)
            except SystemExit as end:
                status = end.code
        told[" ".join(words)] = [status, out.getvalue(), err.getvalue()]
print(json.dumps(told))
"""


def test_every_command_says_which_extra_it_needs(programs_with: Programs, folder: Path) -> None:
    done = run(programs_with("client") / "python", "-c", EVERY_COMMAND, cwd=folder)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told) > 30
    for words, (status, out, err) in told.items():
        assert (status, out) == (2, ""), words
        match = re.fullmatch(
            r"redistill ([a-z -]+) needs redistill\[(\w+)\]: pip install 'redistill\[\2\]'\n", err
        )
        assert match, (words, err)
        assert words.startswith(match[1])
    assert told["topics apply"][2].startswith("redistill topics needs redistill[worker]: ")


@pytest.mark.parametrize(
    "words", [["models"], ["topics", "apply"], ["run", "stream"]], ids=" ".join
)
def test_command_ends_without_a_traceback(
    programs_with: Programs, folder: Path, words: list[str]
) -> None:
    done = run(programs_with("client") / "redistill", *words, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("extra", ["", "client"])
def test_help_and_version_need_no_extra(programs_with: Programs, folder: Path, extra: str) -> None:
    program = programs_with(extra) / "redistill"
    assert run(program, "--version", cwd=folder).stdout.startswith("redistill ")
    done = run(program, "--help", cwd=folder)
    assert done.returncode == 0
    assert "check-history" in done.stdout


def test_base_install_says_what_a_service_needs(programs_with: Programs, folder: Path) -> None:
    for name in ("PredictionLogger", "ModelClient"):
        done = run(programs_with("") / "python", "-c", f"from redistill import {name}", cwd=folder)
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert f"redistill.{name} needs redistill[client]" in last
        assert last.endswith("pip install 'redistill[client]'")


# ------------------------------------------------------------------------------- the other extras


def test_stream_extra_suffices_for_replay_and_the_stream_worker(
    programs_with: Programs, folder: Path, tmp_path: Path
) -> None:
    (folder / "rows.csv").write_text(
        "x,label,prediction\n"
        + "".join(f"{i % 7},{'ab'[i % 2]},{'ab'[i % 2]}\n" for i in range(500))
    )
    redistill = programs_with("stream") / "redistill"
    done = run(redistill, "replay", "rows.csv", "--reference", "rows.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "no harm found" in done.stdout
    nobody = f"127.0.0.1:{free_port()}"
    log = tmp_path / "said"
    with log.open("w") as out:
        worker = subprocess.Popen(
            [str(redistill), "run", "stream"], cwd=folder, stdout=out, stderr=out,
            env=bare(REDISTILL_HOME=str(tmp_path / "home"), REDISTILL_BROKER=nobody),
        )  # fmt: skip
    try:  # it gets as far as its broker, and waits for that
        eventually(lambda: f"cannot connect to {nobody}" in log.read_text(), "it says so")
        assert worker.poll() is None
    finally:
        worker.terminate()
        worker.wait(60)


@pytest.fixture
def hostile(folder: Path) -> Path:
    """A folder in which nothing may be imported from."""
    names = ("kafka", "json", "numpy", "torch", "queue", "sqlalchemy", "onnxruntime", "faust")
    for path in (*(f"{name}.py" for name in names), *(f"{room}/__init__.py" for room in ROOMS)):
        (folder / path).write_text(STRANGER)
    return folder


def test_up_works_beside_files_that_are_named_like_libraries(
    programs_with: Programs, hostile: Path, tmp_path: Path
) -> None:
    before = sorted(hostile.rglob("*"))
    home, port = tmp_path / "home", free_port()
    up = subprocess.Popen(
        [str(programs_with("demo") / "redistill"), "up"],
        cwd=hostile, env=bare(REDISTILL_HOME=str(home), REDISTILL_WEB_PORT=str(port)),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert up.stdout is not None
        servers = ""
        while not servers and (line := up.stdout.readline()):
            servers = "".join(re.findall(r"PredictionLogger\('([^']+)'\)", line))
        assert servers, "it told no broker"
        with PredictionLogger(servers) as log:
            log.log(model="credit", version="1", prediction="a", features={"x": 1.0})
            assert log.flush(60)
        eventually(lambda: counted(home / "redistill.db"), "the stream worker counts the row")
        eventually(lambda: answers(port), "the web process answers")
        repair = home / "logs" / "repair.log"
        eventually(lambda: "repair_started" in repair.read_text(), "the repair worker works")
        assert len(descendants(up.pid)) >= 4  # stream, repair with its fork server, web
        for pid in descendants(up.pid):
            words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            assert b"PYTHONSAFEPATH=1" in words, Path(f"/proc/{pid}/cmdline").read_bytes()
        up.send_signal(signal.SIGTERM)
        out, _ = up.communicate(timeout=60)
    finally:
        if up.poll() is None:
            up.kill()
            up.communicate()
    logs = "".join(p.read_text(errors="replace") for p in (home / "logs").glob("*.log"))
    assert up.returncode == 0, out + logs
    assert "current folder was imported" not in logs + out
    assert sorted(hostile.rglob("*")) == before


FORK_SERVER = """
from redistill.workers.jobs.child import Child

with Child.start() as child:
    print(child.wait_ready())
"""


def test_fork_server_loads_beside_files_that_are_named_like_libraries(
    programs_with: Programs, hostile: Path
) -> None:
    done = run(programs_with("demo") / "python", "-P", "-c", FORK_SERVER, cwd=hostile)
    assert (done.stdout, done.stderr) == ("True\n", "")


def counted(database: Path) -> bool:
    """Whether the stream worker has counted an event of a model that nobody registered."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as conn:
            return bool(conn.execute("SELECT sum(rows) FROM unregistered").fetchone()[0])
    except sqlite3.OperationalError:
        return False


def answers(port: int) -> bool:
    """Whether the web process does."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
