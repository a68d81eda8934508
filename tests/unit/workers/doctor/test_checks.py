"""Each check of the doctor: well, not well, and what to type then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from redistill.streams.store.process_rows import ProcessRow, TopicLag
from redistill.times import DAY, HOUR, MINUTE, SECOND
from redistill.workers.doctor.checks import CHECKS, examine
from redistill.workers.doctor.facts import (
    AlertFacts,
    Disk,
    Facts,
    KeyFacts,
    ModelFacts,
    PackageFault,
    StoreFacts,
    TopicFacts,
    Trouble,
)

NOW = 1_700_000_000_000_000
MODEL = ModelFacts(
    model="credit", level="repair", last_served_at=NOW, last_label_at=NOW, label_lag_us=HOUR
)


def row(kind: str, **other: Any) -> ProcessRow:
    given = {"process_id": kind, "kind": kind, "started_at": NOW, "seen_at": NOW}
    return ProcessRow(**{"ready": True, "said": "", **given, **other})


STORE = StoreFacts(
    revision="0008", clock_offset_us=0, clock_problem=None,
    processes=tuple(map(row, ("stream", "repair", "alerts", "web"))),
    lag={"labels": TopicLag(behind=0, oldest_at=None)}, models=(MODEL,),
)  # fmt: skip
WELL = Facts(
    now=NOW, version="0.1", python="3.11.7", disk=Disk(home=Path("h"), free=9 * 10**10, total=10**11),
    broker="kafka:9092", database="sqlite:///x", store=STORE,
    alerts=AlertFacts(path=Path("alerts.toml"), channels=("team",)),
    keys=KeyFacts(fault=None, root_until=NOW + 300 * DAY, repository_until=NOW + 7 * DAY),
)  # fmt: skip


def test_all_is_well_and_every_check_says_so() -> None:
    found = examine(WELL)
    assert {finding.status for _, finding in found} == {"ok"}
    assert [name for name, _ in found] == list(CHECKS)


def store(**changes: Any) -> dict[str, Any]:
    return {"store": replace(STORE, **changes)}


MIB = 2**20
FILE = Path("alerts.toml")
TROUBLE = Trouble(
    kind="disk", severity="page", said="the disk is full", remedy="make room", opened_at=NOW
)
ILL: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("settings", {"unknown_settings": ("REDISTILL_X: no such",)}, "warn", "REDISTILL_X", "settings.md"),
    ("versions", {"packages": (PackageFault(name="tuf", installed=None, wanted=">=6"),)}, "fail", "tuf is missing", "pip install 'tuf>=6'"),
    ("versions", {"packages": (PackageFault(name="river", installed="1", wanted="==2"),)}, "fail", "river is 1", "pip install 'river==2'"),
    ("disk", {"disk": Disk(home=Path("h"), free=MIB, total=10**12)}, "fail", "0.0 GB", "make room"),
    ("disk", {"disk": Disk(home=Path("h"), free=5 * 10**9, total=10**11)}, "warn", "5%", "make room"),
    ("broker", {"broker": None}, "fail", "no broker", "export REDISTILL_BROKER"),
    ("broker", {"broker_away": "kafka:9092 cannot be reached"}, "fail", "cannot be reached", "start it"),
    ("permissions", {"broker_refuses": "user 'x' may not"}, "fail", "may not", "RUNBOOK"),
    ("topics", {"topics": (TopicFacts(name="dlq", state="missing", notes=()),)}, "fail", "dlq", "redistill topics apply"),
    ("topics", {"topics": (TopicFacts(name="dlq", state="differs", notes=("few",)),)}, "warn", "few", "--dry-run"),
    ("topics", {"topics_unknown": "no"}, "warn", "not looked at", "--dry-run"),
    ("topics", {"writers_doubted": ("everybody may write to labels.ledger",)}, "warn", "everybody may write", "source's user alone"),
    ("database", {"store": None, "database_fault": "it is empty", "database_state": "unusable"}, "fail", "empty", "db upgrade"),
    ("database", {"store": None, "database_fault": "no file", "database_state": "missing"}, "fail", "no file", "redistill db upgrade makes it"),
    ("database", {"store": None, "database_fault": "nobody listens"}, "fail", "nobody", "start it, or see what holds it up (RUNBOOK: A database that is away)"),
    ("clock", store(clock_offset_us=90 * SECOND), "fail", "90.0 s ahead of", "time service"),
    ("clock", store(clock_offset_us=-5 * SECOND), "warn", "5.0 s behind", "time service"),
    ("clock", store(clock_problem="clocks differ"), "fail", "differ", "RUNBOOK"),
    ("keys", {"keys": KeyFacts(fault="no signing keys", root_until=None, repository_until=None)}, "fail", "no signing", "keys init"),
    ("keys", {"keys": replace(WELL.keys, root_until=NOW + DAY)}, "warn", "trust file expires", "root.pem"),
    ("keys", {"keys": replace(WELL.keys, repository_until=NOW - DAY)}, "fail", "expired", "run repair"),
    ("audit key", store(audit_key_fault="it is of another database"), "fail", "another", "does not start here"),
    ("audit key", store(audit_key_fault="it is not here", audit_key_here=False), "warn", "not here", "only looks"),
    ("processes", store(processes=()), "fail", "no stream process", "redistill run stream"),
    ("processes", store(processes=(row("stream", ready=False, said="the broker: away"),)), "fail", "stream waits: the broker", "log"),
    ("processes", store(processes=tuple(row(k, seen_at=NOW - HOUR) for k in ("stream", "repair", "alerts", "web"))), "fail", "no repair", "run repair"),
    ("alerts", {"alerts": AlertFacts(path=FILE, there=False)}, "warn", "alerts.toml is not there", "docs/alerts.md"),
    ("alerts", {"alerts": AlertFacts(path=FILE)}, "warn", "alerts.toml has no channel", "docs/alerts.md"),
    ("alerts", {"alerts": AlertFacts(path=FILE, fault="it is not TOML")}, "fail", "not TOML", "redistill alerts test"),
    ("alerts", {"alerts": AlertFacts(path=FILE, fault="no KEY", absent=("KEY", "URL"))}, "warn", "no KEY", "export KEY=... URL=... for `redistill run alerts`"),
    ("alerts", {"alerts": AlertFacts(path=FILE, fault="no KEY", absent=("KEY",)), "store": None}, "fail", "no KEY", "export KEY=..."),
    ("troubles", store(troubles=(TROUBLE,)), "fail", "the disk is full (disk, since 2023-11-14 22:13Z)", "make room"),
    ("troubles", store(troubles=(replace(TROUBLE, severity="warn"),)), "warn", "disk", "make room"),
    ("troubles", store(troubles=(TROUBLE,) * 9 + (replace(TROUBLE, severity="warn"),) * 6), "warn", "5 more", "redistill alerts list"),
    ("lag", store(lag={"labels": TopicLag(behind=9, oldest_at=NOW - 2 * MINUTE)}), "warn", "9 records", "more stream"),
    ("lag", store(lag={"labels": TopicLag(behind=9, oldest_at=NOW - HOUR)}), "fail", "3,600 s", "more stream"),
    ("labels", store(models=()), "warn", "no model", "register"),
    ("labels", store(models=(replace(MODEL, last_label_at=NOW - 2 * DAY),)), "warn", "no label for 48 h", "source"),
    ("labels", store(models=(replace(MODEL, last_label_at=None),)), "warn", "no label was ever", "label import"),
    ("labels", store(models=(replace(MODEL, last_served_at=None),)), "warn", "no row", "services.md"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "changes", "status", "said", "do"), ILL)
def test_what_is_wrong_is_said_with_what_to_do(
    check: str, changes: dict[str, Any], status: str, said: str, do: str
) -> None:
    found = list(CHECKS[check](replace(WELL, **changes)))
    (told, *_) = [f for f in found if said in f.said]
    assert told.status == status
    assert do in told.do


def test_labels_that_always_come_late_are_not_late() -> None:
    slow = replace(MODEL, last_label_at=NOW - 5 * DAY, label_lag_us=4 * DAY)
    (found,) = CHECKS["labels"](replace(WELL, **store(models=(slow,))))
    assert found.status == "ok"


def test_model_at_level_watch_needs_no_keys() -> None:
    none = KeyFacts(fault="no signing keys", root_until=None, repository_until=None)
    watched = store(models=(replace(MODEL, level="watch"),))
    (found,) = CHECKS["keys"](replace(WELL, keys=none, **watched))
    assert found.status == "ok"


def test_what_depends_on_a_broker_that_is_away_is_not_said_to_be_well() -> None:
    away = replace(WELL, broker_away="x")
    assert [*CHECKS["permissions"](away), *CHECKS["topics"](away)] == []
