"""How fast the monitor is: ``observe`` per row and per part, ``account`` per label, beside River's
ADWIN on every feature.

python tests/benchmarks/bench_monitor.py [--rows 200000] [--features 20]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from river import drift

from redistill.streams.monitor.accuracy import account
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.observe import observe
from redistill.streams.monitor.outcomes import AccuracyState, Outcomes
from redistill.streams.monitor.reference import build_profile
from redistill.streams.monitor.state import InputState
from redistill.streams.wire.block import Codes, Feature, PredictionBlock, Schema


def blocks(n: int, size: int, schema: Schema, seed: int, *, scores: bool) -> list[PredictionBlock]:
    """``n`` healthy rows in blocks of ``size``."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(schema.features))).astype(np.float32)
    c = rng.uniform(0.5, 1, n).astype(np.float32)
    codes = rng.integers(0, 2, n).astype(np.int32)
    return [
        PredictionBlock(
            model="m",
            version="1",
            ids=[""] * min(size, n - i),
            served_at=np.arange(i, min(n, i + size), dtype=np.int64) * 1_000,
            feature_names=schema.names,
            features=x[i : i + size],
            prediction=Codes(codes[i : i + size], schema.classes),
            scores=np.stack([c, 1 - c], 1)[i : i + size] if scores else None,
        )
        for i in range(0, n, size)
    ]


def cpu(work: object) -> float:
    """CPU seconds of the best of three runs."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        work()  # type: ignore[operator]
        best = min(best, time.process_time() - began)
    return best


def main() -> None:
    """Run all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--features", type=int, default=20)
    args = parser.parse_args()
    n = args.rows
    schema = Schema(
        features=tuple(Feature(name=f"x{i}") for i in range(args.features)), classes=("a", "b")
    )
    config = WatchConfig(model="m", schema=schema)

    def one(scores: bool) -> PredictionBlock:
        return blocks(20_000, 20_000, schema, 0, scores=scores)[0]

    print(f"{args.features} features, CPU, best of 3 runs over {n:,} rows")
    for size in (512, 500, 100):
        for scores in (True, False):
            profile = build_profile(one(scores), schema)
            parts = blocks(n, size, schema, 1, scores=scores)

            def run(parts: list[PredictionBlock] = parts, profile: object = profile) -> None:
                state: InputState | None = None
                for part in parts:
                    state = observe(
                        state,
                        part,
                        profile=profile,
                        config=config,
                        partition=("t", 0),  # type: ignore[arg-type]
                    ).state

            seconds = cpu(run)
            what = "with River ADWIN on confidence" if scores else "without scores"
            print(f"  observe, blocks of {size:4} {what:32} {n / seconds / 1e6:6.2f}M rows/s")

    values = np.random.default_rng(0).normal(size=(min(n, 20_000), args.features)).tolist()

    def river() -> None:
        detectors = [drift.ADWIN() for _ in range(args.features)]
        for row in values:
            for detector, value in zip(detectors, row, strict=True):
                detector.update(value)

    print(
        f"  baseline: River ADWIN on every feature{'':25} {len(values) / cpu(river) / 1e6:6.2f}M rows/s"
    )

    base = BaseError.from_errors((np.random.default_rng(1).random(20_000) < 0.1).astype(int))
    errors = (np.random.default_rng(2).random(50_000) < 0.1).astype(np.uint8)
    at = np.arange(len(errors), dtype=np.int64) * 1_000

    def labels() -> None:
        state: AccuracyState | None = None
        for i in range(0, len(errors), 500):
            part = slice(i, i + 500)
            outcomes = Outcomes(error=errors[part], served_at=at[part], received_at=at[part])
            state, _, _ = account(state, outcomes, version="1", base=base, config=config)

    def adwin() -> None:
        detector = drift.ADWIN()
        for e in errors.tolist():
            detector.update(e)

    ours, rivers = (cpu(work) / len(errors) * 1e6 for work in (labels, adwin))
    print(f"  account: {ours:.2f} µs a label; baseline: River ADWIN on the error: {rivers:.2f} µs")
    profile = build_profile(one(True), schema)
    state = None
    for part in blocks(10_000, 500, schema, 3, scores=True):
        state = observe(state, part, profile=profile, config=config, partition=("t", 0)).state
    assert state is not None
    final, data = state, state.to_bytes(b"k")
    written = cpu(lambda: [final.to_bytes(b"k") for _ in range(100)]) * 1e4
    place = {"model": final.model, "version": final.version, "partition": final.partition}
    read = cpu(lambda: [InputState.from_bytes(data, b"k", **place) for _ in range(100)]) * 1e4
    print(f"  state: {len(data) / 1e3:.1f} kB, written in {written:.0f} µs, read in {read:.0f} µs")
    print(f"  profile: {len(profile.to_bytes()) / 1e3:.1f} kB")


if __name__ == "__main__":
    main()
