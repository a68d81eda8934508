"""``model.toml`` as it is read: every mistake in it is named with its place, all at once."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from model_toml import REPAIR, WATCH, load, refused, write_files

from redistill.compress.judge.gates.table import RULES
from redistill.streams.wire.block import Feature
from redistill.workers.errors import SpecError
from redistill.workers.models import spec_file
from redistill.workers.models.spec_file import SECTIONS, TOP_KEYS, parse
from redistill.workers.models.spec_gates import ELSEWHERE
from redistill.workers.models.spec_schema import SCHEMA_KEYS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path)


def test_watch_needs_only_a_schema(tmp_path: Path) -> None:
    spec = load(tmp_path, WATCH)
    assert spec.level == "watch"
    assert spec.schema.features == (
        Feature(name="income", minimum=0),
        Feature(name="age", kind="int"),
        Feature(name="region", kind="category", values=("EU", "US")),
    )


def test_all_problems_are_reported_together(folder: Path) -> None:
    text = (
        REPAIR.replace("wait_hours = 12", 'wait_hours = "x"')
        .replace("batch = 8", "bach = 8")
        .replace("tolerance_points = 2", "tolerance_points = -1")
        .replace('approval = "on_request"', 'approval = "maybe"')
        .replace('onnx = "teacher.onnx"', 'onnx = "nowhere.onnx"')
        .replace('schedule = "0 3 * * SUN"', 'schedule = "daily"')
        .replace("format = 1", "format = 2")
    )
    problems = refused(folder, text)
    for expected in (
        "[serving] bach: there is no such key; did you mean batch?",
        "[repair] wait_hours = 'x': a number of hours was expected",
        "[watch] tolerance_points = -1: more than 0.0 was expected",
        "[repair] approval = 'maybe': 'automatic', 'on_request' or 'paused' was expected",
        f"[teacher] onnx = 'nowhere.onnx': there is no such file ({folder / 'nowhere.onnx'})",
        "format = 2: 1 was expected",
    ):
        assert expected in problems
    assert any(p.startswith("[repair] schedule = 'daily': five fields") for p in problems)
    assert len(problems) == 7


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('name = "credit"', 'name = "Credit!"', "name = 'Credit!': lower-case letters"),
        ('name = "credit"\n', "", "name is missing"),
        ('"credit"\ntask = "classification"', '"credit"\ntask = "regression"', "not yet"),
        ('level = "repair"', 'level = "fix"', "level = 'fix': 'watch', 'rollback' or 'repair'"),
        ('store_features = ["p[0-2]"]', 'store_features = ["q"]', "'q' is no feature"),
        ("[privacy]", '[card]\nuse = "x"\n[privacy]', "[card] use: there is no such key"),
        ("[privacy]", "[card]\nusers = 5\n[privacy]", "[card] users = 5: "),
        ("[privacy]", f"[card]\nusers = {'x' * 2_001!r}\n[privacy]", "[card] users has 2,001 char"),
        ("[privacy]", "[privcy]", "privcy: there is no such key; did you mean privacy?"),
        ("sources = [", 'sources = "x" #', "[labels] sources = 'x': a list was expected"),
        (
            "[labels]",
            '[labels]\nbound = ["a.b"]',
            "bound[0] = 'a.b': the name of a bound source is",
        ),
        (
            "[labels]",
            '[labels]\nbound = ["x"]',
            "[labels] bound: 'x' is not among [labels] sources",
        ),
        (
            "[labels]",
            '[labels]\nbound = ["ledger", "ledger"]',
            "bound: 'ledger' stands there twice",
        ),
        ("max_jobs_per_day = 3", "max_jobs_per_day = 1.5", "a whole number"),
        ("torch = ", 'torch = "x" #', "package.module:Class was expected"),
        (
            "agreement = {",
            "size = { max_bytes = 1 } #",
            "[gates.size] max_bytes: it is written as [repair] max_bytes",
        ),
        ("agreement = {", "agreemnt = {", "[gates] agreemnt: there is no such key; did you mean"),
        ("least = 0.9", "last = 0.9", "[gates.agreement] last: there is no such key; did you mean"),
        ("least = 0.9", 'least = "x"', "[gates.agreement] least = 'x'"),
        ("agreement = {", "fresh = 3 #", "[gates] fresh = 3: a section [gates.fresh] was expected"),
        ("agreement = {", "loads = { x = 1 } #", "[gates.loads] x: there is no such key; nothing"),
        ("agreement = {", "fresh = { e_value = 1e400 } #", "[gates.fresh] e_value = inf: a number"),
        (
            "agreement = {",
            "kept = { margin_points = 1000 } #",
            "margin_points = 1000: a number from",
        ),
        ("agreement = {", "verified = { min_rows = 0 } #", "min_rows = 0: a whole number from 1"),
        ("agreement = {", "min_e_value = -1 #", "[gates] min_e_value = -1: a number from 10 to"),
        ("agreement = {", "max_bytes = 1 #", "[gates] max_bytes: it is written as [repair]"),
        (
            "[gates]",
            "[gates]\nmin_agreement = 0.9",
            "[gates] min_agreement is also set as [gates.agreement]",
        ),
        ("sources = [", 'sources = ["z", "y", "z", ', "[labels] sources: 'z' stands there twice"),
        ("[model]", "[model]\ncosts = [[0, 1]]", "[model] costs = [[0, 1]]: 2 lists of 2 numbers"),
        ("[model]", "[model]\ncosts = [[1, 1], [1, 0]]", "costs[0][0] = 1: 0 (the answer"),
        ("[model]", "[model]\ncosts = [[0, 0], [0, 0]]", "no mistake costs anything"),
        ("[model]", '[model]\ncosts = [[0, "x"], [0, 0]]', "[model] costs[0][1] = 'x': a number"),
        ("[model]", f"[model]\ncosts = [[0, {'9' * 400}], [1, 0]]", "costs[0][1] = 999"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(
    folder: Path, old: str, new: str, expected: str
) -> None:
    assert old in REPAIR
    problems = refused(folder, REPAIR.replace(old, new, 1))
    assert sum(expected in p for p in problems) == 1, problems


@pytest.mark.parametrize(
    ("level", "missing"),
    [
        ("rollback", ["[model] version", "[model] onnx", "[data] trusted"]),
        (
            "repair",
            [
                "[model] version",
                "[model] onnx",
                "[data] trusted",
                "[data] reference",
                "[teacher] onnx",
            ],
        ),
    ],
)
def test_a_level_names_what_it_needs(tmp_path: Path, level: str, missing: list[str]) -> None:
    problems = refused(tmp_path, WATCH.replace("[schema]", f'level = "{level}"\n[schema]'))
    assert [p.split(" is missing")[0] for p in problems] == missing


def test_a_file_that_is_no_toml_is_said(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is not TOML"):
        parse("name = ", tmp_path / "model.toml")
    with pytest.raises(SpecError, match="nested too deeply"):
        parse("name = " + "[" * 5_000, tmp_path / "model.toml")
    with pytest.raises(SpecError, match="no such file"):
        spec_file.read(tmp_path / "none.toml")


def test_docs_list_every_key() -> None:
    text = (Path(__file__).parents[4] / "docs" / "model-toml.md").read_text()
    documented = re.findall(r"^\| `([^`]+)` \|", text, re.M)
    expected = list(TOP_KEYS)
    for name, section in SECTIONS.items():
        expected += [f"[{name}] {f.name}" for f in dataclasses.fields(section)]
        if name == "teacher":
            expected += [f"[schema] {key}" for key in SCHEMA_KEYS]
    expected += [
        f"[gates.{rule.name}] {f.name}"
        for rule in RULES
        for f in dataclasses.fields(rule.limit)
        if (rule.name, f.name) not in ELSEWHERE
    ]
    assert sorted(documented) == sorted(expected)


def test_a_feature_that_is_the_column_of_labels_is_refused(tmp_path: Path) -> None:
    text = """
name = "m"
[model]
version = "1"
[schema]
features = { label = "float", x = "float" }
classes = ["a", "b"]
[data]
reference = "r.parquet"
"""
    (tmp_path / "r.parquet").write_bytes(b"")
    (told,) = refused(tmp_path, text)
    assert told.startswith("[data] label = 'label' is a feature as well")
    assert load(tmp_path, text + 'label = "y"\n').schema.names == ("label", "x")
    watched = text.replace('[data]\nreference = "r.parquet"\n', "")
    assert load(tmp_path, watched).schema.names == ("label", "x")


def test_a_key_of_an_older_release_counts_even_where_it_was_the_default(folder: Path) -> None:
    """Who wrote it down wished it: 100 was the default then, and 200 is today's."""
    text = REPAIR.replace("agreement = {", "min_e_value = 100 # {", 1)
    assert load(folder, text).gates == {"fresh": {"e_value": 100.0}}
    assert spec_file.outdated(folder / "model.toml") == (
        "[gates] min_e_value is read as [gates.fresh] e_value: write it so",
    )
    load(folder, REPAIR)
    assert spec_file.outdated(folder / "model.toml") == ()


def test_the_same_limit_written_in_two_ways_is_the_same(folder: Path) -> None:
    three = [
        load(folder, REPAIR.replace("agreement = {", f"{key} # {{", 1))
        for key in ("trusted.margin_points = 3", "trusted = { margin_points = 3.0 }")
    ]
    assert three[0].config_sha256() == three[1].config_sha256()
