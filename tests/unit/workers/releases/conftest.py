"""An installation in which v1 serves, v2 was rolled back, v3 may be published and ``bad`` failed its
gates: what the tests of forged rows begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from forged_rows import make
from release_kit import START, FakeClock, Installation, copy_of


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("template")
    inst = make(folder, f"sqlite:///{folder}/r.db")
    inst.writer.close()
    return inst


@pytest.fixture
def shop(attacked: Installation, tmp_path: Path) -> Iterator[Installation]:
    inst = copy_of(attacked, tmp_path / "home", f"sqlite:///{tmp_path}/r.db")
    inst.clock = FakeClock(START + 60)
    inst.writer._clock = inst.clock
    inst.tick()
    yield inst
    inst.database.dispose()
