"""What is done after a flush: each thing in its turn, and none held up by another's failure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from stream_rows import CONFIG, new_database
from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.engine import housekeeper as module
from redistill.streams.engine.health import Health
from redistill.streams.engine.housekeeper import LEASE_SECONDS, ROUNDS, HeldLease, Housekeeper
from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.errors import StoreUnavailable
from redistill.streams.store import lease, outbox, process_rows
from redistill.streams.store import tables as t
from redistill.streams.store.clock import DatabaseClock
from redistill.streams.store.database import Database
from redistill.streams.store.join_step import JoinStep
from redistill.streams.store.label_requests import Asked
from redistill.streams.store.process_rows import BEAT_SECONDS, Presence, TopicLag
from redistill.streams.wire.events import DeadLetter

NOW = 1_800_000_000.0


class FakeRelay:
    """Sends so many announcements a round, or fails."""

    def __init__(self) -> None:
        self.rounds: list[int | Exception] = []
        self.closed = False

    def run_once(self) -> int:
        sent = self.rounds.pop(0) if self.rounds else 0
        if isinstance(sent, Exception):
            raise sent
        return sent

    def close(self) -> None:
        self.closed = True


class Rig:
    """A housekeeper whose clocks are moved by hand, and all that it works with."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.database = database
        self.wall, self.elapsed = NOW, 0.0
        self.health, self.metrics, self.relay = Health(), StreamMetrics(), FakeRelay()
        self.watched: dict[str, Any] = {"credit": SimpleNamespace(config=CONFIG)}
        self.leases: list[HeldLease] = []
        self.register("credit")
        self.joined: list[str] = []
        self.answers: list[Any] = []
        monkeypatch.setattr(module, "join_labels", self._join)
        self.keeper = Housekeeper(
            database=database,
            watched=lambda: self.watched,
            relay=self.relay,  # type: ignore[arg-type]
            state_key=b"k" * 32,
            leases=self.leases,
            presence=Presence(database, "stream", "us"),
            health=self.health,
            metrics=self.metrics,
            every=0.001,
            clock=lambda: self.wall,
            monotonic=lambda: self.elapsed,
        )

    def register(self, model: str) -> None:
        """A model that is watched: the row that names it in metrics."""
        with self.database.begin() as conn:
            conn.execute(
                sa.insert(t.specs).values(
                    model=model, revision=1, config_sha256="", level="watch", watch="", spec="",
                    registered_at=len(self.watched), updated_at=0,
                )
            )  # fmt: skip

    def _join(self, database: Database, config: Any, *, now: int, state_key: bytes) -> Any:
        assert (database, now, state_key) == (self.database, round(self.wall * 1e6), b"k" * 32)
        self.joined.append(config.model)
        answer = self.answers.pop(0) if self.answers else JoinStep()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def later(self, seconds: float) -> None:
        self.wall += seconds
        self.elapsed += seconds
        self.keeper.once()

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"redistill_stream_{name}", labels)

    def hold(self, name: str) -> HeldLease:
        with self.database.begin() as conn:
            now = round(self.wall * 1e6)
            token = lease.acquire(conn, name, "us", now=now, seconds=LEASE_SECONDS)
        assert token is not None
        self.leases.append(HeldLease(name, token))
        return self.leases[-1]

    def holder(self, name: str) -> str | None:
        with self.database.read() as conn:
            return lease.holder_of(conn, name, round(self.wall * 1e6))


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    database = new_database(f"sqlite:///{tmp_path / 'redistill.db'}")
    yield Rig(database, monkeypatch)
    database.dispose()


# --- leases -------------------------------------------------------------------------------------


def test_leases_are_renewed_before_they_end_and_given_back_at_the_end(rig: Rig) -> None:
    rig.hold("stream-file")
    for _ in range(10):
        rig.later(LEASE_SECONDS / 2)
        assert rig.holder("stream-file") == "us"
    assert rig.health.fatal is None
    rig.keeper.stop(PATIENCE_SECONDS)
    assert rig.holder("stream-file") is None
    assert rig.relay.closed


def test_lease_that_another_worker_took_ends_this_one(rig: Rig) -> None:
    rig.hold("member:g:1")
    rig.wall += 2 * LEASE_SECONDS
    with rig.database.begin() as conn:
        now = round(rig.wall * 1e6)
        assert lease.acquire(conn, "member:g:1", "they", now=now, seconds=LEASE_SECONDS)
    rig.later(1)
    assert rig.health.fatal == "the lease 'member:g:1' was taken by another worker"
    rig.keeper.stop(PATIENCE_SECONDS)
    assert rig.holder("member:g:1") == "they"


# --- labels -------------------------------------------------------------------------------------


def test_labels_are_joined_until_none_is_due_and_outcomes_are_counted(rig: Rig) -> None:
    rig.answers = [JoinStep(outcomes=10, more=True), JoinStep(outcomes=3)]
    rig.later(0)
    assert rig.joined == ["credit"] * 2
    assert rig.value("outcomes_total", model="credit") == 13
    assert not rig.keeper._wake.is_set()


def test_backlog_of_one_model_leaves_the_others_their_turn(rig: Rig) -> None:
    rig.watched["other"] = SimpleNamespace(config=SimpleNamespace(model="other"))
    rig.answers = [JoinStep(outcomes=1, more=True)] * ROUNDS
    rig.later(0)
    assert rig.joined == ["credit"] * ROUNDS + ["other"]
    assert rig.keeper._wake.is_set(), "it comes back at once"


def test_model_that_another_worker_joins_is_left_alone(rig: Rig) -> None:
    rig.answers = [None]
    rig.later(0)
    assert rig.joined == ["credit"]


def test_model_whose_labels_cannot_be_joined_rests_and_the_others_do_not(rig: Rig) -> None:
    rig.watched["other"] = SimpleNamespace(config=SimpleNamespace(model="other"))
    rig.answers = [ZeroDivisionError("a defect")]
    rig.later(0)
    rig.later(1)
    rig.later(module.REST_SECONDS)
    assert rig.joined == ["credit", "other", "other", "credit", "other"]


def test_model_whose_labels_cannot_be_asked_for_rests_and_the_others_do_not(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def ask(config: Any, *, now: int) -> Asked:
        looked.append(config.model)
        if len(looked) == 1:
            raise ZeroDivisionError("a defect")
        return Asked()

    monkeypatch.setattr(rig.keeper._requester, "ask", ask)
    for model in ("credit", "other"):
        config = SimpleNamespace(model=model, requests_per_day=5)
        rig.watched[model] = SimpleNamespace(config=config)
    rig.later(0)
    rig.later(1)
    rig.later(module.REST_SECONDS)
    assert looked == ["credit", "other", "other", "credit", "other"]
    assert rig.joined == ["credit", "other"] * 3, "its labels are joined all the same"


def test_database_that_is_away_is_no_fault_of_a_model(rig: Rig) -> None:
    rig.answers = [StoreUnavailable("away")]
    rig.later(0)
    rig.later(0.5)
    assert rig.joined == ["credit", "credit"]


# --- the rest -----------------------------------------------------------------------------------


def test_failure_of_one_thing_holds_up_no_other(rig: Rig) -> None:
    rig.answers = [ZeroDivisionError("labels")]
    rig.relay.rounds = [ZeroDivisionError("relay"), 4]
    rig.later(0)
    assert rig.value("outbox_rows") == 0, "measured after both"
    rig.later(1)
    assert rig.value("relayed_total") == 4


def test_models_beyond_those_that_metrics_name_are_counted_together(rig: Rig) -> None:
    rig.keeper._most_models = 1
    for model in ("fraud", "churn"):
        rig.watched[model] = SimpleNamespace(config=SimpleNamespace(model=model))
        rig.register(model)
    rig.answers = [JoinStep(outcomes=n) for n in (1, 2, 3)]
    with rig.database.begin() as conn:
        for number, model in enumerate(("credit", "fraud", "churn", "churn")):
            conn.execute(
                sa.insert(t.findings).values(
                    finding_id=str(number), model=model, version="7", kind="quality", scope="all",
                    status="open", severity="warning", revision=0, body="{}", opened_at=0, stored_at=0,
                )
            )  # fmt: skip
    rig.later(0)
    assert rig.value("outcomes_total", model="credit") == 1
    assert rig.value("outcomes_total", model="_other") == 5
    assert rig.value("findings_open", model="credit") == 1
    assert rig.value("findings_open", model="_other") == 3
    assert rig.value("findings_open", model="churn") is None


def test_backlog_and_open_findings_are_measured_each_five_seconds(rig: Rig) -> None:
    rig.later(0)
    assert (rig.value("outbox_rows"), rig.value("outbox_age_seconds")) == (0, 0)
    letter = DeadLetter(
        topic="labels", partition=0, offset=1, code="malformed", reason="x", key=None, value=b"",
        value_bytes=0, headers=[], at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    with rig.database.begin() as conn:
        outbox.add(conn, letter, source="t", now=round((NOW - 30) * 1e6))
        for i, status in enumerate(("open", "open", "resolved")):
            conn.execute(
                sa.insert(t.findings).values(
                    finding_id=str(i), model="credit", version="7", kind="quality", scope="all",
                    status=status, severity="warning", revision=0, body="{}", opened_at=0,
                    stored_at=0,
                )
            )  # fmt: skip
    rig.later(1)
    assert rig.value("outbox_rows") == 0
    rig.later(4)
    assert (rig.value("outbox_rows"), rig.value("outbox_age_seconds")) == (1, 35)
    assert rig.value("findings_open", model="credit") == 2


def test_traffic_is_measured_each_ten_seconds_for_each_model(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[tuple[str, float]] = []
    monkeypatch.setattr(
        rig.keeper._raiser,
        "measure",
        lambda conn, config, *, now: measured.append((config.model, now / 1e6 - NOW)),
    )
    for _ in range(5):
        rig.later(4)
    assert measured == [("credit", 4), ("credit", 16)]


def test_file_of_sqlite_is_tidied_once_a_minute(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(rig.database, "checkpoint", lambda: done.append("checkpoint"))
    for _ in range(3):
        rig.later(30)
    assert done == ["checkpoint"] * 2


def test_thread_works_when_woken_and_ends_when_told(rig: Rig) -> None:
    rig.relay.rounds = [1] * 3
    rig.keeper._every = PATIENCE_SECONDS
    rig.keeper.start()
    rig.keeper.wake()
    eventually(lambda: rig.value("relayed_total") == 1, "it works when it is woken", every=0.001)
    rig.keeper.stop(PATIENCE_SECONDS)
    assert not rig.keeper.is_alive()


def test_nothing_more_is_begun_once_it_ends(rig: Rig) -> None:
    rig.keeper.stop(PATIENCE_SECONDS)
    rig.later(100)
    assert rig.joined == []


# --- presence -----------------------------------------------------------------------------------


def told(rig: Rig) -> tuple[bool, str, list[dict[str, TopicLag]]]:
    with rig.database.read() as conn:
        [row] = process_rows.seen(conn)
        return row.ready, row.said, process_rows.lags(conn, ["us"])


def test_others_are_told_every_few_seconds_what_it_waits_for_and_its_lag(rig: Rig) -> None:
    rig.health.broker_away = "nobody listens"
    rig.later(0.5)
    assert told(rig) == (False, "the broker: nobody listens", [])
    lag = {"labels": TopicLag(behind=3, oldest_at=7)}
    rig.health.broker_away, rig.health.joined = None, True
    rig.health.topic_lag, rig.health.lag_measured_at = lag, rig.elapsed
    rig.later(0.5)
    assert told(rig) == (False, "the broker: nobody listens", []), "it was told half a second ago"
    rig.later(BEAT_SECONDS)
    assert told(rig) == (True, "", [lag])


def test_lag_that_was_measured_long_ago_is_not_told(rig: Rig) -> None:
    rig.health.topic_lag = {"labels": TopicLag(behind=3, oldest_at=7)}
    rig.health.lag_measured_at = 0.0
    rig.later(module.LAG_BELIEVED_SECONDS)
    rig.health.joined = True
    assert told(rig)[2] != []
    rig.later(BEAT_SECONDS)
    assert told(rig) == (True, "", [])


def test_round_of_many_models_looks_alive_and_keeps_its_leases(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes two seconds, and all of them a minute: others would take the worker for dead."""
    rig.hold("stream-file")
    rig.watched = {f"m{n:02}": SimpleNamespace(config=CONFIG) for n in range(30)}
    unheard: list[int] = []

    def works(*_: Any, **__: Any) -> JoinStep:
        rig.wall += 2.0
        rig.elapsed += 2.0
        with rig.database.read() as conn:
            [row] = process_rows.seen(conn)
        unheard.append(round(rig.wall * 1e6) - row.seen_at)
        return JoinStep()

    wall = DatabaseClock(shared=False, process=lambda: round(rig.wall * 1e6))
    monkeypatch.setattr(rig.database, "clock", wall)
    monkeypatch.setattr(module, "join_labels", works)
    monkeypatch.setattr(rig.keeper._raiser, "measure", works)
    rig.later(0.0)
    assert len(unheard) == 60
    assert max(unheard) <= 2 * BEAT_SECONDS * 1e6
    assert rig.holder("stream-file") == "us"
