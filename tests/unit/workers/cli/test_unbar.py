"""``redistill unbar``: what it does, says and refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loop
import pytest
import repairable
import sqlalchemy as sa
from loop import NOW, SHA
from typer.testing import CliRunner, Result

from redistill.streams.store.database import Database
from redistill.workers.cli import main
from redistill.workers.errors import RegistryError, RegistryUsageError, UsageError
from redistill.workers.exit_codes import ExitCode
from redistill.workers.store import opening
from redistill.workers.store.tables import audit, barred


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setenv("REDISTILL_HOME", str(tmp_path / "home"))
    settings = repairable.settings_of(tmp_path / "home")
    opening.upgrade(settings)
    opened = opening.open(settings)
    with opened.begin() as conn:
        loop.register(conn, loop.spec())
        conn.execute(
            sa.insert(barred).values(model="credit", sha256=SHA, reason="it was worse", at=NOW)
        )
    yield opened
    opened.dispose()


def call(*args: str) -> Result:
    return CliRunner().invoke(main.app, ["unbar", *args])


def rows(database: Database, table: sa.Table) -> list[Any]:
    with database.read() as conn:
        return list(conn.execute(sa.select(table)).mappings())


def test_bytes_may_be_published_again(database: Database) -> None:
    result = call("credit", SHA[:12], "--reason", "the labels were forged")
    assert result.exit_code == 0, result.output
    assert result.stdout == "credit: v1 may be published again (barred for: it was worse)\n"
    assert rows(database, barred) == []
    (entry,) = rows(database, audit)
    assert entry["action"] == "release.unbar"
    assert entry["actor"].startswith("cli:")
    assert json.loads(entry["body"])["reason"] == "the labels were forged"


def test_document_tells_what_was_barred_and_why(database: Database) -> None:
    result = call("credit", SHA, "--reason", "forged", "--json")
    assert json.loads(result.stdout) == {
        "model": "credit", "sha256": SHA, "versions": ["v1"], "barred_for": "it was worse",
        "reason": "forged",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("args", "error", "code", "why"),
    [
        (("credit", "12" * 8, "--reason", "x"), RegistryError, ExitCode.REFUSED, "no bytes are"),
        (("credti", SHA, "--reason", "x"), RegistryUsageError, ExitCode.USAGE, "credti"),
        (("credit", SHA, "--reason", " "), UsageError, ExitCode.USAGE, "--reason is empty"),
        (("credit", "v1", "--reason", "x"), UsageError, ExitCode.USAGE, "is no SHA-256"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    database: Database, args: tuple[str, ...], error: type[Any], code: ExitCode, why: str
) -> None:
    result = call(*args)
    assert isinstance(result.exception, error), result.output
    assert (result.exception.exit_code, why in str(result.exception)) == (code, True)
    assert len(rows(database, barred)) == 1
    assert rows(database, audit) == []
