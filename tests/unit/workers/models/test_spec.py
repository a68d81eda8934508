from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from redistill.compress.plan import GraphSpec, Limits
from redistill.streams.wire.block import Feature
from redistill.workers.errors import SpecError
from redistill.workers.models import cron, spec_file
from redistill.workers.models.spec import ModelSpec
from redistill.workers.models.spec_file import parse
from redistill.workers.settings.settings import Settings

WATCH = """
format = 1
name = "credit"
[schema]
features = { income = { type = "float", min = 0 }, age = "int", region = ["EU", "US"] }
classes = ["repay", "default"]
"""

REPAIR = """
format = 1
name = "credit"
task = "classification"
level = "repair"
[model]
version = "2026-03"
onnx = "student.onnx"
training = "student/"
[teacher]
onnx = "teacher.onnx"
torch = "credit.nets:Teacher"
weights = "teacher.safetensors"
output_kind = "probabilities"
[schema]
features = { "p[0-3]" = { type = "float", min = 0, max = 1 }, region = ["EU", "US"] }
order = ["region", "p[0-3]"]
classes = ["repay", "default"]
slices = ["region"]
[data]
reference = "reference.parquet"
trusted = "trusted.parquet"
time = "served_at"
[labels]
wait_days = 10
sources = ["ledger", "analyst"]
[watch]
tolerance_points = 2
[serving]
batch = 8
[repair]
approval = "on_request"
max_bytes = 400_000
max_p95_ms = 2.0
max_jobs_per_day = 3
wait_hours = 12
schedule = "0 3 * * SUN"
[gates]
min_agreement = 0.9
[training]
epochs = 4
[privacy]
store_features = ["p[0-2]"]
retention_days = 7
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "student.onnx",
        "teacher.onnx",
        "teacher.safetensors",
        "reference.parquet",
        "trusted.parquet",
    ):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "student").mkdir()
    return tmp_path


def load(folder: Path, text: str) -> ModelSpec:
    (folder / "model.toml").write_text(text)
    return spec_file.read(folder)


def refused(folder: Path, text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(folder, text)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_watch_needs_only_a_schema(tmp_path: Path) -> None:
    spec = load(tmp_path, WATCH)
    assert spec.level == "watch"
    assert spec.schema.features == (
        Feature(name="income", minimum=0),
        Feature(name="age", kind="int"),
        Feature(name="region", kind="category", values=("EU", "US")),
    )


def test_everything_is_read(folder: Path) -> None:
    spec = load(folder, REPAIR)
    assert spec.schema.names == ("region", "p0", "p1", "p2", "p3")
    assert spec.model.onnx == str(folder / "student.onnx")
    assert spec.model.training == str(folder / "student")
    assert spec.privacy.store_features == ("p0", "p1", "p2")
    assert spec.limits() == Limits(max_bytes=400_000, max_p95_ms=2.0, min_agreement=0.9)
    assert spec.training.epochs == 4
    assert spec.data.ordered
    assert spec.graph() == GraphSpec(
        features=("region", "p0", "p1", "p2", "p3"),
        classes=("repay", "default"),
        teacher_output_kind="probabilities",
        slices={"region": ("EU", "US")},
        categories={"region": ("EU", "US")},
    )
    config = spec.watch_config(Settings.load({"alarms_per_week": 2, "home": folder}))
    assert (config.tolerance_points, config.wait_days) == (2.0, 10.0)
    assert config.label_sources == ("ledger", "analyst")
    assert config.rows_per_alarm == 5e5
    assert config.store_features == ("p0", "p1", "p2")


def test_json_round_trip_keeps_everything(folder: Path) -> None:
    spec = load(folder, REPAIR).with_objects({"model": "00"})
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_config_hash_is_of_contents_not_of_places(folder: Path, tmp_path: Path) -> None:
    spec = load(folder, REPAIR)
    other = tmp_path / "other"
    other.mkdir()
    for name in ("student.onnx", "teacher.onnx", "teacher.safetensors"):
        (other / name).write_bytes(b"x")
    for name in ("reference.parquet", "trusted.parquet"):
        (other / name).write_bytes(b"x")
    (other / "student").mkdir()
    moved = load(other, REPAIR)
    same = {"model": "a", "teacher": "b"}
    assert spec.with_objects(same).config_sha256() == moved.with_objects(same).config_sha256()
    assert (
        spec.with_objects(same).config_sha256()
        != spec.with_objects({"model": "c", "teacher": "b"}).config_sha256()
    )
    changed = load(folder, REPAIR.replace("batch = 8", "batch = 9"))
    assert changed.config_sha256() != spec.config_sha256()


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
        ('["repay", "default"]', '["repay"]', "[schema] classes = ['repay']: at least two"),
        ('["repay", "default"]', '["a", "a"]', "[schema] classes: 'a' stands there twice"),
        ('region = ["EU", "US"]', 'region = "text"', '"float", "int" or a list of values'),
        ("min = 0, max = 1", "min = 1, max = 1", "min = 1 is not below max = 1"),
        ("min = 0, max = 1", 'min = "a", max = 1', "min = 'a': a number was expected"),
        ('"p[0-3]" =', '"p[3-0]" =', "a range such as p[0-63] was expected"),
        ('order = ["region", "p[0-3]"]', 'order = ["region"]', "p0, p1, p2, p3 not in it"),
        ('store_features = ["p[0-2]"]', 'store_features = ["q"]', "'q' is no feature"),
        ("[privacy]", "[privcy]", "privcy: there is no such key; did you mean privacy?"),
        ("sources = [", 'sources = "x" #', "[labels] sources = 'x': a list was expected"),
        ("max_jobs_per_day = 3", "max_jobs_per_day = 1.5", "a whole number"),
        ("torch = ", 'torch = "x" #', "package.module:Class was expected"),
        ("min_agreement = 0.9", "max_bytes = 1", "[gates] max_bytes: there is no such key"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(
    folder: Path, old: str, new: str, expected: str
) -> None:
    assert old in REPAIR
    problems = refused(folder, REPAIR.replace(old, new, 1))
    assert any(expected in p for p in problems), problems


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
    with pytest.raises(SpecError, match="no such file"):
        spec_file.read(tmp_path / "none.toml")


def test_a_missing_schema_is_said(tmp_path: Path) -> None:
    assert "--from-traffic" in refused(tmp_path, 'name = "x"')[0]


@pytest.mark.parametrize(
    ("expression", "good"),
    [
        ("0 3 * * SUN", True),
        ("*/15 0-6,20 1 jan-mar mon", True),
        ("60 * * * *", False),
        ("* * 0 * *", False),
        ("*/0 * * * *", False),
        ("5-1 * * * *", False),
        ("* * * * funday", False),
        ("* * * *", False),
    ],
)
def test_cron_problem_finds_what_apscheduler_refuses(expression: str, good: bool) -> None:
    from apscheduler.triggers.cron import CronTrigger

    assert (cron.problem(expression) is None) == good
    if good:
        CronTrigger.from_crontab(expression, timezone="UTC")
    else:
        with pytest.raises(ValueError):
            CronTrigger.from_crontab(expression, timezone="UTC")


def test_docs_list_every_key() -> None:
    import re

    from redistill.workers.models.spec_file import SECTIONS, TOP_KEYS
    from redistill.workers.models.spec_schema import SCHEMA_KEYS

    text = (Path(__file__).parents[4] / "docs" / "model-toml.md").read_text()
    documented = re.findall(r"^\| `([^`]+)` \|", text, re.M)
    expected = list(TOP_KEYS)
    for name, section in SECTIONS.items():
        if name in ("gates", "training"):  # named as a whole
            continue
        expected += [f"[{name}] {f.name}" for f in dataclasses.fields(section)]
        if name == "teacher":
            expected += [f"[schema] {key}" for key in SCHEMA_KEYS]
    assert sorted(documented) == sorted(expected)
