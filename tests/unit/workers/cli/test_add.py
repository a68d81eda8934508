"""The command `add`: what it asks to be typed again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import repairable
from job_worker import report
from typer.testing import CliRunner

from redistill.compress.plan import Decision, NeedsPerson, Undecidable
from redistill.workers.cli import main
from redistill.workers.exit_codes import ExitCode
from redistill.workers.onboarding import external_version
from redistill.workers.onboarding.external_version import ExternalVersion
from redistill.workers.store import opening

ASKS = NeedsPerson(gate="trusted", have=90, need=170, why="few", ask="rows")
OPEN = Undecidable(gate="kept", have=9, need=90, why="few")


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command, whose gates decide what they are told to."""
    monkeypatch.setenv("REDISTILL_HOME", str(tmp_path / "home"))
    opening.upgrade(repairable.settings_of(tmp_path / "home"))

    def called(decision: Decision, *options: str) -> str:
        found = ExternalVersion(report=report("baseline", decision), version=None)
        monkeypatch.setattr(external_version, "add", lambda *_, **__: found)
        result = CliRunner().invoke(main.app, ["add", "credit", "v 2", "x.onnx", *options])
        person = isinstance(decision, NeedsPerson)
        assert result.exit_code == (ExitCode.NEEDS_PERSON if person else ExitCode.UNDECIDED), (
            result.output
        )
        return " ".join(result.output.split())

    return called


def test_what_is_asked_to_be_typed_again_is_what_was_typed(add: Any) -> None:
    again = "redistill add credit 'v 2' x.onnx"
    assert f"`{again}`;" in add(ASKS)
    alone = add(ASKS, "--trusted-only")
    assert f"then `{again} --trusted-only`;" in alone
    assert f"`{again} --trusted-only --waive trusted --reason TEXT`" in alone


def test_trusted_rows_alone_are_offered_to_who_did_not_choose_them(add: Any) -> None:
    assert add(OPEN).endswith("more labels, or on trusted rows alone: --trusted-only")
    assert add(OPEN, "--trusted-only").endswith("try again with more labels")
