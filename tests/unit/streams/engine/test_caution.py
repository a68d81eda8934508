"""How records are taken where processes died: as values, without records."""

from __future__ import annotations

import random

import pytest

from redistill.streams.engine.caution import PIECE_RECORDS, PIECES_OFFSETS, Caution, Level, Tries
from redistill.streams.store.batch import Partition
from redistill.streams.store.tries import Mark, StoredOffset

P = Partition("topic-id", 0)


@pytest.mark.parametrize(
    ("deaths", "offset", "level"),
    [
        pytest.param(0, 100, Level.FREELY, id="no-death"),
        pytest.param(1, 100, Level.IN_PIECES, id="one"),
        pytest.param(1, 99 + PIECES_OFFSETS, Level.IN_PIECES, id="one-and-the-last"),
        pytest.param(1, 100 + PIECES_OFFSETS, Level.FREELY, id="one-and-behind"),
        pytest.param(2, 100, Level.SINGLY, id="two"),
        pytest.param(2, 99 + PIECE_RECORDS, Level.SINGLY, id="two-and-the-last"),
        pytest.param(2, 100 + PIECE_RECORDS, Level.IN_PIECES, id="two-and-behind"),
        pytest.param(9, 100, Level.SINGLY, id="many"),
        pytest.param(9, 100 + PIECE_RECORDS + PIECES_OFFSETS, Level.FREELY, id="many-and-behind"),
    ],
)
def test_more_deaths_ask_for_more_caution_and_it_ends(
    deaths: int, offset: int, level: Level
) -> None:
    assert Caution(start=100, deaths=deaths).level(offset) is level


@pytest.mark.parametrize(
    ("deaths", "alone", "offset", "condemned"),
    [
        pytest.param(4, 100, 100, True, id="alone-at-two-deaths"),
        pytest.param(3, 100, 100, False, id="alone-at-one"),
        pytest.param(4, 99, 100, False, id="another-was-alone"),
        pytest.param(4, None, 100, False, id="none-was-alone"),
        pytest.param(4, 100, 101, False, id="the-next-one"),
        pytest.param(9, None, 100, False, id="many-deaths-and-none-alone"),
    ],
)
def test_only_what_was_alone_in_hand_at_two_deaths_is_condemned(
    deaths: int, alone: int | None, offset: int, condemned: bool
) -> None:
    assert Caution(start=100, deaths=deaths, alone=alone).condemns(offset) is condemned


def begun(start: int, stored: StoredOffset | None) -> Tries:
    tries = Tries()
    tries.begin(P, start, stored)
    return tries


def test_sql_is_told_once_that_records_are_taken_freely() -> None:
    tries = begun(10, StoredOffset(10))
    marks = tries.marks([(P, 10)])
    assert marks == [Mark(P, 10, 1, alone=False)]
    tries.marked(marks)
    assert tries.marks([(P, 10)]) == []
    tries.flushed(P, 25)
    assert tries.marks([(P, 25)]) == []
    assert (tries.standing, tries.after(P, 25)) == ({P: 25}, 1)


def test_sql_is_told_of_each_record_that_is_taken_singly() -> None:
    tries = begun(10, StoredOffset(10, tries=2))
    assert tries.marks([(P, 10)]) == [Mark(P, 10, 3, alone=True)]
    tries.marked(tries.marks([(P, 10)]))
    assert tries.marks([(P, 10)]) == []
    assert tries.after(P, 11) == 2
    tries.flushed(P, 11)
    assert tries.marks([(P, 11)]) == [Mark(P, 11, 3, alone=True)]


def test_a_worker_killed_between_two_pieces_asks_for_no_more_caution() -> None:
    tries = begun(10, StoredOffset(10, tries=1))
    tries.marked(tries.marks([(P, 10)]))
    assert tries.after(P, 510) == 1
    tries.flushed(P, 510)
    assert tries.standing == {}  # nothing is in hand
    assert tries.marks([(P, 510)]) == [Mark(P, 510, 2, alone=False)]


def test_a_partition_that_is_read_again_by_the_same_process_saw_no_death() -> None:
    tries = begun(10, StoredOffset(10))
    tries.marked(tries.marks([(P, 10)]))
    tries.begin(P, 10, StoredOffset(10, tries=1))
    assert tries.level(P, 10) is Level.FREELY
    assert tries.marks([(P, 10)]) == []


def test_a_process_that_died_meanwhile_counts_though_this_one_was_there_before() -> None:
    tries = begun(10, StoredOffset(10))
    tries.marked(tries.marks([(P, 10)]))
    tries.begin(P, 10, StoredOffset(10, tries=2))
    assert tries.level(P, 10) is Level.IN_PIECES
    tries.begin(P, 20, StoredOffset(20, tries=1))  # it moved the offset, and then died
    assert tries.level(P, 20) is Level.IN_PIECES
    assert tries.marks([(P, 20)]) == [Mark(P, 20, 2, alone=False)]


def test_a_condemned_record_says_how_many_died_with_it_alone() -> None:
    tries = begun(10, StoredOffset(10, tries=5, alone=10))
    why = tries.condemned(P, 10)
    assert why is not None
    assert (why.code, why.reason.split(" with ")[0]) == ("kills", "3 processes in a row ended")
    assert tries.condemned(P, 11) is None


def test_new_partition_is_taken_freely() -> None:
    assert begun(0, None).level(P, 0) is Level.FREELY


class Row:
    """One partition in SQL, and a log of which some records kill."""

    def __init__(self, end: int, deadly: set[int]) -> None:
        self.stored = StoredOffset(0)
        self.end, self.deadly = end, deadly
        self.counted: list[int] = []
        self.dead: list[int] = []

    def live(self, budget: int) -> bool:
        """One process, which is killed from outside after so many steps; whether it is done."""
        tries = begun(self.stored.next_offset, self.stored)
        while (at := self.stored.next_offset) < self.end:
            for m in tries.marks([(P, at)]):
                alone = m.next_offset if m.alone else self.stored.alone
                self.stored = StoredOffset(
                    at, self.stored.tries if m.tries is None else m.tries, alone
                )
                tries.marked([m])
            if (budget := budget - 1) < 0:
                return False
            level = tries.level(P, at)
            most = {Level.FREELY: 4_000, Level.IN_PIECES: PIECE_RECORDS, Level.SINGLY: 1}[level]
            piece = range(at, min(at + most, self.end))
            if tries.condemned(P, at) is not None:
                assert len(piece) == 1
                self.dead += piece
            elif self.deadly.intersection(piece):
                return False
            else:
                self.counted += piece
            self.stored = StoredOffset(piece.stop, tries.after(P, piece.stop), self.stored.alone)
            tries.flushed(P, piece.stop)
        return True


@pytest.mark.parametrize("deadly", [{0}, {499}, {2_345}, {3_999}, {700, 701, 9_000}], ids=str)
def test_what_kills_is_set_aside_and_nothing_else(deadly: set[int]) -> None:
    row = Row(10_000, deadly)
    deaths = 0
    while not row.live(budget=10**9):
        deaths += 1
    assert row.dead == sorted(deadly)
    assert row.counted == [i for i in range(10_000) if i not in deadly]
    assert deaths <= 5 * len(deadly)


@pytest.mark.parametrize("seed", range(20))
def test_kills_from_outside_cost_no_record(seed: int) -> None:
    rng = random.Random(seed)
    row = Row(10_000, set())
    budgets = iter([1, 1, 1, *rng.choices([1, 2, 5, 40], k=10_000)])  # steps; one with none is lost
    deaths = 0
    while not row.live(next(budgets)):
        deaths += 1
    assert deaths >= 3
    assert row.dead == []
    assert row.counted == list(range(10_000))
