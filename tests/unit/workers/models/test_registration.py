"""Registration of a model: what its files say of it, and the rows that are written of that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import linear
import loop
import numpy as np
import onnx
import pytest
import sqlalchemy as sa
from loop import NOW
from onnx import TensorProto, helper, numpy_helper

from redistill.files import sha256_of_bytes
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.store.database import Database
from redistill.streams.store.tables import profiles, specs, unregistered
from redistill.streams.wire.block import Codes
from redistill.workers.errors import SpecError
from redistill.workers.models import objects, registration, spec_file
from redistill.workers.models.registration import PreparedModel, StoredModel
from redistill.workers.models.spec import ModelSpec
from redistill.workers.settings.settings import Settings
from redistill.workers.store.tables import audit

BASE = BaseError.from_errors(np.tile([0] * 9 + [1], 100))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load({"home": tmp_path / "home"})


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    yield database
    database.dispose()


def prepared(spec: ModelSpec | None = None, **more: Any) -> PreparedModel:
    values: dict[str, Any] = {
        "spec": spec or loop.spec(), "profile": b"profile", "base": BASE, "warnings": (),
        "contents": (b"graph",),
    }  # fmt: skip
    return PreparedModel(**(values | more))


def store(database: Database, made: PreparedModel, settings: Settings) -> StoredModel:
    return registration.store(database, made, settings, actor="cli:test", now=NOW)


# --- rows ---


def test_what_stream_workers_and_jobs_read_is_stored(
    database: Database, settings: Settings
) -> None:
    made = prepared()
    assert store(database, made, settings) == StoredModel(changed=True, revision=1, was=None)
    assert objects.read(settings.objects_folder, sha256_of_bytes(b"graph")) == b"graph"
    with database.read() as conn:
        row = conn.execute(sa.select(specs)).one()
        profile = conn.execute(sa.select(profiles)).one()
    assert (row.model, row.level, row.registered_at) == ("credit", "repair", NOW)
    assert ModelSpec.from_json(row.spec) == made.spec
    assert WatchConfig.from_json(row.watch).tolerance_points == 2.0
    assert (profile.version, bytes(profile.profile)) == ("v1", b"profile")
    assert BaseError.from_json(profile.base_error) == BASE
    assert not profile.provisional


def test_what_to_expect_of_slices_is_stored_and_told_to_the_audit(
    database: Database, settings: Settings
) -> None:
    region = Codes(np.arange(1_000, dtype=np.int32) % 2, ("EU", "US"))
    expected = ExpectedError.fit(np.tile([0] * 9 + [1], 100), {"region": region})
    store(database, prepared(expected=expected), settings)
    with database.read() as conn:
        text = conn.execute(sa.select(profiles.c.expected_error)).scalar_one()
        told = conn.execute(sa.select(audit.c.body)).scalars().all()
    assert ExpectedError.from_json(text) == expected
    assert sha256_of_bytes(text.encode()) in str(told)


def test_the_same_again_changes_nothing_and_anything_else_is_a_revision(
    database: Database, settings: Settings
) -> None:
    store(database, prepared(), settings)
    assert store(database, prepared(), settings) == StoredModel(False, 1, "repair")
    watch = loop.spec(level="watch")
    assert store(database, prepared(watch), settings) == StoredModel(True, 2, "repair")
    other_bytes = prepared(watch.with_objects({"model": "aa"}))
    assert store(database, other_bytes, settings) == StoredModel(True, 3, "watch")
    with database.read() as conn:
        actions = conn.execute(sa.select(audit.c.action).order_by(audit.c.seq)).scalars().all()
    assert actions == ["model.registered", "model.changed", "model.changed"]


def test_its_rows_are_no_longer_those_of_an_unregistered_model(
    database: Database, settings: Settings
) -> None:
    with database.begin() as conn:
        for name in ("credit", "fraud"):
            conn.execute(
                sa.insert(unregistered).values(
                    model=name, version="v1", rows=1, first_seen_at=1, last_seen_at=1
                )
            )
    store(database, prepared(), settings)
    with database.read() as conn:
        assert conn.execute(sa.select(unregistered.c.model)).scalars().all() == ["fraud"]


def test_a_profile_that_is_to_be_learned_is_not_stored(
    database: Database, settings: Settings
) -> None:
    store(database, prepared(profile=None, base=None), settings)
    with database.read() as conn:
        assert conn.execute(sa.select(profiles)).all() == []


def test_what_was_learned_from_traffic_is_provisional(
    database: Database, settings: Settings
) -> None:
    store(database, prepared(replace(loop.spec(), origin="traffic")), settings)
    with database.read() as conn:
        assert conn.execute(sa.select(profiles.c.provisional)).scalar_one()


def other_classes(spec: ModelSpec) -> ModelSpec:
    return replace(spec, schema=replace(spec.schema, classes=("default", "repay")))


def test_columns_of_a_served_model_stay_and_its_limits_may_change(
    database: Database, settings: Settings
) -> None:
    spec = loop.spec()
    with database.begin() as conn:
        loop.register(conn, spec)
    with pytest.raises(SpecError, match="credit serves v1: the names, kinds, values and order"):
        store(database, prepared(other_classes(spec)), settings)
    first, *others = spec.schema.features
    limited = replace(spec.schema, features=(replace(first, minimum=0.0), *others))
    assert store(database, prepared(replace(spec, schema=limited)), settings).revision == 2


def test_other_columns_make_only_learned_profiles_void(
    database: Database, settings: Settings
) -> None:
    spec = loop.spec()
    with database.begin() as conn:
        loop.register(conn, spec, version=None)
        for version, learned in (("v8", True), ("v9", False)):
            conn.execute(
                sa.insert(profiles).values(
                    model="credit", version=version, profile=b"x", provisional=learned
                )
            )
    store(database, prepared(other_classes(spec)), settings)
    with database.read() as conn:
        names = conn.execute(sa.select(profiles.c.version).order_by(profiles.c.version)).scalars()
        assert names.all() == ["v1", "v9"]


# --- files ---


def spec_of(folder: Path, *, columns: dict[str, Any]) -> ModelSpec:
    """A watched model without graphs: its data has its predictions."""
    path = linear.build(folder, level="watch")
    linear.write_rows(folder / "trusted.parquet", columns)
    text = path.read_text().replace('onnx = "model.onnx"\n', "")
    text = text.replace('[teacher]\nonnx = "teacher.onnx"\n', "")
    path.write_text(text.replace('reference = "reference.parquet"\n', ""))
    return spec_file.read(path)


def columns(n: int = 200) -> dict[str, Any]:
    """Rows of which every fourth is predicted wrongly."""
    made = linear.rows(np.random.default_rng(0), n)
    label = made["label"]
    other = np.where(label == "yes", "no", "yes")
    return made | {"prediction": np.where(np.arange(n) % 4 == 0, other, label)}


def test_predictions_of_the_data_make_base_error_and_profile(
    tmp_path: Path, settings: Settings
) -> None:
    made = registration.prepare(spec_of(tmp_path / "m", columns=columns()), settings)
    assert made.base is not None
    assert (made.base.errors, made.base.n, made.base.ordered) == (50, 200, True)
    assert made.spec.measured == {
        "error": 0.25,
        "trusted_judging_rows": 155.0,
        "trusted_ranking_rows": 45.0,
    }
    assert made.profile is not None
    assert made.spec.objects == {"trusted": sha256_of_bytes(made.contents[0])}
    assert not settings.objects_folder.exists()  # nothing was written


def test_predictions_of_the_data_tell_what_to_expect_of_each_slice(
    tmp_path: Path, settings: Settings
) -> None:
    rng = np.random.default_rng(0)
    region = np.array(["EU", "US"])[rng.integers(0, 2, 2_000)]
    wrong = rng.random(2_000) < np.where(region == "EU", 0.3, 0.05)
    given = columns(2_000) | {"region": region}
    other = np.where(given["label"] == "yes", "no", "yes")
    given["prediction"] = np.where(wrong, other, given["label"])
    found = registration.prepare(spec_of(tmp_path, columns=given), settings)
    assert found.base is not None
    assert found.expected is not None
    assert found.expected.errors == found.base.errors == wrong.sum()
    rates = {s.value: s.errors / s.n for s in found.expected.slices}
    assert rates == {v: wrong[region == v].mean() for v in ("EU", "US")}


def test_without_predictions_the_base_error_is_to_be_learned(
    tmp_path: Path, settings: Settings
) -> None:
    there = columns()
    del there["prediction"]
    made = registration.prepare(spec_of(tmp_path / "m", columns=there), settings)
    assert made.base is None
    assert "error" not in made.spec.measured
    assert any(w.startswith("no predictions: neither [model] onnx nor") for w in made.warnings)


def test_a_value_that_looks_like_a_code_for_missing_is_named(
    tmp_path: Path, settings: Settings
) -> None:
    there = columns()
    there["a"][::10] = -999.0
    made = registration.prepare(spec_of(tmp_path / "m", columns=there), settings)
    said = "trusted: column a: the value -999 in 10% of the rows looks like a code for missing"
    assert next(w for w in made.warnings if "code for missing" in w).startswith(said)


def test_a_feature_that_is_not_there_is_refused(tmp_path: Path, settings: Settings) -> None:
    there = columns()
    del there["region"]
    with pytest.raises(SpecError, match=r"linear cannot be registered:\n.*missing columns: region"):
        registration.prepare(spec_of(tmp_path / "m", columns=there), settings)


def test_too_large_a_profile_is_refused(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "MAX_PROFILE_BYTES", 100)
    with pytest.raises(SpecError, match=r"the profile of linear has .* bytes, 100 are allowed"):
        registration.prepare(spec_of(tmp_path / "m", columns=columns()), settings)


def with_graph(folder: Path, nodes: list[Any], *inner: Any, kind: str = "logits") -> ModelSpec:
    """The linear model with another graph from ``x`` ``(n, 3)`` to ``y``, at level *rollback*."""
    path = linear.build(folder, level="rollback")
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.float32(v), n) for n, v in inner],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(made, opset_imports=opsets, ir_version=8), folder / "model.onnx")
    text = path.read_text().replace('[teacher]\nonnx = "teacher.onnx"\n', "")
    path.write_text(
        text.replace('onnx = "model.onnx"', f'onnx = "model.onnx"\noutput_kind = "{kind}"')
    )
    return spec_file.read(path)


WEIGHTS = ("w", [[-1, 1], [-1, 1], [0, 0]])


def test_a_graph_that_answers_nan_is_refused_and_never_a_class(
    tmp_path: Path, settings: Settings
) -> None:
    # the logarithm of a sum that is negative for half of the rows
    nodes = [helper.make_node("MatMul", ["x", "w"], ["s"]), helper.make_node("Log", ["s"], ["y"])]
    spec = with_graph(tmp_path / "m", nodes, ("w", [[1, 1], [1, 1], [0, 0]]))
    said = r"\[model\] onnx: it answers NaN for [\d,]+ of 2,000 (trusted|reference) rows; the first"
    with pytest.raises(SpecError, match=said):
        registration.prepare(spec, settings)
    known = {sha256_of_bytes((tmp_path / "m" / "model.onnx").read_bytes())}
    made = registration.prepare(spec, settings, known=known)  # it serves: such rows are wrong
    assert any("it answers NaN for" in w for w in made.warnings)
    assert made.spec.measured["error"] > 0.4


def test_one_sigmoid_registers_with_two_classes_and_says_so(
    tmp_path: Path, settings: Settings
) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["y"]),
    ]
    spec = with_graph(tmp_path / "m", nodes, ("w", [[2], [2], [0]]), kind="probabilities")
    made = registration.prepare(spec, settings)
    assert any("1 - p as that of 'no'" in w for w in made.warnings)
    assert made.spec.measured["error"] < 0.2
    (kept,) = (c for c in made.contents if sha256_of_bytes(c) == made.spec.objects["model"])
    assert kept != (tmp_path / "m" / "model.onnx").read_bytes()
    onnx.checker.check_model(onnx.load_from_string(kept))
    again = registration.prepare(spec, settings)
    assert again.spec.objects == made.spec.objects
    with pytest.raises(SpecError, match='output_kind must be "probabilities"'):
        registration.prepare(with_graph(tmp_path / "l", nodes, ("w", [[2], [2], [0]])), settings)


def test_the_other_class_order_of_one_sigmoid_is_found(tmp_path: Path, settings: Settings) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["y"]),
    ]
    spec = with_graph(tmp_path / "m", nodes, ("w", [[-2], [-2], [0]]), kind="probabilities")
    with pytest.raises(SpecError, match=r"another order than \[schema\] classes"):
        registration.prepare(spec, settings)


def test_rules_for_new_files_do_not_hold_for_what_was_registered(
    tmp_path: Path, settings: Settings
) -> None:
    same = helper.make_graph(
        [helper.make_node("Identity", ["s"], ["t"])],
        "same",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["s"]),
        helper.make_node("Cast", ["one"], ["yes"], to=TensorProto.BOOL),
        helper.make_node("If", ["yes"], ["y"], then_branch=same, else_branch=same),
    ]
    spec = with_graph(tmp_path / "m", nodes, WEIGHTS, ("one", 1.0))
    with pytest.raises(SpecError, match="branches or loops"):
        registration.prepare(spec, settings)
    known = {sha256_of_bytes((tmp_path / "m" / "model.onnx").read_bytes())}
    assert registration.prepare(spec, settings, known=known).spec.objects["model"] in known
