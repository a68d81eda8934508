"""The refusal to sign, in a row that all processes read."""

from __future__ import annotations

import loop
from loop import NOW

from redistill.workers.store import signing_refusal
from redistill.workers.store.signing_refusal import SigningRefusal


def test_refusal_is_kept_until_it_is_cleared(tmp_path) -> None:  # type: ignore[no-untyped-def]
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    told = SigningRefusal(why="w", remedy="r", since=NOW, until=NOW + 5, holder="h")
    with database.begin() as conn:
        assert signing_refusal.get(conn) is None
        signing_refusal.put(conn, told)
        assert signing_refusal.get(conn) == told
        signing_refusal.clear(conn)
        assert signing_refusal.get(conn) is None
    assert (told.lasts(NOW + 4), told.lasts(NOW + 5)) == (True, False)
    database.dispose()
