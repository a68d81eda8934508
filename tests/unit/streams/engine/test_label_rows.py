"""Labels: read, refused where nobody could believe them, and as rows of their table."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from stream_rows import CONFIG, label, new_database, prediction, record

from redistill.streams.engine.label_rows import (
    LabelIntake,
    Origin,
    ReadLabel,
    in_time,
    label_row,
    read_labels,
)
from redistill.streams.engine.unregistered import UnregisteredRows
from redistill.streams.engine.version_room import VersionRoom
from redistill.streams.errors import WireError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.label_trust import Cutover
from redistill.streams.store import tables as t
from redistill.streams.store.batch import FlushBatch, NameLimits, Partition
from redistill.streams.store.database import Database
from redistill.streams.store.specs import WatchedModel
from redistill.streams.wire.hashing import id_hashes, signed

NOW = datetime(2026, 4, 1, tzinfo=UTC)
NOW_US = round(NOW.timestamp() * 1e6)
SALT = b"s" * 16
COMMON = Origin(Partition("t", 0))


def test_labels_come_with_the_hash_that_predictions_are_joined_by() -> None:
    labels, dead = read_labels([record(label(i), i) for i in range(3)], now=NOW_US, salt=SALT)
    assert dead == []
    assert [x.event.id for x in labels] == ["row-0", "row-1", "row-2"]
    hashes = signed(id_hashes(["row-0", "row-1", "row-2"], SALT)).tolist()
    assert [x.id_hash for x in labels] == hashes


def test_what_is_no_label_is_dead_and_the_rest_is_read() -> None:
    late = label(2, observed_at=NOW + timedelta(days=2))
    records = [
        record(label(0), 0),
        record(prediction(1), 1),
        record(late, 2),
        record(label(3), 3)._replace(value=b"{"),
    ]
    labels, dead = read_labels(records, now=NOW_US, salt=SALT)
    assert [x.event.id for x in labels] == ["row-0"]
    assert [(r.offset, why.code) for r, why in dead] == [  # type: ignore[attr-defined]
        (1, "unknown_type"), (2, "invalid_field"), (3, "malformed"),
    ]  # fmt: skip
    assert read_labels([], now=NOW_US, salt=SALT) == ([], [])


@pytest.mark.parametrize(
    ("hours", "refused"),
    [
        (-9_999, ""),
        (24, ""),
        (25, "more than a day ahead"),
        (-24 * 365 * 50, ""),
        (-24 * 366 * 57, "before 1970"),
        (-24 * 365 * 2_000, "before 1970"),
    ],
)
def test_label_may_be_a_day_ahead_and_as_old_as_1970(hours: float, refused: str) -> None:
    event = label(0, observed_at=NOW + timedelta(hours=hours))
    if not refused:
        in_time(event, NOW_US)
        return
    with pytest.raises(WireError, match=refused):
        in_time(event, NOW_US)


def test_row_holds_every_column_but_the_time_of_its_flush() -> None:
    row = label_row(label(1), 5, state="waiting")
    assert set(row) | {"received_at"} == {c.name for c in t.labels.columns}
    assert (row["id"], row["id_hash"], row["label"], row["state"]) == (
        "row-1",
        5,
        "repay",
        "waiting",
    )
    assert row["observed_at"] == round(label(1).observed_at.timestamp() * 1e6)
    assert row["slices"] is None
    assert label_row(label(1), 5, state="ignored")["state"] == "ignored"


def test_numbers_are_named_as_classes_are_and_slices_are_sorted_json() -> None:
    ((read, *_),), dead = read_labels(
        [record(label(1, label=2.0, prediction=True, version="7", segment={"b": "2", "a": "1"}), 0)],
        now=NOW_US, salt=SALT,
    )  # fmt: skip
    row = label_row(read, 5, state="waiting")
    assert dead == []
    assert (row["label"], row["prediction"]) == ("2", "true")
    assert row["slices"] == json.dumps({"a": "1", "b": "2"}, separators=(",", ":"))


def test_a_label_that_could_be_two_numbers_is_dead() -> None:
    records = [record(label(0, label=2.0**53 + 2), 0), record(label(1, label=2**53 + 1), 1)]
    ((good, *_),), dead = read_labels(records, now=NOW_US, salt=SALT)
    assert good.label == "9007199254740993"
    assert [(r.offset, "beyond 2^53" in str(why)) for r, why in dead] == [(0, True)]  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------ bounds


def intake(db: Database, **limits: int) -> tuple[LabelIntake, FlushBatch, dict[str, WatchedModel]]:
    names = NameLimits(**limits)
    made = LabelIntake(VersionRoom(db, names), UnregisteredRows(db, names))
    watched = {"credit": WatchedModel(CONFIG, 1, {"7": (None, None)})}
    return made, FlushBatch(), watched


def test_versions_that_labels_bring_have_room_like_others(tmp_path: Path) -> None:
    db = new_database(f"sqlite:///{tmp_path / 'x.db'}")
    labels, batch, watched = intake(db, versions=2)
    events = [label(i, version=v, prediction="repay") for i, v in enumerate(["7", "a", "b", "c"])]
    labels.add([ReadLabel(e, 0, 0) for e in events], watched, batch, COMMON)
    rows = [(r["version"], r["prediction"]) for r in batch.labels]
    assert rows == [("7", "repay"), ("a", "repay"), ("b", "repay"), (None, None)]
    assert batch.counters == {("credit", "labels_version_left_out"): 1}
    db.dispose()


@pytest.mark.parametrize("word", ["nan", "None", "NULL", "<NA>", " NaN ", "n/a"])
def test_a_missing_label_that_was_written_as_text_is_no_wrong_answer(
    tmp_path: Path, word: str
) -> None:
    db = new_database(f"sqlite:///{tmp_path / 'x.db'}")
    labels, batch, watched = intake(db)
    schema = dataclasses.replace(CONFIG.schema, classes=("repay", "default", "none"))
    config = dataclasses.replace(CONFIG, schema=schema)
    watched["credit"] = dataclasses.replace(watched["credit"], config=config)
    events = [
        label(0, label=word),
        label(1, label=word, op="retract"),
        label(2, version="7", prediction=word),
        label(3, label="a new class"),
        label(4, label="none"),
    ]
    labels.add([ReadLabel(e, 0, 0) for e in events], watched, batch, COMMON)
    found = [(r["id"], r["prediction"]) for r in batch.labels]
    assert found == [(e.id, None) for e in events[1:]]
    assert batch.counters == {("credit", "labels_null_word"): 1}
    db.dispose()


def test_segments_of_labels_are_bounded_and_the_label_counts(tmp_path: Path) -> None:
    db = new_database(f"sqlite:///{tmp_path / 'x.db'}")
    labels, batch, watched = intake(db)
    many = {f"k{i:02d}": "v" for i in range(30)}
    for segment in ({"a": "v" * 257, "b": "v" * 256}, {"k" * 257: "v"}, many, {"a": "v"}):
        labels.add([ReadLabel(label(0, segment=segment), 0, 0)], watched, batch, COMMON)
    slices = [json.loads(r["slices"] or "{}") for r in batch.labels]
    assert [len(s) for s in slices] == [1, 0, 20, 1]
    assert batch.counters == {("credit", "invalid_segment"): 3}
    db.dispose()


def test_label_of_more_than_256_characters_is_dead() -> None:
    records = [record(label(0, label="x" * 256), 0)]
    good = records[0]
    for i, text in enumerate(('"' + "x" * 257 + '"', "9" * 300), 1):
        value = (good.value or b"").replace(b'"' + b"x" * 256 + b'"', text.encode())
        records.append(good._replace(offset=i, value=value))
    labels, dead = read_labels(records, now=NOW_US, salt=SALT)
    assert [x.event.label for x in labels] == ["x" * 256]
    assert [(r.offset, why.code) for r, why in dead] == [(1, "invalid_field"), (2, "invalid_field")]  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------ trust


LEDGER = Origin(Partition("l", 0), "ledger")


def test_on_the_topic_of_a_source_nobody_else_is_believed() -> None:
    records = [record(label(0), 0), record(label(1, source="gossip"), 1)]
    labels, ((dead, why),) = read_labels(records, now=NOW_US, salt=SALT, source="ledger")
    assert [(x.event.id, x.offset) for x in labels] == [("row-0", 0)]
    assert dead is records[1]
    assert str(why) == "invalid_field: source 'gossip' on the topic of the source 'ledger'"


def states(batch: FlushBatch) -> list[tuple[str, bool, str]]:
    return [(row["source"], row["bound"], row["state"]) for row in batch.labels]


@pytest.mark.parametrize(
    ("sources", "bound_sources", "common", "ledger"),
    [
        ((), (), "waiting", "waiting"),
        (("analyst",), (), "ignored", "ignored"),
        (("ledger",), ("ledger",), "ignored", "waiting"),
        ((), ("ledger",), "ignored", "waiting"),
        (("ledger", "bank"), ("bank",), "ignored", "ignored"),
    ],
)
def test_label_counts_by_its_source_and_where_it_was_read(
    tmp_path: Path,
    sources: tuple[str, ...],
    bound_sources: tuple[str, ...],
    common: str,
    ledger: str,
) -> None:
    db = new_database(f"sqlite:///{tmp_path / 'x.db'}")
    labels, batch, watched = intake(db)
    config = dataclasses.replace(CONFIG, label_sources=sources, bound_sources=bound_sources)
    watched["credit"] = dataclasses.replace(watched["credit"], config=config)
    for origin in (COMMON, LEDGER):
        labels.add([ReadLabel(label(0), 0, 0)], watched, batch, origin)
    assert states(batch) == [("ledger", False, common), ("ledger", True, ledger)]
    db.dispose()


def test_what_lay_on_the_common_topic_when_its_source_was_bound_counts(tmp_path: Path) -> None:
    db = new_database(f"sqlite:///{tmp_path / 'x.db'}")
    labels, batch, watched = intake(db)
    cutover = Cutover(sources=("ledger",), offsets={"t/0": 2})
    config = dataclasses.replace(CONFIG, bound_sources=("ledger",), cutover=cutover)
    config = WatchConfig.from_json(config.to_json())  # as a worker is told
    watched["credit"] = dataclasses.replace(watched["credit"], config=config)
    lay = [ReadLabel(label(i), 0, i) for i in (1, 2)]
    labels.add([*lay, ReadLabel(label(3, source="analyst"), 0, 0)], watched, batch, COMMON)
    other = Origin(Partition("made-again", 0))
    labels.add([ReadLabel(label(4), 0, 0)], watched, batch, other)
    assert states(batch) == [
        ("ledger", True, "waiting"), ("ledger", False, "ignored"),
        ("analyst", False, "ignored"), ("ledger", False, "ignored"),
    ]  # fmt: skip
    db.dispose()


def test_label_of_an_unregistered_model_waits_where_its_source_alone_may_write(
    tmp_path: Path,
) -> None:
    db = new_database(f"sqlite:///{tmp_path / 'x.db'}")
    labels, batch, watched = intake(db)
    many = {f"k{i:02d}": "v" for i in range(30)}
    read = ReadLabel(label(0, model="new", version="1", prediction="NaN", segment=many), 5, 0)
    for origin in (COMMON, LEDGER):
        labels.add([read], watched, batch, origin)
    (row,) = batch.labels
    assert (row["model"], row["state"], row["bound"]) == ("new", "unregistered", True)
    assert (row["version"], row["prediction"]) == ("1", None), "which classes there are is unknown"
    assert len(json.loads(row["slices"])) == 20
    assert batch.counters == {("", "labels_unknown"): 1, ("new", "invalid_segment"): 1}
    db.dispose()
