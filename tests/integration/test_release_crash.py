"""``kill -9`` between any two steps of a publish, and a full disk: the next round makes it whole."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from release_kit import ACTOR, SCHEMA, Installation, copy_of, install, write_candidate

from redistill.files import sha256_of
from redistill.streams.client.fetch import Repository
from redistill.streams.client.release import PointerFile
from redistill.streams.store import properties
from redistill.streams.store.tables import outbox
from redistill.workers.errors import RegistryError
from redistill.workers.releases import registry, release_files, release_requests, roles
from redistill.workers.releases.package import ReleasePackage, build_package
from redistill.workers.releases.repository_writer import RepositoryWriter
from redistill.workers.store import audit_chain
from redistill.workers.store.tables import pointer_history, pointers

TABLES = (pointers, pointer_history)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("template")
    inst = install(folder / "home", f"sqlite:///{folder}/r.db", clock=time.time)
    inst.register("credit")
    inst.add("credit", "v1", 1, "baseline")
    inst.add("credit", "v2", 2)
    inst.publish("credit", "v1")
    inst.writer.close()
    return inst


@pytest.fixture
def shop(template: Installation, tmp_path: Path) -> Installation:
    return copy_of(template, tmp_path / "home", f"sqlite:///{tmp_path}/r.db")


def killed_at(shop: Installation, step: int, work: Callable[[], object]) -> bool:
    """Do the work in a forked process that kills itself at its ``step``-th step.

    Steps are what leaves traces: a file that is synced, a file that is put into place, and the
    moments before and after a commit. Returns whether it came that far.
    """
    pid = os.fork()
    if pid == 0:
        try:
            left = step

            def count() -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            def before(real: Callable[..., Any]) -> Callable[..., Any]:
                def call(*args: Any) -> Any:
                    count()
                    return real(*args)

                return call

            os.replace, os.fsync = before(os.replace), before(os.fsync)
            sa.event.listen(shop.database.engine, "commit", lambda _: count())
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert not (os.WIFEXITED(status) and os.WEXITSTATUS(status) == 1), "the work itself failed"
    return os.WIFSIGNALED(status)


def in_a_minute() -> float:
    """When the lease of a process that was killed is over."""
    return time.time() + 60


def writer(shop: Installation, holder: str) -> RepositoryWriter:
    return RepositoryWriter(shop.database, shop.layout, holder=holder, clock=shop.clock)


def check(shop: Installation, tmp_path: Path) -> PointerFile:
    """What clients see is what the rows say, complete, and nothing is announced too early."""
    seen = Repository(
        shop.layout.repository, shop.trust, cache=tmp_path / f"c{time.monotonic_ns()}"
    )
    pointer = seen.pointer("credit")
    seen.release("credit", pointer.manifest_sha256)
    with shop.database.read() as conn:
        row = conn.execute(sa.select(pointers)).one()
        assert (pointer.stable, pointer.epoch) == (row.stable, row.epoch)
        assert (
            properties.published_snapshot(conn) == roles.versions_of(conn, ["snapshot"])["snapshot"]
        )
        assert audit_chain.verify(conn).problem is None
        waiting = conn.execute(sa.select(sa.func.max(outbox.c.after_snapshot))).scalar_one()
        assert waiting <= properties.published_snapshot(conn)
        epochs = conn.execute(sa.select(pointer_history.c.epoch)).scalars().all()
        assert sorted(epochs) == list(range(1, row.epoch + 1))
    # half a file below targets/ is retention's to remove: somebody may be packaging there
    assert not list(shop.layout.metadata.rglob(".*"))
    return pointer


@pytest.mark.slow
def test_kill_at_any_step_of_a_publish_ends_consistent(
    template: Installation, tmp_path: Path
) -> None:
    outcomes = []
    for step in range(200):
        folder = tmp_path / f"s{step}"
        shop = copy_of(template, folder / "home", f"sqlite:///{folder}/r.db")
        with shop.database.begin() as conn:
            body = {"version": "v2"}
            release_requests.submit(conn, "publish", "credit", body, actor="cli:t", now=shop.now)
        dead = killed_at(shop, step, lambda: writer(shop, "first").tick())  # noqa: B023
        # clients go on meanwhile, with the old pointer or the new one, never with half of it
        seen = Repository(shop.layout.repository, shop.trust, cache=folder / "early")
        assert seen.pointer("credit").stable in ("v1", "v2")
        later = RepositoryWriter(
            shop.database, shop.layout, holder="second", clock=in_a_minute, announce_seconds=1e9
        )
        later.tick()
        assert later.problem is None
        pointer = check(shop, folder)
        assert (pointer.stable, pointer.epoch) == ("v2", 2)
        with shop.database.read() as conn:
            assert release_requests.pending(conn) == []
            assert (
                conn.execute(sa.select(sa.func.count()).select_from(pointer_history)).scalar_one()
                == 2
            )
        outcomes.append(dead)
        if not dead:
            break
    assert outcomes[-1] is False
    assert len(outcomes) > 10  # it was killed at ten different steps at least


def test_holder_that_was_taken_for_dead_can_write_nothing_more(
    shop: Installation, tmp_path: Path
) -> None:
    zombie, heir = writer(shop, "zombie"), writer(shop, "heir")
    zombie.tick()
    assert zombie.holds
    assert not heir.tick().holds
    heir._clock = in_a_minute
    assert heir.tick().holds
    with shop.database.begin() as conn:
        release_requests.submit(
            conn, "publish", "credit", {"version": "v2"}, actor="t", now=shop.now
        )
    stamp = (shop.layout.metadata / "timestamp.json").read_bytes()
    assert not zombie.tick().holds
    assert (shop.layout.metadata / "timestamp.json").read_bytes() == stamp
    with shop.database.read() as conn:
        assert len(release_requests.pending(conn)) == 1
    assert heir.tick().requests == 1
    assert check(shop, tmp_path).stable == "v2"


def sealed_v5(shop: Installation, candidate: Path) -> ReleasePackage:
    return build_package(
        candidate,
        layout=shop.layout,
        model="credit",
        version="v5",
        kind="repaired",
        schema=SCHEMA,
        output="y",
        output_kind="logits",
        created_at=datetime(2026, 11, 25, tzinfo=UTC),
    )


def test_full_disk_while_sealing_leaves_nothing_half_written(
    shop: Installation, tmp_path: Path
) -> None:
    candidate = write_candidate(tmp_path / "candidate", 5)
    big = candidate / "training" / "weights.safetensors"
    big.write_bytes(os.urandom(3_000_000))
    before = {p for p in shop.layout.home.rglob("*") if p.is_file()}

    def work() -> None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as on a full disk: an error, no signal
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        with pytest.raises(RegistryError, match=r"no room.*Nothing was published"):
            sealed_v5(shop, candidate)

    assert killed_at(shop, 1_000_000, work) is False
    fresh = {p for p in shop.layout.home.rglob("*") if p.is_file()} - before
    assert all(p.parent.name == "credit" and not p.name.startswith(".") for p in fresh)
    for path in fresh:  # whole files only, under their hash
        if path.suffix != ".db":
            assert path.name.partition(".")[0] == sha256_of(path)
    package = sealed_v5(shop, candidate)  # with room, the same call does it
    assert release_files.damaged(shop.layout, "credit", package.files) == []


def test_full_disk_while_metadata_are_written_publishes_later(
    shop: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shop.database.begin() as conn:
        registry.publish(
            conn, "credit", "v2", trigger=ACTOR, actor="t", reason="r", now=shop.now,
            lifetimes=shop.lifetimes,
        )  # fmt: skip

    # a limit on the process would hit SQLite too: only the repository's files meet the full disk
    real = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    own = writer(shop, "full")
    own.tick()
    assert "no room" in str(own.problem)
    seen = Repository(shop.layout.repository, shop.trust, cache=tmp_path / "early")
    assert seen.pointer("credit").stable == "v1"
    monkeypatch.setattr(os, "fsync", real)
    own.tick()
    assert own.problem is None
    assert check(shop, tmp_path).stable == "v2"
