"""Figures of the fleet: counted over all models, named for some."""

from __future__ import annotations

from pathlib import Path

import loop
from metric_scrapes import add_incident

from redistill.streams.store.process_rows import SILENT_US, Presence
from redistill.workers.processes import fleet_figures
from redistill.workers.store.model_figures import FigureMemory


def test_incidents_have_the_severity_of_their_alerts_and_strangers_no_name(tmp_path: Path) -> None:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    with database.begin() as conn:
        loop.register(conn, loop.spec("credit"))
        loop.register(conn, loop.spec("fraud"), now=loop.NOW + 1)
        add_incident(conn, "credit", "harm")
        add_incident(conn, "credit", "data_bug")
        add_incident(conn, "credit", "harm", status="resolved")
        add_incident(conn, "fraud", "harm", stage="awaiting_person")
        add_incident(conn, "gone", "harm", stage="awaiting_person")
        told = fleet_figures.read(conn, FigureMemory(), most_models=1, now=loop.NOW)
    assert [m.model for m in told.models] == ["credit"]
    assert told.registered == {"repair": 2}
    assert told.incidents == {
        ("credit", "harm", "warn"): 1,
        ("credit", "data_bug", "page"): 1,
        ("_other", "harm", "page"): 2,
    }
    assert (told.job_ends, told.refusals, told.troubles, told.deliveries) == ({}, {}, {}, {})
    database.dispose()


def test_a_kind_of_which_no_process_lives_is_told_as_none(tmp_path: Path) -> None:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    Presence(database, "stream", "a").say()
    Presence(database, "repair", "b").say("its tasks are late")
    with database.read() as conn:
        now = database.clock()
        told = fleet_figures.read(conn, FigureMemory(), most_models=1, now=now)
        later = fleet_figures.read(conn, FigureMemory(), most_models=1, now=now + 2 * SILENT_US)
    assert {key for key, n in told.processes.items() if n} == {("stream", True), ("repair", False)}
    assert set(later.processes) == set(told.processes)
    assert not any(later.processes.values())
    database.dispose()
