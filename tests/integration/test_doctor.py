"""``redistill doctor`` on a real Kafka: what is missing is named, and what was typed helps."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from processes import environment, redistill

from redistill.workers.exit_codes import ExitCode

pytestmark = pytest.mark.kafka


def test_topics_are_missing_until_the_command_that_it_names_was_typed(
    kafka_server: Any, tmp_path: Path
) -> None:
    name = f"t{uuid.uuid4().hex[:8]}"
    env = environment(home=str(tmp_path), servers=kafka_server.bootstrap, namespace=name)

    def found() -> dict[str, list[dict[str, Any]]]:
        done = redistill(["doctor", "--json"], env)
        assert done.returncode == ExitCode.REFUSED, (
            done.stderr
        )  # no process runs, whatever the broker has
        out: dict[str, list[dict[str, Any]]] = {}
        for check in json.loads(done.stdout)["checks"]:
            out.setdefault(check["check"], []).append(check)
        return out

    before = found()
    assert before["broker"][0]["status"] == "ok"
    (topics,) = before["topics"]
    assert (topics["status"], topics["do"]) == ("fail", "redistill topics apply")
    assert f"{name}.predictions" in topics["said"]
    assert before["database"][0]["status"] == "fail"
    assert redistill(topics["do"].split()[1:], env).returncode == 0
    assert redistill(["db", "upgrade"], env).returncode == 0
    after = found()
    for check in ("broker", "permissions", "topics", "database", "clock"):
        assert [c["status"] for c in after[check]] == ["ok"], after[check]
