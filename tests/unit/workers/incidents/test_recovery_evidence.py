"""What is handed to the judgement of a recovery, and when there is nothing to judge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import loop
import numpy as np
import pytest
import sqlalchemy as sa
from loop import NOW, finding

from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.store.tables import (
    accuracy_states,
    input_states,
    outcomes,
    profiles,
    specs,
)
from redistill.streams.wire.block import Codes
from redistill.times import DAY, HOUR
from redistill.workers.incidents import incident_repository, recovery_evidence
from redistill.workers.incidents.incident_repository import IncidentRow
from redistill.workers.incidents.recovery_evidence import RecoveryEvidence
from redistill.workers.store.tables import pointers

MOVED = NOW + 1_000


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sa.Connection]:
    database = loop.opened(f"sqlite:///{tmp_path / 'evidence.db'}")
    with database.begin() as conn:
        loop.register(conn, loop.spec())
        yield conn
    database.dispose()


@pytest.fixture
def incident(conn: sa.Connection) -> IncidentRow:
    """Harm to v1, declared at an accuracy of 40%."""
    harm = finding(current=0.4)
    loop.store(conn, harm)
    return incident_repository.open_new(
        conn, incident_id="0" * 8 + "-0000-4000-8000-" + "0" * 12, model="credit", version="v1",
        incident_class="harm", finding_id=str(harm.finding_id), change=None, why="", actor="a", now=NOW,
    )  # fmt: skip


def publish(conn: sa.Connection) -> None:
    loop.point(conn, "credit", "v2", now=MOVED)


def serve(conn: sa.Connection, *wrong: int, **over: Any) -> None:
    """Outcomes of v2: 1 is a wrong answer."""
    first = conn.execute(sa.select(sa.func.count()).select_from(outcomes)).scalar_one()
    for seq, w in enumerate(wrong, first + 1):
        values = {
            "model": "credit", "version": "v2", "seq": seq, "id_hash": seq, "id": str(seq),
            "correct": 1, "prediction": "repay", "label": "default" if w else "repay",
            "served_at": MOVED + seq, "observed_at": MOVED + seq, "source": "s", "uniform": True,
            "made_at": MOVED + seq,
        } | over  # fmt: skip
        conn.execute(sa.insert(outcomes).values(**values))


def gather(conn: sa.Connection, incident: IncidentRow, seen: int = 0) -> RecoveryEvidence | None:
    return recovery_evidence.gather(conn, incident, seen)


def test_version_that_serves_in_its_place_is_looked_at(
    conn: sa.Connection, incident: IncidentRow
) -> None:
    publish(conn)
    serve(conn, 0, 1, 0)
    found = gather(conn, incident)
    assert found is not None
    assert (found.version, found.n, found.errors.tolist()) == ("v2", 3, [0, 1, 0])
    assert found.errors.dtype == np.uint8
    assert found.times.tolist() == [MOVED + 1, MOVED + 2, MOVED + 3]
    assert found.harmed == pytest.approx(0.6)
    assert found.level == pytest.approx(1 - finding().impact.high)
    assert found.level < found.harmed
    assert found.tolerance == pytest.approx(0.02)
    assert found.base.rate == pytest.approx(0.05)


def test_rows_that_prove_nothing_are_left_out(conn: sa.Connection, incident: IncidentRow) -> None:
    publish(conn)
    serve(conn, 0)
    serve(conn, 1, served_at=MOVED - 1)  # served before the pointer moved
    serve(conn, 1, uniform=False)  # labelled for being doubtful
    serve(conn, 1, label=None)  # its label was taken back
    serve(conn, 1, version="v1")
    found = gather(conn, incident)
    assert found is not None
    assert found.errors.tolist() == [0]


def test_version_that_a_clock_of_the_future_published_is_looked_at(
    conn: sa.Connection, incident: IncidentRow
) -> None:
    """Once it is mended, the pointer still says what the audit says, and its history what is so."""
    publish(conn)
    conn.execute(sa.update(pointers).values(moved_at=MOVED + 40 * DAY))
    serve(conn, 0, 1)
    found = gather(conn, incident)
    assert found is not None
    assert found.errors.tolist() == [0, 1]


def test_corrected_label_counts(conn: sa.Connection, incident: IncidentRow) -> None:
    publish(conn)
    serve(conn, 0, label="default", correct=1)
    found = gather(conn, incident)
    assert found is not None
    assert found.errors.tolist() == [1]


def test_harmed_version_is_no_evidence_of_its_recovery(
    conn: sa.Connection, incident: IncidentRow
) -> None:
    serve(conn, 0, version="v1")
    assert gather(conn, incident) is None


def test_nothing_is_judged_again_before_a_new_outcome(
    conn: sa.Connection, incident: IncidentRow
) -> None:
    publish(conn)
    serve(conn, 0, 0)
    assert gather(conn, incident, seen=2) is not None  # the incident does not guard yet
    guarding = dict(incident) | {"stage": "guarding"}
    assert gather(conn, guarding, seen=2) is None
    serve(conn, 0)
    assert gather(conn, guarding, seen=2) is not None


def test_worst_finding_of_harm_tells_how_bad_it_was(
    conn: sa.Connection, incident: IncidentRow
) -> None:
    publish(conn)
    serve(conn, 0)
    for known in (
        finding(current=0.25), finding(current=0.7), finding(current=0.05, scope="slice:a=b"), finding(current=0.1, version="v2"),
        finding(kind="input", current=0.01),
    ):  # fmt: skip
        loop.store(conn, known)
        incident_repository.attach(conn, incident["incident_id"], str(known.finding_id), NOW)
    found = gather(conn, incident)
    assert found is not None
    assert found.harmed == pytest.approx(0.75)


def test_harm_of_a_slice_is_judged_by_the_outcomes_and_the_promise_of_that_slice(
    conn: sa.Connection, incident: IncidentRow
) -> None:
    rng = np.random.default_rng(0)
    region = Codes(rng.integers(0, 2, 4_000).astype(np.int32), ("EU", "US"))
    wrong = rng.random(4_000) < np.where(region.codes == 0, 0.2, 0.02)
    expected = ExpectedError.fit(wrong.astype(int), {"region": region})
    conn.execute(
        sa.update(profiles)
        .where(profiles.c.version == "v1")
        .values(expected_error=expected.to_json())
    )
    publish(conn)
    serve(conn, 0, slices='{"channel": "web", "region": "EU"}')  # as rows are stored
    serve(conn, 1, slices='{"region":"EU"}')  # as labels are
    serve(conn, 1, 1, slices='{"region": "US", "subregion": "EU"}')
    serve(conn, 1, slices='{"region": "eu"}')
    serve(conn, 1, slices=None)
    of_slice = finding(current=0.1, scope="slice:region=EU")
    loop.store(conn, of_slice)
    incident_repository.attach(conn, incident["incident_id"], str(of_slice.finding_id), NOW)
    whole = gather(conn, incident)
    assert whole is not None
    assert (whole.n, whole.harmed) == (6, pytest.approx(0.6))  # the whole model's is the measure
    conn.execute(sa.text("DELETE FROM findings WHERE scope = 'all'"))
    found = gather(conn, incident)
    assert found is not None
    assert (found.n, found.errors.tolist()) == (2, [0, 1])
    assert found.harmed == pytest.approx(0.9)
    assert found.tolerance == 0.05
    assert found.base.rate == pytest.approx(wrong[region.codes == 0].mean())
    assert found.base.upper > found.base.rate
    conn.execute(sa.update(profiles).values(expected_error=None))
    assert gather(conn, incident) is None


def test_incident_without_a_measured_harm_cannot_be_judged(
    conn: sa.Connection, incident: IncidentRow
) -> None:
    publish(conn)
    serve(conn, 0)
    conn.execute(sa.text("DELETE FROM findings"))
    assert gather(conn, incident) is None


def test_base_error_that_was_never_stored_is_read_from_the_finding(
    conn: sa.Connection, incident: IncidentRow
) -> None:
    publish(conn)
    serve(conn, 0)
    conn.execute(sa.update(profiles).where(profiles.c.version == "v1").values(base_error=None))
    found = gather(conn, incident)
    assert found is not None
    assert (found.base.rate, found.base.n, found.base.provisional) == (0.05, 1_000, True)


@pytest.mark.parametrize(
    ("rows", "labelled", "share"),
    [(0, 0, 1.0), (1_000, 0, 1.0), (1_000, 200, 0.2), (1_000, 5_000, 1.0), (10**9, 1, 0.001)],
)
def test_share_of_labels_is_that_of_the_version_within_bounds(
    conn: sa.Connection, incident: IncidentRow, rows: int, labelled: int, share: float
) -> None:
    publish(conn)
    serve(conn, 0)
    watch = replace(
        WatchConfig.from_json(conn.execute(sa.select(specs.c.watch)).scalar_one()),
        rows_per_alarm=1e5,
    )
    conn.execute(sa.update(specs).values(watch=watch.to_json().decode()))
    for partition in (0, 1):
        conn.execute(
            sa.insert(input_states).values(
                model="credit", version="v2", topic_id="t", partition=partition, state=b"",
                rows=rows // 2,
            )
        )  # fmt: skip
    conn.execute(
        sa.insert(accuracy_states).values(
            model="credit", version="v2", state=b"", last_seq=labelled, n=labelled
        )
    )
    found = gather(conn, incident)
    assert found is not None
    assert found.share == share


def test_base_error_of_the_harmed_version_is_what_was_promised(
    conn: sa.Connection, incident: IncidentRow
) -> None:
    publish(conn)
    serve(conn, 0)
    other = BaseError.from_errors(np.tile(np.array([1, 0], np.uint8), 500), ordered=False)
    conn.execute(
        sa.update(profiles).where(profiles.c.version == "v2").values(base_error=other.to_json())
    )
    found = gather(conn, incident)
    assert found is not None
    assert found.base.rate == pytest.approx(0.05)


def test_of_very_many_outcomes_every_so_many_th_is_looked_at(
    conn: sa.Connection, incident: IncidentRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery_evidence, "MAX_OUTCOMES", 4)
    publish(conn)
    serve(conn, *([0, 1] * 5))
    found = gather(conn, incident)
    assert found is not None
    assert found.n == 10
    assert len(found.errors) == 3
    assert np.diff(found.times).tolist() == [3, 3]  # they last as long as all of them
    assert found.share == pytest.approx(1 / 3)


def test_labels_of_the_harmed_version_tell_whether_the_hour_matters(
    conn: sa.Connection, incident: IncidentRow
) -> None:
    publish(conn)
    serve(conn, 0)
    found = gather(conn, incident)
    assert found is not None
    assert found.base.daily is None
    for hour in range(24 * 6):
        night = hour % 24 < 8
        serve(
            conn, *([int(not night)] * 2), version="v1", served_at=MOVED - 200 * HOUR + hour * HOUR
        )
    found = gather(conn, incident)
    assert found is not None
    assert found.base.daily is True
