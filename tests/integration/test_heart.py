"""A stream worker that is killed: the heart stops, and an operational alert opens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from stream_lab import Lab
from stream_rows import prediction
from waiting import eventually

from redistill.streams.kafka.dev_broker import DevBroker
from redistill.streams.store import process_rows
from redistill.streams.store.process_rows import Presence, ProcessRow, TopicLag
from redistill.workers.alerts.alert import Alert
from redistill.workers.alerts.operational import heart
from redistill.workers.alerts.operational import round as checks
from redistill.workers.alerts.operational.heart import Heart
from redistill.workers.settings.settings import Settings
from redistill.workers.store.tables import operational_alerts


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with DevBroker(namespace="dev") as broker:
        made = Lab(broker.servers, f"sqlite:///{tmp_path / 'r.db'}", tmp_path, namespace="dev")
        yield made
        made.close()


class Installation:
    """The processes beside the stream worker: they say that they live, look and beat."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        home = str(lab.folder / "home")
        self.settings = Settings.load({"database": lab.url, "home": home})
        self.others = [Presence(lab.db, "repair", "r:1"), Presence(lab.db, "alerts", "a:1")]
        self.beats: list[Alert] = []
        self.heart = Heart(lab.db, self.beats.append, own_id="a:1")

    def turn(self) -> None:
        for presence in self.others:
            presence.say()
        checks.run(self.lab.db, self.settings, self.lab.db.clock())
        self.heart.run_once()

    def beats_now(self) -> bool:
        self.turn()
        with self.lab.db.read() as conn:
            state = heart.state(conn)
        assert state is not None
        return state.why == ()

    def streams(self) -> list[ProcessRow]:
        with self.lab.db.read() as conn:
            return [row for row in process_rows.seen(conn) if row.kind == "stream"]

    def silent(self) -> list[str]:
        a = operational_alerts.c
        open_ones = sa.select(a.subject).where(a.kind == "process_silent", a.open_mark == 1)
        with self.lab.db.read() as conn:
            return list(conn.execute(open_ones).scalars())


def test_heart_stops_with_the_stream_worker_and_beats_again_with_the_next(lab: Lab) -> None:
    here = Installation(lab)
    assert not here.beats_now(), "no stream worker was started yet"
    lab.send(prediction(i) for i in range(40))
    worker = lab.worker().start()
    lab.wait_counted(40)
    eventually(lambda: [row.ready for row in here.streams()] == [True], lab.logs())
    eventually(here.beats_now, "it beats")

    def told() -> list[dict[str, TopicLag]]:
        with lab.db.read() as conn:
            return process_rows.lags(conn, [row.process_id for row in here.streams()])

    none = TopicLag(behind=0, oldest_at=None)
    eventually(lambda: told() == [{"dev.labels": none, "dev.predictions": none}], "its lag")
    [killed] = here.streams()
    worker.kill()
    eventually(lambda: not here.beats_now(), "the heart stops", every=0.5)
    eventually(lambda: here.turn() or here.silent() == [killed.process_id], "alert", every=0.5)
    before = len(here.beats)
    worker.start()
    eventually(here.beats_now, f"it beats again\n{lab.logs()}", every=0.2)
    assert len(here.beats) > before
    eventually(lambda: here.turn() or here.silent() == [], "the alert ends", every=0.2)
    assert worker.stop() == 0, worker.tail()
    assert here.streams() == [], "it ended in order"
    assert not here.beats_now()
    assert here.silent() == []
