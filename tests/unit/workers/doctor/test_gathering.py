"""What the doctor asks, of an installation that is there and of one that is not."""

from __future__ import annotations

import importlib.metadata
from datetime import UTC, datetime
from pathlib import Path

import loop
import pytest
import repairable
import sqlalchemy as sa
from ports import free_port

from redistill.streams.store.database import connect
from redistill.streams.store.process_rows import Presence
from redistill.times import now_us
from redistill.workers.alerts.operational import book
from redistill.workers.doctor.gathering import gather, package_faults
from redistill.workers.releases import keys
from redistill.workers.settings.settings import Settings
from redistill.workers.store import audit, opening


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


def test_empty_file_is_not_made_a_database(tmp_path: Path) -> None:
    settings = Settings.load({"home": tmp_path / "home"})
    settings.root.mkdir(mode=0o700)
    file = settings.root / "redistill.db"
    file.touch()
    facts = gather(settings)
    assert facts.database_state == "unusable"
    assert "is empty: run `redistill db upgrade`" in (facts.database_fault or "")
    database = connect(f"sqlite:///{file}")
    with database.read() as conn:
        assert sa.inspect(conn).get_table_names() == [], "the doctor makes nothing"
    database.dispose()


def test_database_that_is_away_is_told_from_one_that_is_wrong(tmp_path: Path) -> None:
    away = f"postgresql://ann:secret@127.0.0.1:{free_port()}/x"
    facts = gather(Settings.load({"home": tmp_path / "home", "database": away}))
    assert facts.database_state == "away"
    assert "secret" not in (facts.database_fault or "")
    (tmp_path / "redistill.db").write_text("no database, but long enough to be read as one" * 40)
    facts = gather(Settings.load({"home": tmp_path}))
    assert facts.database_state == "unusable"
    facts = gather(Settings.load({"home": tmp_path / "nothing"}))
    assert facts.database_state == "missing"


def test_operational_alerts_that_are_open_are_told_the_worst_first(tmp_path: Path) -> None:
    settings = repairable.settings_of(tmp_path / "home")
    database = opening.open(settings)
    with database.begin() as conn:
        for number, (kind, severity) in enumerate(
            (("lag", "warn"), ("disk", "page"), ("gap", "warn"), ("outbox_unsent", "page"))
        ):
            book.open_alert(
                conn, kind, "x", severity=severity, said=kind, remedy="do", now=loop.NOW + number
            )
        book.resolve(conn, "gap", "x", now=loop.NOW + 9)
    facts = gather(settings)
    assert facts.store is not None
    assert [t.kind for t in facts.store.troubles] == ["disk", "outbox_unsent", "lag"]
    database.dispose()


def test_alerts_file_is_read_as_the_alert_process_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.load({"home": tmp_path / "home"})
    settings.root.mkdir(mode=0o700)
    assert not gather(settings).alerts.there
    settings.alerts_path.write_text("[channels")
    assert "is not TOML" in (gather(settings).alerts.fault or "")
    settings.alerts_path.write_text(
        '[channels.oncall]\nkind = "pagerduty"\nrouting_key = "env:ONCALL_KEY"\n'
        '[channels.alive]\nkind = "ping"\nurl = "https://example.org/x"\n'
        '[heartbeat]\nchannel = "alive"\n'
    )
    alerts = gather(settings).alerts
    assert alerts.absent == ("ONCALL_KEY",)
    assert "has no ONCALL_KEY" in (alerts.fault or "")
    monkeypatch.setenv("ONCALL_KEY", "k" * 32)
    alerts = gather(settings).alerts
    assert (alerts.fault, alerts.absent, alerts.heartbeat) == (None, (), True)
    assert alerts.channels == ("oncall",), "the dead man's switch tells nobody"


def test_keys_say_until_when_they_are_believed(tmp_path: Path) -> None:
    settings = Settings.load({"home": tmp_path / "home"})
    keys.init(settings.keys_folder, passphrase=None, now=datetime.now(UTC))
    facts = gather(settings)
    assert facts.keys.fault is None
    assert facts.keys.root_until is not None
    assert facts.keys.root_until > now_us()


def test_audit_key_that_is_not_the_databases_is_told(tmp_path: Path) -> None:
    settings = Settings.load({"home": tmp_path / "home"})
    with opening.open(settings).begin() as conn:
        audit.append(conn, "cli:ann", "x.y", "", None, 1)
    (store,) = [gather(settings).store]
    assert store is not None
    assert (store.audit_key_here, store.audit_key_fault) == (True, None)
    settings.audit_key_path.rename(tmp_path / "away")
    store = gather(settings).store
    assert store is not None
    assert not store.audit_key_here
    assert "is not here" in str(store.audit_key_fault)
    settings.audit_key_path.write_text("cd" * 32)
    settings.audit_key_path.chmod(0o600)
    store = gather(settings).store
    assert store is not None
    assert store.audit_key_here
    assert "is not the one of this database" in str(store.audit_key_fault)


def test_package_of_another_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(package_faults()) == []
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.0.1" if name == "river" else real(name)
    )
    (fault,) = package_faults()
    assert (fault.name, fault.installed) == ("river", "0.0.1")
    assert fault.wanted.startswith("==")
