"""What is removed of old releases in the end, and above all what is not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import sqlalchemy as sa
from release_kit import Installation

from redistill.streams.client.fetch import Repository
from redistill.streams.client.release import PointerFile
from redistill.times import to_seconds
from redistill.workers.errors import RegistryError
from redistill.workers.releases import registry, retention
from redistill.workers.releases.release_files import damaged
from redistill.workers.store.tables import versions


@pytest.fixture
def shop(released: Installation) -> Installation:
    """v1, v2 and v3, published one after the other."""
    return released


def age(inst: Installation) -> None:
    """Make every file older than what retention leaves alone."""
    old = inst.clock() - 2 * retention.ORPHAN_SECONDS
    for folder in (inst.layout.targets, inst.layout.private):
        for path in folder.rglob("*"):
            os.utime(path, (old, old))


def prune(inst: Installation, keep: int = 2, rejected_before: int = 0) -> retention.Pruned:
    return retention.prune(
        inst.database, inst.layout, "credit", keep=keep, rejected_before=rejected_before,
        now=inst.now, lifetimes=inst.lifetimes,
    )  # fmt: skip


def test_old_versions_lose_their_files_when_clients_were_told(
    shop: Installation, tmp_path: Path
) -> None:
    age(shop)
    first = prune(shop)
    assert (first.versions, first.files) == (1, 0)  # signed first, removed later
    shop.tick()
    second = prune(shop)
    assert second.versions == 0
    assert second.files > 3  # v1's, and the pointers that nobody reads any more
    with shop.database.read() as conn:
        v1, v2, v3 = (registry.get(conn, "credit", v) for v in ("v1", "v2", "v3"))
    assert v1.files == {}
    assert (
        damaged(shop.layout, "credit", v2.files) == damaged(shop.layout, "credit", v3.files) == []
    )
    seen = Repository(shop.layout.repository, shop.trust, cache=tmp_path / "cache")
    pointer: PointerFile = seen.pointer("credit")
    assert set(pointer.known) == {"v2", "v3"}
    seen.release("credit", pointer.manifest_sha256)
    assert shop.rollback("credit").version == "v2"
    with pytest.raises(RegistryError, match="removed by retention"):
        shop.rollback("credit", to="v1")
    assert prune(shop, keep=1).versions == 0  # never what serves or what it replaced


def test_a_release_that_may_be_the_best_so_far_keeps_its_files(shop: Installation) -> None:
    """Against one that is gone nothing can be compared, and small losses would add up."""
    report = {"chosen": "x", "variants": [{"name": "x", "trusted_accuracy": {"value": 0.9}}]}
    with shop.database.begin() as conn:
        conn.execute(
            sa.update(versions).where(versions.c.version == "v1").values(report=json.dumps(report))
        )
    age(shop)
    assert prune(shop).versions == 0
    with shop.database.read() as conn:
        assert damaged(shop.layout, "credit", registry.get(conn, "credit", "v1").files) == []


def test_young_files_without_a_row_are_left_alone(shop: Installation) -> None:
    age(shop)
    prune(shop)
    shop.tick()
    unnamed = shop.layout.targets / "credit" / ("e" * 64 + ".onnx")
    unnamed.write_bytes(b"new")
    os.utime(unnamed, (to_seconds(shop.now), to_seconds(shop.now)))
    prune(shop)
    assert unnamed.exists()
    age(shop)
    prune(shop)
    assert not unnamed.exists()


def test_rejected_candidates_go_after_their_days(shop: Installation) -> None:
    shop.add("credit", "bad", 8, passed=False)
    shop.add("credit", "ready", 7)
    assert prune(shop, keep=10, rejected_before=shop.now).versions == 0
    assert prune(shop, keep=10, rejected_before=shop.now + 1).versions == 2
