"""Traffic of an unregistered model: what is learned from samples of it, and the file made of that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loop
import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from odd_names import ODD

from redistill.streams.store.tables import unregistered
from redistill.streams.wire.arrow_encode import encode_batch
from redistill.streams.wire.events import TEXT_CHARACTERS
from redistill.workers.errors import UsageError
from redistill.workers.models import spec_file
from redistill.workers.models.spec import ModelSpec
from redistill.workers.models.traffic import Seen, look, to_toml


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sa.Connection]:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    with database.begin() as open_conn:
        yield open_conn
    database.dispose()


def sample(prediction: Any, **columns: Any) -> bytes:
    """Rows with these predictions and a number, as stream workers store them."""
    n = len(prediction)
    return encode_batch(
        model="seen",
        version="v1",
        ids=[str(i) for i in range(n)],
        served_at=np.arange(n, dtype=np.int64),
        feature_names=["x"],
        features=np.zeros((n, 1), np.float32),
        prediction=prediction,
        **columns,
    )


def put(
    conn: sa.Connection, data: bytes | None, *, version: str = "v1", rows: int = 9, at: int = 1
) -> None:
    conn.execute(
        sa.insert(unregistered).values(
            model="seen", version=version, rows=rows, first_seen_at=1, last_seen_at=at, sample=data
        )
    )


def test_samples_of_all_versions_are_added_up_and_the_last_version_counts(
    conn: sa.Connection,
) -> None:
    put(conn, sample(["no", "yes"], categories={"c": ["a", None]}), version="v2", rows=70, at=5)
    put(conn, sample(["no"], segments={"s": ["web"]}), version="v1", rows=30, at=3)
    put(conn, None, version="v0", rows=4, at=1)
    seen = look(conn, "seen")
    assert (seen.version, seen.rows, seen.sampled) == ("v2", 104, 3)
    assert [(f.name, f.kind, f.values) for f in seen.features] == [
        ("x", "float", ()), ("c", "category", ("a",)),
    ]  # fmt: skip
    assert seen.classes() == (("no", "yes"), ())
    assert seen.segments == {"s": Counter({"web": 1})}


def test_the_order_of_the_scores_is_that_of_the_classes(conn: sa.Connection) -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, np.nan], [np.nan, np.nan]], np.float32)
    put(conn, sample(["yes", "no", "yes", "no"], scores=scores))
    assert look(conn, "seen").classes() == (("yes", "no"), ())


@pytest.mark.parametrize(
    ("single", "classes", "sure"),
    [
        ([0.1, 0.9, 0.4, 0.5], ("no", "yes"), True),
        ([0.9, 0.1, 0.8, 0.2], ("yes", "no"), True),  # it is the probability of "no"
        ([0.9, 0.9, 0.6, 0.8], ("no", "yes"), False),  # it may be a confidence
        ([np.nan, 0.9, np.nan, 0.8], ("no", "yes"), False),
    ],
)
def test_one_score_of_two_classes_is_the_probability_of_the_second(
    conn: sa.Connection, single: list[float], classes: tuple[str, ...], sure: bool, tmp_path: Path
) -> None:
    scores = np.array(single, np.float32)[:, None]
    put(conn, sample(["no", "yes"] * 2, scores=scores))
    seen = look(conn, "seen")
    found, warnings = seen.classes()
    assert found == classes
    assert [w.startswith("each row has one score") for w in warnings] == [True] * (not sure)
    assert spec_file.parse(to_toml(seen)[0], tmp_path / "seen.toml").schema.classes == classes


@pytest.mark.parametrize(
    ("top", "predictions", "classes", "guessed"),
    [
        ({0: {"b": 9, "a": 1}, 1: {"a": 5}}, "ab", ("b", "a"), None),
        ({0: {"b": 9}, 1: {"b": 3, "a": 2}}, "ab", ("b", "a"), None),  # the surer one has it
        ({0: {"b": 9}}, "ab", ("b", "a"), "1: a"),
        ({1: {"b": 9}}, "b", ("class-0", "b"), "0: class-0"),
    ],
)
def test_a_class_that_the_sample_does_not_show_is_guessed_with_a_warning(
    top: dict[int, dict[str, int]], predictions: str, classes: tuple[str, ...], guessed: str | None
) -> None:
    seen = Seen("seen", "v1", 9, scores=2, predictions=Counter(predictions))
    seen.top = {i: Counter(names) for i, names in top.items()}
    found, warnings = seen.classes()
    assert found == classes
    assert [w.rpartition("[schema] classes: ")[2] for w in warnings] == (
        [guessed] if guessed else []
    )


def test_slices_are_segments_of_few_values() -> None:
    seen = Seen("seen", "v1", 9)
    seen.segments = {
        "channel": Counter("ab"),
        "one": Counter("a"),
        "user": Counter(str(i) for i in range(51)),
    } | {f"s{i}": Counter("ab") for i in range(12)}
    assert seen.slices() == ("channel", *sorted(f"s{i}" for i in range(12))[:9])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "9 rows of seen were counted, but no sample of them is stored yet"),
        (sample(np.array([0.5, 1.0])), "predictions of seen are numbers, not classes"),
        (sample([f"c{i}" for i in range(101)]), "predictions of seen are numbers, not classes"),
        (sample(["no", "no"]), "seen only ever predicted 'no' in 2 sampled rows"),
    ],
)
def test_traffic_that_teaches_nothing_is_said(
    conn: sa.Connection, data: bytes | None, said: str
) -> None:
    put(conn, data)
    with pytest.raises(UsageError, match=said):
        look(conn, "seen")


def test_a_model_that_was_not_seen_is_said_with_those_that_were(conn: sa.Connection) -> None:
    with pytest.raises(UsageError, match=r"no rows of 'sen' .*no model was seen at all"):
        look(conn, "sen")
    put(conn, None)
    with pytest.raises(UsageError, match=r"unregistered models that were seen: seen\)"):
        look(conn, "sen")
    loop.register(conn, loop.spec("credit"), version=None)
    with pytest.raises(UsageError, match="credit is registered already"):
        look(conn, "credit")


def test_whole_numbers_are_names_of_classes(conn: sa.Connection) -> None:
    put(conn, sample(np.array([0.0, 1.0, 1.0])))
    assert look(conn, "seen").classes() == (("0", "1"), ())


def test_the_file_is_read_back_as_what_was_seen(conn: sa.Connection, tmp_path: Path) -> None:
    odd = 'it\'s "9" \\ ü\x7f\n'
    put(
        conn,
        sample(
            ["no", odd],
            categories={odd: ["a", odd], "plain-1": ["b", "b"]},
            segments={"channel": ["web", "app"]},
        ),
    )
    text, warnings = to_toml(look(conn, "seen"))
    spec = spec_file.parse(text, tmp_path / "model.toml")
    assert (spec.name, spec.level, spec.model.version) == ("seen", "watch", "v1")
    assert spec.schema.classes == tuple(sorted(["no", odd]))
    assert {f.name: f.values for f in spec.schema.features} == {
        "x": (), odd: tuple(sorted(["a", odd])), "plain-1": ("b",),
    }  # fmt: skip
    assert spec.schema.slices == ("channel",)
    assert warnings == ()
    assert "plain-1 = [" in text


@pytest.mark.parametrize("kind", ["numbers", "categories"])
def test_every_name_that_was_seen_is_registered_as_it_stands(kind: str, tmp_path: Path) -> None:
    seen = Seen("seen", "v1", 2, sampled=2, predictions=Counter("ab"))
    if kind == "numbers":
        seen.numbers = dict.fromkeys(ODD)
    else:
        values = [name for name in ODD if len(name) <= TEXT_CHARACTERS]  # no others are sampled
        seen.categories = {name: Counter(values) for name in ODD}
    text, _ = to_toml(seen)
    spec = spec_file.parse(text, tmp_path / "seen.toml")
    assert spec.schema.features == seen.features
    assert sorted(spec.schema.names) == sorted(ODD)
    assert ModelSpec.from_json(spec.to_json()) == spec


NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=30)


@given(st.sets(NAMES | st.sampled_from(ODD), min_size=2, max_size=20))
def test_any_names_come_back_from_the_file(names: set[str]) -> None:
    classes = {name[:TEXT_CHARACTERS] for name in names}
    seen = Seen("seen", "v1", 2, sampled=2, predictions=Counter(classes))
    seen.numbers = dict.fromkeys(names)
    schema = spec_file.parse(to_toml(seen)[0], Path("/seen.toml")).schema
    assert schema.names == tuple(seen.numbers)
    assert sorted(schema.classes) == sorted(classes)


def test_a_sample_with_odd_columns_is_read_back(conn: sa.Connection) -> None:
    data = encode_batch(
        model="seen",
        version="v1",
        ids=list("abcd"),
        served_at=np.arange(4, dtype=np.int64),
        feature_names=ODD,
        features=np.ones((4, len(ODD)), np.float32),
        prediction=["a", "b"] * 2,
        categories={f"{name}|": ["u", "v"] * 2 for name in ODD},
        segments={name: ["s", "t"] * 2 for name in ODD},
    )
    put(conn, data)
    seen = look(conn, "seen")
    assert [f.name for f in seen.features] == [*ODD, *sorted(f"{name}|" for name in ODD)]
    assert set(seen.segments) == set(ODD)


def test_booleans_of_older_and_newer_loggers_are_the_same_classes(conn: sa.Connection) -> None:
    put(conn, sample(["True", "False", "True"]), version="old")
    put(conn, sample(["true", "false"]), version="new")
    assert look(conn, "seen").classes() == (("false", "true"), ())


def test_columns_whose_names_hold_nul_are_left_out_and_said(
    conn: sa.Connection, tmp_path: Path
) -> None:
    data = encode_batch(
        model="seen",
        version="v1",
        ids=list("ab"),
        served_at=np.arange(2, dtype=np.int64),
        feature_names=["x", "a\0b"],
        features=np.ones((2, 2), np.float32),
        prediction=["a", "b"],
        categories={"c\0": ["u", "v"]},
        segments={"s\0": ["u", "v"]},
    )
    put(conn, data)
    text, warnings = to_toml(look(conn, "seen"))
    assert spec_file.parse(text, tmp_path / "seen.toml").schema.names == ("x",)
    assert warnings == (r"columns whose names hold NUL are left out: 'a\x00b', 'c\x00', 's\x00'",)


def test_a_category_that_looks_like_an_id_is_kept_with_a_warning(conn: sa.Connection) -> None:
    ids = {"customer_id": [f"u{i}" for i in range(30)], "land": ["DE", "FR"] * 15}
    put(conn, sample(["no", "yes"] * 15, categories=ids))
    text, warnings = to_toml(look(conn, "seen"))
    assert "customer_id" in text
    (warning,) = warnings
    assert "the values of 'customer_id' hardly repeat" in warning
