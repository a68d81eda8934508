"""What a caller gets: a prediction, or an error of the row that has none."""

from __future__ import annotations

import pickle

import numpy as np
import onnx
import pytest
from release_kit import SCHEMA, graph, linear

from redistill.streams.client.answers import answer, answer_all
from redistill.streams.client.loader import Serving
from redistill.streams.client.release import FileEntry, InputLayout, Manifest
from redistill.streams.client.session import Session
from redistill.streams.errors import NoAnswer
from redistill.times import EPOCH

ROW = {"income": 1.0, "age": 2.0, "region": "US"}
GAP = {"income": 1.0, "region": "US"}


def sensitive() -> onnx.ModelProto:
    """A graph that answers NaN where a feature is missing, as most do."""
    model = graph(*linear(1))
    model.graph.node[2].input[0] = "x"
    assert model.graph.node[2].op_type == "MatMul"
    return model


@pytest.fixture(scope="module")
def serving() -> Serving:
    sha = "a" * 64
    manifest = Manifest(
        model="credit",
        version="v7",
        kind="baseline",
        sha256=sha,
        files={"model.onnx": FileEntry(sha256=sha, bytes=1)},
        schema=SCHEMA,
        input=InputLayout(kind="matrix", names=("x",)),
        output="y",
        output_kind="logits",
        golden_tolerance=0.0,
        created_at=EPOCH,
    )
    return Serving(Session(sensitive().SerializeToString(), manifest), "v7", sha, sha, 1)


def test_row_that_the_graph_cannot_answer_is_an_error_and_never_a_class(serving: Serving) -> None:
    assert answer(serving, "credit", ROW).prediction in SCHEMA.classes
    for row in (GAP, {**ROW, "age": None}, [1.0, None, "US"], np.array([1.0, np.nan, 1.0])):
        with pytest.raises(NoAnswer, match="credit: version v7 answers NaN for this row") as said:
            answer(serving, "credit", row)
        assert str(said.value).endswith("; it lacks age: there is no prediction")
        assert said.value.rows == (0,)
        assert isinstance(said.value, ValueError)  # what a service answers with "bad request"
    assert answer(serving, "credit", ROW).version == "v7"


def test_rows_of_a_batch_that_have_no_answer_are_named(serving: Serving) -> None:
    rows = [ROW, GAP, ROW, GAP]
    with pytest.raises(NoAnswer, match=r"2 of 4 rows, the first is row 1; it lacks age") as said:
        answer_all(serving, "credit", rows)
    assert said.value.rows == (1, 3)
    rest = [row for i, row in enumerate(rows) if i not in said.value.rows]
    assert len(answer_all(serving, "credit", rest)) == 2


def test_row_with_all_features_may_have_no_answer(serving: Serving) -> None:
    with pytest.raises(NoAnswer, match="for this row: there is no prediction"):
        answer(serving, "credit", {**ROW, "income": float("inf"), "age": float("-inf")})


def test_the_error_goes_through_a_process_pool() -> None:
    again = pickle.loads(pickle.dumps(NoAnswer((1, 2), "said")))
    assert (again.rows, str(again)) == ((1, 2), "said")
