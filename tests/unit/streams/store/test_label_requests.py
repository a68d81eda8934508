"""Label requests: what is asked for once something is suspected, and what it does to outcomes."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numpy as np
import pytest
import sqlalchemy as sa
from stream_intake import KEY, StreamIntake
from stream_rows import CONFIG, START, label, new_database, prediction, watch

from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.monitor.label_requests import (
    BURST_ROWS,
    SLICE_BACK,
    SLICE_NEXT,
    included,
)
from redistill.streams.store import label_requests, requestable_rows
from redistill.streams.store import tables as t
from redistill.streams.store.database import Database, upsert
from redistill.streams.store.label_requests import LabelRequester
from redistill.streams.wire.block import Codes
from redistill.streams.wire.events import LabelObserved, LabelsRequested, PredictionMade
from redistill.streams.wire.messages import read_value
from redistill.times import DAY, HOUR, SECOND, microseconds

NOW = microseconds(START) + 12 * HOUR
ASKING = dataclasses.replace(CONFIG, requests_per_day=800, label_cost=0.5)
P_ORDINARY = 0.1


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    made = new_database(database_url)
    yield made
    made.dispose()


class Traffic(StreamIntake):
    """Every tenth row is labelled, and some are wrong; a second later labels are joined."""

    def __init__(self, db: Database, config: WatchConfig = ASKING) -> None:
        watch(db, config)
        super().__init__(db, now=NOW, config=config)
        self.requester = LabelRequester(db, state_key=KEY)
        self.served = 0

    def send(self, *events: PredictionMade | LabelObserved) -> Self:
        super().send(*events)
        self.join()
        self.now += SECOND
        return self

    def serve(self, n: int, *, wrong_every: int) -> None:
        new = range(self.served, self.served + n)
        self.served += n
        self.send(
            *(prediction(i, right=i // 10 % wrong_every != 0) for i in new),
            *(label(i, inclusion_probability=P_ORDINARY) for i in new if i % 10 == 0),
        )

    def ask(self) -> int:
        return self.requester.ask(self.config, now=self.now).rows

    def until_asked(self, *, wrong_every: int = 3, most: int = 40) -> int:
        for _ in range(most):
            self.serve(100, wrong_every=wrong_every)
            if rows := self.ask():
                return rows
        raise AssertionError("nothing was suspected")

    def answer(self, **changes: Any) -> None:
        ids = [r.id for r in self.rows(t.label_request_rows)]
        self.send(*(label(int(i.removeprefix("row-")), **changes) for i in ids))

    def events(self) -> list[LabelsRequested]:
        rows = [r for r in self.rows(t.outbox) if r.topic == "label-requests"]
        return [read_value(bytes(r.value), LabelsRequested) for r in rows]


def test_suspicion_asks_for_a_spread_of_rows_and_says_what_it_costs(db: Database) -> None:
    s = Traffic(db)
    s.serve(2_000, wrong_every=10)
    assert s.ask() == 0, "as many errors as usual raise no suspicion"
    rows = s.until_asked()
    (request,) = s.rows(t.label_requests)
    assert 200 <= rows <= BURST_ROWS, "the rest has a label already"
    assert (request.why, request.slice, request.rows) == ("harm", None, rows)
    assert (request.budget, request.budget_left) == (800, 800 - rows)
    assert request.cost == pytest.approx(rows * 0.5)
    assert 0 < request.p_include <= 1
    (event,) = s.events()
    assert str(event.request_id) == request.request_id
    assert (event.cost, event.budget_left) == (request.cost, request.budget_left)
    asked = {r.id: r for r in s.rows(t.label_request_rows)}
    assert {r.id for r in event.rows} == asked.keys()
    assert len(asked) == rows
    first = event.rows[0]
    number = int(first.id.removeprefix("row-"))
    logged = prediction(number)
    assert first.features == logged.features
    assert (first.inclusion_probability, first.uniform) == (request.p_include, True)
    assert microseconds(first.served_at) == microseconds(logged.served_at)
    assert all(int(i.removeprefix("row-")) % 10 for i in asked), "labelled rows are not asked for"


def test_answers_become_outcomes_of_the_request_and_decide(db: Database) -> None:
    s = Traffic(db)
    s.serve(2_000, wrong_every=10)
    s.until_asked()
    assert s.rows(t.findings) == []
    s.answer()
    (request,) = s.rows(t.label_requests)
    answers = [o for o in s.rows(t.outcomes) if o.request_id is not None]
    assert len(answers) == request.rows
    assert {o.request_id for o in answers} == {request.request_id}
    assert all(o.uniform and o.slice_only is None for o in answers)
    assert [f.kind for f in s.rows(t.findings)] == ["accuracy"]
    union = included(P_ORDINARY, request.p_include)
    within = [
        o
        for o in s.rows(t.outcomes)
        if request.first_served_at <= o.served_at <= request.last_served_at
    ]
    assert {o.request_id is None for o in within} == {True, False}
    assert all(o.p_include == pytest.approx(union) for o in within)
    before = [o for o in s.rows(t.outcomes) if o.served_at < request.first_served_at]
    assert {o.p_include for o in before} == {P_ORDINARY}


def test_rows_served_next_are_asked_for_as_long_as_the_burst_goes(db: Database) -> None:
    s = Traffic(db)
    s.serve(2_000, wrong_every=10)
    first = s.until_asked()
    s.serve(100, wrong_every=3)
    assert s.ask() == 90, "every row that was served since, but for those with a label"
    assert s.ask() == 0, "nothing new, nothing asked"
    for _ in range(4):
        s.serve(100, wrong_every=3)
        s.ask()
    again, *later = sorted(s.rows(t.label_requests), key=lambda r: r.asked_at)[1:]
    assert again.p_include == 1.0
    assert sum(r.rows for r in later) + again.rows <= BURST_ROWS
    assert len(s.rows(t.label_request_rows)) == first + sum(r.rows for r in (again, *later))


def test_budget_of_the_day_is_never_exceeded_and_is_new_the_next_day(db: Database) -> None:
    config = dataclasses.replace(ASKING, label_cost=2.0, label_cost_per_day=240.0)  # 120 labels
    s = Traffic(db, config)
    s.serve(2_000, wrong_every=10)
    assert s.until_asked() <= 120
    for _ in range(5):
        s.serve(100, wrong_every=3)
        s.ask()
    requests = s.rows(t.label_requests)
    assert sum(r.rows for r in requests) <= 120
    assert {r.budget for r in requests} == {120}
    assert min(r.budget_left for r in requests) == 120 - sum(r.rows for r in requests)
    assert s.requester.ask(config, now=s.now + DAY).budget is None, "nothing new to look at"
    s.serve(100, wrong_every=3)
    budget = s.requester.ask(config, now=s.now + DAY).budget
    assert budget is not None
    assert budget.used == 0


def test_nothing_is_asked_for_by_default(db: Database) -> None:
    s = Traffic(db, CONFIG)
    s.serve(2_000, wrong_every=10)
    for _ in range(6):
        s.serve(100, wrong_every=3)
        assert s.ask() == 0
    assert s.rows(t.label_requests) == []


def test_another_worker_that_looks_asks_for_nothing_twice(db: Database) -> None:
    s = Traffic(db)
    s.serve(2_000, wrong_every=10)
    rows = s.until_asked()
    for _ in range(2):  # one that knows nothing of what was seen
        assert LabelRequester(db, state_key=KEY).ask(s.config, now=s.now).rows == 0
    assert len(s.rows(t.label_request_rows)) == rows
    assert len(s.rows(t.label_requests)) == 1


def test_features_that_may_not_be_stored_leave_in_no_request(db: Database) -> None:
    s = Traffic(db, dataclasses.replace(ASKING, store_features=("age",)))
    s.serve(2_000, wrong_every=10)
    s.until_asked()
    (event,) = s.events()
    assert {tuple(r.features or {}) for r in event.rows} == {("age",)}


def test_answer_that_names_another_request_is_counted(db: Database) -> None:
    s = Traffic(db)
    s.serve(2_000, wrong_every=10)
    s.until_asked()
    s.answer(request_id="00000000-0000-0000-0000-000000000007")
    rows = len(s.rows(t.label_request_rows))
    counted = {r.name: r.value for r in s.rows(t.counters)}
    assert counted["labels_other_request"] == rows
    assert sum(o.request_id is not None for o in s.rows(t.outcomes)) == rows


def test_request_state_is_kept_by_version(db: Database) -> None:
    s = Traffic(db)
    s.serve(2_000, wrong_every=10)
    s.until_asked()
    (state,) = s.rows(t.label_request_states)
    assert json.loads(state.state)["following"] == {"harm": BURST_ROWS}


def test_model_of_which_nothing_is_suspected_is_looked_at_without_a_lock_or_its_rows(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = Traffic(db)
    s.serve(2_000, wrong_every=10)

    def read(*_: object) -> None:
        raise AssertionError("rows were read")

    with monkeypatch.context() as unread:
        unread.setattr(label_requests, "since_block", read)
        unread.setattr(label_requests, "newest", read)
        unread.setattr(db, "begin", read)
        asked = s.requester.ask(s.config, now=s.now)
    assert asked.rows == 0
    assert asked.budget is not None
    assert asked.budget.left == 800
    assert s.until_asked() > 0


def test_first_request_does_not_read_what_was_stored_before(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = Traffic(db)
    s.serve(2_000, wrong_every=10)
    behind: list[int] = []
    real = requestable_rows.since_block

    def since_block(conn: sa.Connection, model: str, version: str, block_id: int) -> Any:
        behind.append(block_id)
        return real(conn, model, version, block_id)

    monkeypatch.setattr(label_requests, "since_block", since_block)
    s.until_asked()
    assert behind == [], "there are no rows that are served next yet"
    last = max(r.block_id for r in s.rows(t.feature_rows))
    s.serve(100, wrong_every=3)
    s.ask()
    assert behind == [last]


def test_suspicion_that_waits_for_answers_reads_no_rows(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = Traffic(db)
    s.serve(2_000, wrong_every=10)
    s.until_asked()
    looks: list[int] = []
    monkeypatch.setattr(label_requests, "newest", lambda *a: looks.append(1))
    for _ in range(8):
        s.serve(100, wrong_every=3)
        s.ask()
    assert looks == []


def test_workers_that_look_at_the_same_moment_ask_once(db: Database) -> None:
    s = Traffic(db)
    s.serve(2_000, wrong_every=10)
    ready, rows = threading.Barrier(4), [0]

    def look(_: int) -> int:
        mine = LabelRequester(db, state_key=KEY)
        ready.wait()
        return mine.ask(s.config, now=s.now).rows

    with ThreadPoolExecutor(4) as workers:
        for _ in range(40):
            s.serve(100, wrong_every=3)
            rows = list(workers.map(look, range(4)))
            if any(rows):
                break
    assert sum(map(bool, rows)) == 1
    (request,) = s.rows(t.label_requests)
    assert request.rows == sum(rows) == len(s.rows(t.label_request_rows))
    assert len(s.events()) == 1


def test_workers_that_look_at_once_stay_within_the_budget_of_a_day(db: Database) -> None:
    """Each with what it remembers of earlier looks, and a burst that goes on."""
    config = dataclasses.replace(ASKING, requests_per_day=300)
    s = Traffic(db, config)
    s.serve(2_000, wrong_every=10)
    requesters = [LabelRequester(db, state_key=KEY) for _ in range(4)]
    ready = threading.Barrier(4)

    def look(mine: LabelRequester) -> int:
        ready.wait()
        return mine.ask(config, now=s.now).rows

    asked: list[int] = []
    with ThreadPoolExecutor(4) as workers:
        for _ in range(30):
            s.serve(100, wrong_every=3)
            asked += workers.map(look, requesters)
            if len(s.rows(t.label_requests)) >= 2 and not any(asked[-4:]):
                break  # the burst is over, or the budget
    requests = sorted(s.rows(t.label_requests), key=lambda r: r.asked_at)
    used = np.cumsum([r.rows for r in requests])
    assert 250 < used[-1] <= 300
    assert [r.budget_left for r in requests] == (300 - used).tolist()
    assert used[-1] == sum(asked) == len(s.rows(t.label_request_rows))
    assert used[-1] == sum(len(e.rows) for e in s.events())


def test_suspected_slice_asks_for_its_own_rows_whose_labels_decide_of_it_alone(
    db: Database,
) -> None:
    """US gets wrong as often as EU gets right: nothing shows in the whole model."""
    rng = np.random.default_rng(5)
    s = Traffic(db)
    region = Codes(rng.integers(0, 3, 6_000).astype(np.int32).clip(0, 1), ("US", "EU"))
    wrong = (rng.random(6_000) < 0.1).astype(int)
    with db.begin() as conn:
        normal = {
            "base_error": BaseError.from_errors(wrong).to_json(),
            "expected_error": ExpectedError.fit(wrong, {"region": region}).to_json(),
        }
        keys = {"model": "credit", "version": "7", "provisional": False}
        conn.execute(upsert(t.profiles, ["model", "version"]).values(**keys, **normal))

    def serve(n: int, rates: dict[str, float]) -> None:
        new = range(s.served, s.served + n)
        s.served += n
        rate = {i: rates["EU" if i % 3 else "US"] for i in new}
        s.send(
            *(prediction(i, right=rng.random() >= rate[i]) for i in new),
            *(label(i, inclusion_probability=P_ORDINARY) for i in new if i % 10 == 0),
        )

    serve(2_000, {"US": 0.1, "EU": 0.1})
    assert s.ask() == 0
    for _ in range(40):
        serve(100, {"US": 0.45, "EU": 0.0})
        if asked := s.ask():
            break
    (request,) = s.rows(t.label_requests)
    assert (request.why, request.slice) == ("slice:region=US", "region=US")
    assert 0 < request.rows == asked <= SLICE_BACK
    ids = [r.id for r in s.rows(t.label_request_rows)]
    assert all(int(i.removeprefix("row-")) % 3 == 0 for i in ids)
    (event,) = s.events()
    assert {(r.inclusion_probability, r.uniform) for r in event.rows} == {
        (request.p_include, False)
    }
    serve(60, {"US": 0.45, "EU": 0.0})
    assert s.ask() > 0, "the next ones of the slice"
    again = max(s.rows(t.label_requests), key=lambda r: r.asked_at)
    assert (again.slice, again.p_include) == ("region=US", 1.0)
    assert again.rows <= SLICE_NEXT
    before = {f.scope for f in s.rows(t.findings)}
    s.answer()
    answers = [o for o in s.rows(t.outcomes) if o.request_id is not None]
    assert len(answers) == request.rows + again.rows
    assert {(o.slice_only, o.uniform) for o in answers} == {("region=US", False)}
    after = [f for f in s.rows(t.findings) if f.scope not in before]
    assert [(f.kind, f.scope) for f in after] == [("accuracy", "slice:region=US")]
