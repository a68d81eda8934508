"""Binding of sources: when it may be done, and what becomes of labels that are there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import loop
import pytest
import sqlalchemy as sa
from stream_rows import label

from redistill.streams.engine.label_rows import label_row
from redistill.streams.kafka.broker import Broker
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.label_trust import Cutover
from redistill.streams.store.process_rows import GENERATION
from redistill.streams.store.tables import labels, processes
from redistill.workers.errors import SpecError
from redistill.workers.models import binding
from redistill.workers.models.binding import first_bound, next_cutover, rebind
from redistill.workers.models.spec import LabelsSection, ModelSpec

BROKER = Broker("kafka:9092", namespace="x")
ENDS = {"id/0": 7}


def spec(*bound: str, sources: tuple[str, ...] = ("ledger", "bank", "analyst")) -> ModelSpec:
    return replace(loop.spec(), labels=LabelsSection(sources=sources, bound=bound))


def was(cutover: Cutover) -> WatchConfig:
    return WatchConfig(model="credit", schema=spec().schema, cutover=cutover)


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sa.Connection]:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    with database.begin() as open_conn:
        yield open_conn
    database.dispose()


# --- the cut-over -------------------------------------------------------------------------------


def test_only_sources_that_counted_until_now_are_bound_for_the_first_time() -> None:
    assert first_bound(None, spec("ledger")) == ()
    assert first_bound(spec(), spec("bank", "ledger")) == ("bank", "ledger")
    assert first_bound(spec(sources=("ledger",)), spec("ledger", "bank")) == ("ledger",)
    assert first_bound(spec(sources=()), spec("ledger")) == ("ledger",)
    assert first_bound(spec("ledger"), spec("ledger", "bank")) == ()


def test_the_past_counts_up_to_where_the_common_topic_ended_and_while_its_source_is_bound() -> None:
    first = next_cutover(spec(), was(Cutover()), spec("ledger", "bank"), ENDS)
    assert first == Cutover(sources=("ledger", "bank"), offsets=ENDS)
    kept = next_cutover(spec("ledger", "bank"), was(first), spec("ledger", "analyst"), None)
    assert kept == Cutover(sources=("ledger",), offsets=ENDS), "the newcomer has no past"
    assert next_cutover(spec("ledger"), was(kept), spec("bank"), None) == Cutover()
    assert next_cutover(spec("ledger"), was(kept), spec(), None) == Cutover()


def test_a_new_model_and_one_that_is_not_trusted_have_no_past() -> None:
    assert next_cutover(None, None, spec("ledger"), ENDS) == Cutover()
    assert next_cutover(spec(), was(Cutover()), spec("ledger"), None) == Cutover()


# --- labels that are there ----------------------------------------------------------------------


def put(conn: sa.Connection, i: int, source: str, state: str, **over: Any) -> None:
    row = label_row(label(i, source=source), i, state=state) | {"received_at": 1} | over
    conn.execute(sa.insert(labels).values(row))


def there(conn: sa.Connection) -> dict[tuple[str, str], tuple[bool, str]]:
    rows = conn.execute(sa.select(labels).order_by(labels.c.id))
    return {(r.model, r.id): (r.bound, r.state) for r in rows}


def filled(conn: sa.Connection) -> None:
    states = ("waiting", "joined", "superseded", "orphan", "ignored")
    for i, state in enumerate(states):
        put(conn, i, "ledger", state, check_at=9)
    put(conn, 5, "analyst", "joined")
    put(conn, 6, "analyst", "waiting")
    put(conn, 7, "ledger", "joined", model="other")


def test_labels_that_counted_are_as_good_as_bound_and_others_are_looked_at_anew(
    conn: sa.Connection,
) -> None:
    filled(conn)
    rebind(conn, spec(), spec("ledger"), trust=True, now=0)
    assert there(conn) == {
        ("credit", "row-0"): (True, "waiting"), ("credit", "row-1"): (True, "joined"),
        ("credit", "row-2"): (True, "superseded"), ("credit", "row-3"): (True, "orphan"),
        ("credit", "row-4"): (False, "ignored"), ("credit", "row-5"): (False, "waiting"),
        ("credit", "row-6"): (False, "waiting"), ("other", "row-7"): (False, "joined"),
    }  # fmt: skip


def test_where_the_past_is_not_trusted_all_of_it_is_looked_at_anew(conn: sa.Connection) -> None:
    filled(conn)
    rebind(conn, spec(), spec("ledger"), trust=False, now=0)
    found = there(conn)
    assert {bound for bound, _ in found.values()} == {False}
    assert [found["credit", f"row-{i}"][1] for i in range(7)] == [
        "waiting", "waiting", "waiting", "orphan", "ignored", "waiting", "waiting",
    ]  # fmt: skip
    again = sa.select(labels.c.check_at).where(labels.c.id == "row-1")
    assert conn.execute(again).scalar_one() == 0
    assert found["other", "row-7"] == (False, "joined")


def test_what_is_unbound_again_changes_no_label(conn: sa.Connection) -> None:
    put(conn, 0, "ledger", "joined", bound=True)
    put(conn, 1, "ledger", "ignored")
    before = there(conn)
    rebind(conn, spec("ledger"), spec(), trust=True, now=0)
    rebind(conn, spec(), spec(), trust=True, now=0)
    assert there(conn) == before


# --- when it may be done ------------------------------------------------------------------------


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    made: set[str] = set()
    monkeypatch.setattr(
        binding, "existing", lambda broker, names: {n: "id" for n in names if n in made}
    )
    return made


def test_a_source_cannot_be_bound_before_its_topic_is_there(
    conn: sa.Connection, topics: set[str]
) -> None:
    topics.add("x.labels.bank")
    with pytest.raises(
        SpecError, match=r"binds 'ledger'.*no topic x\.labels\.ledger.*topics apply"
    ):
        binding.check(conn, BROKER, spec("bank"), spec("bank", "ledger"), now=0)
    topics.add("x.labels.ledger")
    binding.check(conn, BROKER, spec("bank"), spec("bank", "ledger"), now=0)


def test_what_is_bound_already_needs_no_broker(
    conn: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binding, "existing", None)
    binding.check(conn, BROKER, spec("bank", "ledger"), spec("ledger"), now=0)
    binding.check(conn, BROKER, None, spec(), now=0)


@pytest.mark.parametrize(("kind", "refused"), [("stream", True), ("repair", True), ("web", False)])
def test_processes_that_know_nothing_of_it_are_in_the_way(
    conn: sa.Connection, topics: set[str], kind: str, refused: bool
) -> None:
    topics.add("x.labels.ledger")
    row = {
        "process_id": "h:1",
        "kind": kind,
        "started_at": 0,
        "seen_at": 0,
        "ready": True,
        "said": "",
    }
    conn.execute(sa.insert(processes).values(row | {"generation": GENERATION}))
    binding.check(conn, BROKER, None, spec("ledger"), now=0)
    conn.execute(sa.update(processes).values(generation=binding.KNOWS_BOUND - 1))
    if refused:
        with pytest.raises(SpecError, match=rf"a {kind} process of an older release runs \(h:1\)"):
            binding.check(conn, BROKER, None, spec("ledger"), now=0)
    else:
        binding.check(conn, BROKER, None, spec("ledger"), now=0)
    binding.check(conn, BROKER, None, spec("ledger"), now=10**9)  # it died long ago
