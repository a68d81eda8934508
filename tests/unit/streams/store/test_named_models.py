"""Which models metrics name."""

from __future__ import annotations

from pathlib import Path

import loop

from redistill.streams.store.named_models import named_models
from redistill.times import HOUR


def test_those_registered_first_are_named_and_a_newcomer_takes_nobody_s_place(
    tmp_path: Path,
) -> None:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    with database.begin() as conn:
        for age, name in ((3, "zebra"), (2, "mole"), (1, "ant")):
            loop.register(conn, loop.spec(name), now=loop.NOW - age * HOUR)
        assert named_models(conn, 2).names == {"zebra", "mole"}
        loop.register(conn, loop.spec("bee"))
        assert named_models(conn, 2).names == {"zebra", "mole"}
        assert named_models(conn, 9).names == {"zebra", "mole", "ant", "bee"}
    database.dispose()
