from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from redistill.streams.errors import LeaseError
from redistill.streams.store import lease
from redistill.streams.store.database import Database, connect
from redistill.streams.store.tables import metadata
from redistill.times import DAY, HOUR, SECOND


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    db = connect(database_url)
    metadata.create_all(db.engine)
    yield db
    db.dispose()


def test_second_holder_is_refused_until_the_end(db: Database) -> None:
    with db.begin() as c:
        assert lease.acquire(c, "x", "a", now=0, seconds=10) == 1
        assert lease.acquire(c, "x", "b", now=9 * SECOND, seconds=10) is None
        assert lease.acquire(c, "x", "a", now=9 * SECOND, seconds=10) == 1
        assert lease.acquire(c, "x", "b", now=18 * SECOND, seconds=10) is None
        assert lease.holder_of(c, "x", 18 * SECOND) == "a"
        assert lease.acquire(c, "x", "b", now=19 * SECOND, seconds=10) == 2


def test_renew_keeps_until_somebody_took_it(db: Database) -> None:
    with db.begin() as c:
        token = lease.acquire(c, "x", "a", now=0, seconds=1)
        assert token is not None
        assert lease.renew(c, "x", token, now=5 * SECOND, seconds=1)  # late, but nobody came
        lease.check(c, "x", token, 5 * SECOND)
        assert lease.acquire(c, "x", "b", now=7 * SECOND, seconds=1) == 2
        assert not lease.renew(c, "x", token, now=7 * SECOND, seconds=1)
        with pytest.raises(LeaseError, match="b holds it"):
            lease.check(c, "x", token, 7 * SECOND)


def test_check_refuses_what_ran_out(db: Database) -> None:
    with db.begin() as c:
        token = lease.acquire(c, "x", "a", now=0, seconds=1)
        assert token is not None
        with pytest.raises(LeaseError, match=r"ran out 1\.0 s ago"):
            lease.check(c, "x", token, 2 * SECOND)
        with pytest.raises(LeaseError, match="nobody holds it"):
            lease.check(c, "other", 1, 0)


def test_release_lets_the_next_one_in_with_a_larger_token(db: Database) -> None:
    with db.begin() as c:
        token = lease.acquire(c, "x", "a", now=0, seconds=100)
        assert token is not None
        assert lease.release(c, "x", token)
        assert lease.holder_of(c, "x", 1) is None
        assert not lease.renew(c, "x", token, now=1, seconds=1)
        assert lease.acquire(c, "x", "b", now=1, seconds=100) == 2
        assert not lease.release(c, "x", token)


def test_only_one_of_many_gets_it(db: Database) -> None:
    got: list[int | None] = []
    start = threading.Barrier(6)

    def work(name: str) -> None:
        start.wait()
        with db.begin() as c:
            got.append(lease.acquire(c, "x", name, now=0, seconds=10))

    threads = [threading.Thread(target=work, args=(str(i),)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(got, key=str) == [1, None, None, None, None, None]


@pytest.mark.parametrize("ahead", [HOUR, 40 * DAY])
def test_lease_of_a_clock_that_was_ahead_is_none_and_blocks_nobody(
    db: Database, ahead: int
) -> None:
    with db.begin() as c:
        token = lease.acquire(c, "x", "ahead", now=ahead, seconds=10)
        assert token == 1
        assert lease.holder_of(c, "x", 0) is None
        assert lease.acquire(c, "x", "right", now=0, seconds=10) == 2
        with pytest.raises(LeaseError, match="taken over"):
            lease.check(c, "x", token, 0)


def test_lease_of_a_clock_that_is_seconds_ahead_is_one(db: Database) -> None:
    with db.begin() as c:
        assert lease.acquire(c, "x", "a", now=30 * SECOND, seconds=10) == 1
        assert lease.holder_of(c, "x", 0) == "a"
        assert lease.acquire(c, "x", "b", now=0, seconds=10) is None
