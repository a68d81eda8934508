"""Names that there are not are refused with those that look like them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import loop
import pytest
import repairable
from served_rows import said as says

from redistill.streams.store.database import Database
from redistill.workers.store import names, opening


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = opening.open(repairable.settings_of(tmp_path / "home"))
    yield opened
    opened.dispose()


def test_known_names_are_not_refused(database: Database) -> None:
    with database.begin() as conn:
        loop.register(conn, loop.spec("credit"))
        assert names.no_such_model(conn, "credit") is None
        assert names.model_names(conn) == ["credit"]


@pytest.mark.parametrize(
    ("given", "told"), [("crdit", "did you mean 'credit'?"), ("zzz", "(there are: credit)")]
)
def test_unknown_name_is_refused_with_names_that_there_are(
    database: Database, given: str, told: str
) -> None:
    with database.begin() as conn:
        loop.register(conn, loop.spec("credit"))
        said = names.no_such_model(conn, given)
    assert said is not None
    assert said.startswith(f"there is no model named '{given}': register it first")
    assert said.endswith(told)


def test_many_names_are_cut() -> None:
    assert names.did_you_mean("?", [f"m{n}" for n in range(30)]).endswith("m9, ...)")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("contractor", None),
        ("contractr", "; did you mean 'contractor'?"),
        ("ledger", " (there are: contractor)"),  # it is believed, and has said nothing yet
        ("zzz", " (there are: contractor, ledger)"),
    ],
)
def test_source_that_nobody_has_seen_is_named_with_those_that_are_known(
    database: Database, given: str, told: str | None
) -> None:
    says(database, range(1, 3), "contractor", "default")
    with database.read() as conn:
        found = names.unseen_source(conn, "credit", given, ("ledger",))
        assert names.unseen_source(conn, "other", "contractor", ()) is not None
    if told is None:
        assert found is None
    else:
        assert found == f"no label of source {given!r} is stored for credit{told}"
