"""Run one of the other tools over a stream, in its own environment (which knows nothing of
redistill): ``python peer_tools.py TOOL FOLDER WINDOW`` prints the rows at which it alarms, as JSON.

An alarm is a window that the tool calls drifted while the one before was not: what goes on is told
once.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")

NOT_FEATURES = ("label", "prediction")


def rises(drifted: list[bool], window: int) -> list[int]:
    """Last row of each window that is drifted after one that is not."""
    told = []
    for i, now in enumerate(drifted):
        if now and not (i and drifted[i - 1]):
            told.append((i + 1) * window - 1)
    return told


def features(frame: Any) -> Any:
    return frame[[c for c in frame if c not in NOT_FEATURES and not c.startswith("score")]]


def evidently(reference: Any, stream: Any, window: int) -> dict[str, list[bool]]:
    """Its preset for data drift: half of the columns, its rule for a data set; and any column."""
    from evidently import Report
    from evidently.presets import DataDriftPreset

    half, some = [], []
    for i in range(0, len(stream), window):
        report = Report([DataDriftPreset()])
        result = report.run(features(stream[i : i + window]), features(reference))
        for metric in result.dict()["metrics"]:
            if "DriftedColumnsCount" in json.dumps(
                metric.get("metric_name", metric.get("metric_id"))
            ):
                half.append(metric["value"]["share"] >= 0.5)
                some.append(metric["value"]["count"] > 0)
                break
        else:
            raise RuntimeError("the report has no count of drifted columns")
    return {"half of the columns drifted": half, "any column drifted": some}


def nannyml(reference: Any, stream: Any, window: int) -> dict[str, list[bool]]:
    """CBPE, estimated accuracy, three standard deviations: its defaults; of two classes."""
    import nannyml as nml

    classes = [c for c in reference if c.startswith("score_")]
    if len(classes) != 2:
        return {}
    of_second = "score_a" if "score_a" in classes else "score_1"  # probability of class 1
    for frame in (reference, stream):
        frame["proba"] = frame[of_second]
    estimator = nml.CBPE(
        y_pred_proba="proba", y_pred="prediction", y_true="label",
        problem_type="classification_binary", metrics=["accuracy"], chunk_size=window,
    )  # fmt: skip
    estimator.fit(reference)
    told = estimator.estimate(stream.drop(columns="label")).filter(period="analysis").to_df()
    return {"CBPE, its own limits": told[("accuracy", "alert")].astype(bool).tolist()}


def alibi_detect(reference: Any, stream: Any, window: int) -> dict[str, list[bool]]:
    """KS and chi-squared tests per column with Bonferroni's correction, p < .05: its defaults."""
    import numpy as np
    from alibi_detect.cd import TabularDrift

    before, now = features(reference).copy(), features(stream).copy()
    texts = [c for c in before if before[c].dtype == object]
    for c in texts:
        values = {v: i for i, v in enumerate(sorted({*before[c], *now[c]}))}
        before[c], now[c] = before[c].map(values), now[c].map(values)
    categories = {list(before).index(c): None for c in texts}
    x = before.to_numpy(np.float32)
    detector = TabularDrift(x, p_val=0.05, categories_per_feature=categories or None)
    said = []
    for i in range(0, len(now), window):
        part = np.nan_to_num(now[i : i + window].to_numpy(np.float32))
        said.append(bool(detector.predict(part)["data"]["is_drift"]))
    return {"KS and chi-squared, Bonferroni": said}


def main() -> None:
    import pandas as pd

    tool, folder, window = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    reference, stream = (pd.read_csv(folder / f"{name}.csv") for name in ("reference", "stream"))
    began = time.process_time()
    rule = {"evidently": evidently, "nannyml": nannyml, "alibi-detect": alibi_detect}[tool]
    said = rule(reference, stream, window)
    alarms = {name: rises(drifted, window) for name, drifted in said.items()}
    print(json.dumps({"alarms": alarms, "seconds": time.process_time() - began}))


if __name__ == "__main__":
    main()
