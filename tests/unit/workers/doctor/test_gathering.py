"""What the doctor asks, of an installation that is there and of one that is not."""

from __future__ import annotations

import importlib.metadata
from datetime import UTC, datetime
from pathlib import Path

import loop
import pytest
import repairable
from ports import free_port

from redistill.streams.store.process_rows import Presence
from redistill.times import now_us
from redistill.workers.doctor.gathering import gather, package_faults
from redistill.workers.releases import keys
from redistill.workers.settings.settings import Settings
from redistill.workers.store import opening


def test_nothing_is_there_and_nothing_is_made(tmp_path: Path) -> None:
    settings = Settings.load({"home": tmp_path / "home", "servers": f"127.0.0.1:{free_port()}"})
    facts = gather(settings)
    assert facts.store is None
    assert "there is none yet" in (facts.database_fault or "")
    assert facts.broker_away is not None
    assert facts.keys.fault is not None
    assert facts.disk is not None
    assert not settings.root.exists()


def test_installation_is_read(tmp_path: Path) -> None:
    settings = repairable.settings_of(tmp_path / "home")
    database = opening.open(settings)
    with database.begin() as conn:
        loop.register(conn, loop.spec("credit"))
    Presence(database, "stream", "here:1").say("the broker: away")
    facts = gather(settings)
    assert facts.store is not None
    assert [m.model for m in facts.store.models] == ["credit"]
    (row,) = facts.store.processes
    assert (row.kind, row.ready, row.said) == ("stream", False, "the broker: away")
    assert abs(facts.now - now_us()) < 600 * 10**6
    database.dispose()


def test_keys_say_until_when_they_are_believed(tmp_path: Path) -> None:
    settings = Settings.load({"home": tmp_path / "home"})
    keys.init(settings.keys_folder, passphrase=None, now=datetime.now(UTC))
    facts = gather(settings)
    assert facts.keys.fault is None
    assert facts.keys.root_until is not None
    assert facts.keys.root_until > now_us()


def test_package_of_another_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(package_faults()) == []
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.0.1" if name == "river" else real(name)
    )
    (fault,) = package_faults()
    assert (fault.name, fault.installed) == ("river", "0.0.1")
    assert fault.wanted.startswith("==")
