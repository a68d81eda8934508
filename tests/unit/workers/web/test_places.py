"""Who has to leave when somebody comes in, and who took too long."""

from __future__ import annotations

import pytest

from redistill.workers.web.limits import Limits
from redistill.workers.web.places import Phase, Place, Places, peer_of

FEW = Limits(connections=6, per_peer=4)


def enter(places: Places, peer: str, now: float = 0.0) -> Place:
    place, _ = places.enter(peer, now)
    assert place is not None
    return place


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("::1", "::/64"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_a_peer_is_an_address_or_a_network(address: str, peer: str) -> None:
    assert peer_of(address) == peer


def test_newcomers_push_out_who_never_asked_then_who_is_idle_then_who_does_not_read() -> None:
    places = Places(FEW)
    silent, idle, known, stalled = (enter(places, "a") for _ in range(4))
    idle.turn(Phase.IDLE, 1.0)
    known.turn(Phase.IDLE, 0.5)
    known.known = True
    stalled.turn(Phase.ANSWERING, 0.1)
    order = []
    for _ in range(4):
        newcomer, gone = places.enter("a", 10.0)
        assert newcomer is not None
        newcomer.turn(Phase.ANSWERING, 10.0)  # asked at once, and is being answered
        order += gone
    assert order == [silent, idle, known, stalled]
    assert places.enter("a", 11.0) == (None, [])  # all are being answered
    assert places.enter("a", 12.5)[0] is not None  # until they do not move on


def test_the_oldest_of_equals_leaves() -> None:
    places = Places(FEW)
    all_four = [enter(places, "a", float(n)) for n in (1, 2, 3, 4)]
    _, gone = places.enter("a", 5.0)
    assert gone == [all_four[0]]
    idle = [p for p in places if p is not all_four[1]]
    for n, place in enumerate([*idle, all_four[1]]):
        place.turn(Phase.IDLE, 10.0 - n)
    assert places.enter("a", 20.0)[1] == [all_four[1]]  # idle for the longest


def test_a_full_house_takes_from_who_has_most() -> None:
    places = Places(FEW)
    other = [enter(places, "b", 0.0), enter(places, "c", 0.0)]
    greedy = [enter(places, "a", float(n)) for n in range(1, 5)]
    newcomer, gone = places.enter("d", 9.0)
    assert newcomer is not None
    assert gone == greedy[:1]
    assert {*places} == {*other, *greedy[1:], newcomer}
    assert len(places) == 6
    assert places.of("a") == 3


def test_leaving_twice_is_leaving_once() -> None:
    places = Places(FEW)
    place = enter(places, "a")
    places.leave(place)
    places.leave(place)
    assert (len(places), places.of("a")) == (0, 0)


@pytest.mark.parametrize(
    ("phase", "seconds", "unread", "why"),
    [
        (Phase.ASKING, 9.9, 0, None),
        (Phase.ASKING, 10.1, 0, "header"),
        (Phase.TAKING, 5.1, 0, "body"),
        (Phase.TAKING, 29.9, 1, None),  # the end of the answer is still being read
        (Phase.IDLE, 60.0, 0, None),
        (Phase.IDLE, 65.1, 0, "idle"),
        (Phase.IDLE, 30.1, 1, "read"),
        (Phase.ANSWERING, 29.9, 1, None),
        (Phase.ANSWERING, 30.1, 0, "read"),
    ],
)
def test_everything_has_its_time(
    phase: Phase, seconds: float, unread: int, why: str | None
) -> None:
    place = Place(peer="a", since=0.0, phase=phase, unread=unread)
    assert place.overdue(Limits(), seconds) == why


def test_an_answer_that_moves_on_may_take_any_time() -> None:
    place = Place(peer="a", since=0.0)
    place.turn(Phase.ANSWERING, 1.0)
    place.moved = 3_600.0
    assert place.overdue(Limits(), 3_610.0) is None
    assert place.worth(Limits(), 3_601.0) is None
    place.turn(Phase.ANSWERING, 3_700.0)  # the same phase goes on
    assert place.since == 1.0


def test_a_reader_of_single_bytes_is_none() -> None:
    dripping, slow = Place(peer="a", since=0.0), Place(peer="a", since=0.0)
    for place in (dripping, slow):
        place.turn(Phase.ANSWERING, 0.0)
        place.turn(Phase.IDLE, 1.0)  # all of it is with the kernel
    for second in range(1, 60):
        dripping.read(2_000_000 - second, float(second))
        slow.read(2_000_000 - 1_000 * second, float(second))
    assert dripping.overdue(Limits(), 59.0) == "read"
    assert slow.overdue(Limits(), 59.0) is None
    assert dripping.worth(Limits(), 59.0) == 3
    slow.read(0, 60.0)
    assert slow.overdue(Limits(), 61.0) is None


def test_more_to_read_is_no_reading() -> None:
    place = Place(peer="a", since=0.0)
    place.turn(Phase.ANSWERING, 1.0)
    for second, unread in enumerate([0, 500_000, 1_000_000, 990_000], start=1):
        place.read(unread, float(second))
    assert place.moved == 1.0
    place.read(980_000, 9.0)
    assert place.moved == 9.0
