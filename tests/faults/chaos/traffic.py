"""Traffic of the credit model, made once and sent many times: rows of one world as one version
answers them, and the records that they become. Cheap enough for thousands of rows a second."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import credit
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from redistill.streams.wire.arrow_encode import encode_batch
from redistill.streams.wire.codec import encode
from redistill.streams.wire.envelope import ARROW, Encoded, headers_of
from redistill.streams.wire.events import LabelObserved, PredictionMade

MODEL = "credit"
POOL_ROWS = 6_000
UNITS = 1_000.0
"""By which a broken pipeline multiplies the income."""


@dataclass
class Pool:
    """Rows of one world, answered by one version."""

    version: str
    columns: dict[str, Any]
    features: NDArray[np.float32]
    dicts: list[dict[str, Any]]
    answers: list[str]
    scores: NDArray[np.float32]
    _next: int = 0

    @classmethod
    def make(
        cls,
        graph: Path,
        version: str,
        rng: np.random.Generator,
        *,
        boom: bool,
        broken: bool = False,
    ) -> Pool:
        """Draw rows and answer them.

        Parameters
        ----------
        boom
            The world in which the first student is wrong.
        broken
            The pipeline writes the income in other units.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(str(graph), options)
        columns = credit.rows(rng, POOL_ROWS, boom=boom)
        truth = columns["label"]
        if broken:
            columns = {**columns, "income": columns["income"] * UNITS}
        x = credit.matrix(columns)
        out = session.run(None, {session.get_inputs()[0].name: x})
        scores = next(o for o in out if o.ndim == 2)
        if scores.min() < 0 or scores.max() > 1:  # logits
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
        return cls(
            version=version, columns={**columns, "label": truth}, features=x,
            dicts=credit.feature_dicts(columns),
            answers=[credit.CLASSES[k] for k in scores.argmax(axis=1)],
            scores=scores.astype(np.float32),
        )  # fmt: skip

    def take(self, n: int) -> slice:
        """The next rows, around and around."""
        if self._next + n > len(self.answers):
            self._next = 0
        taken = slice(self._next, self._next + n)
        self._next += n
        return taken

    def events(self, rows: slice, ids: list[str], now: datetime) -> list[Encoded]:
        """A JSON record for each row."""
        made = []
        for i, features, answer, scores in zip(
            ids, self.dicts[rows], self.answers[rows], self.scores[rows], strict=True
        ):
            event = PredictionMade(
                id=i, model=MODEL, version=self.version, served_at=now, features=features,
                prediction=answer, scores=scores.tolist(), segment={"region": features["region"]},
            )  # fmt: skip
            made.append(encode(event, source="load"))
        return made

    def batch(self, rows: slice, ids: list[str], now: datetime) -> Encoded:
        """One Arrow record with all rows."""
        event_id = str(uuid4())
        region = list(self.columns["region"][rows])
        value = encode_batch(
            model=MODEL, version=self.version, ids=ids, feature_names=credit.NUMERIC,
            served_at=np.full(len(ids), round(now.timestamp() * 1e6)),
            features=np.ascontiguousarray(self.features[rows, : len(credit.NUMERIC)]),
            categories={"region": region}, prediction=self.answers[rows],
            scores=self.scores[rows], segments={"region": region},
        )  # fmt: skip
        headers = headers_of(PredictionMade, source="load", event_id=event_id, content_type=ARROW)
        return Encoded("predictions", MODEL.encode(), value, headers, event_id)

    def label(self, index: int, row: str, share: float) -> Encoded:
        """The truth about a row."""
        event = LabelObserved(
            id=row, model=MODEL, label=str(self.columns["label"][index]),
            observed_at=datetime.now(UTC), source="ledger", inclusion_probability=share,
        )  # fmt: skip
        return encode(event, source="load")


def unreadable() -> Encoded:
    """What nobody can read: a dead letter."""
    return Encoded("predictions", MODEL.encode(), b"{", [], str(uuid4()))


def null_label(row: str) -> Encoded:
    """A label that is null: it says nothing and is refused, so it becomes a dead letter."""
    event = LabelObserved(
        id=row, model=MODEL, label="repay", observed_at=datetime.now(UTC), source="ledger"
    )
    made = encode(event, source="load")
    value = made.value.replace(b'"label":"repay"', b'"label":null')
    assert value != made.value
    return Encoded(made.topic, made.key, value, made.headers, made.event_id)


def stranger(row: str, now: datetime) -> Encoded:
    """A row of a model that nobody registered: counted, and kept under its name."""
    event = PredictionMade(
        id=row, model="stranger", version="1", served_at=now, features={"age": 41.0},
        prediction="yes",
    )  # fmt: skip
    return encode(event, source="load")
