"""Detectors side by side: redistill's replay with different labels, parts of it taken away, and what
stands beside it. Each says at which rows it alarms."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
from detectbench.cases import Case
from river import drift
from scenarios import Drawn

from redistill.streams.monitor import label_requests, suspicion
from redistill.streams.replay import label_flow
from redistill.streams.replay.options import ReplayOptions
from redistill.streams.replay.run import run_replay

__all__ = ["ABLATION", "DETECTORS", "Told"]

TOLERANCE = 2.0
Line = dict[str, Any]


@dataclass
class Told:
    """What a detector said about one stream."""

    alarms: list[int] = field(default_factory=list)
    open_from: list[tuple[int, int]] = field(default_factory=list)
    """Stretches in which harm stands open."""
    label_share: float | None = None
    seconds: float | None = None
    covered: int = 0
    windows: int = 0
    blamed: list[str | None] = field(default_factory=list)
    """``column=value`` that each finding of harm blamed when it was last told; ``None``: none."""
    earned: list[int] | None = None
    """Alarms with the budget earned row by row."""


Detector = Callable[[Case, Drawn, int], Told]


def _replay(rate: float, requests: float = 0.0) -> Detector:
    def detect(case: Case, drawn: Drawn, seed: int) -> Told:
        lines: list[Line] = []
        began = time.process_time()
        run_replay(
            drawn.stream,
            drawn.reference,
            ReplayOptions(
                scores=case.scores,
                label_rate=rate,
                label_delay=case.label_delay,
                label_requests=requests,
                seed=seed,
                tolerance_points=TOLERANCE,
            ),
            write=lines.append,
        )
        return _told(lines, drawn, time.process_time() - began)

    return detect


def _told(lines: list[Line], drawn: Drawn, seconds: float) -> Told:
    summary = lines[-1]["summary"]
    told = Told(label_share=summary["label_share"], seconds=seconds)
    if (used := summary["label_requests"]) is not None:
        told.earned = used["earned_row_by_row"]["harm"]["rows"]
    standing: dict[str, int] = {}
    blamed: dict[str, str | None] = {}
    for line in lines:
        if "from" in line and line["accuracy"]["n"]:
            truth = 1 - drawn.wrong[line["from"] : line["to"] + 1].mean()
            a = line["accuracy"]
            told.windows += 1
            told.covered += bool(a["low"] - 1e-9 <= truth <= a["high"] + 1e-9)
        elif line.get("kind") == "accuracy" and line["impact"]["harmful"]:
            if line["status"] == "open":
                told.alarms.append(line["row"])
                standing[line["id"]] = line["row"]
            elif line["status"] == "resolved" and line["id"] in standing:
                told.open_from.append((standing.pop(line["id"]), line["row"]))
            if line["status"] != "resolved":
                blamed[line["id"]] = line["localised_to"]
    told.blamed = list(blamed.values())
    told.open_from += [(row, len(drawn.wrong)) for row in standing.values()]
    return told


def _adwin(rate: float) -> Detector:
    """River's ADWIN with its defaults, on the errors of labels drawn at random."""

    def detect(case: Case, drawn: Drawn, seed: int) -> Told:
        detector = drift.ADWIN()
        labels = np.flatnonzero(np.random.default_rng(seed).random(len(drawn.wrong)) < rate)
        told, before = Told(label_share=rate), 0.0
        for i in labels.tolist():
            detector.update(int(drawn.wrong[i]))
            if detector.drift_detected and detector.estimation > before:
                told.alarms.append(i + case.label_delay)
            if detector.width % 32 == 0:
                before = detector.estimation
        return told

    return detect


def _chance(case: Case, drawn: Drawn, seed: int) -> Told:
    return Told(list(range(5_000, len(drawn.wrong) + 1, 5_000)), label_share=0.0)


def _never(case: Case, drawn: Drawn, seed: int) -> Told:
    return Told(label_share=0.0)


# --- parts taken away, or others put in their place ----------------------------------------------

ASKING = _replay(0.08, 0.07)


def _without(change: Callable[[], Any]) -> Detector:
    def detect(case: Case, drawn: Drawn, seed: int) -> Told:
        with change():
            return ASKING(case, drawn, seed)

    return detect


def _set(module: Any, **values: Any) -> Callable[[], Any]:
    return lambda: mock.patch.multiple(module, **values)


@contextmanager
def _no_confidence() -> Iterator[None]:
    def only_labels(state: Any, inputs: Any = ()) -> Any:
        return suspicion.suspicions(state)

    with mock.patch.object(label_flow, "suspicions", only_labels):
        yield


@contextmanager
def _no_looking_back() -> Iterator[None]:
    def nothing(candidates: int, wanted: int, start: float) -> Any:
        return np.zeros(0, np.int64)

    with mock.patch.object(label_flow, "spread", nothing):
        yield


@contextmanager
def _from_now() -> Iterator[None]:
    """Looks back at the newest rows instead of at those since the change point."""
    with mock.patch.object(label_requests, "LONGEST_ROWS", label_requests.BURST_ROWS):
        yield


DETECTORS: Mapping[str, Detector] = {
    "never": _never,
    "chance: every 5,000 rows": _chance,
    "River ADWIN, defaults, 15% of labels": _adwin(0.15),
    "River ADWIN, defaults, all labels": _adwin(1.0),
    "redistill, 8% at random": _replay(0.08),
    "redistill, 15% at random": _replay(0.15),
    "redistill, 8% at random + 7% on request": ASKING,
    "redistill, all labels": _replay(1.0),
    "without the confidence": _without(_no_confidence),
    "without looking back": _without(_no_looking_back),
    "looking back at the newest rows": _without(_from_now),
    "asking at a tenth of the threshold": _without(_set(suspicion, LEVEL=0.1)),
    "asking at a thousandth": _without(_set(suspicion, LEVEL=0.001)),
}
ABLATION = tuple(DETECTORS)[8:]
