"""Which batches of a fetch were aborted: by producer, from the first offset to the marker."""

from __future__ import annotations

from redistill.streams.engine.aborted import AbortedTransactions

A, B = 4_000, 4_001


def test_without_aborted_transactions_nothing_is_void() -> None:
    none = AbortedTransactions()
    none.end(A, 3)
    assert not none.void(A, 4)


def test_producers_are_told_apart_where_their_transactions_interleave() -> None:
    aborted = AbortedTransactions([(B, 6), (A, 2)])
    assert not aborted.void(A, 1)  # an earlier one, which was committed
    assert aborted.void(A, 2)
    assert not aborted.void(B, 5)
    assert aborted.void(B, 9)  # a batch that holds the first offset
    assert aborted.void(A, 10)
    aborted.end(A, 11)
    assert not aborted.void(A, 12)
    assert aborted.void(B, 13)
    aborted.end(B, 14)
    assert not aborted.void(B, 15)


def test_one_producer_aborts_commits_and_aborts_again() -> None:
    aborted = AbortedTransactions([(A, 0), (A, 20)])
    assert aborted.void(A, 5)
    aborted.end(A, 6)
    assert not aborted.void(A, 10)
    aborted.end(A, 11)
    assert aborted.void(A, 25)


def test_a_fetch_may_begin_within_a_transaction_and_at_its_marker() -> None:
    aborted = AbortedTransactions([(A, 3), (B, 4)])
    assert aborted.void(A, 90)
    at_marker = AbortedTransactions([(A, 3), (B, 4)])
    at_marker.end(A, 90)
    assert not at_marker.void(A, 91)
    assert at_marker.void(B, 92)
