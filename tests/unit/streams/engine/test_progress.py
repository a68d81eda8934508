"""Progress of a worker's partitions: what is stored is what was read, and nothing twice."""

from __future__ import annotations

from redistill.streams.engine.progress import ReadProgress
from redistill.streams.store.batch import Gap, Partition

A, B = Partition("topic-id", 0), Partition("topic-id", 1)


def nothing(_: Partition) -> bool:
    return False


def assigned(stored: int | None = 10, start: int = 10) -> ReadProgress:
    progress = ReadProgress()
    progress.assign(A, "predictions", stored=stored, start=start)
    return progress


def test_only_what_was_assigned_is_ours() -> None:
    progress = assigned()
    assert A in progress
    assert B not in progress
    assert (progress.next_offset(A), progress.next_offset(B)) == (10, None)
    progress.clear()
    assert A not in progress


def test_a_partition_that_was_not_read_is_not_stored() -> None:
    assert assigned().close(nothing) == {}


def test_a_partition_that_was_never_stored_gets_its_row_although_nothing_was_read() -> None:
    closed = assigned(stored=None, start=7).close(nothing)
    assert (closed[A].expected, closed[A].first_offset, closed[A].next_offset) == (None, 7, 7)


def test_what_was_read_is_stored_once_and_the_next_batch_goes_on_from_there() -> None:
    progress = assigned()
    progress[A].next_offset = 25
    progress[A].rows = 15
    closed = progress.close(nothing)
    assert (closed[A].expected, closed[A].next_offset, closed[A].rows) == (10, 25, 15)
    assert progress.close(nothing) == {}
    assert (progress[A].expected, progress[A].next_offset, progress[A].rows) == (25, 25, 0)


def test_a_state_that_changed_is_stored_with_its_offset_although_none_was_read() -> None:
    closed = assigned().close(lambda partition: partition == A)
    assert closed[A].next_offset == 10


def test_offsets_that_left_the_log_are_skipped_and_told() -> None:
    progress = assigned()
    assert progress.lost(A, 10, 14) == Gap(partition=A, topic="predictions", first=10, last=14)
    assert (progress[A].next_offset, progress[A].skipped) == (15, 5)
    progress.lost(A, 3, 9)  # read already: nothing is skipped again
    assert (progress[A].next_offset, progress[A].skipped) == (15, 5)
    closed = progress.close(nothing)
    assert closed[A].skipped == 5


def test_a_start_behind_what_was_stored_is_remembered_as_expected() -> None:
    progress = assigned(stored=10, start=40)  # the log begins later than we had read
    closed = progress.close(nothing)
    assert (closed[A].expected, closed[A].next_offset) == (10, 40)


def test_a_log_that_lost_its_end_is_gone_back_in() -> None:
    progress = assigned(stored=40, start=25)
    closed = progress.close(nothing)
    assert (closed[A].expected, closed[A].next_offset, closed[A].rewound) == (40, 25, 15)
    assert (progress[A].expected, progress[A].rewound) == (25, 0)
