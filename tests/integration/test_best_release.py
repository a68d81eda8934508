"""The best release so far, through the registry: losses that the margin lets pass do not add up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import linear
import numpy as np
import pytest
import repairable

from redistill.compress.plan import Accepted, Rejected
from redistill.streams.store.database import Database
from redistill.streams.wire.events import Trigger
from redistill.times import now_us
from redistill.workers.jobs.child import Child
from redistill.workers.onboarding import baseline, external_version
from redistill.workers.onboarding.external_version import ExternalVersion
from redistill.workers.releases import registry
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.settings.settings import Settings
from redistill.workers.store import opening

pytestmark = pytest.mark.slow

ROWS = 5_000


@pytest.fixture
def child() -> Iterator[Child]:
    with baseline.start_child() as started:
        yield started


@pytest.fixture
def ladder(tmp_path: Path) -> list[Path]:
    """``model.toml``, and graphs each of which is wrong on 3% more of the trusted rows."""
    spec = linear.build(tmp_path / "model", level="rollback")
    spec.write_text(
        spec.read_text()
        + "[gates]\ntrusted = { scheduled_margin_points = 4.0 }\n"
        + "worst_class = { max_loss_points = 100.0, excluded_loss_points = 50.0 }\n"
        + "f1 = { max_loss_points = 100.0 }\n"
    )
    rows = linear.rows(np.random.default_rng(3), ROWS, noise=0.0)
    linear.write_rows(spec.parent / "trusted.parquet", rows)
    above = np.sort(rows["a"] + rows["b"])
    above = above[above > 0]
    graphs = []
    for k in range(6):
        at = float(above[k * ROWS * 3 // 100])
        weights = np.array([[-1, 1], [-1, 1], [0, 0]], np.float32)
        path = spec.parent / ("model.onnx" if k == 0 else f"{k}.onnx")
        graphs.append(linear.graph(path, weights, bias=np.array([at, -at], np.float32)))
    return [spec, *graphs[1:]]


def add(
    database: Database, settings: Settings, child: Child, k: int, file: Path
) -> ExternalVersion:
    return external_version.add(
        database, settings, lambda: contextlib.nullcontext(child),  # type: ignore[arg-type,return-value]
        model="linear", version=f"v{k + 1}", file=file, trusted_only=True, actor="cli:test",
        now=now_us(),
    )  # fmt: skip


def test_five_releases_that_each_lose_three_points_do_not_add_up(
    tmp_path: Path, ladder: list[Path], child: Child
) -> None:
    spec, *files = ladder
    settings = repairable.settings_of(tmp_path / "home")
    repairable.install(settings.root, spec, child, settings)
    database = opening.open(settings)
    ended = []
    for k, file in enumerate(files, start=1):
        found = add(database, settings, child, k, file)
        ended.append(type(found.report.decision))
        if isinstance(found.report.decision, Accepted):
            with database.begin() as conn:
                registry.publish(
                    conn, "linear", f"v{k + 1}", trigger=Trigger(kind="actor", id="cli:test"),
                    actor="cli:test", reason="test", now=now_us(), lifetimes=Lifetimes(),
                )  # fmt: skip
            continue
        assert found.report.best == "v1"
        assert "against the best release so far, v1, -" in external_version.why(found.report)
        assert found.report.releases["v1"].value == 1.0
    database.dispose()
    assert ended == [Accepted, *[Rejected] * 4]
