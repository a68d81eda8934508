"""Tampering: what somebody who may write SQL or files would do to hide or to forge something, and what
``check-history`` says of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from proven import World

from redistill.workers.invariants import signed_view
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.store import audit

P0 = "topic = 'predictions' AND partition = 0"
LAST_AUDIT = "seq = (SELECT MAX(seq) FROM audit)"
SENT = "seq = (SELECT MIN(seq) FROM outbox WHERE topic = '{}')"
NEWEST = "seq = (SELECT MAX(seq) FROM outbox WHERE topic = '{}')"
LABELS = "id IN (SELECT id FROM labels WHERE state = 'joined' ORDER BY id LIMIT 10)"
JOINED = "id_hash IN (SELECT id_hash FROM outcomes WHERE topic_id IS NOT NULL LIMIT 10)"
REPAIRED = "kind = 'repaired'"
OUTCOME = "seq = 20 AND version = '2026-03'"
HEAD = "name = 'audit_head'"

TWIN_JOB = (
    "INSERT INTO jobs (job_id, number, model, incident_id, attempt, trigger_kind, trigger_id, state,"
    " options, tries, not_before, deadline_at, created_at) SELECT 'dup' || job_id, number + 100,"
    " model, {}, attempt + {}, trigger_kind, trigger_id, {}, options, tries, not_before, deadline_at,"
    " created_at FROM jobs WHERE number = 1"
)

TAMPERINGS: dict[str, Sequence[str]] = {
    "a record more is counted": [f"UPDATE offsets SET counted = counted + 1 WHERE {P0}"],
    "a record that was never read is counted": [
        "UPDATE offsets SET counted = counted + 1, next_offset = next_offset + 1,"
        f" fence = next_offset + 1 WHERE {P0}"
    ],
    "a record becomes a dead letter": [
        f"UPDATE offsets SET counted = counted - 1, dead = dead + 1 WHERE {P0}"
    ],
    "a loss passed off as control records": [
        f"UPDATE offsets SET counted = counted - 5, skipped = skipped + 5, rows = rows - 5 WHERE {P0}"
    ],
    "rows of a partition are gone": [f"UPDATE offsets SET rows = rows - 100 WHERE {P0}"],
    "a partition is gone": [f"DELETE FROM offsets WHERE {P0}"],
    "counting began later": [
        f"UPDATE offsets SET first_offset = 10, counted = counted - 10, rows = rows - 10 WHERE {P0}"
    ],
    "the log is said to have ended earlier": [
        f"UPDATE offsets SET log_end = log_end - 5 WHERE {P0}"
    ],
    "rows of a detector are gone": ["UPDATE input_states SET rows = rows - 10"],
    "a detector's state is gone": ["DELETE FROM input_states WHERE partition = 0"],
    "predictions are gone": [f"DELETE FROM join_rows WHERE {JOINED}"],
    "labels are gone": [f"DELETE FROM labels WHERE {LABELS}"],
    "labels wait for ever": [
        f"UPDATE labels SET state = 'waiting', check_at = 9223372036854775000 WHERE {LABELS}"
    ],
    "joined labels become orphans": [f"UPDATE labels SET state = 'orphan' WHERE {LABELS}"],
    "a block of features is gone": [
        "DELETE FROM feature_rows WHERE block_id = (SELECT MIN(block_id) FROM feature_rows)"
    ],
    "an outcome is gone": [f"DELETE FROM outcomes WHERE {OUTCOME}"],
    "all outcomes are turned round": ["UPDATE outcomes SET correct = 1 - correct"],
    "an outcome's label is changed": [f"UPDATE outcomes SET label = 'x' WHERE {OUTCOME}"],
    "an outcome is there twice": [
        "INSERT INTO outcomes SELECT model, version, 99999, id_hash + 1, id, correct, prediction,"
        " label, score, slices, served_at, observed_at, source, p_include, uniform, topic_id,"
        ' partition, "window", made_at, request_id, arrival, slice_only, predicted_low,'
        f" predicted_high FROM outcomes WHERE {OUTCOME}"
    ],
    "an answer to a request is one to none": [
        f"UPDATE outcomes SET request_id = 'other' WHERE {OUTCOME}"
    ],
    "an outcome feeds one slice, and nobody asked": [
        f"UPDATE outcomes SET slice_only = 'region=EU' WHERE {OUTCOME}"
    ],
    "an outcome is of a row that failed": [
        "UPDATE join_rows SET failed = 'error' WHERE id_hash ="
        f" (SELECT id_hash FROM outcomes WHERE {OUTCOME})"
    ],
    "a label failed, and its row did not": [
        "UPDATE labels SET state = 'failed' WHERE id ="
        f" (SELECT id FROM outcomes WHERE {OUTCOME})"
    ],
    "the state of harm is another one": [
        "UPDATE accuracy_states SET state = (SELECT state FROM accuracy_states LIMIT 1)"
    ],
    "a detector saw an outcome less": [
        "UPDATE accuracy_states SET n = n - 1, last_seq = last_seq - 1 WHERE version = '2026-03'"
    ],
    "an announcement of drift is gone": [f"DELETE FROM outbox WHERE {SENT.format('drift')}"],
    "the newest announcement of drift is gone": [
        f"DELETE FROM outbox WHERE {NEWEST.format('drift')}"
    ],
    "an announcement of an incident is gone": [
        f"DELETE FROM outbox WHERE {SENT.format('incidents')}"
    ],
    "an announcement of a release is gone": [
        f"DELETE FROM outbox WHERE {NEWEST.format('releases')}"
    ],
    "an announcement has a forged id": [
        "UPDATE outbox SET event_id = '00000000-0000-0000-0000-000000000000'"
        f" WHERE {SENT.format('releases')}"
    ],
    "an announcement was never sent": [
        "UPDATE outbox SET event_id = '00000000-0000-0000-0000-000000000001'"
        f" WHERE {NEWEST.format('incidents')}"
    ],
    "findings are gone": ["DELETE FROM findings", "DELETE FROM incident_findings"],
    "findings are gone, their incident stays": ["DELETE FROM findings"],
    "an alarm was raised by an earlier outcome": ["UPDATE findings SET raised_seq = 1"],
    "an alarm was raised by an outcome that there is not": ["UPDATE findings SET raised_seq = 9999"],
    "findings are resolved": ["UPDATE findings SET status = 'open'"],
    "a finding is forged": ["UPDATE findings SET body = '{}'"],
    "findings were taken in for nothing": [
        "UPDATE findings SET intake_note = NULL",
        "DELETE FROM incident_findings",
    ],
    "incidents are gone": ["DELETE FROM incident_findings", "DELETE FROM incidents"],
    "an incident has no reason": ["UPDATE incidents SET why = ''"],
    "an incident has another cause": [
        "UPDATE incidents SET cause = 'harmless', decision = 'nothing'"
    ],
    "an incident was resolved for nothing": ["UPDATE incidents SET resolution = 'person'"],
    "a job is there twice": [TWIN_JOB.format("NULL", 0, "state")],
    "an attempt is there twice": [TWIN_JOB.format("incident_id", 1, "state")],
    "a second job is at work": [TWIN_JOB.format("NULL", 0, "'running'")],
    "a job is gone, its release stays": ["DELETE FROM job_steps", "DELETE FROM jobs WHERE number = 1"],
    "a job that published failed": ["UPDATE jobs SET state = 'failed' WHERE number = 1"],
    "one job made two releases": [
        "UPDATE versions SET job_id = 'another' WHERE kind = 'repaired'",
    ],
    "a report is written anew": [
        'UPDATE versions SET report = replace(report, \'"passed":true\', \'"passed": true\')'
        f" WHERE {REPAIRED}"
    ],
    "the gates are marked as failed": [
        f"UPDATE versions SET gate_passed = 0 WHERE {REPAIRED}"
    ],
    "another policy, in row and report": [
        "UPDATE versions SET report = replace(report, policy_sha256, hex(zeroblob(32))),"
        f" policy_sha256 = hex(zeroblob(32)) WHERE {REPAIRED}"
    ],
    "a pointer moved back, its history did not": ["UPDATE pointers SET stable = '2026-03'"],
    "the last move is gone, and the pointer went back": [
        "DELETE FROM pointer_history WHERE epoch = 6",
        "UPDATE pointers SET stable = '2026-03', epoch = 5",
        "DELETE FROM guards WHERE epoch = 6",
    ],
    "all later moves are gone": [
        "DELETE FROM pointer_history WHERE epoch > 1",
        "UPDATE pointers SET stable = '2026-03', epoch = 1",
        "DELETE FROM guards",
    ],
    "a move names another version": [
        "UPDATE pointer_history SET stable = '2026-03',"
        " sha256 = (SELECT sha256 FROM versions WHERE version = '2026-03') WHERE epoch = 2"
    ],
    "a step was written under an old lease": ["UPDATE job_steps SET token = 0 WHERE name = 'gate'"],
    "all steps were written under a lease of the future": ["UPDATE job_steps SET token = 999"],
    "an audit entry has another body": ["UPDATE audit SET body = '{}' WHERE seq = 3"],
    "the newest audit entry is gone": [f"DELETE FROM audit WHERE {LAST_AUDIT}"],
    "the newest audit entry is gone, and the head went back": [
        "DELETE FROM audit WHERE action = 'alert.acknowledged' OR seq > (SELECT MIN(seq) FROM audit"
        " WHERE action = 'alert.acknowledged')",
        "UPDATE facts SET value = (SELECT seq || ' ' || sha256 FROM audit ORDER BY seq DESC LIMIT 1)"
        f" WHERE {HEAD}",
    ],
    "the whole audit chain is gone, with its head": [
        "DELETE FROM audit", f"DELETE FROM facts WHERE {HEAD}"
    ],
    "nobody says by which key entries were made": ["DELETE FROM facts WHERE name = 'audit_key'"],
    "another key is said to count": [
        "UPDATE facts SET value = hex(zeroblob(16)) WHERE name = 'audit_key'"
    ],
    "entries have no MAC": ["UPDATE audit SET mac = '' WHERE seq > 10"],
    "entries have no MAC, and none is said to count": [
        "UPDATE audit SET mac = ''", "DELETE FROM facts WHERE name = 'audit_key'"
    ],
    "the root is said to last longer": [
        "UPDATE repository_roles SET expires_at = expires_at * 2 WHERE role = 'root'"
    ],
    "a detector is deaf": [
        "UPDATE profiles SET base_error = replace(base_error, '0.', '0.9') WHERE version = '2026-03'"
    ],
    "tests of slices are deaf": [
        "UPDATE profiles SET expected_error = replace(expected_error, '0.', '0.9')"
        " WHERE expected_error IS NOT NULL"
    ],
    "tests of slices are gone": ["UPDATE profiles SET expected_error = NULL"],
    "a slice has a test that nobody measured": [
        "UPDATE profiles SET expected_error = (SELECT max(expected_error) FROM profiles)"
        " WHERE version = '2026-03'"
    ],
    "fewer labels joined": ["UPDATE counters SET value = value - 10 WHERE name = 'labels_joined'"],
    "bytes served that no pointer named": [
        "INSERT INTO activations VALUES ('x', 'credit', 'i1', 'evil', hex(zeroblob(32)), 7, 1)"
    ],
    # workers run: they would have sent it once more, as after a crash, and that does no harm
    "an announcement is marked as not sent": [
        f"UPDATE outbox SET sent_at = NULL WHERE {SENT.format('incidents')}"
    ],
    "a role of the repository went back": ["UPDATE repository_roles SET version = 1"],
}  # fmt: skip


@pytest.mark.parametrize("statements", TAMPERINGS.values(), ids=TAMPERINGS)
def test_tampering_with_rows_is_reported(world: World, statements: Sequence[str]) -> None:
    assert world.said(statements) != []


def test_untouched_rows_are_not_reported(world: World) -> None:
    assert world.said() == []


def test_entry_that_was_added_without_the_key_is_reported(world: World) -> None:
    """Its hash and its place are right, and the head names it: only the MAC is not to be had."""
    last = world.copy.rows(world.table("audit"))[-1]
    said = (last["seq"] + 1, last["at"], "cli:ann", "release.unbar", "credit", '{"sha256":"ab"}')
    sha256 = audit.digest(last["sha256"], *said)
    values = ", ".join(repr(v) for v in (*said, last["sha256"], sha256, ""))
    found = world.said(
        [
            f"INSERT INTO audit VALUES ({values})",
            f"UPDATE facts SET value = '{said[0]} {sha256}' WHERE {HEAD}",
        ]
    )
    assert [w for w in found if "has no MAC" in w] != []


def _values(report: dict[str, Any]) -> None:
    for gate in report["gates"]:
        gate["value"], gate["limit"] = 0.0, 99.0


def _no_gates(report: dict[str, Any]) -> None:
    report["gates"] = []


def _without_trusted(report: dict[str, Any]) -> None:
    report["gates"] = [g for g in report["gates"] if g["name"] != "trusted"]


def _rejected(report: dict[str, Any]) -> None:
    report["decision"] = {"decision": "rejected", "reasons": ["bad"]}


def _one_failed(report: dict[str, Any]) -> None:
    report["gates"][0]["passed"] = False


def _unmeasured(report: dict[str, Any]) -> None:
    report["variants"][0]["fresh_accuracy"] = None


def _accuracy(report: dict[str, Any]) -> None:
    report["variants"][0]["fresh_accuracy"]["value"] = 0.999


REPORTS = (_values, _no_gates, _without_trusted, _rejected, _one_failed, _unmeasured, _accuracy)


@pytest.mark.parametrize("change", REPORTS, ids=[f.__name__ for f in REPORTS])
def test_tampering_with_a_gate_report_is_reported(
    world: World, change: Callable[[dict[str, Any]], None]
) -> None:
    (row,) = [r for r in world.copy.rows(world.table("versions")) if r["kind"] == "repaired"]
    report = json.loads(row["report"])
    change(report)
    text = json.dumps(report, separators=(",", ":"), sort_keys=True).replace("'", "''")
    assert world.said([f"UPDATE versions SET report = '{text}' WHERE {REPAIRED}"]) != []


FILES: dict[str, tuple[str, bytes | None]] = {
    "the timestamp is gone": ("repository/metadata/timestamp.json", None),
    "the timestamp is garbage": ("repository/metadata/timestamp.json", b"{}"),
    "the trust file is gone": ("keys/root.json", None),
    "a signing key is gone": ("keys/models.pem", None),
    "the signed root is garbage": ("keys/root.json", b"{}"),
    "a pointer is garbage": ("repository/targets/credit/*.pointer.json", b"x"),
    "the metadata of a model are gone": ("repository/metadata/*.m-credit.json", None),
    "released graphs are gone": ("repository/targets/credit/*.onnx", None),
}


@pytest.mark.parametrize(("pattern", "data"), FILES.values(), ids=FILES)
def test_tampering_with_files_is_reported(
    world: World, tmp_path: Path, pattern: str, data: bytes | None
) -> None:
    home = tmp_path / "home"
    shutil.copytree(world.installation.home, home)
    assert world.said(home=home) == []
    changed = sorted(home.glob(pattern))
    assert changed
    for path in changed:
        path.unlink() if data is None else path.write_bytes(data)
    signed = signed_view.look(RepositoryLayout(home))
    assert world.said(home=home, signed=signed) != []
