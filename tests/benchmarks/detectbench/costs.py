"""What a row costs in each layer of the monitor: CPU time of the process, the best of some runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scenarios import SCENARIOS, make

from redistill.rowfiles import open_rows
from redistill.streams.monitor.accuracy import account
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.detectors import ConfidenceWatch
from redistill.streams.monitor.observe import observe
from redistill.streams.monitor.outcomes import Outcomes
from redistill.streams.monitor.reference import build_profile
from redistill.streams.monitor.state import InputState
from redistill.streams.replay.blocks import stream_blocks
from redistill.streams.replay.label_flow import Budget, LabelFlow
from redistill.streams.replay.late_labels import ServedRows
from redistill.streams.replay.options import ReplayOptions
from redistill.streams.replay.table import Table

__all__ = ["lines"]

BLOCK, RUNS, LABELS = 500, 3, 2_000


def _best(work: Callable[[], object], n: int) -> float:
    """Microseconds of CPU per row, or label."""
    took = []
    for _ in range(RUNS):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return round(min(took) / n * 1e6, 2)


def lines() -> list[dict[str, Any]]:
    """One line per layer; a stream of 20,000 rows in which nothing changes, 14 features."""
    drawn = make(SCENARIOS[0], 0)
    options = ReplayOptions(scores=("score_a", "score_b"), tolerance_points=2.0)
    rows = open_rows(drawn.stream, "stream")
    table = Table.learn(open_rows(drawn.reference, "reference"), rows, options)
    blocks = list(stream_blocks(rows, table.kinds, table.layout, options, BLOCK))
    config = WatchConfig(model="m", schema=table.layout.schema, tolerance_points=2.0)
    profile = build_profile(table.reference, table.layout.schema)
    base = table.base or BaseError.from_errors(drawn.reference_wrong.astype(int))
    n = sum(len(b.block) for b in blocks)

    def inputs() -> None:
        state: InputState | None = None
        for b in blocks:
            state = observe(
                state, b.block, profile=profile, config=config, partition=("t", 0)
            ).state

    confidence = np.concatenate([b.confidence for b in blocks]).tolist()
    error = np.concatenate([b.error for b in blocks])

    def harm() -> None:
        state = None
        for i in range(0, n, LABELS):
            at = np.arange(i, min(i + LABELS, n)) * 1_000_000
            outcomes = Outcomes(error=error[i : i + LABELS], served_at=at, received_at=at)
            state, _, _ = account(
                state, outcomes, version="1", base=base, config=config, label_share=1.0
            )

    def flow(budget: Budget | None) -> Callable[[], None]:
        drawn_rows = np.random.default_rng(0).random(n) < 0.08
        served = [
            ServedRows(
                first=i,
                error=b.error,
                labelled=b.labelled,
                served_at=b.block.served_at,
                confidence=b.confidence,
                window=np.zeros(len(b.error), np.int64),
                drawn=drawn_rows[i : i + len(b.error)],
                slices={},
            )
            for i, b in zip(range(0, n, BLOCK), blocks, strict=True)
        ]

        def work() -> None:
            labels = LabelFlow(
                ReplayOptions(label_rate=0.08, label_delay=500), config, base, budget
            )
            for rows in served:
                labels.serve(rows, [], [])

        return work

    doubt = _best(lambda: ConfidenceWatch(1e-5).update(confidence), n)
    random = _best(flow(None), n)
    asking = _best(flow(Budget(0.07, n)), n)
    told = {
        "inputs: contract, distances and confidence, per row": _best(inputs, n),
        "of it, River ADWIN on confidence, per row": doubt,
        "harm, per label": _best(harm, n),
        "replay: 8% of labels at random, per row": random,
        "replay: and asking for more, looked at every 50 rows, per row": asking,
    }
    return [{"configuration": f"cost: {name}", "microseconds": cost} for name, cost in told.items()]
