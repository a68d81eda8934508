"""The rules by which a pointer moves, on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from release_kit import ACTOR, NUMERIC, Installation, install, report

from redistill.streams.store.tables import outbox, profiles, specs
from redistill.streams.wire.events import Trigger
from redistill.times import HOUR
from redistill.workers.errors import RegistryError, RegistryUsageError
from redistill.workers.releases import publication_history, registry
from redistill.workers.store import audit_chain
from redistill.workers.store.tables import audit as audit_table
from redistill.workers.store.tables import (
    barred,
    monitored_releases,
    pauses,
    pointer_history,
    pointers,
    versions,
)


@pytest.fixture
def shop(tmp_path: Path, database_url: str) -> Iterator[Installation]:
    inst = install(tmp_path / "home", database_url)
    inst.register("credit")
    yield inst
    inst.database.dispose()


def rows(inst: Installation, table: sa.Table) -> list[Any]:
    with inst.database.read() as conn:
        return list(conn.execute(sa.select(table)).mappings())


def events(inst: Installation, topic: str) -> list[dict[str, Any]]:
    return [
        json.loads(bytes(r["value"])) | {"after": r["after_snapshot"]}
        for r in rows(inst, outbox)
        if r["topic"] == topic
    ]


def three(inst: Installation) -> None:
    """v1 (baseline), v2 and v3 published one after the other."""
    inst.add("credit", "v1", 1, "baseline")
    inst.add("credit", "v2", 2)
    inst.add("credit", "v3", 3)
    for version in ("v1", "v2", "v3"):
        inst.publish("credit", version)


def test_publish_is_one_change_of_everything(shop: Installation) -> None:
    package = shop.add("credit", "v1", 1, "baseline")
    moved = shop.publish("credit", "v1")
    assert (moved.version, moved.previous, moved.epoch) == ("v1", None, 1)
    (pointer,) = rows(shop, pointers)
    assert (pointer["stable"], pointer["epoch"]) == ("v1", 1)
    (step,) = rows(shop, pointer_history)
    assert (step["stable"], step["change"], step["sha256"]) == (
        "v1",
        "publish",
        package.manifest.sha256,
    )
    (version,) = rows(shop, versions)
    assert (version["status"], version["published_at"]) == ("published", shop.now)
    candidate, published = events(shop, "releases")
    assert (candidate["status"], candidate["after"]) == ("candidate", None)
    assert (published["status"], published["after"]) == ("published", moved.snapshot)
    assert published["gates"][0]["name"] == "fresh_e_value"
    (wake,) = events(shop, "pointers")
    assert (wake["stable"], wake["epoch"], wake["after"]) == ("v1", 1, moved.snapshot)
    assert wake["stable_sha256"] == package.manifest_sha256
    assert rows(shop, monitored_releases) == []  # nothing to be compared with
    assert rows(shop, specs)[0]["revision"] == 2
    with shop.database.read() as conn:
        assert audit_chain.verify(conn).entries == 3  # registered, entered, published


def test_publishing_what_serves_changes_nothing(shop: Installation) -> None:
    shop.add("credit", "v1", 1, "baseline")
    shop.publish("credit", "v1")
    before = [rows(shop, t) for t in (pointers, pointer_history, outbox, versions)]
    again = shop.publish("credit", "v1")
    assert (again.epoch, again.snapshot) == (1, None)
    assert [rows(shop, t) for t in (pointers, pointer_history, outbox, versions)] == before


def test_a_version_is_entered_once_and_its_name_belongs_to_its_bytes(shop: Installation) -> None:
    package = shop.add("credit", "v1", 1, "baseline")
    shop.add("credit", "v1", 1, "baseline")
    assert len(rows(shop, versions)) == 1
    other = shop.package("credit", "v1", 2)
    assert other.manifest.sha256 != package.manifest.sha256
    with shop.database.begin() as conn, pytest.raises(RegistryError, match="choose another name"):
        registry.add_version(
            conn, other, report=report(), gate_passed=True, trigger=ACTOR, actor="t", now=1
        )


def test_profile_of_a_version_is_stored_and_stream_workers_are_told(shop: Installation) -> None:
    package = shop.package("credit", "v1", 1)
    with shop.database.begin() as conn:
        registry.add_version(
            conn, package, report=report(), gate_passed=True, trigger=ACTOR, actor="t", now=shop.now,
            profile=b"profile", base_error='{"rate": 0.1}', provisional=True,
        )  # fmt: skip
    (row,) = rows(shop, profiles)
    assert (bytes(row["profile"]), row["provisional"]) == (b"profile", True)
    assert rows(shop, specs)[0]["revision"] == 2


def test_what_did_not_pass_its_gates_is_never_published(shop: Installation) -> None:
    shop.add("credit", "v1", 1, passed=False)
    assert rows(shop, versions)[0]["status"] == "rejected"
    assert events(shop, "releases")[0]["status"] == "rejected"
    with pytest.raises(RegistryError, match="did not pass its gates: fresh_e_value"):
        shop.publish("credit", "v1")
    assert rows(shop, pointers) == []


def test_a_baseline_is_good_for_the_first_pointer_only(shop: Installation) -> None:
    shop.add("credit", "v1", 1, "baseline")
    shop.add("credit", "v2", 2)
    shop.add("credit", "other", 3, "baseline")
    shop.publish("credit", "v1")
    shop.publish("credit", "v2")
    with pytest.raises(RegistryError, match="rollback --to"):
        shop.publish("credit", "v1")
    with pytest.raises(RegistryError, match="redistill add"):
        shop.publish("credit", "other")


@pytest.mark.parametrize(
    ("model", "version", "why"),
    [("credit", "v9", "there are: v1"), ("loans", "v1", "no model named 'loans'")],
)
def test_unknown_names_are_told_with_what_there_is(
    shop: Installation, model: str, version: str, why: str
) -> None:
    shop.add("credit", "v1", 1)
    with pytest.raises(RegistryError, match=why):
        shop.publish(model, version)


def test_roll_back_of_an_unknown_model_says_so(shop: Installation) -> None:
    with pytest.raises(RegistryError, match="no model named 'nope': register it first"):
        shop.rollback("nope")


def test_watched_model_has_no_pointer(shop: Installation) -> None:
    shop.register("seen", level="watch")
    shop.add("seen", "v1", 1, "baseline")
    with pytest.raises(RegistryError, match="only watched"):
        shop.publish("seen", "v1")


def test_roll_back_goes_to_the_bytes_before_and_pauses_repair(shop: Installation) -> None:
    three(shop)
    moved = shop.rollback("credit")
    assert (moved.version, moved.previous, moved.epoch) == ("v2", "v3", 4)
    states = {r["version"]: r["status"] for r in rows(shop, versions)}
    assert states == {"v1": "published", "v2": "published", "v3": "rolledback"}
    (pause,) = rows(shop, pauses)
    assert pause["until"] == shop.now + HOUR
    assert rows(shop, barred) == []  # only an automatic roll back bars
    last = events(shop, "releases")[-1]
    assert (last["status"], last["version"], last["epoch"]) == ("rolledback", "v3", 4)
    assert events(shop, "pointers")[-1]["stable"] == "v2"


def test_two_roll_backs_go_two_steps_and_a_third_has_nowhere_to_go(shop: Installation) -> None:
    three(shop)
    assert shop.rollback("credit").version == "v2"
    assert shop.rollback("credit").version == "v1"
    with pytest.raises(RegistryError, match=r"before v1; --to takes any that served: v2, v3$"):
        shop.rollback("credit")
    assert shop.publish("credit", "v3").previous == "v1"  # forward again
    assert shop.rollback("credit").version == "v1"


def test_roll_back_to_a_later_version_leaves_a_way_to_the_others(shop: Installation) -> None:
    """What was gone back from is no default any more, but at night somebody may want it."""
    three(shop)
    shop.rollback("credit", to="v1")
    shop.rollback("credit", to="v3")
    with pytest.raises(RegistryError, match=r"before v3; --to takes any that served: v1, v2$"):
        shop.rollback("credit")


def test_roll_back_to_a_version_that_never_served_is_refused(shop: Installation) -> None:
    three(shop)
    shop.add("credit", "v4", 4)
    with pytest.raises(RegistryError, match="never served: use `redistill publish`"):
        shop.rollback("credit", to="v4")
    with pytest.raises(RegistryError, match="no version 'v8'"):
        shop.rollback("credit", to="v8")
    assert shop.rollback("credit", to="v1").version == "v1"
    assert shop.rollback("credit", to="v1").snapshot is None


def publish_again(shop: Installation, version: str, seed: str | None = None) -> Any:
    with shop.database.begin() as conn:
        sha256 = seed or registry.get(conn, "credit", version).sha256
        return registry.publish_again(
            conn, "credit", version, sha256=sha256, trigger=Trigger(kind="incident", id="i"),
            actor="worker:w1", reason="repair", now=shop.now, lifetimes=shop.lifetimes,
        )  # fmt: skip


def test_release_that_was_judged_anew_serves_again_and_is_compared_with_what_it_replaces(
    shop: Installation,
) -> None:
    three(shop)
    before = {r["version"]: r["report"] for r in rows(shop, versions)}
    moved = publish_again(shop, "v1")  # the first model, whose report counts for nothing else
    assert (moved.version, moved.previous, moved.epoch) == ("v1", "v3", 4)
    assert {r["version"]: r["report"] for r in rows(shop, versions)} == before
    assert rows(shop, pauses) == []
    watched = [r for r in rows(shop, monitored_releases) if r["state"] == "watching"]
    assert [(r["version"], r["predecessor"]) for r in watched] == [("v1", "v3")]
    with shop.database.read() as conn:
        assert publication_history.predecessor(conn, "credit") == "v3"  # a roll back undoes it


def test_release_that_never_served_has_other_bytes_or_is_barred_does_not_come_back(
    shop: Installation,
) -> None:
    three(shop)
    shop.add("credit", "v4", 4)
    with pytest.raises(RegistryError, match="v4 never served"):
        publish_again(shop, "v4")
    with pytest.raises(RegistryError, match="v1 has other bytes than those that were judged"):
        publish_again(shop, "v1", "0" * 64)
    with shop.database.begin() as conn:
        sha256 = registry.get(conn, "credit", "v2").sha256
        registry.bar(conn, "credit", sha256, reason="worse", now=shop.now)
    with pytest.raises(RegistryError, match="v2 is barred: worse"):
        publish_again(shop, "v2")
    assert rows(shop, pointers)[0]["stable"] == "v3"


def test_roll_back_without_a_pointer_is_refused(shop: Installation) -> None:
    with pytest.raises(RegistryError, match="nothing to roll back"):
        shop.rollback("credit")


def test_automatic_roll_back_bars_the_bytes(shop: Installation) -> None:
    three(shop)
    shop.rollback("credit", change="automatic_rollback")
    assert len(rows(shop, barred)) == 1
    with pytest.raises(RegistryError, match="v3 is barred: test"):
        shop.publish("credit", "v3")
    shop.add("credit", "v3-again", 3)  # another name, the same model.onnx
    with pytest.raises(RegistryError, match="barred"):
        shop.publish("credit", "v3-again")
    with shop.database.read() as conn:
        assert [v.version for v in publication_history.servable(conn, "credit")] == ["v1", "v2"]


def unbar(shop: Installation, sha256: str, model: str = "credit") -> registry.Unbarred:
    with shop.database.begin() as conn:
        return registry.unbar(
            conn, model, sha256, actor="cli:ann", reason="forged labels", now=shop.now
        )


def test_bar_is_lifted_by_a_person_and_audited(shop: Installation) -> None:
    three(shop)
    shop.rollback("credit", change="automatic_rollback")
    (bar,) = rows(shop, barred)
    done = unbar(shop, bar["sha256"][:8].upper())
    assert (done.versions, done.barred_for) == (("v3",), bar["reason"])
    assert rows(shop, barred) == []
    entry = rows(shop, audit_table)[-1]
    assert (entry["actor"], entry["action"], entry["subject"]) == (
        "cli:ann", "release.unbar", "credit",
    )  # fmt: skip
    assert json.loads(entry["body"]) == {
        "sha256": bar["sha256"], "versions": ["v3"], "barred_for": bar["reason"],
        "reason": "forged labels",
    }  # fmt: skip
    with shop.database.read() as conn:
        assert audit_chain.verify(conn).problem is None
        assert registry.get(conn, "credit", "v3").status == "rolledback"
    assert rows(shop, pointers)[0]["stable"] == "v2", "no pointer moves"
    assert shop.publish("credit", "v3").version == "v3"


def test_unbar_refuses_what_is_not_barred_and_changes_nothing(shop: Installation) -> None:
    three(shop)
    entries = len(rows(shop, audit_table))
    with pytest.raises(RegistryError, match=r"no bytes are barred .* nor any others"):
        unbar(shop, "ab" * 32)
    with shop.database.begin() as conn:
        for sha256 in ("abcdef00" * 8, "abcdef01" * 8):
            registry.bar(conn, "credit", sha256, reason="poisoned", now=1)
    with pytest.raises(RegistryError, match="barred are abcdef00abcd, abcdef01abcd"):
        unbar(shop, "12345678")
    with pytest.raises(RegistryUsageError, match="2 barred hashes begin with abcdef0"):
        unbar(shop, "abcdef0")
    with pytest.raises(RegistryUsageError, match="nope"):
        unbar(shop, "abcdef00", model="nope")
    assert len(rows(shop, barred)) == 2
    assert len(rows(shop, audit_table)) == entries


def test_roll_back_skips_what_is_barred(shop: Installation) -> None:
    three(shop)
    with shop.database.begin() as conn:
        bar = registry.get(conn, "credit", "v2").sha256
        registry.bar(conn, "credit", bar, reason="poisoned", now=1)
    with pytest.raises(RegistryError, match="poisoned"):
        shop.rollback("credit", to="v2")
    assert shop.rollback("credit").version == "v1"


def test_a_longer_pause_is_not_shortened(shop: Installation) -> None:
    with shop.database.begin() as conn:
        registry.pause(conn, "credit", until=500, reason="long")
        registry.pause(conn, "credit", until=400, reason="short")
    assert [(r["until"], r["reason"]) for r in rows(shop, pauses)] == [(500, "long")]
    with shop.database.begin() as conn:
        registry.pause(conn, "credit", until=600, reason="longer")
    assert rows(shop, pauses)[0]["until"] == 600


def test_monitoring_begins_with_a_publish_and_ends_with_the_next_move(shop: Installation) -> None:
    three(shop)
    states = [(r["version"], r["predecessor"], r["state"]) for r in rows(shop, monitored_releases)]
    assert states == [("v2", "v1", "superseded"), ("v3", "v2", "watching")]
    shop.rollback("credit")
    assert {r["state"] for r in rows(shop, monitored_releases)} == {"superseded"}


def test_epoch_only_grows_and_every_step_is_kept(shop: Installation) -> None:
    three(shop)
    shop.rollback("credit")
    shop.publish("credit", "v3")
    steps = sorted(rows(shop, pointer_history), key=lambda r: r["epoch"])
    assert [(r["epoch"], r["stable"], r["change"]) for r in steps] == [
        (1, "v1", "publish"),
        (2, "v2", "publish"),
        (3, "v3", "publish"),
        (4, "v2", "rollback"),
        (5, "v3", "publish"),
    ]


def test_models_do_not_touch_each_other(shop: Installation) -> None:
    three(shop)
    shop.register("loans")
    shop.add("loans", "v1", 9, "baseline", schema=NUMERIC)
    moved = shop.publish("loans", "v1")
    assert moved.epoch == 1
    by_model = {r["model"]: r["stable"] for r in rows(shop, pointers)}
    assert by_model == {"credit": "v3", "loans": "v1"}


def test_refused_change_leaves_no_trace(shop: Installation) -> None:
    three(shop)
    tables = (pointers, pointer_history, outbox, versions, monitored_releases, pauses, specs)
    before = [rows(shop, t) for t in tables]
    with pytest.raises(RegistryError):
        shop.rollback("credit", to="nothing")
    assert [rows(shop, t) for t in tables] == before


def test_trigger_of_a_job_is_kept_with_the_step(shop: Installation) -> None:
    shop.add("credit", "v1", 1, "baseline")
    trigger = Trigger(kind="incident", id="i-7")
    with shop.database.begin() as conn:
        registry.publish(
            conn, "credit", "v1", trigger=trigger, actor="worker:x", reason="why", now=shop.now,
            lifetimes=shop.lifetimes,
        )  # fmt: skip
    (step,) = rows(shop, pointer_history)
    assert json.loads(step["trigger"]) == {"kind": "incident", "id": "i-7"}
    assert step["reason"] == "why"
