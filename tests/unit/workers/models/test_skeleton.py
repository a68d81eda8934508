"""First `model.toml` of an ONNX file: what is told is written, what is not is marked, and once the
marked lines are filled in registration takes it."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import linear
import numpy as np
import onnx
import pytest
import repairable
from onnx import TensorProto, helper

from redistill.workers.errors import UsageError
from redistill.workers.models import registration, skeleton, spec_file
from redistill.workers.models.skeleton import FILL_IN
from redistill.workers.models.traffic import Seen

GOOD = np.array([[-1, 1], [-1, 1], [0, 0]], np.float32)
MARKED = re.compile(rf"^# (?P<line>[^#]*\S)\s+# {FILL_IN}", re.M)


def filled(text: str, **values: str) -> str:
    """The text with each marked line taken in, with the value that is given for its key."""

    def take(match: re.Match[str]) -> str:
        key = match["line"].partition(" = ")[0]
        return values.get(key.strip('"'), match["line"]) + "  #"

    return MARKED.sub(take, text)


def seen(**fields: object) -> Seen:
    found = Seen("credit", "2026-03", 500, sampled=200)
    found.numbers = {"a": None, "b": None}
    found.categories = {"region": Counter({"US": 80, "EU": 120})}
    found.predictions = Counter({"no": 90, "yes": 110})
    found.scores = 2
    found.top = {0: Counter({"no": 90}), 1: Counter({"yes": 110})}
    found.segments = {"channel": Counter({"web": 9, "app": 9})}
    for name, value in fields.items():
        setattr(found, name, value)
    return found


def prepare(folder: Path, text: str) -> registration.PreparedModel:
    """What ``register --dry-run`` does with it."""
    linear.write_rows(folder / "trusted.parquet", linear.rows(np.random.default_rng(0), 400))
    (folder / "model.toml").write_text(text)
    spec = spec_file.read(folder)
    return registration.prepare(spec, repairable.settings_of(folder / "home"))


def test_converted_classifier_needs_columns_version_and_rows_only(tmp_path: Path) -> None:
    found = skeleton.look(linear.forest(tmp_path / "My Forest.onnx"))
    assert (found.classes, found.width, found.kind) == (("no", "yes"), 3, "probabilities")
    text, warnings = skeleton.to_toml(found, folder=tmp_path)
    assert warnings == ()
    keys = [m["line"].partition(" = ")[0] for m in MARKED.finditer(text)]
    assert keys == ["version", '"x[0-2]"', "trusted"]
    features = {"x[0-2]": 'a = "float"\nb = "float"\nregion = ["EU", "US"]'}
    done = prepare(tmp_path, filled(text, **features))
    assert done.spec.name == "my-forest"
    assert done.spec.model.output_kind == "probabilities"
    assert done.base is not None
    assert done.base.rate < 0.5


def test_traffic_tells_columns_in_the_order_of_events(tmp_path: Path) -> None:
    linear.graph(tmp_path / "m.onnx", GOOD)
    found = skeleton.look(tmp_path / "m.onnx")
    assert (found.classes, found.scores, found.kind) == ((), 2, "logits")
    text, warnings = skeleton.to_toml(found, seen(), folder=tmp_path)
    keys = [m["line"].partition(" = ")[0] for m in MARKED.finditer(text)]
    assert keys == ["trusted"]
    (warning,) = warnings
    assert "where in the graph's matrix a category stands" in warning
    done = prepare(tmp_path, filled(text))
    assert done.spec.schema.names == ("a", "b", "region")
    assert done.spec.schema.classes == ("no", "yes")
    assert (done.spec.name, done.spec.model.version) == ("credit", "2026-03")
    assert done.spec.schema.slices == ("channel",)


def test_nothing_told_is_nothing_guessed(tmp_path: Path) -> None:
    linear.graph(tmp_path / "m.onnx", GOOD)
    found = skeleton.look(tmp_path / "m.onnx")
    unasked, _ = skeleton.to_toml(replace(found, kind=None), folder=tmp_path)
    assert f'# output_kind = "logits"  # {FILL_IN} "logits" or "probabilities"' in unasked
    text, _ = skeleton.to_toml(found, folder=tmp_path)
    keys = [m["line"].partition(" = ")[0] for m in MARKED.finditer(text)]
    assert keys == ["version", "classes", '"x[0-2]"', "trusted"]
    columns = {"x[0-2]": 'a = "float"\nb = "float"\nregion = ["EU", "US"]'}
    done = prepare(tmp_path, filled(text, classes='classes = ["no", "yes"]', **columns))
    assert done.spec.schema.classes == ("no", "yes")


def test_inputs_that_have_names_are_the_features(tmp_path: Path) -> None:
    names = ("b", "odd name", "a")
    nodes = [
        helper.make_node("Concat", list(names), ["x"], axis=1),
        helper.make_node("Softmax", ["x"], ["p"], axis=1),
        helper.make_node("Identity", ["x"], ["raw"]),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, 1]) for n in names]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, 3]) for n in ("p", "raw")]
    made = helper.make_graph(nodes, "g", ports, outputs)
    onnx.save(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9),
        tmp_path / "m.onnx",
    )
    found = skeleton.look(tmp_path / "m.onnx")
    assert (found.inputs, found.outputs, found.kind) == (names, ("p", "raw"), None)
    text, _ = skeleton.to_toml(found, folder=tmp_path)
    assert '"odd name" = "float"' in text
    keys = [m["line"].partition(" = ")[0] for m in MARKED.finditer(text)]
    assert keys == ["version", "output", "output_kind", "classes", "trusted"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"numbers": {"a": None}}, "takes 3 columns, and events have 2 features"),
        ({"predictions": Counter({"maybe": 9})}, "events predict maybe, which the file does not"),
    ],
)
def test_file_and_traffic_that_contradict_each_other_are_told(
    tmp_path: Path, fields: dict[str, object], said: str
) -> None:
    found = skeleton.look(linear.forest(tmp_path / "f.onnx"))
    _, warnings = skeleton.to_toml(found, seen(**fields))
    assert any(said in w for w in warnings), warnings


def test_more_scores_than_classes_were_seen_are_left_to_be_filled_in(tmp_path: Path) -> None:
    linear.graph(tmp_path / "m.onnx", np.ones((3, 4), np.float32), classes=4)
    text, warnings = skeleton.to_toml(skeleton.look(tmp_path / "m.onnx"), seen())
    assert any("scores 4 classes, and events show 2" in w for w in warnings)
    assert '# classes = ["class-0", "class-1", "class-2", "class-3"]' in text


@pytest.mark.parametrize("name", ['a"b\n[x]', "x' = 1", "\u202eevil"])
def test_names_of_files_are_no_toml(tmp_path: Path, name: str) -> None:
    path = linear.forest(tmp_path / f"{name}.onnx")
    text, _ = skeleton.to_toml(skeleton.look(path), folder=tmp_path)
    read = tomllib.loads(text)
    assert read["model"]["onnx"] == path.name
    assert set(read) == {
        "format", "name", "task", "level", "model", "schema", "data", "labels", "watch"
    }  # fmt: skip


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"PK\x03\x04" + b"\xff" * 9)
    for path, said in ((tmp_path, "is a folder"), (tmp_path / "x.onnx", "zip archive")):
        with pytest.raises(UsageError, match=said):
            skeleton.look(path)
