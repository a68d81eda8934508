"""Which labels count: every case there is."""

from __future__ import annotations

import pytest

from redistill.streams.monitor.label_trust import counts, ranking

SOURCES = ("analyst", "ledger")


@pytest.mark.parametrize("bound", [False, True])
def test_where_nothing_is_bound_the_topic_says_nothing(bound: bool) -> None:
    assert counts("anyone", bound, sources=(), bound_sources=())
    assert counts("ledger", bound, sources=SOURCES, bound_sources=())
    assert not counts("anyone", bound, sources=SOURCES, bound_sources=())


@pytest.mark.parametrize("sources", [(), SOURCES])
def test_where_a_source_is_bound_its_topic_counts_and_nothing_else(
    sources: tuple[str, ...],
) -> None:
    said = {
        (source, bound): counts(source, bound, sources=sources, bound_sources=("ledger",))
        for source in ("ledger", "analyst", "anyone")
        for bound in (False, True)
    }
    assert [key for key, counted in said.items() if counted] == [("ledger", True)]


def test_what_is_bound_ranks_in_its_own_order() -> None:
    assert ranking(SOURCES, ("ledger", "analyst")) == ("ledger", "analyst")
    assert ranking(SOURCES, ()) == SOURCES
    assert ranking((), ()) == ()
