"""What is deleted lawfully is not missed, and what is deleted otherwise is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import finished
import pytest
import sqlalchemy as sa
from finished import LIFETIMES, Finished
from proven import World

from redistill.streams.store import tables as t
from redistill.times import DAY
from redistill.workers.invariants import check
from redistill.workers.jobs import retention
from redistill.workers.jobs.retention import RetentionLimits
from redistill.workers.models.spec import ModelSpec
from redistill.workers.store.tables import deletion_budgets

KEEP = RetentionLimits(jobs_days=1, outbox_days=1, names_days=1, releases=2)


@pytest.fixture
def installation(world: World, tmp_path: Path) -> Iterator[Finished]:
    made = finished.copied(world.installation, tmp_path / "home")
    yield made
    made.database.dispose()


def problems(installation: Finished, now: int) -> list[tuple[int, str]]:
    checked = check.check(
        installation.database, now=now, home=installation.home, outbox_kept_us=DAY,
        state_key=installation.settings.state_key_bytes(), settle_seconds=0.0,
    )  # fmt: skip
    return [(c.number, problem) for c in checked for problem in c.problems]


def counts(installation: Finished) -> dict[str, int]:
    tables = (
        t.outcomes,
        t.labels,
        t.join_rows,
        t.feature_rows,
        t.windows,
        t.outbox,
        t.unregistered,
    )
    with installation.database.read() as conn:
        return {
            x.name: conn.execute(sa.select(sa.func.count()).select_from(x)).scalar_one()
            for x in tables
        }


def delete(installation: Finished, now: int) -> None:
    """One round of retention, however much went within the hour."""
    with installation.database.begin() as conn:
        conn.execute(sa.update(deletion_budgets).values(last_at=0))
    retention.run(
        installation.database, home=installation.home, keep=KEEP, lifetimes=LIFETIMES, now=now
    )
    installation.writer.tick()


def test_retention_is_not_missed_at_any_step(installation: Finished) -> None:
    before, now = counts(installation), installation.now + 60 * DAY
    for _ in range(60):
        delete(installation, now)
        assert [p for p in problems(installation, now) if "workers run" not in p[1]] == []
        if not sum(counts(installation).values()):
            break
    after = counts(installation)
    assert all(after[name] < before[name] for name in before), after
    assert problems(installation, now) == []


@pytest.mark.parametrize("table", [t.labels, t.join_rows, t.outcomes])
def test_more_than_retention_deleted_is_missed(installation: Finished, table: sa.Table) -> None:
    delete(installation, installation.now + 60 * DAY)
    with installation.database.begin() as conn:
        key = list(table.primary_key.columns)
        last = conn.execute(sa.select(*key).order_by(*[k.desc() for k in key]).limit(1)).one()
        where = [k == value for k, value in zip(key, last, strict=True)]
        assert conn.execute(sa.delete(table).where(*where)).rowcount == 1
    assert problems(installation, installation.now + 60 * DAY) != []


def test_model_that_is_registered_takes_its_unregistered_rows(installation: Finished) -> None:
    from redistill.workers.models import registration
    from redistill.workers.models.registration import PreparedModel

    with installation.database.read() as conn:
        text = conn.execute(sa.select(t.specs.c.spec).where(t.specs.c.model == "spam")).scalar_one()
    spec = replace(ModelSpec.from_json(text), name="stranger")
    prepared = PreparedModel(spec=spec, profile=None, base=None, warnings=(), contents=())
    registration.store(
        installation.database, prepared, installation.settings, actor="cli:ann",
        now=installation.now,
    )  # fmt: skip
    with installation.database.read() as conn:
        assert conn.execute(sa.select(t.unregistered.c.model)).all() == []
    assert problems(installation, installation.now + 1) == []
