"""An installation that publishes, as services see it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from release_kit import Installation, copy_of, install


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("template")
    inst = install(folder / "home", f"sqlite:///{folder}/r.db", clock=time.time)
    inst.register("credit")
    inst.add("credit", "v1", 1, "baseline")
    inst.add("credit", "v2", 2)
    inst.publish("credit", "v1")
    return inst


@pytest.fixture
def shop(template: Installation, tmp_path: Path) -> Installation:
    """An installation that serves v1 of ``credit`` and has v2 ready."""
    return copy_of(template, tmp_path / "home", f"sqlite:///{tmp_path}/r.db")
