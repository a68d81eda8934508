"""A new version against its predecessor: what a comparison leads to."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa
from release_kit import Installation

from redistill.compress.plan import Comparison
from redistill.times import DAY, to_us
from redistill.workers.errors import RegistryError
from redistill.workers.releases import post_release_monitor, registry
from redistill.workers.store.tables import barred, monitored_releases, pauses, pointers

WORSE = Comparison(wins=3, losses=60, ties=400, e_better=0.01, e_worse=1e6)
BETTER = Comparison(wins=60, losses=3, ties=400, e_better=1e6, e_worse=0.01)
OPEN = Comparison(wins=5, losses=6, ties=40, e_better=0.8, e_worse=1.2)


@pytest.fixture
def shop(released: Installation) -> Installation:
    """v1, v2 and v3, published one after the other."""
    return released


def settle(
    inst: Installation,
    comparison: Comparison,
    one: post_release_monitor.MonitoredRelease | None = None,
) -> post_release_monitor.Settlement:
    with inst.database.begin() as conn:
        one = one or post_release_monitor.due(conn)[0]
        return post_release_monitor.settle(
            conn, one, comparison, last_seq=77, actor="worker:t", now=inst.now,
            lifetimes=inst.lifetimes, cool_down_seconds=60,
        )  # fmt: skip


def rows(inst: Installation, table: sa.Table) -> list[Any]:
    with inst.database.read() as conn:
        return list(conn.execute(sa.select(table)).mappings())


def state(inst: Installation) -> str:
    return str(max(rows(inst, monitored_releases), key=lambda r: r["epoch"])["state"])


def test_worse_version_is_rolled_back_barred_and_the_breaker_opens(shop: Installation) -> None:
    done = settle(shop, WORSE)
    assert done.verdict == "roll_back"
    assert done.rollback is not None
    assert (done.rollback.version, done.rollback.previous) == ("v2", "v3")
    assert state(shop) == "worse"
    (bar,) = rows(shop, barred)
    assert "60 lost, 3 won" in bar["reason"]
    (pause,) = rows(shop, pauses)
    assert pause["until"] == shop.now + to_us(post_release_monitor.BREAKER_SECONDS)
    assert "circuit breaker" in pause["reason"]
    with pytest.raises(RegistryError, match="barred"):
        shop.publish("credit", "v3")
    with shop.database.read() as conn:
        assert post_release_monitor.due(conn) == []


def test_better_version_stays_and_is_monitored_no_more(shop: Installation) -> None:
    assert settle(shop, BETTER).verdict == "keep"
    assert state(shop) == "better"
    assert rows(shop, pointers)[0]["stable"] == "v3"
    assert (
        json.loads(max(rows(shop, monitored_releases), key=lambda r: r["epoch"])["result"])["wins"]
        == 60
    )


def test_undecided_comparison_goes_on_and_remembers_how_far_it_came(shop: Installation) -> None:
    assert settle(shop, OPEN).verdict == "go_on"
    with shop.database.read() as conn:
        (one,) = post_release_monitor.due(conn)
    assert (one.version, one.predecessor, one.last_seq) == ("v3", "v2", 77)


def test_verdict_that_comes_after_the_pointer_moved_does_nothing(shop: Installation) -> None:
    with shop.database.read() as conn:
        (one,) = post_release_monitor.due(conn)
    shop.rollback("credit")
    done = settle(shop, WORSE, one)
    assert (done.verdict, done.rollback) == ("go_on", None)
    assert "moved meanwhile" in done.note
    assert rows(shop, barred) == []


def test_predecessor_that_cannot_serve_gives_way_to_what_was_before(shop: Installation) -> None:
    with shop.database.begin() as conn:
        registry.bar(conn, "credit", registry.get(conn, "credit", "v2").sha256, reason="x", now=1)
    done = settle(shop, WORSE)
    assert done.rollback is not None
    assert done.rollback.version == "v1"


def test_worse_version_that_nothing_can_replace_is_told(shop: Installation) -> None:
    with shop.database.begin() as conn:
        for version in ("v1", "v2"):
            sha256 = registry.get(conn, "credit", version).sha256
            registry.bar(conn, "credit", sha256, reason="x", now=1)
    done = settle(shop, WORSE)
    assert (done.verdict, done.rollback) == ("roll_back", None)
    assert "nothing can replace it" in done.note
    assert state(shop) == "worse"
    assert rows(shop, pointers)[0]["stable"] == "v3"


def test_monitoring_ends_after_its_days(shop: Installation) -> None:
    with shop.database.begin() as conn:
        assert post_release_monitor.expire(conn, now=shop.now + 6 * DAY) == 0
        assert post_release_monitor.expire(conn, now=shop.now + 7 * DAY) == 1
    assert state(shop) == "expired"
