from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import linear
import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.store.database import Database
from redistill.streams.store.tables import profiles, specs, unregistered
from redistill.streams.wire.arrow_encode import encode_batch
from redistill.workers.errors import SpecError, UsageError
from redistill.workers.models import objects, registration, spec_file
from redistill.workers.models.spec import ModelSpec
from redistill.workers.settings.settings import Settings
from redistill.workers.store import audit_chain, opening
from redistill.workers.store.tables import pointers

Run = Callable[..., Any]


@pytest.fixture
def settings(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("REDISTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REDISTILL_DATABASE", database_url)
    settings = Settings.load()
    opening.upgrade(settings)
    return settings


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = opening.open(settings)
    yield database
    database.dispose()


@pytest.fixture
def run() -> Run:
    """The command ``register``; errors come out as exceptions."""
    from redistill.workers.cli.register import app

    def call(*args: str | Path) -> str:
        result = CliRunner().invoke(app, [str(a) for a in args])
        if result.exception is not None:
            raise result.exception
        return result.stdout

    return call


def problems_of(spec: Path, settings: Settings) -> list[str]:
    with pytest.raises(SpecError) as caught:
        registration.prepare(spec_file.read(spec), settings)
    return [line.strip() for line in str(caught.value).splitlines()]


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return Settings.load({"home": tmp_path / "home"})


def test_register_stores_what_stream_workers_and_jobs_need(
    settings: Settings, database: Database, run: Run, tmp_path: Path
) -> None:
    spec = linear.build(tmp_path / "m", level="watch")
    said = run(spec)
    assert "linear: registered (level watch)" in said
    assert "a 5-point drop is found after about" in said
    with database.read() as conn:
        row = conn.execute(sa.select(specs)).one()
        profile = conn.execute(sa.select(profiles)).one()
        assert audit_chain.verify(conn).entries == 1
    assert WatchConfig.from_json(row.watch).tolerance_points == 2.0
    assert (row.revision, profile.version, profile.provisional) == (1, "v1", False)
    assert Profile.from_bytes(profile.profile).rows == 2_000
    base = BaseError.from_json(profile.base_error)
    assert 0.07 < base.rate < 0.13
    assert base.ordered
    stored = ModelSpec.from_json(row.spec)
    assert set(stored.objects) == {"model", "teacher", "reference", "trusted"}
    trusted = pq.read_table(objects.path_of(settings.objects_folder, stored.objects["trusted"]))
    assert trusted.column_names == ["a", "b", "region", "label"]
    assert set(np.unique(trusted["region"].to_numpy())) == {0.0, 1.0}
    assert 0.07 < stored.measured["teacher_error"] < 0.13


def test_register_changes_nothing_the_second_time(
    database: Database, run: Run, tmp_path: Path
) -> None:
    spec = linear.build(tmp_path / "m", level="watch")
    run(spec)
    assert "unchanged, revision 1" in run(spec)
    with database.read() as conn:
        assert audit_chain.verify(conn).entries == 1
    spec.write_text(spec.read_text().replace("tolerance_points = 2.0", "tolerance_points = 3.0"))
    assert "changed, revision 2" in run(spec)
    with database.read() as conn:
        assert (
            WatchConfig.from_json(
                conn.execute(sa.select(specs.c.watch)).scalar_one()
            ).tolerance_points
            == 3.0
        )


def learned(database: Database, version: str) -> None:
    with database.begin() as conn:
        conn.execute(
            sa.insert(profiles).values(
                model="linear", version=version, profile=b"x", provisional=True
            )
        )


def test_changed_columns_make_learned_profiles_void(
    database: Database, run: Run, tmp_path: Path
) -> None:
    spec = linear.build(tmp_path / "m", level="watch")
    run(spec)
    learned(database, "v2")
    spec.write_text(spec.read_text().replace("min = -100", "min = -200"))
    run(spec)  # a limit is no column
    with database.read() as conn:
        versions = conn.execute(
            sa.select(profiles.c.version).order_by(profiles.c.version)
        ).scalars()
        assert list(versions) == ["v1", "v2"]
    spec.write_text(spec.read_text().replace('["EU", "US"]', '["US", "EU"]'))
    run(spec)
    with database.read() as conn:
        assert list(conn.execute(sa.select(profiles.c.version)).scalars()) == ["v1"]


def test_the_columns_of_a_served_model_cannot_change(
    database: Database, run: Run, tmp_path: Path
) -> None:
    spec = linear.build(tmp_path / "m", level="watch")
    run(spec)
    with database.begin() as conn:
        conn.execute(
            sa.insert(pointers).values(
                model="linear", stable="v1", epoch=1, reason="r", moved_at=0, announced_at=0
            )
        )
    spec.write_text(spec.read_text().replace('["EU", "US"]', '["US", "EU"]'))
    with pytest.raises(SpecError, match="linear serves v1: the names"):
        run(spec)
    with database.read() as conn:
        assert conn.execute(sa.select(specs.c.revision)).scalar_one() == 1


def test_register_sees_changed_bytes_behind_the_same_path(
    run: Run, settings: Settings, tmp_path: Path
) -> None:
    spec = linear.build(tmp_path / "m", level="watch")
    run(spec)
    linear.write_rows(
        tmp_path / "m" / "trusted.parquet", linear.rows(np.random.default_rng(9), 500)
    )
    assert "changed, revision 2" in run(spec)


def test_dry_run_stores_nothing(
    database: Database, settings: Settings, run: Run, tmp_path: Path
) -> None:
    said = json.loads(run(linear.build(tmp_path / "m", level="watch"), "--dry-run", "--json"))
    assert said["changed"] is None
    assert said["base_error"]["n"] == 2_000
    with database.read() as conn:
        assert conn.execute(sa.select(specs)).all() == []
    assert not settings.objects_folder.exists()


def test_few_base_rows_are_warned_of(home: Settings, tmp_path: Path) -> None:
    from redistill.workers.models.explain import explain

    spec = linear.build(tmp_path / "m", level="watch")
    linear.write_rows(
        tmp_path / "m" / "trusted.parquet", linear.rows(np.random.default_rng(1), 300)
    )
    said = explain(registration.prepare(spec_file.read(spec), home), home, None, now=0)
    assert any(
        w.startswith("only 300 base rows: a 5-point drop takes about") for w in said.warnings
    )
    many = linear.rows(np.random.default_rng(1), 20_000)
    linear.write_rows(tmp_path / "m" / "trusted.parquet", many)
    quick = explain(registration.prepare(spec_file.read(spec), home), home, None, now=0)
    assert quick.warnings == ()
    few, enough = said.delays["5"], quick.delays["5"]
    assert few is not None
    assert enough is not None
    assert few > 1.5 * enough


def test_random_order_turns_tempering_off_with_a_warning(home: Settings, tmp_path: Path) -> None:
    spec = linear.build(tmp_path / "m", level="watch")
    spec.write_text(spec.read_text().replace('order = "time"', 'order = "random"'))
    prepared = registration.prepare(spec_file.read(spec), home)
    assert prepared.base is not None
    assert not prepared.base.ordered
    assert any("order of the rows is not known" in w for w in prepared.warnings)


def test_rows_are_brought_into_time_order(home: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    spec = linear.build(folder, level="watch")
    columns = linear.rows(np.random.default_rng(0), 200)
    columns["at"] = np.arange(200.0)[::-1].copy()
    linear.write_rows(folder / "trusted.parquet", columns)
    linear.write_rows(folder / "reference.parquet", columns)
    spec.write_text(spec.read_text().replace('order = "time"', 'time = "at"'))
    prepared = registration.prepare(spec_file.read(spec), home)
    stored = pq.read_table(__import__("io").BytesIO(prepared.contents[0]))
    np.testing.assert_allclose(stored["a"].to_numpy(), columns["a"][::-1].astype(np.float32))


def test_a_teacher_worse_than_its_student_is_warned_of(home: Settings, tmp_path: Path) -> None:
    spec = linear.build(tmp_path / "m", level="watch")
    linear.graph(tmp_path / "m" / "teacher.onnx", np.zeros((3, 2), np.float32))  # always "no"
    prepared = registration.prepare(spec_file.read(spec), home)
    assert any("distilling from it will rarely help" in w for w in prepared.warnings)


def test_a_column_of_predictions_stands_in_for_the_graph(home: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    spec = linear.build(folder, level="watch")
    columns = linear.rows(np.random.default_rng(0), 1_000)
    columns["prediction"] = np.where(np.arange(1_000) % 4 == 0, "no", columns["label"])
    linear.write_rows(folder / "trusted.parquet", columns)
    spec.write_text(spec.read_text().replace('onnx = "model.onnx"\n', ""))
    prepared = registration.prepare(spec_file.read(spec), home)
    wrong = (columns["prediction"] != columns["label"]).mean()
    assert prepared.base is not None
    assert prepared.base.rate == pytest.approx(wrong)


# --- what bad input gets ---


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"label": None}, "has no column 'label': it needs labels"),
        ({"label": "yes"}, "labels are 'yes': one class only"),
        ({"label": "nulls"}, "all values of label are missing"),
        ({"label": "others"}, "values of label are no classes (maybe; classes are no, yes)"),
        ({"rows": 10}, "has 10 rows; at least 100 are needed"),
        ({"a": None}, "missing columns: a; the file has b, region, label"),
        ({"a": "text"}, "a is declared as float, holds text (x)"),
        (
            {"region": "others"},
            "2,000 of 2,000 values of region are not declared (MARS; declared: EU, US)",
        ),
        ({"garbage": True}, "cannot be read as Parquet"),
    ],
)
@pytest.mark.parametrize("role", ["reference", "trusted"])
def test_bad_data_is_named(
    home: Settings, tmp_path: Path, role: str, change: dict[str, Any], expected: str
) -> None:
    folder = tmp_path / "m"
    spec = linear.build(folder)
    n = change.get("rows", 2_000)
    columns = linear.rows(np.random.default_rng(0), n)
    for key, value in change.items():
        if value is None:
            columns.pop(key)
        elif value == "nulls":
            columns[key] = [None] * (n - 1) + ["yes"] if key == "a" else np.array([None] * n)
        elif value == "others":
            columns[key] = ["MARS" if key == "region" else "maybe"] * n
        elif value == "text":
            columns[key] = ["x"] * n
        elif value == "yes":
            columns[key] = ["yes"] * n
    path = folder / f"{role}.parquet"
    linear.write_rows(path, columns)
    if "garbage" in change:
        path.write_bytes(b"PAR1 not really")
    problems = problems_of(spec, home)
    assert any(expected in p and f"[data] {role} = " in p for p in problems), problems


@pytest.mark.parametrize("role", ["model", "teacher"])
def test_outputs_in_another_order_than_the_classes_are_refused(
    home: Settings, tmp_path: Path, role: str
) -> None:
    spec = linear.build(tmp_path / "m")
    swapped = np.array([[1, -1], [1, -1], [0, 0]], np.float32)
    linear.graph(tmp_path / "m" / f"{role}.onnx", swapped)
    (problem,) = problems_of(spec, home)
    assert f"[{role}] onnx: its outputs stand in another order than [schema] classes" in problem
    assert "['yes', 'no']" in problem


@pytest.mark.parametrize(
    ("softmax", "declared", "expected"),
    [
        (True, "logits", 'output_kind must be "probabilities"'),
        (False, "probabilities", 'output_kind must be "logits"'),
    ],
)
def test_outputs_of_another_kind_than_declared_are_refused(
    home: Settings, tmp_path: Path, softmax: bool, declared: str, expected: str
) -> None:
    spec = linear.build(tmp_path / "m")
    spec.write_text(spec.read_text().replace("[model]", f'[model]\noutput_kind = "{declared}"'))
    if softmax:
        path = tmp_path / "m" / "model.onnx"
        model = onnx.load(path)
        model.graph.node[0].output[0] = "z"
        model.graph.node.append(onnx.helper.make_node("Softmax", ["z"], ["y"], axis=-1))
        onnx.save(model, path)
    (problem,) = problems_of(spec, home)
    assert expected in problem
    assert problem.count("[model] onnx") == 1


def test_a_forest_is_a_model_and_a_teacher_as_its_converter_writes_it(
    home: Settings, tmp_path: Path
) -> None:
    """``ai.onnx.ml``: a label of strings and probabilities, missing values sent one way."""
    spec = linear.build(tmp_path / "m")
    for role in ("model", "teacher"):
        linear.forest(tmp_path / "m" / f"{role}.onnx")
    text = spec.read_text()
    problems = problems_of(spec, home)
    assert all("name the one with a score per class" in p for p in problems[1:])
    spec.write_text(text.replace('.onnx"', '.onnx"\noutput = "label"'))
    problems = problems_of(spec, home)
    assert len(problems) == 3
    assert all("outputs of float32: ['probabilities']" in p for p in problems[1:])
    both = '.onnx"\noutput = "probabilities"\noutput_kind = "probabilities"'
    spec.write_text(text.replace('.onnx"', both))
    prepared = registration.prepare(spec_file.read(spec), home)
    assert prepared.base is not None
    assert prepared.base.rate < 0.4


def test_a_graph_that_answers_nan_for_a_missing_value_is_warned_of(
    home: Settings, tmp_path: Path
) -> None:
    spec = linear.build(tmp_path / "m")
    told = "[model] onnx: it answers NaN where a, b, region is missing"
    warnings = registration.prepare(spec_file.read(spec), home).warnings
    assert [w for w in warnings if w.startswith(told)]
    for role in ("model", "teacher"):
        linear.forest(tmp_path / "m" / f"{role}.onnx")
    both = '.onnx"\noutput = "probabilities"\noutput_kind = "probabilities"'
    spec.write_text(spec.read_text().replace('.onnx"', both))
    assert not any("NaN" in w for w in registration.prepare(spec_file.read(spec), home).warnings)


def test_warnings_about_columns_name_the_file(home: Settings, tmp_path: Path) -> None:
    spec = linear.build(tmp_path / "m")
    columns = linear.rows(np.random.default_rng(0), 2_000)
    columns["region"][:7] = "MARS"
    linear.write_rows(tmp_path / "m" / "trusted.parquet", columns)
    warnings = registration.prepare(spec_file.read(spec), home).warnings
    assert "trusted: region: 7 values that are not declared (MARS)" in warnings


def test_all_bad_files_are_reported_together(home: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    spec = linear.build(folder)
    (folder / "trusted.parquet").write_bytes(b"x")
    (folder / "model.onnx").write_bytes(b"x")
    linear.write_rows(folder / "reference.parquet", linear.rows(np.random.default_rng(0), 10))
    assert len(problems_of(spec, home)) == 4


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("corrupt", "model.onnx"),
        ("external", "outside the file"),
        ("shape", "one float32 input of shape (n, 3) was expected"),
        ("operator", "operators that are not allowed"),
    ],
)
def test_a_bad_graph_is_refused_before_it_runs(
    home: Settings, tmp_path: Path, what: str, expected: str
) -> None:
    folder = tmp_path / "m"
    spec = linear.build(folder)
    path = folder / "model.onnx"
    if what == "corrupt":
        path.write_bytes(path.read_bytes()[:60])
    elif what == "external":
        linear.graph(path, np.zeros((3, 2), np.float32), external=True)
    elif what == "shape":
        linear.graph(path, np.zeros((5, 2), np.float32), features=5)
    else:
        linear.graph(path, np.zeros((3, 2), np.float32), op="Evil", domain="com.evil")
    problems = problems_of(spec, home)
    assert any(p.startswith("[model] onnx = ") and expected in p for p in problems), problems


def test_a_graph_with_another_number_of_outputs_is_refused(home: Settings, tmp_path: Path) -> None:
    spec = linear.build(tmp_path / "m")
    linear.graph(tmp_path / "m" / "model.onnx", np.zeros((3, 4), np.float32), classes=4)
    told = problems_of(spec, home)[1]
    assert "gives 4 for a row; one score for each of the 2 classes was expected" in told


def test_a_graph_that_cannot_run_is_refused_with_its_reason(home: Settings, tmp_path: Path) -> None:
    spec = linear.build(tmp_path / "m")
    # the file says 3 features, its weights are for 7
    linear.graph(tmp_path / "m" / "model.onnx", np.zeros((7, 2), np.float32))
    told = problems_of(spec, home)[1]
    assert told.startswith("[model] onnx = ")
    assert "Gemm 'y' cannot be" in told


def test_a_graph_that_answers_nan_is_refused(home: Settings, tmp_path: Path) -> None:
    spec = linear.build(tmp_path / "m")
    linear.graph(tmp_path / "m" / "model.onnx", np.full((3, 2), np.nan, np.float32))
    told = problems_of(spec, home)
    assert told[1].startswith("[model] onnx: it answers NaN for 2,000 of 2,000 reference rows")
    assert "a NaN is no class" in told[1]


# --- from traffic ---


def sample(rows: int, *, scores: bool = True) -> bytes:
    columns = linear.rows(np.random.default_rng(0), rows)
    predicted = np.where(columns["a"] + columns["b"] > 0, "yes", "no")
    share = np.where(predicted == "yes", 0.9, 0.1).astype(np.float32)
    return encode_batch(
        model="seen",
        version="v7",
        ids=[str(i) for i in range(rows)],
        served_at=np.arange(rows, dtype=np.int64),
        feature_names=["a", "b"],
        features=np.column_stack([columns["a"], columns["b"]]).astype(np.float32),
        categories={"region": list(columns["region"])},
        prediction=list(predicted),
        # the service's own order: yes before no
        scores=np.column_stack([share, 1 - share]) if scores else None,
        segments={"channel": ["web" if i % 2 else "app" for i in range(rows)]},
    )


def put_sample(database: Database, data: bytes | None, rows: int = 500) -> None:
    with database.begin() as conn:
        conn.execute(
            sa.insert(unregistered).values(
                model="seen", version="v7", rows=rows, first_seen_at=1, last_seen_at=2, sample=data
            )
        )


def test_from_traffic_learns_the_columns_and_writes_a_file(
    settings: Settings,
    database: Database,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    put_sample(database, sample(500))
    said = run("seen", "--from-traffic")
    assert "seen: registered (level watch)" in said
    assert "learned from traffic" in said
    spec = spec_file.read(tmp_path / "seen.toml")
    assert spec.schema.names == ("a", "b", "region")
    assert spec.schema.features[2].values == ("EU", "US")
    assert spec.schema.classes == ("yes", "no")
    assert spec.schema.slices == ("channel",)
    assert spec.model.version == "v7"
    with database.read() as conn:
        row = conn.execute(sa.select(specs)).one()
        assert ModelSpec.from_json(row.spec).origin == "traffic"
        assert conn.execute(sa.select(unregistered)).all() == []
        assert conn.execute(sa.select(profiles)).all() == []
    # the file that was written is the one that is registered
    assert "unchanged" in run(tmp_path / "seen.toml")
    with pytest.raises(UsageError, match="seen is registered already"):
        run("seen", "--from-traffic")


def test_from_traffic_does_not_overwrite_an_edited_file(
    settings: Settings, database: Database, run: Run, tmp_path: Path
) -> None:
    put_sample(database, sample(500))
    path = tmp_path / "mine.toml"
    path.write_text("edited")
    with pytest.raises(UsageError, match="exists already"):
        run("seen", "--from-traffic", "--out", path)
    assert path.read_text() == "edited"


@pytest.mark.parametrize("kind", ["binary", "folder"])
def test_from_traffic_overwrites_nothing_that_it_cannot_read(
    database: Database, run: Run, tmp_path: Path, kind: str
) -> None:
    put_sample(database, sample(500))
    path = tmp_path / "mine.toml"
    path.mkdir() if kind == "folder" else path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="exists already"):
        run("seen", "--from-traffic", "--out", path)


def test_out_is_for_the_file_of_one_model(run: Run, tmp_path: Path) -> None:
    for more in (("model.toml",), ("a", "b", "--from-traffic")):
        with pytest.raises(UsageError, match="--out is where --from-traffic writes"):
            run(*more, "--out", tmp_path / "mine.toml")


def test_of_several_files_a_wrong_one_leaves_none_registered(
    settings: Settings, database: Database, run: Run, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    text = 'name = "good"\n[schema]\nfeatures = { a = "float" }\nclasses = ["y", "n"]\n'
    good.write_text(text)
    bad.write_text("name = ")
    with pytest.raises(SpecError, match=r"bad\.toml is not TOML"):
        run(good, bad)
    with database.read() as conn:
        assert conn.execute(sa.select(specs)).all() == []


def test_from_traffic_says_what_was_seen_instead(database: Database, run: Run) -> None:
    with pytest.raises(UsageError, match="no model was seen at all"):
        run("sen", "--from-traffic")
    put_sample(database, None)
    with pytest.raises(UsageError, match="unregistered models that were seen: seen"):
        run("sen", "--from-traffic")
    with pytest.raises(UsageError, match="500 rows of seen were counted, but no sample"):
        run("seen", "--from-traffic")


def test_a_failure_of_the_store_registers_nothing(
    settings: Settings, database: Database, run: Run, tmp_path: Path
) -> None:
    settings.root.mkdir(parents=True, exist_ok=True)
    settings.objects_folder.write_text("a file where the folder should be")
    with pytest.raises(Exception, match="cannot be written"):
        run(linear.build(tmp_path / "m", level="watch"))
    with database.read() as conn:
        assert conn.execute(sa.select(specs)).all() == []


def test_past_that_cannot_be_told_apart_any_more_is_not_silently_trusted(
    database: Database, run: Run, tmp_path: Path
) -> None:
    """``--distrust-past`` did nothing where a source was bound before, and said nothing."""
    spec = linear.build(tmp_path / "m", level="watch")
    run(spec)
    with pytest.raises(
        UsageError, match=r"--distrust-past does nothing for linear, which binds no"
    ):
        run(spec, "--distrust-past")
    text = spec.read_text()
    assert "[labels]" not in text
    spec.write_text(text + '\n[labels]\nbound = ["ledger"]\n')
    with database.begin() as conn:
        stored = json.loads(conn.execute(sa.select(specs.c.spec)).scalar_one())
        stored["labels"]["bound"] = ["ledger"]
        conn.execute(sa.update(specs).values(spec=json.dumps(stored)))
    with pytest.raises(UsageError, match=r"binds sources already \(ledger\)"):
        run(spec, "--distrust-past")
