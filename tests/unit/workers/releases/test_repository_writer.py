"""The process that writes the repository: requests, renewal, announcements, repair of what it
finds."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from release_kit import START, FakeClock, Installation, copy_of, install
from structlog.testing import capture_logs
from tuf.api.metadata import Metadata, Root, Targets, Timestamp

from redistill.streams.client.fetch import Repository
from redistill.streams.store import lease, properties
from redistill.streams.store.tables import metadata, outbox
from redistill.times import utc
from redistill.workers.errors import KeysError, NotInTime
from redistill.workers.releases import keys, release_requests, repository, roles, submission
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.releases.repository_writer import RepositoryWriter
from redistill.workers.releases.roles import Lifetimes

HOUR = 3_600.0
LIVES = Lifetimes(root=24 * 365, targets=24 * 30, snapshot=24 * 7, timestamp=24)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("template")
    inst = install(folder / "home", f"sqlite:///{folder}/r.db", lifetimes=LIVES)
    inst.register("credit")
    inst.add("credit", "v1", 1, "baseline")
    inst.add("credit", "v2", 2)
    inst.publish("credit", "v1")
    return inst


@pytest.fixture
def shop(template: Installation, tmp_path: Path) -> Iterator[Installation]:
    inst = copy_of(template, tmp_path / "home", f"sqlite:///{tmp_path}/r.db")
    inst.clock = FakeClock(START)
    inst.writer._clock = inst.clock
    inst.tick()  # it holds the lease
    yield inst
    inst.database.dispose()


def advance(inst: Installation, seconds: float) -> None:
    assert isinstance(inst.clock, FakeClock)
    inst.clock.advance(seconds)


def wait_for(
    inst: Installation, kind: release_requests.Kind, **body: object
) -> release_requests.RequestResult:
    with inst.database.begin() as conn:
        request = release_requests.submit(conn, kind, "credit", body, actor="cli:ann", now=inst.now)
    inst.tick()
    with inst.database.read() as conn:
        result = release_requests.result_of(conn, request)
    assert result is not None
    return result


def files(inst: Installation) -> dict[str, bytes]:
    folder = inst.layout.metadata
    return {p.name: p.read_bytes() for p in folder.iterdir()}


# --- requests -----------------------------------------------------------------------------------


def test_request_is_answered(shop: Installation) -> None:
    result = wait_for(shop, "publish", version="v2", reason="new quarter")
    assert result.ok
    assert result.message == "credit serves v2 (epoch 2)"
    assert result.body["previous"] == "v1"
    again = wait_for(shop, "publish", version="v2")
    assert (again.ok, again.message) == (True, "credit serves v2 already")
    back = wait_for(shop, "rollback")
    assert (back.ok, back.body["version"], back.body["epoch"]) == (True, "v1", 3)


def test_refusal_is_an_answer_and_does_not_stop_the_next(shop: Installation) -> None:
    with shop.database.begin() as conn:
        bad = release_requests.submit(conn, "rollback", "credit", {}, actor="a", now=shop.now)
        good = release_requests.submit(
            conn, "publish", "credit", {"version": "v2"}, actor="a", now=shop.now + 1
        )
        odd = release_requests.submit(conn, "paint", "credit", {}, actor="a", now=shop.now + 2)  # type: ignore[arg-type]
    assert shop.tick().requests == 3
    with shop.database.read() as conn:
        answers = [release_requests.result_of(conn, i) for i in (bad, good, odd)]
    assert [a is not None and a.ok for a in answers] == [False, True, False]
    assert answers[0] is not None
    assert "before v1" in answers[0].message
    assert answers[2] is not None
    assert "upgrade the repair worker" in answers[2].message


def test_version_whose_files_are_damaged_is_not_published(shop: Installation) -> None:
    with shop.database.read() as conn:
        sha256 = conn.execute(
            sa.text("SELECT sha256 FROM versions WHERE version = 'v2'")
        ).scalar_one()
    shop.layout.path("credit", "model.onnx", sha256).write_bytes(b"rotten")
    result = wait_for(shop, "publish", version="v2")
    assert not result.ok
    assert "damaged or missing files: ['model.onnx']" in result.message
    with shop.database.read() as conn:
        assert conn.execute(sa.text("SELECT stable FROM pointers")).scalar_one() == "v1"


def test_command_does_it_itself_where_nobody_holds_the_repository(shop: Installation) -> None:
    shop.writer.close()
    own = RepositoryWriter(
        shop.database, shop.layout, holder="cli", clock=shop.clock, lifetimes=LIVES
    )
    result = submission.perform(
        shop.database, own, "publish", "credit", {"version": "v2"}, actor="cli:ann",
        wait_seconds=5, clock=shop.clock, timer=shop.clock, sleep=lambda s: None,
    )  # fmt: skip
    assert result.ok
    own.close()
    with shop.database.read() as conn:
        assert lease.holder_of(conn, repository.LEASE, shop.now) is None


def test_command_waits_for_the_holder_and_withdraws_what_nobody_did(shop: Installation) -> None:
    shop.tick()  # the worker holds it, and then hangs
    own = RepositoryWriter(
        shop.database, shop.layout, holder="cli", clock=shop.clock, lifetimes=LIVES
    )
    with pytest.raises(NotInTime, match="test holds the repository and did not answer within 3 s"):
        submission.perform(
            shop.database, own, "publish", "credit", {"version": "v2"}, actor="cli:ann",
            wait_seconds=3, clock=shop.clock, timer=shop.clock, sleep=lambda s: advance(shop, 1.0),
        )  # fmt: skip
    assert shop.tick().requests == 0  # it does not come true later
    # a worker that lives answers
    result = submission.perform(
        shop.database, own, "publish", "credit", {"version": "v2"}, actor="cli:ann",
        wait_seconds=3, clock=shop.clock, timer=shop.clock, sleep=lambda s: shop.tick() and None,
    )  # fmt: skip
    assert result.ok


def test_command_without_keys_and_without_a_worker_says_so(shop: Installation) -> None:
    shop.writer.close()
    (shop.layout.keys / "models.pem").unlink()
    own = RepositoryWriter(shop.database, shop.layout, holder="cli", clock=shop.clock)
    with pytest.raises(KeysError, match=r"models\.pem"):
        submission.perform(
            shop.database,
            own,
            "rollback",
            "credit",
            {},
            actor="a",
            wait_seconds=1,
            clock=shop.clock,
            timer=shop.clock,
        )
    with shop.database.read() as conn:
        assert release_requests.pending(conn) == []


# --- keys and problems --------------------------------------------------------------------------


def test_without_keys_and_releases_there_is_nothing_to_keep(tmp_path: Path) -> None:
    from redistill.streams.store.database import connect

    database = connect(f"sqlite:///{tmp_path}/r.db")
    metadata.create_all(database.engine)
    writer = RepositoryWriter(database, RepositoryLayout(tmp_path / "home"), holder="w")
    assert not writer.tick().holds
    assert writer.problem is None
    assert not (tmp_path / "home").exists()


def test_lost_keys_are_a_problem_until_they_are_back(shop: Installation) -> None:
    away = shop.layout.keys.rename(shop.layout.home / "away")
    writer = RepositoryWriter(
        shop.database, shop.layout, holder="test", clock=shop.clock, lifetimes=LIVES
    )
    writer.tick()
    assert isinstance(writer.problem, KeysError)
    away.rename(shop.layout.keys)
    assert writer.tick().holds
    assert writer.problem is None


def test_other_keys_than_the_repository_was_made_with_are_refused(shop: Installation) -> None:
    shop.layout.keys.rename(shop.layout.home / "old")
    keys.init(shop.layout.keys, passphrase=None, now=datetime.now(UTC))
    writer = RepositoryWriter(
        shop.database, shop.layout, holder="test", clock=shop.clock, lifetimes=LIVES
    )
    writer.tick()
    assert "other keys" in str(writer.problem)


# --- metadata -----------------------------------------------------------------------------------


def test_same_rows_and_keys_give_the_same_bytes(shop: Installation) -> None:
    before = files(shop)
    for path in shop.layout.metadata.iterdir():
        path.unlink()
    writer = RepositoryWriter(
        shop.database, shop.layout, holder="test", clock=shop.clock, lifetimes=LIVES
    )
    writer.tick()
    assert "the signed metadata are gone" in str(writer.problem)
    shop.accept_restore()
    advance(shop, 6)
    writer.tick()
    after = files(shop)
    assert "timestamp.json" in after
    assert "1.root.json" in after
    del after["timestamp.json"]  # it has another anchor
    assert after == {name: before[name] for name in after}


def test_damaged_metadata_are_mended_when_the_lease_is_taken(shop: Installation) -> None:
    before = files(shop)
    newest = max(before, key=lambda n: int(n.split(".")[0]) if n.endswith("m-credit.json") else -1)
    (shop.layout.metadata / newest).write_bytes(b"{}")
    (shop.layout.metadata / "timestamp.json").write_bytes(before["timestamp.json"] + b" ")
    (shop.layout.metadata / ".left.new").write_bytes(b"half")
    RepositoryWriter(
        shop.database, shop.layout, holder="test", clock=shop.clock, lifetimes=LIVES
    ).tick()
    after = files(shop)
    stamps = [Metadata[Timestamp].from_bytes(f.pop("timestamp.json")) for f in (before, after)]
    assert [s.signed.version for s in stamps[1:]] == [stamps[0].signed.version + 1]
    assert after == before


def test_round_without_work_writes_nothing(shop: Installation) -> None:
    shop.tick()
    before = {p: p.stat().st_mtime_ns for p in shop.layout.repository.rglob("*")}
    done = shop.tick()
    assert (done.snapshot, done.requests, done.renewed, done.announced) == (None, 0, (), 0)
    assert {p: p.stat().st_mtime_ns for p in shop.layout.repository.rglob("*")} == before


def test_metadata_are_signed_again_at_half_their_life(shop: Installation) -> None:
    advance(shop, 11 * HOUR)
    assert shop.tick().renewed == ()
    advance(shop, 2 * HOUR)
    done = shop.tick()
    assert done.renewed == ("timestamp",)
    stamp = Metadata[Timestamp].from_bytes(files(shop)["timestamp.json"]).signed
    assert stamp.expires == datetime.fromtimestamp(START + 37 * HOUR, UTC)
    advance(shop, 16 * 24 * HOUR)
    renewed = set(shop.tick().renewed)
    assert renewed == {"m-credit", "snapshot", "targets", "timestamp"}
    advance(shop, 200 * 24 * HOUR)
    assert "root" in shop.tick().renewed  # its key is here
    roots = [n for n in files(shop) if n.endswith(".root.json")]
    assert sorted(roots) == ["1.root.json", "2.root.json"]
    second = Metadata[Root].from_bytes(files(shop)["2.root.json"])
    Metadata[Root].from_bytes(files(shop)["1.root.json"]).verify_delegate("root", second)


def test_offline_root_is_left_and_told_at_each_renewal(shop: Installation) -> None:
    (shop.layout.keys / "root.pem").unlink()
    writer = RepositoryWriter(
        shop.database, shop.layout, holder="test", clock=shop.clock, lifetimes=LIVES
    )
    advance(shop, 200 * 24 * HOUR)
    with capture_logs() as lines:
        assert "root" not in writer.tick().renewed
    assert [x["roles"] for x in lines if x.get("action") == "roles_not_renewed"] == [["root"]]
    assert writer.tick().renewed == ()


def test_renewed_repository_is_believed_by_a_client_that_knew_the_old_root(tmp_path: Path) -> None:
    clock = FakeClock(time.time() - 300 * 86_400)
    inst = install(tmp_path / "home", f"sqlite:///{tmp_path}/r.db", clock=clock, lifetimes=LIVES)
    inst.register("credit")
    inst.add("credit", "v1", 1, "baseline")
    inst.publish("credit", "v1")
    clock.now = time.time()
    inst.tick()
    seen = Repository(inst.layout.repository, inst.trust, cache=tmp_path / "cache")
    assert seen.pointer("credit").stable == "v1"
    assert (seen.cache / "metadata" / "root_history" / "2.root.json").exists()


def test_old_documents_are_removed_but_not_roots(shop: Installation) -> None:
    for k in range(repository.OLD_VERSIONS + 5):
        shop.rollback("credit") if k % 2 else shop.publish("credit", "v2")
    snapshots = [n for n in files(shop) if n.endswith(".snapshot.json")]
    assert len(snapshots) == repository.OLD_VERSIONS + 1
    assert "1.root.json" in files(shop)


def test_restored_backup_is_lifted_above_what_clients_have_seen(
    shop: Installation, tmp_path: Path
) -> None:
    shop.database.checkpoint()
    backup = (tmp_path / "r.db").read_bytes()
    shop.publish("credit", "v2")
    newest = max(int(n.split(".")[0]) for n in files(shop) if n.endswith(".snapshot.json"))
    shop.database.checkpoint()
    (tmp_path / "r.db").write_bytes(backup)  # the database of yesterday, the folder of today
    writer = RepositoryWriter(
        shop.database, shop.layout, holder="test", clock=shop.clock, lifetimes=LIVES
    )
    writer.tick()
    assert "the audit chain is not the one of the signed anchor" in str(writer.problem)
    shop.accept_restore()
    advance(shop, 6)
    writer.tick()
    assert writer.problem is None
    with shop.database.read() as conn:
        assert properties.published_snapshot(conn) > newest


def test_role_of_a_model_may_sign_its_own_files_only(shop: Installation) -> None:
    shop.register("loans")
    shop.add("loans", "v1", 9, "baseline")
    shop.publish("loans", "v1")
    newest = max(
        (n for n in files(shop) if n.endswith(".targets.json")), key=lambda n: int(n.split(".")[0])
    )
    targets = Metadata[Targets].from_bytes(files(shop)[newest]).signed
    assert targets.targets == {}
    assert targets.delegations is not None
    delegated = targets.delegations.roles
    assert delegated is not None
    assert {n: r.paths for n, r in delegated.items()} == {
        "m-credit": ["credit/*"],
        "m-loans": ["loans/*"],
    }


def test_private_rows_are_not_among_what_clients_may_fetch(shop: Installation) -> None:
    assert list((shop.layout.private / "credit").glob("*.parquet"))
    listed = json.loads(
        max(
            shop.layout.metadata.glob("*.m-credit.json"), key=lambda p: int(p.name.split(".")[0])
        ).read_bytes()
    )["signed"]["targets"]
    assert {Path(n).suffix for n in listed} == {".onnx", ".npz", ".json"}
    assert not list((shop.layout.targets / "credit").glob("*.parquet"))


# --- announcements ------------------------------------------------------------------------------


def test_pointer_is_announced_again_every_minute(shop: Installation) -> None:
    def announced() -> list[tuple[int, int | None]]:
        with shop.database.read() as conn:
            rows = conn.execute(
                sa.select(outbox).where(outbox.c.topic == "pointers").order_by(outbox.c.seq)
            ).mappings()
            return [(json.loads(bytes(r["value"]))["epoch"], r["after_snapshot"]) for r in rows]

    assert shop.tick().announced == 0
    first = len(announced())
    advance(shop, 61)
    assert shop.tick().announced == 1
    assert shop.tick().announced == 0
    assert len(announced()) == first + 1
    assert announced()[-1] == (1, None)


def test_two_writers_one_works_and_the_other_takes_over(shop: Installation) -> None:
    other = RepositoryWriter(
        shop.database, shop.layout, holder="other", clock=shop.clock, lifetimes=LIVES
    )
    assert shop.tick().holds
    assert not other.tick().holds
    advance(shop, 10)
    assert shop.tick().holds  # renewed
    advance(shop, 10)
    assert not other.tick().holds
    shop.writer.close()
    assert other.tick().holds


def test_pointer_that_clients_believe_expires_with_the_first_role(shop: Installation) -> None:
    with shop.database.read() as conn:
        until = roles.valid_until(conn)
    assert until is not None
    end = utc(until)
    assert end == datetime.fromtimestamp(START, UTC) + timedelta(hours=24)
