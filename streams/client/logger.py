"""Prediction logger: tells redistill what a service predicted, and costs it a few microseconds.

``log`` appends to a queue in memory. An encoding thread turns rows into Arrow batches; a sending
thread owns everything of Kafka; a third listens to pointers if somebody asked for it. All are
daemons, and are started when they are first needed, in each process anew: after ``fork`` a child
has its own, and an empty queue, so that nothing is sent twice.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any, Literal, Self
from uuid import UUID

from redistill import extras
from redistill.streams.client import forks
from redistill.streams.client.batcher import BoundLabel, Logged, warm_up
from redistill.streams.client.ledger import Stats
from redistill.streams.client.pipeline import Pipeline
from redistill.streams.client.pointers import Callback
from redistill.streams.client.release import FALLBACK
from redistill.streams.client.values import moment, named_text, named_texts, plain
from redistill.streams.kafka.broker import Broker, Security, preload
from redistill.streams.wire.events import Event, LabelObserved
from redistill.textform import NoText
from redistill.times import now_us

__all__ = ["PredictionLogger"]

_MAX_CELLS = 400_000
"""Feature values in the queue: rows with very many features fill it sooner."""
_EXIT_SECONDS = 5.0
"""How long the end of the process may wait for what is unsent."""
_FULL = "the queue is full, or the logger is closed"


class PredictionLogger:
    """Logs predictions and labels of a service. Once made it never blocks and never raises;
    thread-safe.

    What cannot be sent waits in bounded memory, for as long as the process lives, and is then
    counted as dropped; what is wrong is counted as invalid. Both say so in the log of
    ``redistill.client``, once a minute for each cause, and in ``stats``.

    Parameters
    ----------
    servers
        ``host:port[,host:port]`` of the Kafka brokers.
    security
        Credentials and trust; ``None``: plain text.
    namespace
        Prefix of the topics, as in the installation's ``REDISTILL_NAMESPACE``.
    source
        Name of this service in CloudEvents' ``source``; default: host and process id.
    max_rows
        Rows that may wait to be encoded (a second's worth at 10,000 a second).
    max_bytes
        Bytes of encoded records that may wait for the broker.

    Raises
    ------
    ImportError
        The library that talks to Kafka is missing, or hidden by a file of the service's own: the
        one thing that is said at once, since nothing would ever be sent.

    Examples
    --------
    >>> log = PredictionLogger("127.0.0.1:1")  # nobody listens there
    >>> log.log(model="credit", version="7", prediction="repay", features={"age": 41}, id="r1")
    'r1'
    >>> log.close(timeout=0)
    >>> log.stats().logged
    1
    """

    def __init__(
        self,
        servers: str,
        *,
        security: Security | None = None,
        namespace: str = "",
        source: str | None = None,
        max_rows: int = 10_000,
        max_bytes: int = 32 << 20,
    ) -> None:
        extras.check("kafka", extra="client", by="redistill.PredictionLogger")
        try:
            preload()  # here and not in a thread: somebody may fork at any time
            warm_up()
        except ImportError as error:
            by = "redistill.PredictionLogger"
            raise extras.explain(error, extra="client", by=by) or error from error
        self._broker = Broker(servers, security, namespace)
        self._source = source
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._asked: dict[str, list[Callback]] = {}
        self._parents: list[Pipeline] = []  # of the processes that we were forked from
        self._numbers = count()
        self._begin()
        forks.in_child(self, PredictionLogger._forked)

    # ------------------------------------------------------------------------- the hot path

    def log(
        self,
        out: Any = None,
        *,
        features: Mapping[str, float | str | None] | None = None,
        id: str | None = None,
        segment: Mapping[str, str] | None = None,
        model: str | None = None,
        version: str | None = None,
        prediction: str | float | None = None,
        scores: Sequence[float] | None = None,
        latency_ms: float | None = None,
        sample_rate: float = 1.0,
        failed: Literal["error", "fallback"] | None = None,
        prediction_interval: tuple[float, float] | None = None,
    ) -> str:
        """Log one prediction.

        Parameters
        ----------
        out
            What ``ModelClient.predict`` returned, or anything with its attributes: ``model``,
            ``version``, ``prediction`` and, where there are any, ``scores``, ``features``,
            ``latency_ms``. The other arguments win over it. What a client's unknown fallback
            answered (version ``fallback``) is not logged: there is nothing to compare it with.
        features
            Value per feature; ``None`` and NaN mean missing. Copied: the caller may change it.
        id
            The caller's id, which labels will carry; default: a new one.
        segment
            Slices that the service knows.
        model, version, prediction, scores, latency_ms
            As in ``out``.
        sample_rate
            Share of the predictions that the service logs at all.
        failed
            The answer was not the model's: the service met an ``error``, or answered with a
            ``fallback``. The row is counted, and compared with nothing; it needs no prediction.
        prediction_interval
            Lower and upper end of a regression's own prediction interval.

        Returns
        -------
        str
            The id under which the prediction was logged.
        """
        try:
            if out is not None:
                model = out.model if model is None else model
                version = out.version if version is None else version
                prediction = out.prediction if prediction is None else prediction
                scores = getattr(out, "scores", None) if scores is None else scores
                features = getattr(out, "features", None) if features is None else features
                if latency_ms is None:
                    latency_ms = getattr(out, "latency_ms", None)
            if type(id) is str:
                row_id = id
            else:
                row_id = named_text("id", id) or f"{self._prefix}{next(self._numbers):x}"
            if version == FALLBACK:  # no known release answered: nothing could be said of it
                return row_id
            if failed is not None and prediction is None:
                prediction = ""
            pipe = self._pipe
            queue = pipe.queue
            waiting = len(queue)
            if features is not None:
                if waiting * len(features) > _MAX_CELLS:
                    waiting = self._max_rows
                features = dict(features)
            if waiting >= self._max_rows or pipe.closed:
                pipe.ledger.count_dropped(1, _FULL)
                return row_id
            if scores is not None:
                scores = scores.tolist() if hasattr(scores, "tolist") else list(scores)
            queue.append(
                Logged(
                    model, version, row_id, now_us(), prediction, scores, features,
                    dict(segment) if segment else None, latency_ms, sample_rate, failed,
                    None if prediction_interval is None else tuple(prediction_interval),
                )
            )  # fmt: skip
            if pipe.asleep:
                pipe.wake()
            return row_id
        except Exception as exc:  # whatever a service logs, logging raises nothing into it
            return self._refuse(id, exc)

    # --------------------------------------------------------------------------- all the rest

    def label(
        self,
        model: str,
        *,
        id: str,
        label: str | float | None,
        source: str = "default",
        observed_at: datetime | None = None,
        confidence: float | None = None,
        op: Literal["upsert", "retract"] = "upsert",
        version: str | None = None,
        prediction: str | float | None = None,
        segment: Mapping[str, str] | None = None,
        inclusion_probability: float | None = None,
        uniform: bool = True,
        request_id: UUID | str | None = None,
        bound: bool = False,
    ) -> None:
        """Tell the truth about a prediction, from any process and at any time.

        Parameters
        ----------
        model, id
            Which prediction.
        label
            The class name or number; ``None`` where ``op`` is ``retract``.
        source
            Who says so; sources have a priority in the model's specification.
        observed_at
            When it became known, with a time zone; default: now. A label is the same one, sent
            again, if (id, source, observed_at) are the same.
        confidence
            How sure the source is, 0 to 1.
        op
            ``upsert`` or ``retract``.
        version, prediction
            With both, no join with the prediction is needed.
        segment
            As for ``log``.
        inclusion_probability
            Probability with which this row was chosen to be labelled, in your own draw; of a
            label that answers a request redistill knows it.
        uniform
            All rows of the model had that probability; ``False``: they were picked for their worth.
        request_id
            The request (``label-request.v1``) that this label answers.
        bound
            The source is bound (``[labels] bound`` of the model): the label goes to the topic
            ``labels.SOURCE``, where only this source may write, and counts there only. A topic that
            is not there yet is waited for, as a broker that is away.
        """
        try:
            event = LabelObserved(
                id=named_text("id", id) or "",
                model=model,
                label=named_text("label", label),
                observed_at=datetime.now(UTC) if observed_at is None else moment(observed_at),
                source=source,
                confidence=plain(confidence),
                op=op,
                inclusion_probability=plain(inclusion_probability),
                uniform=uniform,
                request_id=UUID(str(request_id)) if request_id else None,
                arrival="api",
                version=version,
                prediction=named_text("prediction", prediction),
                segment=named_texts("segment", segment or {}),
            )
        except Exception as exc:  # whatever a service says, its label raises nothing into it
            self._refuse(None, exc)
        else:
            self._report(BoundLabel(event) if bound else event)

    def report(self, event: Event) -> None:
        """Send any small event, such as an activation."""
        self._report(event)

    def _report(self, event: Event | BoundLabel) -> None:
        pipe = self._pipe
        if pipe.closed or len(pipe.queue) >= self._max_rows:
            pipe.ledger.count_dropped(1, _FULL)
            return
        pipe.queue.append(event)
        if pipe.asleep:
            pipe.wake()

    def on_pointer(self, model: str, callback: Callback) -> None:
        """Be woken when the pointer of a model moves.

        The callback runs in a thread of the logger's; it gets the newest ``PointerMoved`` soon
        after the call, if there is one, and each later one. A broker that is away, or a missing
        topic, delays this and loses nothing.
        """
        self._asked.setdefault(model, []).append(callback)
        self._pipe.listen({model: [callback]})

    def stats(self) -> Stats:
        """What became of everything so far, in this process."""
        return self._pipe.stats()

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until all that was logged before is acknowledged or given up.

        Returns
        -------
        bool
            ``False`` if that took longer than ``timeout`` seconds.
        """
        return self._pipe.flush(timeout)

    def close(self, timeout: float = _EXIT_SECONDS) -> None:
        """Send what is waiting, for at most ``timeout`` seconds, and stop.

        What is unsent by then, and what is logged later, is counted as dropped.
        """
        atexit.unregister(self._at_exit)
        self._pipe.close(timeout)

    def exit_on_sigterm(self) -> bool:
        """Let SIGTERM end the process the way that ``sys.exit`` does, so that what is waiting is
        sent (for at most five seconds) and not lost.

        Left to itself a Python process that is told to stop ends at once. Call it once, in the main
        thread; where somebody handles the signal already (gunicorn, uvicorn and others do, and end
        in good order), nothing is changed.

        Returns
        -------
        bool
            Whether the handler was set.

        Raises
        ------
        ValueError
            This is not the main thread.
        """
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return False
        # An exception unwinds what the main thread was doing; a handler that called close() would
        # wait for locks that the interrupted code holds.
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self) -> None:
        """The state of a process in which nothing was logged yet."""
        self._prefix = f"{os.urandom(6).hex()}-"
        self._pipe = Pipeline(
            self._broker,
            source=self._source,
            max_bytes=self._max_bytes,
            at_exit=self._arrange_exit,
        )

    def _forked(self) -> None:
        """In the child of a fork: the parent's threads are not here, and its rows are its own."""
        parent = self._pipe
        parent.forget()
        self._parents.append(parent)
        self._begin()
        self._pipe.closed = parent.closed
        if self._asked:
            self._pipe.listen(self._asked)

    def _arrange_exit(self) -> None:
        atexit.unregister(self._at_exit)
        atexit.register(self._at_exit)

    def _at_exit(self) -> None:
        self.close(_EXIT_SECONDS)

    def _refuse(self, id: Any, exc: Exception) -> str:
        """Count arguments that make no sense; returns an id all the same."""
        why = str(exc) if isinstance(exc, NoText) else f"{type(exc).__name__}: {exc}"
        self._pipe.ledger.count_invalid(1, f"arguments: {why}")
        return id if isinstance(id, str) else f"{self._prefix}{next(self._numbers):x}"
