"""Tests mirror the rooms: every module of logic has a unit test file of its name, so that a stranger finds it."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SIDES = ("redistill", "streams", "compress", "workers")

ELSEWHERE: dict[str, str] = {
    # no logic: names and shapes
    "compress/errors.py": "tests/unit/compress/test_folder.py",
    "streams/errors.py": "tests/unit/streams/wire/test_faults.py",
    "workers/exit_codes.py": "tests/unit/workers/cli/test_answers.py",
    "workers/documents/compression.py": "tests/unit/workers/cli/test_compress.py",
    "workers/documents/gate.py": "tests/unit/workers/cli/test_gate_formats.py",
    "workers/documents/doctor.py": "tests/unit/workers/documents/test_document.py",
    "workers/doctor/facts.py": "tests/unit/workers/doctor/test_checks.py",
    "workers/documents/installation.py": "tests/unit/workers/documents/test_document.py",
    "workers/errors.py": "tests/unit/workers/cli/test_needs.py",
    "streams/store/tables.py": "tests/unit/workers/store/test_opening.py",
    "workers/store/tables.py": "tests/unit/workers/store/test_opening.py",
    "compress/once.py": "tests/unit/compress/test_pipeline.py",
    "workers/alerts/operational/look.py": "tests/unit/workers/alerts/operational/test_round.py",
    "workers/alerts/channels/channel.py": "tests/unit/workers/alerts/test_vocabulary.py",
    # a door: its parts have their tests
    "streams/wire/codec.py": "tests/unit/streams/wire/test_golden.py",
    # commands are tried as they are typed
    "workers/cli/alerts.py": "tests/unit/workers/cli/test_alert_commands.py",
    "workers/cli/check_history.py": "tests/integration/test_check_history.py",
    "workers/cli/db.py": "tests/unit/workers/store/test_opening.py",
    "workers/cli/demo.py": "tests/e2e/test_demo.py",
    "workers/cli/incidents.py": "tests/unit/workers/cli/test_incident_commands.py",
    "workers/cli/jobs.py": "tests/unit/workers/cli/test_incident_commands.py",
    "workers/cli/keys.py": "tests/integration/test_release_commands.py",
    "workers/cli/label.py": "tests/integration/test_label_import.py",
    "workers/cli/main.py": "tests/unit/workers/cli/test_needs.py",
    "workers/cli/models.py": "tests/integration/test_models.py",
    "workers/cli/pointer.py": "tests/integration/test_release_commands.py",
    "workers/cli/publish.py": "tests/integration/test_release_commands.py",
    "workers/cli/recompress.py": "tests/unit/workers/cli/test_incident_commands.py",
    "workers/cli/register.py": "tests/integration/test_register.py",
    "workers/cli/replay.py": "tests/integration/test_replay.py",
    "workers/cli/rollback.py": "tests/integration/test_release_commands.py",
    "workers/cli/topics.py": "tests/integration/test_topics.py",
    "workers/cli/up.py": "tests/e2e/test_up.py",
    # parts of rules: each column that they look at is changed on a finished installation
    "workers/invariants/announcements.py": "tests/unit/workers/invariants/test_mutations.py",
    "workers/invariants/counted.py": "tests/unit/workers/invariants/test_mutations.py",
    "workers/invariants/feature_blocks.py": "tests/unit/workers/invariants/test_mutations.py",
    "workers/invariants/incident_trail.py": "tests/unit/workers/invariants/test_mutations.py",
    "workers/invariants/label_requests.py": "tests/unit/workers/invariants/test_mutations.py",
    "workers/documents/label.py": "tests/integration/test_label_requests.py",
    "workers/invariants/job_trail.py": "tests/unit/workers/invariants/test_mutations.py",
    "workers/invariants/model_specs.py": "tests/unit/workers/invariants/test_mutations.py",
    "workers/invariants/outcome_rows.py": "tests/unit/workers/invariants/test_mutations.py",
    "workers/invariants/pointer_trail.py": "tests/unit/workers/invariants/test_mutations.py",
    "workers/invariants/registry_trail.py": "tests/unit/workers/invariants/test_mutations.py",
    "workers/invariants/sealed_states.py": "tests/unit/workers/invariants/test_mutations.py",
    "workers/invariants/signed_registry.py": "tests/unit/workers/invariants/test_mutations.py",
    "workers/invariants/topic_facts.py": "tests/unit/workers/invariants/test_mutations.py",
    "workers/invariants/signed_view.py": "tests/unit/workers/invariants/test_tampering.py",
    "workers/store/normal.py": "tests/unit/workers/invariants/test_mutations.py",
    # sockets of a real process
    "workers/web/connection.py": "tests/integration/test_web_doors.py",
    "workers/web/listener.py": "tests/integration/test_web_doors.py",
    # wiring of a whole process, and the demo's own processes
    "workers/processes/repair_worker.py": "tests/integration/test_repair_kafka.py",
    "workers/demo/scenario.py": "tests/e2e/test_demo.py",
    "workers/demo/scenes/repair.py": "tests/e2e/test_demo.py",
    "workers/demo/scenes/start.py": "tests/e2e/test_demo.py",
    "workers/demo/service.py": "tests/e2e/test_demo.py",
    "workers/demo/teacher.py": "tests/e2e/test_demo.py",
}
"""Reviewed: modules that are tested in a file of another name, because they hold no logic of their own, or nothing that
stands still without its process."""


def modules() -> list[str]:
    """Paths of all modules with code, links left alone."""
    out = []
    for side in SIDES:
        for path in sorted((ROOT / side).rglob("*.py")):
            short = path.relative_to(ROOT)
            linked = side == "redistill" and len(short.parts) > 2
            skip = short.name.startswith("__") or "migrations" in short.parts or linked
            if not skip:
                out.append(str(short))
    return out


def test_file_of(module: str) -> Path:
    """Where a module's unit test belongs."""
    path = Path(module)
    room = Path() if path.parts[0] == "redistill" else path.parent
    return Path("tests/unit") / room / f"test_{path.stem}.py"


test_file_of.__test__ = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", modules())
def test_module_has_a_unit_test_of_its_name(module: str) -> None:
    expected = test_file_of(module)
    if module in ELSEWHERE:
        assert not (ROOT / expected).exists(), f"{expected} is there: take it out of ELSEWHERE"
        expected = Path(ELSEWHERE[module])
    assert (ROOT / expected).is_file(), f"{expected} is missing"


def test_exceptions_are_modules() -> None:
    assert set(ELSEWHERE) <= set(modules())
