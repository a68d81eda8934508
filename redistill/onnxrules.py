"""Rules of shape for operators of ONNX for which the library ``onnx`` has none: those of trees and
vectors, and of ``com.microsoft``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["RULES", "Form", "number"]

FLOAT, UINT8, INT64, STRING = 1, 2, 7, 8

Form = tuple[int, tuple[int, ...]]
"""Of a tensor: its elements (``TensorProto.DataType``) and its shape."""
Rule = Callable[[Any, Sequence[Form | None]], list[Form]]
"""From a node and its inputs (``None``: left out) to its outputs; the last stands for all further
ones."""


def number(node: Any, attribute: str) -> int:
    """An attribute that is a whole number; 0 where it is not there."""
    return next((int(a.i) for a in node.attribute if a.name == attribute), 0)


def _given(form: Form | None) -> Form:
    if form is None:
        raise ValueError("an input is missing")
    return form


def _like(at: int, element: int | None = None) -> Rule:
    """Like an input; with elements of its own, where they are given."""

    def rule(node: Any, forms: Sequence[Form | None]) -> list[Form]:
        kind, shape = _given(forms[at])
        return [(element or kind, shape)]

    return rule


def _broadcast(node: Any, forms: Sequence[Form | None]) -> list[Form]:
    shapes = [f[1] for f in forms if f is not None]
    return [(_given(forms[0])[0], tuple(int(n) for n in np.broadcast_shapes(*shapes)))]


def _product(first: int, second: int) -> Rule:
    """Of two matrices, which are these inputs."""

    def rule(node: Any, forms: Sequence[Form | None]) -> list[Form]:
        a, b = _given(forms[first])[1], _given(forms[second])[1]
        rows = a[-1] if number(node, "transA") else a[-2]
        columns = b[-2] if number(node, "transB") else b[-1]
        return [(FLOAT, (*np.broadcast_shapes(a[:-2], b[:-2]), rows, columns))]

    return rule


def _entries(node: Any, *names: str) -> int:
    """The largest of some attributes: what they say, or how many entries they have."""
    found = {a.name: a for a in node.attribute}
    each = [found[n] for n in names if n in found]
    return max((max(a.i, len(a.ints), len(a.strings)) for a in each), default=1)


def _regressor(node: Any, forms: Sequence[Form | None]) -> list[Form]:
    return [(FLOAT, (_given(forms[0])[1][0], _entries(node, "n_targets", "targets")))]


def _classifier(node: Any, forms: Sequence[Form | None]) -> list[Form]:
    rows = _given(forms[0])[1][0]
    texts = ("classlabels_strings",)
    label = STRING if _entries(node, *texts) > 1 else INT64
    many = _entries(node, *texts, "classlabels_int64s", "classlabels_ints")
    return [(label, (rows,)), (FLOAT, (rows, many))]


def _extracted(node: Any, forms: Sequence[Form | None]) -> list[Form]:
    (element, shape), (_, wanted) = _given(forms[0]), _given(forms[1])
    rows = shape[:-1] if len(shape) > 1 else (1,)
    return [(element, (*rows, int(np.prod(wanted))))]


def _flat(node: Any, forms: Sequence[Form | None]) -> list[Form]:
    shapes = [_given(f)[1] for f in forms]
    return [(FLOAT, (shapes[0][0], sum(s[-1] if len(s) > 1 else 1 for s in shapes)))]


def _quantized(node: Any, forms: Sequence[Form | None]) -> list[Form]:
    zero = forms[2] if len(forms) > 2 else None
    return [(UINT8 if zero is None else zero[0], _given(forms[0])[1])]


def _joined(node: Any, forms: Sequence[Form | None]) -> list[Form]:
    """Tensors, each with its scale and zero point, after the scale and zero point of the whole."""
    given = [_given(f) for f in forms[2::3]]
    axis, (element, shape) = number(node, "axis"), given[0]
    at = axis % len(shape)
    return [(element, (*shape[:at], sum(s[at] for _, s in given), *shape[at + 1 :]))]


def _pooled(node: Any, forms: Sequence[Form | None]) -> list[Form]:
    element, shape = _given(forms[0])
    ones = (1,) * (len(shape) - 2)
    last = number(node, "channels_last")
    return [(element, (shape[0], *ones, shape[-1]) if last else (*shape[:2], *ones))]


def _attended(node: Any, forms: Sequence[Form | None]) -> list[Form]:
    """Queries, keys and values stand side by side in the weights."""
    return [(FLOAT, (*_given(forms[0])[1][:-1], _given(forms[1])[1][-1] // 3))]


def _blocks(node: Any, forms: Sequence[Form | None]) -> list[Form]:
    return [(FLOAT, (*_given(forms[0])[1][:-1], number(node, "N")))]


_VECTORS: dict[str, Rule] = {
    **dict.fromkeys(("Scaler", "Normalizer"), _like(0, FLOAT)),
    **dict.fromkeys(("Imputer", "Binarizer"), _like(0)),
    **dict.fromkeys(
        ("TreeEnsemble", "TreeEnsembleRegressor", "SVMRegressor", "LinearRegressor"), _regressor
    ),
    **dict.fromkeys(("TreeEnsembleClassifier", "SVMClassifier", "LinearClassifier"), _classifier),
    "ArrayFeatureExtractor": _extracted,
    "FeatureVectorizer": _flat,
}
_MICROSOFT: dict[str, Rule] = {
    **dict.fromkeys(
        (
            *("BiasGelu", "FastGelu", "Gelu", "QuickGelu"),
            *("QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax"),
            *("SkipLayerNormalization", "SimplifiedLayerNormalization"),
            "SkipSimplifiedLayerNormalization",
        ),
        _like(0),
    ),
    **dict.fromkeys(("QLinearAdd", "QLinearMul", "QLinearWhere"), _broadcast),
    **dict.fromkeys(("FusedGemm", "FusedMatMul", "DynamicQuantizeMatMul"), _product(0, 1)),
    "MatMulIntegerToFloat": _product(0, 1),
    "QGemm": _product(0, 3),
    "MatMulNBits": _blocks,
    "QLinearConcat": _joined,
    "QLinearGlobalAveragePool": _pooled,
    **dict.fromkeys(("Attention", "QAttention"), _attended),
    "QuantizeLinear": _quantized,
    "DequantizeLinear": _like(0, FLOAT),
}
RULES: dict[tuple[str, str], Rule] = {
    **{("ai.onnx.ml", name): rule for name, rule in _VECTORS.items()},
    **{("com.microsoft", name): rule for name, rule in _MICROSOFT.items()},
    **dict.fromkeys((("", "MeanVarianceNormalization"), ("", "GroupNormalization")), _like(0)),
}
"""By domain and name."""
