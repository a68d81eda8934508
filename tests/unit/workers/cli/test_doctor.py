"""``redistill doctor`` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from redistill.workers.cli.main import app
from redistill.workers.doctor import checks, gathering
from redistill.workers.doctor.checks import CHECKS
from redistill.workers.doctor.facts import Facts
from redistill.workers.exit_codes import ExitCode
from redistill.workers.settings.settings import Settings


def test_what_fails_is_told_with_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDISTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == ExitCode.REFUSED
    assert "export REDISTILL_BROKER=host:port" in result.output
    told = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert told["well"] is False
    assert {c["check"] for c in told["checks"]} <= set(CHECKS)
    assert {c["do"] for c in told["checks"] if c["status"] == "ok"} == {None}
    assert all(c["do"] for c in told["checks"] if c["status"] != "ok")
    assert not (tmp_path / "home").exists(), "it only looks"


def test_warnings_alone_are_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def facts(_: Settings) -> Facts:
        return Facts(now=0)

    monkeypatch.setattr(gathering, "gather", facts)
    monkeypatch.setattr(checks, "CHECKS", {"settings": checks.settings, "labels": checks.labels})
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 0
