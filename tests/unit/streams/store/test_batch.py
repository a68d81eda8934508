from __future__ import annotations

from redistill.streams.store.batch import FlushBatch, JoinRows


def rows(*hashes: int) -> JoinRows:
    """Join rows whose prediction tells the place at which they came."""
    n = len(hashes)
    return JoinRows(
        id_hash=list(hashes), version=["7"] * n, prediction=[f"{i}th" for i in range(n)],
        score=[None] * n, slices=[None] * n, served_at=list(range(n)), topic_id=["t"] * n,
        partition=[0] * n, window=[0] * n,
    )  # fmt: skip


def test_join_rows_stand_in_the_order_of_their_key_and_the_first_of_an_id_stays_first() -> None:
    columns = rows(5, -2, 5, 0).by_hash("credit")
    assert columns["id_hash"] == [-2, 0, 5, 5]
    assert columns["prediction"] == ["1th", "3th", "0th", "2th"]
    assert columns["model"] == ["credit"] * 4


def test_join_rows_are_dropped_in_every_column() -> None:
    kept = rows(5, -2, 0)
    kept.keep([True, False, True])
    assert len(kept) == 2
    assert (kept.id_hash, kept.prediction, kept.served_at) == ([5, 0], ["0th", "2th"], [0, 2])
    lengths = {name: len(getattr(kept, name)) for name in JoinRows.__slots__}
    seldom = dict.fromkeys(("failed", "predicted_low", "predicted_high"), 0)  # empty: no values
    assert lengths == dict.fromkeys(lengths, 2) | seldom
    kept.failed = ["error", None]
    kept.keep([False, True])
    assert kept.failed == [None]


def test_counters_add_up_and_nothing_is_no_counter() -> None:
    batch = FlushBatch()
    batch.count("credit", "rows_unknown", 0)
    assert batch.counters == {}
    batch.count("credit", "rows_unknown")
    batch.count("credit", "rows_unknown", 4)
    batch.count("", "labels_ignored")
    assert batch.counters == {("credit", "rows_unknown"): 5, ("", "labels_ignored"): 1}
