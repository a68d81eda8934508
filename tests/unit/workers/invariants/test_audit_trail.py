"""What a person vouched for is what the audit says from then on: check-history holds again, and goes on to
look."""

from __future__ import annotations

from pathlib import Path

import finished
import pytest
import sqlalchemy as sa
from proven import World

from redistill.times import DAY, HOUR
from redistill.workers.invariants import check
from redistill.workers.releases import adoption
from redistill.workers.store import alarm_budget, audit_chain, audit_key, future_times, queries

CHANGES = (
    "DELETE FROM audit WHERE action = 'release.candidate' AND body LIKE '%2026-04%'",
    "DELETE FROM audit WHERE action = 'release.automatic_rollback'",
    "UPDATE versions SET report = replace(report, '\"passed\":true', '\"passed\": true') WHERE kind = 'repaired'",
    "UPDATE specs SET config_sha256 = 'restored', spec = spec || ' ' WHERE model = 'credit'",
)
"""As a backup that was restored table by table leaves it."""


def problems(installation: finished.Finished) -> list[str]:
    checked = check.check(
        installation.database, now=installation.now + 10_000_000, home=installation.home,
        outbox_kept_us=10**15, state_key=installation.settings.state_key_bytes(),
        settle_seconds=0.0,
    )  # fmt: skip
    return [f"{c.number}: {p}" for c in checked for p in c.problems]


def test_rows_that_a_person_vouched_for_are_no_violation_and_later_changes_are(
    world: World, tmp_path: Path
) -> None:
    mine = finished.copied(world.installation, tmp_path / "home")
    assert problems(mine) == []
    with mine.database.begin() as conn:
        for statement in CHANGES:
            assert conn.exec_driver_sql(statement).rowcount == 1, statement
    assert len(problems(mine)) >= len(CHANGES)
    with mine.database.begin() as conn:
        adoption.accept_restore(
            conn, mine.layout, reason="restored", vouch=True, new_key=False, actor="cli:ann",
            now=mine.now + 1, lifetimes=finished.LIFETIMES,
        )  # fmt: skip
    with mine.database.read() as conn:
        assert audit_chain.verify(conn, key=audit_key.known(conn)).problem is None
    mine.writer.tick()
    assert mine.writer.problem is None
    assert problems(mine) == []
    with mine.database.begin() as conn:
        conn.execute(sa.text("UPDATE versions SET policy_sha256 = 'ab' WHERE kind = 'repaired'"))
        conn.execute(sa.text("UPDATE specs SET level = 'watch' WHERE model = 'credit'"))
    found = problems(mine)
    assert any("policy_sha256" in p for p in found)
    assert any("about level" in p for p in found)
    mine.database.dispose()


def test_times_that_were_brought_back_are_no_violation_and_other_times_are(
    world: World, tmp_path: Path
) -> None:
    """All of it was written by a clock that was 40 days ahead, until it was mended."""
    mine = finished.copied(world.installation, tmp_path / "home")
    mended = mine.now - 40 * DAY
    assert future_times.bring_back(mine.database, now=mended, longest_pause=DAY)
    assert problems(mine) == []
    for vouch in (False, True):
        with mine.database.begin() as conn:
            adoption.accept_restore(
                conn, mine.layout, reason="to be sure", vouch=vouch, new_key=False, actor="cli:ann",
                now=mended + HOUR, lifetimes=finished.LIFETIMES,
            )  # fmt: skip
        mine.writer.tick()
        assert mine.writer.problem is None
        assert problems(mine) == []
    with mine.database.begin() as conn:
        for statement in (
            "UPDATE pointer_history SET at = at - 1 WHERE epoch = 6",
            "UPDATE pointers SET moved_at = moved_at - 1",
            "UPDATE versions SET created_at = created_at - 1 WHERE kind = 'repaired'",
        ):
            assert conn.exec_driver_sql(statement).rowcount == 1, statement
    found = problems(mine)
    assert any("epoch 6: the audit chain says otherwise about at" in p for p in found)
    assert any("its pointer moved for another reason or at another time" in p for p in found)
    assert any("about created_at" in p for p in found)
    mine.database.dispose()


def test_budget_that_followed_the_traffic_is_no_violation_and_another_one_is(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = finished.copied(world.installation, tmp_path / "home")
    for rows in (3e6, 9e6):
        monkeypatch.setattr(queries, "rows_per_alarm", lambda *_, rows=rows, **__: rows)
        assert "credit" in alarm_budget.refresh(mine.database, alarms_per_week=1.0, now=mine.now)
        assert problems(mine) == []
    with mine.database.begin() as conn:
        wider = (
            "UPDATE specs SET watch = replace(watch, '9000000.0', '9e12') WHERE model = 'credit'"
        )
        before = conn.execute(sa.text("SELECT watch FROM specs")).scalars().all()
        conn.exec_driver_sql(wider)
        assert conn.execute(sa.text("SELECT watch FROM specs")).scalars().all() != before
    assert any("credit: the audit chain says otherwise about watch" in p for p in problems(mine))
    mine.database.dispose()
