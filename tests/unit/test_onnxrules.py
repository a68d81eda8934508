"""Rules of shape: what operators make for which onnx has no rule."""

from __future__ import annotations

from typing import Any

import pytest
from onnx import TensorProto, helper

from redistill.onnxrules import RULES, Form, number

F, U, L, S = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64, TensorProto.STRING
ML, MS = "ai.onnx.ml", "com.microsoft"


@pytest.mark.parametrize(
    ("domain", "operator", "attributes", "inputs", "outputs"),
    [
        (ML, "Scaler", {}, [(L, (8, 3))], [(F, (8, 3))]),
        (ML, "TreeEnsembleRegressor", {"n_targets": 4}, [(F, (8, 3))], [(F, (8, 4))]),
        (ML, "TreeEnsemble", {"n_targets": 4}, [(F, (8, 3))], [(F, (8, 4))]),
        (ML, "LinearRegressor", {}, [(F, (8, 3))], [(F, (8, 1))]),
        (
            ML,
            "TreeEnsembleClassifier",
            {"classlabels_strings": ["a", "b", "c"]},
            [(F, (8, 3))],
            [(S, (8,)), (F, (8, 3))],
        ),
        (
            ML,
            "SVMClassifier",
            {"classlabels_ints": [0, 1]},
            [(F, (8, 3))],
            [(L, (8,)), (F, (8, 2))],
        ),
        (ML, "ArrayFeatureExtractor", {}, [(F, (8, 3)), (L, (2,))], [(F, (8, 2))]),
        (ML, "ArrayFeatureExtractor", {}, [(F, (3,)), (L, (1, 8))], [(F, (1, 8))]),
        (ML, "FeatureVectorizer", {}, [(F, (8, 3)), (F, (8,))], [(F, (8, 4))]),
        (MS, "QGemm", {"transB": 1}, [(U, (8, 3)), None, None, (U, (5, 3))], [(F, (8, 5))]),
        (MS, "FusedMatMul", {"transA": 1}, [(F, (3, 8)), (F, (3, 5))], [(F, (8, 5))]),
        (MS, "MatMulNBits", {"N": 7}, [(F, (8, 3)), (U, (1,))], [(F, (8, 7))]),
        (MS, "QLinearAdd", {}, [(U, (8, 1)), (F, ()), (U, ()), (U, (1, 9))], [(U, (8, 9))]),
        (MS, "QuantizeLinear", {}, [(F, (8, 3)), (F, ())], [(U, (8, 3))]),
        (
            MS,
            "QLinearConcat",
            {"axis": 1},
            [(F, ()), (U, ()), (U, (8, 3)), (F, ()), (U, ()), (U, (8, 2)), (F, ()), (U, ())],
            [(U, (8, 5))],
        ),
        (MS, "QLinearGlobalAveragePool", {}, [(U, (8, 3, 5, 5))], [(U, (8, 3, 1, 1))]),
        (MS, "Attention", {}, [(F, (8, 4, 6)), (F, (6, 18))], [(F, (8, 4, 6))]),
        (MS, "DequantizeLinear", {}, [(U, (8, 3)), (F, ())], [(F, (8, 3))]),
    ],
)
def test_sizes_follow_from_inputs_and_attributes(
    domain: str,
    operator: str,
    attributes: dict[str, Any],
    inputs: list[Form | None],
    outputs: list[Form],
) -> None:
    node = helper.make_node(operator, [], [], domain=domain, **attributes)
    assert RULES[domain, operator](node, inputs) == outputs


def test_an_input_that_is_missing_is_an_error_and_an_attribute_is_zero() -> None:
    node = helper.make_node("Scaler", [], [], domain=ML)
    with pytest.raises(ValueError, match="missing"):
        RULES[ML, "Scaler"](node, [None])
    assert number(node, "n_targets") == 0
