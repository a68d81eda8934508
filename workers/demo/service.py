"""Service of the demo: answers requests with ``ModelClient``, logs with ``PredictionLogger``.

It knows of redistill only what ``from redistill import ...`` gives. A process of its own
(``python -m redistill.workers.demo.service CONFIG.json``). It knows the truth of its rows, being
the one who drew them: it keeps its own tally, and hands the label of a random tenth of them to the
label feed, two seconds late.
"""

from __future__ import annotations

import heapq
import signal
import statistics
import sys
import threading
import time
from pathlib import Path

import msgspec
import numpy as np

from redistill import ModelClient, PredictionLogger
from redistill.workers.demo import data, world
from redistill.workers.demo.world import (
    LABEL_SHARE,
    LABEL_SOURCE,
    Config,
    ServiceStats,
    Tally,
    World,
)

__all__ = ["main"]

TICK_SECONDS = 0.32
ROWS_PER_TICK = 32
LABEL_DELAY_SECONDS = 2.0
DIGITS = frozenset(data.CLASSES)


class Service:
    """Serves rows tick by tick; everything that happens is in ``stats``."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.folder = Path(config.folder)
        self.rng = np.random.default_rng([config.seed, 2, config.number])
        self.traffic = data.load_digits(config.seed).traffic
        self.log = PredictionLogger(config.servers, namespace=config.namespace)
        self.model = ModelClient(
            config.model,
            repository=config.repository,
            trust=config.trust,
            log=self.log,
            cache=config.cache,
            poll_s=5,
        )
        self.requests = self.failed = 0
        self.last_error: str | None = None
        self.tallies: dict[tuple[str, str], Tally] = {}
        self.due: list[tuple[float, str, str]] = []  # heap of (when, id, label)
        self.truth = (self.folder / f"truth-{config.name}.jsonl").open("ab")

    def tick(self, now: World) -> None:
        """Answer ``ROWS_PER_TICK`` requests, one by one, as they would come in."""
        x, digits = data.draw(self.traffic, ROWS_PER_TICK, self.rng, priors=now.priors or None)
        if now.haze:
            x = data.haze(x, now.haze)
        labelled = self.rng.random(len(x)) < LABEL_SHARE
        lines, spent = [], []
        for row, digit, chosen in zip(x, digits, labelled, strict=True):
            self.requests += 1
            request = f"{self.config.name}-{self.requests}"
            features = dict(zip(data.FEATURES, row.tolist(), strict=True))
            began = time.perf_counter()
            try:
                out = self.model.predict(features)
            except Exception as error:  # a failed request is what the demo counts, whatever failed
                self._fail(repr(error))
                continue
            spent.append(time.perf_counter() - began)
            if out.prediction not in DIGITS:
                self._fail(f"{out.prediction!r} is no digit")
                continue
            self.log.log(out, features=features, id=request)
            served = time.time()
            truth = data.CLASSES[digit]
            self._count(now.scene, out.version, out.prediction == truth, served)
            lines.append(msgspec.json.encode({"id": request, "at": served, "label": truth}))
            if chosen:
                heapq.heappush(self.due, (served + LABEL_DELAY_SECONDS, request, truth))
        self.truth.write(b"".join(line + b"\n" for line in lines))
        self.truth.flush()
        self.label()
        self.report(statistics.median(spent) * 1e6 if spent else None)

    def label(self) -> None:
        """Send the labels that are due."""
        while self.due and self.due[0][0] <= time.time():
            _, request, truth = heapq.heappop(self.due)
            self.log.label(self.config.model, id=request, label=truth, source=LABEL_SOURCE)

    def report(self, predict_us: float | None = None) -> None:
        """Write the statistics file."""
        stats = self.log.stats()
        world.write(
            self.folder / f"stats-{self.config.name}.json",
            ServiceStats(
                service=self.config.name,
                at=time.time(),
                requests=self.requests,
                failed=self.failed,
                version=self.model.version,
                epoch=self.model.epoch,
                tallies=list(self.tallies.values()),
                logged=stats.logged,
                sent=stats.sent,
                dropped=stats.dropped + stats.invalid,
                last_error=self.last_error,
                predict_us=predict_us,
            ),
        )

    def close(self) -> None:
        """Send what is left, labels that are not yet due included, and close the clients."""
        for _, request, truth in sorted(self.due):
            self.log.label(self.config.model, id=request, label=truth, source=LABEL_SOURCE)
        self.due.clear()
        self.log.flush(5)
        self.report()
        self.model.close()
        self.log.close(5)
        self.truth.close()

    def _fail(self, why: str) -> None:
        self.failed += 1
        self.last_error = why

    def _count(self, scene: str, version: str, correct: bool, at: float) -> None:
        key = (scene, version)
        old = self.tallies.get(key)
        self.tallies[key] = Tally(
            scene=scene,
            version=version,
            rows=(old.rows if old else 0) + 1,
            correct=(old.correct if old else 0) + int(correct),
            first=old.first if old else at,
            last=at,
        )


def main(argv: list[str]) -> int:
    """Entry point of the process: the path of its ``Config`` as JSON, which may come later."""
    stop = threading.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: stop.set())
    path = Path(argv[0])
    while not path.exists():  # started early, so that its imports are done when the curtain rises
        if stop.wait(0.05):
            return 0
    config = msgspec.json.decode(path.read_bytes(), type=Config)
    service = Service(config)
    due = time.monotonic() + TICK_SECONDS * config.number / 3  # services do not tick in step
    try:
        while not stop.is_set():
            now = world.read_world(service.folder)
            if now.closing:
                break
            service.tick(now)
            due = max(due + TICK_SECONDS, time.monotonic())  # never catch up in a burst
            stop.wait(due - time.monotonic())
    finally:
        service.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
