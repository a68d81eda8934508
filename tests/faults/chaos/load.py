"""Load: predictions, late labels and what should not be there, until told to stop. What the broker
acknowledged is noted by id; only that counts."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import traffic

from redistill.streams.kafka.broker import Broker, producer
from redistill.streams.wire.envelope import Encoded

TICK_SECONDS = 0.25
LABEL_SHARE = 0.2
LABEL_DELAY_SECONDS = 1.0
UNANSWERED = 4_000
"""Records that may wait for the broker's word before the load waits itself."""
LAST_SECONDS = 300.0
"""How long the last records may wait for a broker that is away."""


@dataclass
class Acknowledged:
    """What the broker (or a logger's ``flush``) said that it has."""

    predictions: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)
    unreadable: int = 0
    null_labels: int = 0
    strangers: int = 0
    maybe: set[str] = field(default_factory=set)
    """Sent without an answer: they may be there or not."""
    records: int = 0

    @property
    def rows(self) -> int:
        """Rows and labels."""
        return len(self.predictions) + len(self.labels) + self.strangers

    def note(self, kind: str, ids: list[str]) -> None:
        """A record of a kind was acknowledged."""
        self.records += 1
        match kind:
            case "predictions":
                self.predictions.update(ids)
            case "labels":
                self.labels.update(ids)
            case "unreadable":
                self.unreadable += 1
            case "null_label":
                self.null_labels += 1
            case "stranger":
                self.strangers += 1


class Load(threading.Thread):
    """Sends rows as the version that serves answers them.

    Parameters
    ----------
    serving
        The version that serves now, and its graph.
    rows_per_second
        Predictions; a fifth of them get labels a second later.
    arrow
        Share of ticks whose rows go as one Arrow batch; the others are a JSON record a row.
    """

    def __init__(
        self,
        broker: Broker,
        serving: Callable[[], tuple[str, Path]],
        *,
        rows_per_second: int,
        seed: int,
        arrow: float = 0.6,
    ) -> None:
        super().__init__(name="load", daemon=True)
        self._broker, self._serving = broker, serving
        self.rate, self._arrow = rows_per_second, arrow
        self._rng = np.random.default_rng(seed)
        self.boom = self.broken = False
        self.halt = threading.Event()
        self.failure: Exception | None = None
        self.acknowledged = Acknowledged()
        self._serial = 0
        self._pool: traffic.Pool | None = None
        self._world: tuple[Any, ...] = ()
        self._waiting: deque[tuple[str, list[str], Any]] = deque()
        self._late: deque[tuple[float, str, Encoded]] = deque()
        self._out: Any = None

    def run(self) -> None:
        """Produce until ``halt`` is set."""
        try:
            self._out = producer(
                self._broker, linger_ms=5, retries=2**31 - 1, max_block_ms=600_000,
            )  # fmt: skip
            while not self.halt.is_set():
                began = time.monotonic()
                if len(self._waiting) < UNANSWERED:
                    self._tick(began)
                self._harvest()
                self.halt.wait(max(0.01, TICK_SECONDS - (time.monotonic() - began)))
            self._end()
        except Exception as error:
            self.failure = error
        finally:
            if self._out is not None:
                self._out.close(timeout=5)

    def _end(self) -> None:
        self._out.flush(LAST_SECONDS)
        deadline = time.monotonic() + LAST_SECONDS
        while self._waiting and time.monotonic() < deadline:
            self._harvest()
            time.sleep(0.02)
        for _, ids, _ in self._waiting:
            self.acknowledged.maybe.update(ids)

    def _tick(self, now: float) -> None:
        pool = self._traffic()
        n = max(1, round(self.rate * TICK_SECONDS))
        rows = pool.take(n)
        ids = [f"r{self._serial + i:09d}" for i in range(n)]
        self._serial += n
        moment = datetime.now(UTC)
        if self._rng.random() < self._arrow:
            self._send("predictions", ids, pool.batch(rows, ids, moment))
        else:
            for row, made in zip(ids, pool.events(rows, ids, moment), strict=True):
                self._send("predictions", [row], made)
        chosen = np.flatnonzero(self._rng.random(n) < LABEL_SHARE).tolist()
        for i in chosen:
            label = pool.label(rows.start + i, ids[i], LABEL_SHARE)
            self._late.append((now + LABEL_DELAY_SECONDS, ids[i], label))
        while self._late and self._late[0][0] <= now:
            _, row, label = self._late.popleft()
            self._send("labels", [row], label)
        if self._rng.random() < 0.1:
            self._send("unreadable", [], traffic.unreadable())
        if self._rng.random() < 0.1:
            unlabelled = (
                next(ids[i] for i in range(n) if i not in chosen) if len(chosen) < n else "x"
            )
            self._send("null_label", [], traffic.null_label(unlabelled))
        if self._rng.random() < 0.1:
            self._send("stranger", [], traffic.stranger(ids[0], moment))

    def _traffic(self) -> traffic.Pool:
        version, graph = self._serving()
        world = (version, self.boom, self.broken)
        if self._pool is None or world != self._world:
            self._world = world
            self._pool = traffic.Pool.make(
                graph, version, self._rng, boom=self.boom, broken=self.broken
            )
        return self._pool

    def _send(self, kind: str, ids: list[str], made: Encoded) -> None:
        topic = self._broker.topic(made.topic)
        # no key: a model's rows spread over all partitions, so that both workers have some
        future = self._out.send(topic, value=made.value, headers=made.headers)
        self._waiting.append((kind, ids, future))

    def _harvest(self) -> None:
        while self._waiting and self._waiting[0][2].is_done:
            kind, ids, future = self._waiting.popleft()
            if future.succeeded():
                self.acknowledged.note(kind, ids)
            else:
                self.acknowledged.maybe.update(ids)
