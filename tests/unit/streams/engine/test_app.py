"""How a stream worker is put together: its leases, Faust's settings, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stream_rows import new_database

from redistill.streams.engine import app as module
from redistill.streams.engine.app import StreamConfig, _failure, _Run
from redistill.streams.engine.health import CANNOT_START
from redistill.streams.errors import BrokerRefused, BrokerUnavailable, StoreUnusable
from redistill.streams.kafka.broker import Broker
from redistill.streams.store import lease, state_key
from redistill.streams.store.database import Database

MINUTE_US = 60 * 1_000_000


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'redistill.db'}"


@pytest.fixture
def db(url: str) -> Iterator[Database]:
    db = new_database(url)
    yield db
    db.dispose()


def config(url: str = "sqlite://", **more: Any) -> StreamConfig:
    values = {
        "broker": Broker("kafka:9092,other:9092"),
        "database_url": url,
        "state_key": b"k" * 32,
    }
    return StreamConfig(**(values | more))


# --- leases -------------------------------------------------------------------------------------


def hold(db: Database, name: str, holder: str, now: int) -> None:
    with db.begin() as conn:
        assert lease.acquire(conn, name, holder, now=now, seconds=60)


def test_one_worker_holds_an_sqlite_file_and_one_each_static_member(url: str, db: Database) -> None:
    leases = _Run(config(url, instance_id="a", group="g"))._leases(db)
    assert [h.name for h in leases] == ["stream-file", "member:g:a"]
    with db.read() as conn:
        assert lease.check(conn, "stream-file", leases[0].token, 0) is None


def test_second_worker_is_refused_with_the_way_out(
    url: str, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_000 * MINUTE_US]
    monkeypatch.setattr(module.time, "time_ns", lambda: now[0] * 1_000)
    hold(db, "stream-file", "another-host:1:x", now[0])

    def renewed(seconds: float) -> None:  # its holder lives
        now[0] += MINUTE_US // 2
        hold(db, "stream-file", "another-host:1:x", now[0])

    monkeypatch.setattr(module.time, "sleep", renewed)
    with pytest.raises(StoreUnusable, match=r"another stream worker.*PostgreSQL"):
        _Run(config(url))._leases(db)


def test_lease_that_is_not_renewed_is_waited_for(
    url: str, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_000 * MINUTE_US]
    monkeypatch.setattr(module.time, "time_ns", lambda: now[0] * 1_000)
    hold(db, "stream-file", "another-host:1:x", now[0])

    def passes(seconds: float) -> None:
        now[0] += MINUTE_US

    monkeypatch.setattr(module.time, "sleep", passes)
    assert len(_Run(config(url))._leases(db)) == 1


@pytest.mark.parametrize(
    ("holder", "expired"),
    [
        ("{host}:4194305:x", True),  # no process has so large a number
        ("{host}:{pid}:x", True),  # in a container: our predecessor
        ("{host}:1:x", False),
        ("another-host:4194305:x", False),
        ("by hand", False),
    ],
)
def test_lease_of_a_process_of_this_machine_that_is_gone_is_ended(
    db: Database, holder: str, expired: bool
) -> None:
    hold(db, "x", holder.format(host=socket.gethostname(), pid=os.getpid()), 0)
    with db.begin() as conn:
        module._expire_dead(conn, "x", 1)
        assert (lease.holder_of(conn, "x", 1) is None) is expired


# --- Faust --------------------------------------------------------------------------------------


# --- the end ------------------------------------------------------------------------------------


def test_what_ended_faust_or_a_task_of_ours_is_found() -> None:
    async def fails() -> None:
        raise ValueError("a defect")

    async def story() -> list[Any]:
        calm: Any = SimpleNamespace(crashed=False, crash_reason=None)
        running = asyncio.create_task(asyncio.sleep(3_600))
        failed, cancelled = asyncio.create_task(fails()), asyncio.create_task(asyncio.sleep(3_600))
        cancelled.cancel()
        await asyncio.wait({failed, cancelled})
        crashed: Any = SimpleNamespace(crashed=True, crash_reason=OSError("x"))
        unexplained: Any = SimpleNamespace(crashed=True, crash_reason=None)
        failures = [
            _failure(calm, [running]),
            _failure(calm, [running, failed]),
            _failure(calm, [running, cancelled]),
            _failure(crashed, [running]),
            _failure(unexplained, []),
        ]
        running.cancel()
        return failures

    well, ours, stuck, faust_s, unexplained = asyncio.run(story())
    assert well is None
    assert isinstance(ours, ValueError)
    assert "while it was asked something" in str(stuck)
    assert isinstance(faust_s, OSError)
    assert "Faust crashed" in str(unexplained)


def test_worker_that_cannot_start_says_why_and_ends_with_its_status(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert module.run(config(url)) == CANNOT_START
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["action"], line["process"]) == ("cannot_start", "stream")
    assert line["error"]


def test_worker_with_another_state_key_is_refused_before_it_starts_every_detector_anew(
    url: str, db: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    with db.begin() as conn:
        state_key.claim(conn, b"the others' key".ljust(32))
    assert module.run(config(url)) == CANNOT_START
    assert "it the key of the other workers" in capsys.readouterr().err


def test_broker_that_is_away_is_waited_for_and_one_that_refuses_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[Exception | None] = [BrokerUnavailable("away"), BrokerUnavailable("away"), None]
    waits: list[str | None] = []

    def check(*_: Any, **__: Any) -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    made = _Run(config())
    presence: Any = SimpleNamespace(say=lambda _: None)
    monkeypatch.setattr(module.start, "check", check)
    fake_time = SimpleNamespace(sleep=lambda _: waits.append(made.health.broker_away))
    monkeypatch.setattr(module, "time", fake_time)
    made._wait_for_broker(presence)
    assert (waits, made.health.broker_away) == (["away", "away"], None)
    answers.append(BrokerRefused("no such topic"))
    with pytest.raises(BrokerRefused):
        made._wait_for_broker(presence)
