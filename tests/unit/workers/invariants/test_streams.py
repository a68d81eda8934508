"""The rules of streams: each can be broken, and an untouched history holds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import history
import pytest
import sqlalchemy as sa
from history import NOW, Breaks, RuleChecks, add, both, finding, holds, own, remove, set_

from redistill.streams.store.database import Database
from redistill.streams.store.findings import store_findings
from redistill.streams.store.ledger import OUTBOX_EXPIRED, OUTCOMES_EXPIRED
from redistill.streams.store.tables import (
    accuracy_states,
    counters,
    findings,
    gaps,
    offsets,
    outcomes,
)
from redistill.streams.store.tables import outbox as outbox_table
from redistill.times import DAY
from redistill.workers.invariants import announcements, row_sums, streams
from redistill.workers.invariants.rule import RuleResult
from redistill.workers.invariants.topic_facts import Announced, Log, TopicFacts
from redistill.workers.store.tables import incident_findings, incidents, jobs

RULES = (
    own(1, streams.counted_once, streams.against_logs, row_sums.dead_letters),
    own(2, streams.nothing_lost),
)
RULE = {rule.number: rule for rule in RULES}

BREAKS: Breaks = {
    "a lost offset": (1, "100 offsets were passed, 99 are accounted for", set_(offsets, counted=89)),
    "a doubled offset": (1, "101 are accounted for", set_(offsets, counted=91)),
    "a moved offset": (1, "99 offsets were passed", set_(offsets, next_offset=109, fence=109)),
    "an unrecorded gap": (1, "gaps of 80 offsets, only 8", set_(gaps, last=99)),
    "overlapping gaps": (
        1,
        "overlaps another",
        add(gaps, topic_id="t1", partition=0, topic="predictions", first=22, last=23, found_at=0),
    ),
    "a lost outcome": (1, "1 outcomes are missing, retention deleted 0", remove(outcomes, outcomes.c.seq == 7)),
    "a detector ahead": (1, "saw 20 outcomes, the last is number 21", set_(accuracy_states, last_seq=21)),
    "a detector behind": (1, "its detector saw 19", set_(accuracy_states, last_seq=19, n=19)),
    "a detector lost": (1, "20 outcomes that no detector saw", remove(accuracy_states)),
    "a finding dropped": (
        2,
        "neither an incident nor a reason",
        both(remove(incident_findings), set_(findings, intake_note=None)),
    ),
    "a finding not announced": (2, "was never announced", remove(outbox_table, outbox_table.c.topic == "drift")),
    "a forged finding": (2, "which does not exist", remove(findings)),
    "an incident without an end": (
        2,
        "neither a job nor a reason",
        both(set_(jobs, incident_id=None), set_(incidents, why="")),
    ),
    "an incident half resolved": (2, "its mark says otherwise", set_(incidents, open_mark=1)),
    "a resolution without reason": (2, "resolved without a reason", set_(incidents, resolution=None)),
}  # fmt: skip


class TestStreams(RuleChecks):
    RULES = RULES
    BREAKS = BREAKS


def test_what_was_counted_is_told(database: Database, tmp_path: Path) -> None:
    figures = holds(database, tmp_path, RULE[1]).figures
    counted = {"counted": 90, "dead": 2, "skipped": 3, "gaps": 5, "rows": 900, "outcomes": 20}
    assert {name: figures[name] for name in counted} == counted
    assert holds(database, tmp_path, RULE[2]).figures == {
        "findings": 1, "waiting": 0, "unsent": 0, "incidents": 1,
    }  # fmt: skip


def test_gap_at_the_end_of_another_does_not_overlap(database: Database, tmp_path: Path) -> None:
    with database.begin() as conn:
        history.put(
            conn, gaps, topic_id="t1", partition=0, topic="predictions", first=25, last=27,
            found_at=NOW,
        )  # fmt: skip
    assert holds(database, tmp_path, RULE[1]).violations == []
    with database.begin() as conn:
        history.put(
            conn, gaps, topic_id="t1", partition=0, topic="predictions", first=27, last=27,
            found_at=NOW,
        )  # fmt: skip
    violations = holds(database, tmp_path, RULE[1]).violations
    assert "predictions/0: the gap 27-27 overlaps another" in violations


@pytest.mark.parametrize(("counted", "broken"), [(0, False), (-1, True)])
def test_count_may_be_nothing_and_never_less(
    database: Database, tmp_path: Path, counted: int, broken: bool
) -> None:
    with database.begin() as conn:
        conn.execute(
            sa.update(offsets).values(counted=counted, next_offset=20 + counted, fence=20 + counted)
        )
    violations = holds(database, tmp_path, RULE[1]).violations
    assert ("predictions/0: a count is negative" in violations) is broken


def test_dead_letters_beyond_those_that_were_counted_are_reported(
    database: Database, tmp_path: Path
) -> None:
    with database.begin() as conn:
        row = dict(conn.execute(sa.select(outbox_table)).mappings().first() or {})
        for i in range(3):
            letter = row | {"seq": 100 + i, "event_id": f"e{i}", "topic": "dlq"}
            conn.execute(sa.insert(outbox_table).values(**letter))
    (violation,) = holds(database, tmp_path, RULE[1]).violations
    assert violation == "5 dead letters were written and 0 expired, 2 records are counted dead"


def test_dead_letters_that_retention_deleted_are_not_missing(
    database: Database, tmp_path: Path
) -> None:
    with database.begin() as conn:
        conn.execute(sa.delete(outbox_table).where(outbox_table.c.topic == "dlq"))
        name = OUTBOX_EXPIRED + "dlq"
        conn.execute(sa.insert(counters).values(model="", name=name, value=2))
    assert holds(database, tmp_path, RULE[1]).violations == []


def test_outcomes_that_retention_deleted_are_not_missing(
    database: Database, tmp_path: Path
) -> None:
    with database.begin() as conn:
        conn.execute(sa.delete(outcomes).where(outcomes.c.seq <= 5))
        conn.execute(sa.insert(counters).values(model="credit", name=OUTCOMES_EXPIRED, value=5))
    assert holds(database, tmp_path, RULE[1]).violations == []


def test_waiting_finding_is_pending_and_not_lost(database: Database, tmp_path: Path) -> None:
    with database.begin() as conn:
        store_findings(conn, [finding(revision=1)], now=NOW)
    found = holds(database, tmp_path, RULE[2])
    assert found.violations == []
    assert (found.figures["waiting"], found.figures["unsent"]) == (1, 1)


def test_announcement_that_retention_may_have_deleted_is_not_missed(
    database: Database, tmp_path: Path
) -> None:
    with database.begin() as conn:
        conn.execute(sa.delete(outbox_table))
        conn.execute(sa.update(findings).values(stored_at=NOW - 6 * DAY))
    assert holds(database, tmp_path, RULE[2]).violations == []


# --- against the broker -----------------------------------------------------------------------


def progress(**values: Any) -> SimpleNamespace:
    row = {
        "topic": "predictions", "topic_id": "t1", "partition": 0, "first_offset": 10,
        "next_offset": 110, "counted": 100, "dead": 0, "skipped": 0, "log_end": None,
        "updated_at": NOW,
    }  # fmt: skip
    return SimpleNamespace(**(row | values))


def against(rows: list[Any], logs: list[Log] | None) -> RuleResult:
    """What the logs say; ``None``: nobody asked the broker."""
    inputs: Any = SimpleNamespace(offsets=rows)
    return streams.against_logs(inputs).settled(None if logs is None else TopicFacts(logs=logs))


def log(end: int, **values: Any) -> Log:
    return Log(
        **(
            {"topic": "predictions", "topic_id": "t1", "partition": 0, "begin": 0, "end": end}
            | {"stable": end}
            | values
        )
    )


def test_what_was_produced_and_not_passed_is_pending() -> None:
    found = against([progress()], [log(150), log(30, partition=1, begin=5)])
    assert found.violations == []
    assert found.figures == {"pending": 40 + 25, "held": 0, "produced": 140 + 25}


@pytest.mark.parametrize(("stable", "pending", "held"), [(150, 40, 0), (120, 10, 30), (110, 0, 40)])
def test_what_an_open_transaction_holds_up_is_not_pending(
    stable: int, pending: int, held: int
) -> None:
    found = against([progress()], [log(150, stable=stable)])
    assert found.violations == []
    assert found.figures == {"pending": pending, "held": held, "produced": 140}


def test_what_was_counted_of_a_transaction_that_is_open_is_no_violation() -> None:
    # by a version before this one, which did not wait
    found = against([progress()], [log(150, stable=90)])
    assert (found.violations, found.figures["pending"], found.figures["held"]) == ([], 0, 40)


def test_counting_beyond_the_log_is_a_violation() -> None:
    found = against([progress(next_offset=151, counted=141)], [log(150)])
    assert found.violations == ["predictions/0: counted up to 151, the log ends at 150"]
    assert found.figures["pending"] == 0


def test_topic_that_was_made_again_is_another_one() -> None:
    found = against([progress()], [log(5, topic_id="t2")])
    assert found.violations == []
    assert found.figures == {"pending": 5, "held": 0, "produced": 5}


def test_equation_that_is_printed_is_evaluated() -> None:
    (violation,) = against([progress(counted=99)], [log(150)]).violations
    assert violation == (
        "predictions/0: 140 offsets were produced, 139 are counted, dead, skipped, pending or held"
    )


@pytest.mark.parametrize("logs", [None, [log(5, topic_id="t2")]])
def test_topic_that_was_deleted_with_unread_records_needs_a_gap(logs: list[Log] | None) -> None:
    new = progress(topic_id="t2", first_offset=0, next_offset=0, counted=0, updated_at=NOW + 1)
    (violation,) = against([progress(log_end=117), new], logs).violations
    assert violation.startswith(
        "predictions/0: the topic was deleted with 7 records that nobody had read, and no gap says so"
    )
    read = against([progress(log_end=110), new], logs)
    assert (read.violations, read.figures["recreated"]) == ([], 1)


def test_log_that_ended_further_than_it_does_is_a_violation() -> None:
    (violation,) = against([progress(log_end=160)], [log(150)]).violations
    assert violation == "predictions/0: its log ended at 160 when it was looked at, it ends at 150"
    assert against([progress(log_end=150)], [log(150)]).violations == []
    (violation,) = against([progress(log_end=100)], [log(150)]).violations
    assert "was seen to end at 100" in violation


def sent(*records: Announced, whole: tuple[str, ...] = ("drift",), kept: int = 0) -> RuleResult:
    """What the topics say of the events a and b, which are marked as sent, and c, which waits."""
    rows = [
        announcements._Row(i * 8, "drift", b"x", marked)
        for i, marked in (("a", True), ("b", True), ("c", False))
    ]
    return announcements._against_topics(rows, kept, TopicFacts.of([], records, whole=whole))


def record(letter: str, **values: Any) -> Announced:
    given = {"topic": "drift", "event_id": letter * 8, "digest": b"x", "at": NOW}
    return Announced(**(given | values))


def test_event_that_is_marked_as_sent_must_be_in_the_topics() -> None:
    assert sent(record("a"), record("b")).violations == []
    assert sent(record("a")).violations == [
        "event bbbbbbbb for drift is marked as sent, and is not in the topic"
    ]


def test_topics_that_do_not_go_back_prove_nothing_by_what_they_do_not_hold() -> None:
    assert sent(record("a"), whole=()).violations == []
    assert sent(record("a", digest=b"y"), whole=()).violations == [
        "event aaaaaaaa for drift has another content in the topic"
    ]


def test_event_that_nobody_announced_is_reported_unless_the_outbox_has_expired() -> None:
    both = record("a"), record("b")
    assert sent(*both, record("z")).violations == [
        "drift holds event zzzzzzzz, which nobody announced"
    ]
    assert sent(*both, record("z"), kept=NOW).violations == []
    assert sent(*both, record("z", before=False)).violations == []  # not in the database yet


def test_event_of_another_topic_is_reported() -> None:
    assert sent(record("a"), record("b", topic="incidents")).violations == [
        "event bbbbbbbb for drift is in the topic incidents"
    ]
