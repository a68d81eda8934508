"""Installations that tests of releases begin with: ``shop``, in which v1 serves, v2 was rolled back, v3 may be
published and ``bad`` failed its gates; ``older``, the same as an older redistill left it; ``released``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from forged_rows import make, restarted, unanchored
from release_kit import START, FakeClock, Installation, copy_of, install

from redistill.workers.store import audit_key


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("template")
    inst = make(folder, f"sqlite:///{folder}/r.db")
    inst.writer.close()
    return inst


@pytest.fixture
def shop(attacked: Installation, tmp_path: Path) -> Iterator[Installation]:
    inst = copy_of(attacked, tmp_path / "home", f"sqlite:///{tmp_path}/r.db")
    inst.clock = FakeClock(START + 60)
    inst.writer._clock = inst.clock
    inst.tick()
    yield inst
    inst.database.dispose()


@pytest.fixture
def older(shop: Installation) -> Installation:
    """An installation as an older redistill left it: no MAC, no anchor, no key."""
    with shop.database.begin() as conn:
        conn.execute(sa.text("UPDATE audit SET mac = ''"))
        conn.execute(sa.text("DELETE FROM facts WHERE name = 'audit_key'"))
        body = json.loads(
            conn.execute(
                sa.text("SELECT body FROM repository_roles WHERE role = 'timestamp'")
            ).scalar_one()
        )
        body.pop("audit")
        conn.execute(
            sa.text("UPDATE repository_roles SET body = :b WHERE role = 'timestamp'"),
            {"b": json.dumps(body)},
        )
    (shop.layout.keys / "audit.key").unlink()
    unanchored(shop)
    restarted(shop)
    shop.database = audit_key.with_key(shop.database, shop.layout.keys / "audit.key")
    shop.writer._database = shop.database
    return shop


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("published")
    clock = FakeClock(time.time())
    inst = install(folder / "home", f"sqlite:///{folder}/r.db", clock=clock)
    inst.register("credit")
    inst.add("credit", "v1", 1, "baseline")
    inst.add("credit", "v2", 2)
    inst.add("credit", "v3", 3)
    for version in ("v1", "v2", "v3"):
        clock.advance(1)
        inst.publish("credit", version)
    return inst


@pytest.fixture
def released(published: Installation, tmp_path: Path) -> Iterator[Installation]:
    """v1, v2 and v3, published one after the other."""
    inst = copy_of(published, tmp_path / "home", f"sqlite:///{tmp_path}/r.db")
    yield inst
    inst.database.dispose()
