"""Scoring by a foreign model: which graphs are refused, and what the answers of others mean."""

from __future__ import annotations

import resource
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import linear
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from redistill import confinement
from redistill.files import sha256_of_bytes
from redistill.streams.wire.block import Feature, Schema
from redistill.workers.errors import SpecError
from redistill.workers.models import scoring
from redistill.workers.models.scoring import (
    ScoringCall,
    check_order,
    inspect,
    silent,
    unanswered,
)

SCHEMA = Schema(features=tuple(Feature(name=n) for n in "abc"), classes=("no", "yes"))
WEIGHTS = np.array([[-1, 1], [-1, 1], [0, 0]], np.float32)


def call_of(path: Path, *, kind: str = "logits", output: str | None = None) -> ScoringCall:
    return inspect(path, SCHEMA, output=output, kind=kind, place="[model] onnx")


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> dict[int, tuple[int, int]]:
    """The child's work is done in this process: its limits are only noted, here, and it keeps its
    network, which could not be given back to the tests that follow."""
    noted: dict[int, tuple[int, int]] = {}

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, scoring.main(command[3:]), b"", b"why\nthis")

    monkeypatch.setattr(resource, "setrlimit", noted.__setitem__)
    for given in ("deny_network", "die_with_parent"):
        monkeypatch.setattr(confinement, given, lambda: None)
    monkeypatch.setattr(subprocess, "run", run)
    return noted


def answers(
    *asked: tuple[ScoringCall, NDArray[np.float32]], classes: int = 2
) -> list[NDArray[np.float32]]:
    return scoring.answers(asked, classes=classes, memory_mb=100, seconds=7.0)


def test_a_graph_is_called_as_its_file_says(tmp_path: Path) -> None:
    call = call_of(linear.graph(tmp_path / "m.onnx", WEIGHTS))
    assert (call.output, call.layout.names, call.layout.rank) == ("y", ("x",), 2)


@pytest.mark.parametrize(
    ("options", "output"),
    [
        ({"features": 7}, None),
        ({"op": "Nonsense", "domain": "some.where"}, None),
        ({"external": True}, None),
        ({}, "scores"),
    ],
)
def test_a_graph_of_another_form_is_refused_before_it_runs(
    tmp_path: Path, options: dict[str, Any], output: str | None
) -> None:
    path = linear.graph(tmp_path / "m.onnx", WEIGHTS, **options)
    with pytest.raises(SpecError, match=r"^\[model\] onnx = '.*m\.onnx': "):
        call_of(path, output=output)


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\0" * 50)
    with pytest.raises(SpecError, match=r"^\[model\] onnx = "):
        call_of(tmp_path / "m.onnx")


def test_logits_become_probabilities_for_each_of_several_graphs(
    tmp_path: Path, limits: dict[int, tuple[int, int]]
) -> None:
    one = call_of(linear.graph(tmp_path / "a.onnx", WEIGHTS))
    other = call_of(linear.graph(tmp_path / "b.onnx", -WEIGHTS))
    rows = np.array([[1, 1, 0], [-2, 0, 5]], np.float32)
    first, second = answers((one, rows), (other, rows[:1]))
    share = 1 / (1 + np.exp(np.array([-4.0, 4.0])))
    np.testing.assert_allclose(first, np.stack([1 - share, share], 1), rtol=1e-5)
    np.testing.assert_allclose(second, [[share[0], 1 - share[0]]], rtol=1e-5)
    assert first.dtype == np.float32


def test_more_rows_than_one_call_takes_are_all_answered(
    tmp_path: Path, limits: dict[int, tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "BATCH", 4)
    rows = np.arange(30, dtype=np.float32).reshape(10, 3) / 30
    call = call_of(linear.graph(tmp_path / "m.onnx", WEIGHTS))
    (found,) = answers((call, rows))
    (single,) = answers((call, rows[9:]))
    assert found.shape == (10, 2)
    np.testing.assert_allclose(found[9:], single, rtol=1e-6)


def test_the_child_has_limits_of_memory_and_time(
    tmp_path: Path, limits: dict[int, tuple[int, int]]
) -> None:
    answers((call_of(linear.graph(tmp_path / "m.onnx", WEIGHTS)), np.zeros((1, 3), np.float32)))
    assert limits[resource.RLIMIT_AS] == ((100 + 2_048) << 20,) * 2
    assert limits[resource.RLIMIT_CPU] == (7, 8)
    assert limits[resource.RLIMIT_CORE] == (0, 0)


@pytest.mark.parametrize(
    ("kind", "classes", "said"),
    [
        ("logits", 3, r"output 'y' has shape \(2, 2\); \(2, 3\) was expected"),
        ("probabilities", 2, 'output_kind must be "logits"'),
    ],
)
def test_answers_of_another_form_than_declared_are_refused(
    tmp_path: Path, limits: dict[int, tuple[int, int]], kind: str, classes: int, said: str
) -> None:
    call = call_of(linear.graph(tmp_path / "m.onnx", 3 * WEIGHTS), kind=kind)
    with pytest.raises(SpecError, match=said):
        answers((call, np.ones((2, 3), np.float32)), classes=classes)


def test_a_graph_that_cannot_run_is_said_in_the_last_line_of_the_child(
    tmp_path: Path, limits: dict[int, tuple[int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    # it takes 3 features, the rows have 2: only running it shows that
    call = call_of(linear.graph(tmp_path / "m.onnx", WEIGHTS))
    with pytest.raises(SpecError, match=r"^this$"):
        answers((call, np.ones((1, 2), np.float32)))
    assert capsys.readouterr().err.startswith(f"[model] onnx = '{call.path}' cannot be run: ")


def test_a_child_that_takes_too_long_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", run)
    call = call_of(linear.graph(tmp_path / "m.onnx", WEIGHTS))
    with pytest.raises(SpecError, match="running the models took longer than 7 s"):
        answers((call, np.ones((1, 3), np.float32)))


def codes(*values: int) -> NDArray[np.int32]:
    return np.array(values, np.int32)


def test_outputs_in_another_order_are_found_by_their_errors() -> None:
    labels = np.tile(codes(0, 1, 2), 40)
    turned = (labels + 1) % 3
    with pytest.raises(
        SpecError, match=r"wrong on 100\.0% .* 0\.0% with the classes \['c', 'a', 'b'\]"
    ):
        check_order("[model] onnx", turned, labels, ("a", "b", "c"))  # fmt: skip


@pytest.mark.parametrize(
    ("predicted", "labels"),
    [
        (codes(0, 1, 0, 1), codes(0, 1, 0, 1)),  # right
        (codes(0, 1, 1, 1), codes(0, 0, 0, 1)),  # wrong on half: no order makes it good
        (codes(0, 1, 2, 0), codes(1, 2, 1, 2)),  # wrong on all, and no better in another order
        (codes(-1, -2, -1, 0), codes(0, 1, 2, 0)),  # hardly any answer
    ],
)
def test_a_bad_model_is_not_one_of_another_order(
    predicted: NDArray[np.int32], labels: NDArray[np.int32]
) -> None:
    check_order("[model] onnx", predicted, labels, ("a", "b", "c"))


def test_a_graph_that_is_silent_without_a_feature_is_warned_of() -> None:
    answered = np.full((3, 2), 0.5, np.float32)
    assert silent("[model] onnx", answered, SCHEMA) == []
    answered[[0, 2], 0] = np.nan
    (warning,) = silent("[model] onnx", answered, SCHEMA)
    assert "it answers NaN where a, c is missing, and such a row then gets no prediction" in warning


def test_only_four_features_are_named_in_a_warning() -> None:
    schema = Schema(features=tuple(Feature(name=f"p{i}") for i in range(9)), classes=("no", "yes"))
    (warning,) = silent("[model] onnx", np.full((9, 2), np.nan, np.float32), schema)
    assert "where p0, p1, p2, p3 and 5 more is missing" in warning


def test_rows_without_an_answer_are_told_with_what_they_lack() -> None:
    answered = np.full((4, 2), 0.5, np.float32)
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert unanswered("[model] onnx", answered, rows, SCHEMA, "trusted") is None
    answered[1] = np.nan
    told = unanswered("[model] onnx", answered, rows, SCHEMA, "trusted") or ""
    assert told.startswith("[model] onnx: it answers NaN for 1 of 4 trusted rows; the first")
    assert "has a = 3, b = 4, c = 5: a NaN is no class" in told
    rows[1, 2] = np.nan
    told = unanswered("[model] onnx", answered, rows, SCHEMA, "trusted") or ""
    assert "each of them lacks a value (c): handle missing values inside the graph" in told


@pytest.mark.parametrize(
    ("kind", "scores", "said"),
    [
        ("probabilities", [[0.4, 0.9]], "add up to 1.3 to 1.3, not to 1"),
        ("logits", [[0.0, 0.7]], 'output_kind must be "probabilities"'),
        ("logits", [[0.0, 1.7]], ""),
    ],
)
def test_scores_of_another_kind_are_refused_for_a_new_model_only(
    tmp_path: Path, limits: dict[int, tuple[int, int]], kind: str, scores: Any, said: str
) -> None:
    weights = np.array([*scores, [0, 0], [0, 0]], np.float32)
    call = call_of(linear.graph(tmp_path / "m.onnx", weights), kind=kind)
    rows = np.ones((2, 3), np.float32)
    if said:
        with pytest.raises(SpecError, match=said):
            answers((call, rows))
    else:
        answers((call, rows))
    answers((replace(call, new=False), rows))


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_a_new_graph_whose_answers_depend_on_the_other_rows_is_refused(
    tmp_path: Path, limits: dict[int, tuple[int, int]], capsys: pytest.CaptureFixture[str], op: str
) -> None:
    path = linear.graph(tmp_path / "m.onnx", WEIGHTS)
    model = onnx.load(path)
    model.graph.node[0].output[0] = "z"
    model.graph.node.append(onnx.helper.make_node(op, ["z"], ["y"], axis=0))
    onnx.save(model, path)
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    call = call_of(path)
    with pytest.raises(SpecError, match="this"):
        answers((call, rows))
    assert "its answer to a row depends on the other rows" in capsys.readouterr().err
    answers((replace(call, new=False), rows))


def test_int8_whose_range_a_missing_value_spoils_is_asked_for_whole_rows(
    tmp_path: Path, limits: dict[int, tuple[int, int]]
) -> None:
    path = linear.graph(tmp_path / "m.onnx", WEIGHTS)
    model = onnx.load(path)
    model.graph.node[0].input[0] = "near"
    rounded = [
        onnx.helper.make_node("DynamicQuantizeLinear", ["x"], ["i", "scale", "zero"]),
        onnx.helper.make_node("DequantizeLinear", ["i", "scale", "zero"], ["near"]),
    ]
    nodes = [*rounded, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    spoiled = np.where(np.eye(3, dtype=bool), np.float32(np.nan), rows[:1])
    call = call_of(path)
    answers((call, rows), (call, spoiled), (call, np.concatenate([rows, spoiled])))


def test_a_file_that_was_registered_before_is_taken_as_it_is(tmp_path: Path) -> None:
    path = linear.graph(tmp_path / "m.onnx", WEIGHTS, features=7)
    with pytest.raises(SpecError):
        call_of(path)
    path = linear.graph(tmp_path / "m.onnx", WEIGHTS[:, :1], classes=1)
    assert call_of(path).changes
    known = {sha256_of_bytes(path.read_bytes())}
    call = inspect(path, SCHEMA, output=None, kind="logits", place="[model] onnx", known=known)
    assert (call.changes, call.new, call.data) == ((), False, path.read_bytes())
