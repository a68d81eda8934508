"""A history in which everything happened, and the cases of each table of rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import loop
import pytest
from history import RuleChecks, fill
from proven import World

from redistill.streams.store.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    fill(opened, tmp_path)
    yield opened
    opened.dispose()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A finished installation, which no test changes for the next."""
    made = World(tmp_path_factory.mktemp("finished"))
    yield made
    made.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.cls is None or not issubclass(metafunc.cls, RuleChecks):
        return
    rules = {rule.number: rule for rule in metafunc.cls.RULES}
    if "broken" in metafunc.fixturenames:
        metafunc.parametrize("broken", metafunc.cls.BREAKS.values(), ids=metafunc.cls.BREAKS)
    if "rule" in metafunc.fixturenames:
        metafunc.parametrize("rule", rules.values(), ids=map(str, rules))
