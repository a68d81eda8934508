"""What nobody may be refused for: rows, audit and repository as lawful work leaves them, however it falls
together."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from forged_rows import HOUR, LIVES, answer, ask, make, restarted, serves, take_in, tick, told
from release_kit import FakeClock, Installation, opened

from redistill.streams.store.tables import specs
from redistill.workers.errors import Disagreement
from redistill.workers.releases import key_rotation, trail
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.releases.repository_writer import RepositoryWriter
from redistill.workers.releases.vouched import want_vouched
from redistill.workers.store import audit


def fine(inst: Installation) -> None:
    """Nobody was refused, and nobody is told so."""
    assert inst.writer.problem is None
    assert told(inst) is None


def register_again(inst: Installation) -> None:
    """Another specification, as ``redistill register`` leaves it."""
    with inst.database.begin() as conn:
        text = conn.execute(sa.select(specs.c.spec)).scalar_one() + " "
        conn.execute(sa.update(specs).values(spec=text))
        body = {"spec_sha256": trail.text_sha256(text)}
        audit.append(conn, "cli:ann", "model.changed", "credit", body, inst.now)


@pytest.fixture(params=["sqlite", "postgres"])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Installation]]:
    """Two repair workers of one installation, each with what it has read of the audit."""
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/r.db" if sqlite else request.getfixturevalue("postgres_url")
    first = make(tmp_path / "home", url)
    database, layout = opened(first.layout.home, url), RepositoryLayout(first.layout.home)
    writer = RepositoryWriter(
        database, layout, holder="second", clock=first.clock, lifetimes=LIVES,
        cool_down_seconds=3_600,
    )  # fmt: skip
    second = Installation(database, layout, first.clock, writer, LIVES)
    yield [first, second]
    for each in (first, second):
        each.writer.close()
        each.database.dispose()


def test_workers_that_take_turns_sign_what_either_did(two: list[Installation]) -> None:
    wanted = ["v3", "v2"] * 3
    for turn, version in enumerate(wanted):
        holder, other = two[turn % 2], two[1 - turn % 2]
        other.writer.close()
        register_again(other)
        request_id = ask(other, version)
        tick(holder, HOUR / 2)
        assert answer(other, request_id).ok
        tick(other)  # it only looks: the other one holds the repository
        for each in two:
            fine(each)
        assert serves(other) == version
    holder.writer.close()
    tick(other, 13 * HOUR)  # all is signed again by whoever saw half of it happen
    fine(other)


def test_database_and_home_of_one_backup_need_nobody(shop: Installation, tmp_path: Path) -> None:
    file, home, kept = tmp_path / "r.db", shop.layout.home, tmp_path / "backup"
    shop.writer.close()
    shop.database.checkpoint()
    rows = file.read_bytes()
    shutil.copytree(home, kept)
    shop.publish("credit", "v3")
    shop.writer.close()
    shop.database.checkpoint()
    file.write_bytes(rows)
    shutil.rmtree(home)
    shutil.copytree(kept, home)
    tick(restarted(shop), 20)
    fine(shop)
    assert serves(shop) == "v1"
    request_id = ask(shop)
    tick(shop)
    assert answer(shop, request_id).ok
    fine(shop)


def test_older_home_beside_the_database_of_today_is_written_anew(
    shop: Installation, tmp_path: Path
) -> None:
    home, kept = shop.layout.home, tmp_path / "backup"
    shutil.copytree(home, kept)
    shop.publish("credit", "v3")
    shop.writer.close()
    shutil.rmtree(home)
    shutil.copytree(kept, home)
    tick(restarted(shop), 20)
    fine(shop)
    assert serves(shop) == "v3"


def test_specification_may_change_while_a_release_is_on_its_way(shop: Installation) -> None:
    shop.add("credit", "v4", 5)
    register_again(shop)
    tick(shop)
    fine(shop)
    request_id = ask(shop, "v4")
    register_again(shop)
    tick(shop)
    assert answer(shop, request_id).ok
    fine(shop)


def test_keys_are_replaced_between_candidate_and_release(shop: Installation) -> None:
    shop.add("credit", "v4", 5)
    assert isinstance(shop.clock, FakeClock)
    for role in (*key_rotation.ROLES, "root"):
        now = datetime.fromtimestamp(shop.clock(), UTC)
        key_rotation.rotate(shop.layout.keys, role, passphrase=None, now=now)
        tick(shop)
        fine(shop)
    tick(restarted(shop), 20)
    request_id = ask(shop, "v4")
    tick(shop)
    assert answer(shop, request_id).ok
    fine(shop)


def test_candidate_of_before_an_upgrade_is_published_after_it(older: Installation) -> None:
    """A job that the upgrade interrupted goes on, and until then it is said what is to be done."""
    with (
        older.database.begin() as conn,
        pytest.raises(Disagreement, match="run `redistill db upgrade` where the signing keys are"),
    ):
        want_vouched(conn, "credit", named=["v3"])
    take_in(older)
    tick(older)
    fine(older)
    older.publish("credit", "v3")
    register_again(older)
    older.add("credit", "v4", 5)
    older.publish("credit", "v4")
    tick(restarted(older), 13 * HOUR)
    fine(older)
