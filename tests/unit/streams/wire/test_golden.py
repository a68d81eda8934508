"""Files that must decode for ever: a new version is a new file, an old one never changes."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import numpy as np
import pytest

from redistill.streams.wire import describe, events
from redistill.streams.wire.block import Feature, Schema
from redistill.streams.wire.codec import (
    ARROW,
    Record,
    decode,
    decode_predictions,
    encode,
    encode_batch,
)
from redistill.streams.wire.envelope import headers_of

GOLDEN = Path(__file__).parents[3] / "golden"
AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ID = UUID("11111111-2222-5333-8444-555555555555")
SHA = "ab" * 32

EXPECTED: dict[str, Any] = {
    "prediction.v1": events.PredictionMade(
        id="req-1", model="credit", version="7", served_at=AT,
        features={"income": 1250.5, "age": 41.0, "region": "EU", "debt": None},
        prediction="repay", scores=[0.75, 0.25], segment={"channel": "web"},
        latency_ms=1.5, sample_rate=0.5,
    ),
    "label.v1": events.LabelObserved(
        id="req-1", model="credit", label="default", observed_at=AT, source="ledger",
        confidence=0.9, inclusion_probability=0.25, version="7", prediction="repay",
        segment={"channel": "web"},
    ),
    "drift.v1": events.DriftFound(
        finding_id=ID, model="credit", version="7", status="open", severity="critical",
        kind="accuracy", scope="slice:region=EU",
        detector=events.Detector(name="harm", parameters={"alpha": 0.001}),
        statistic=events.Statistic(value=1234.5, threshold=1000.0),
        change_point=events.ChangePoint(low=AT, high=AT),
        window=events.Window(start=AT, end=AT, rows=2000, labelled=200),
        slices=[events.SliceEffect(
            key="region", value="EU", n=90, reference=0.9, current=0.7, low=0.6, high=0.8)],
        contributors=[events.Contributor(
            column="income", distance="psi", value=0.4, noise_floor=0.02, direction="up")],
        impact=events.Impact(
            metric="accuracy", reference=0.9, current=0.8, low=0.75, high=0.85,
            basis="measured", n=200, harmful=True),
        reason="accuracy fell from 90% to 80%", resolution=None, provisional=True,
        opened_at=AT, at=AT, revision=2,
    ),
    "incident.v1": events.IncidentChanged(
        incident_id=ID, model="credit", version="7", incident_class="harm", status="opened",
        cause="compression_gap", decision="repair", why="the teacher copes, the student does not",
        finding_ids=[ID], job_id=ID, attempt=1, opened_at=AT, at=AT,
    ),
    "release.v1": events.ReleaseChanged(
        model="credit", version="r3-abababab", sha256=SHA, status="published",
        gates=[events.GateResult(
            name="accuracy_points", value=2.5, limit=0.0, passed=True, why="better by 2.5")],
        trigger=events.Trigger(kind="incident", id=str(ID)), job_id=ID, policy_sha256=SHA,
        epoch=4, at=AT,
    ),
    "pointer.v1": events.PointerMoved(
        model="credit", stable="r3-abababab", stable_sha256=SHA, canary="r4-cdcdcdcd", share=0.1,
        epoch=4, expires_at=AT, reason="published by job 3", at=AT,
    ),
    "activation.v1": events.VersionActivated(
        model="credit", instance_id="host-1", version="r3-abababab", sha256=SHA, epoch=4,
        previous="7", at=AT,
    ),
    "label-request.v1": events.LabelsRequested(
        request_id=ID, model="credit", version="7",
        rows=[events.RequestedLabel(
            id="req-1", served_at=AT, inclusion_probability=0.125, uniform=False)],
        reason="confidence fell", wanted_by=AT, at=AT,
    ),
    "dead-letter.v1": events.DeadLetter(
        topic="predictions", partition=3, offset=42, code="malformed", reason="no JSON",
        key=b"credit", value=b"\x00not json", value_bytes=9, headers=[("ce_id", "1")], at=AT,
    ),
}  # fmt: skip

LATER: dict[str, Any] = {
    "prediction.v1.failed": events.PredictionMade(
        id="req-2", model="credit", version="7", served_at=AT, features={"income": 1250.5},
        prediction="repay", failed="fallback",
    ),
    "prediction.v1.interval": events.PredictionMade(
        id="req-3", model="price", version="7", served_at=AT, features={"income": 1250.5},
        prediction=4.25, prediction_interval=(3.5, 5.0),
    ),
    "drift.v1.localised": events.DriftFound(
        finding_id=ID, model="credit", version="7", status="update", severity="critical",
        kind="accuracy", detector=events.Detector(name="harm"),
        statistic=events.Statistic(value=1234.5, threshold=1000.0),
        window=events.Window(start=AT, end=AT, rows=2000, labelled=200),
        slices=[events.SliceEffect(
            key="region", value="EU", n=90, reference=0.9, current=0.7, low=0.6, high=0.8,
            expected=0.875, share=0.75)],
        localised_to="region=EU",
        outside=events.LossPart(value=0.01, low=-0.02, high=0.04, basis="measured", n=110),
        mix_moved=events.LossPart(value=0.02, low=0.01, high=0.03, basis="estimated", n=200),
        got_worse=events.LossPart(value=0.08, low=0.05, high=0.12, basis="measured", n=200),
        impact=events.Impact(
            metric="accuracy", reference=0.9, current=0.8, low=0.75, high=0.85,
            basis="measured", n=200, harmful=True),
        reason="error 10% -> 20%", opened_at=AT, at=AT, revision=1,
    ),
    "label.v1.answer": events.LabelObserved(
        id="req-1", model="credit", label="default", observed_at=AT, source="ledger",
        uniform=False, request_id=ID, arrival="import",
    ),
    "label-request.v1.features": events.LabelsRequested(
        request_id=ID, model="credit", version="7",
        rows=[events.RequestedLabel(
            id="req-1", served_at=AT, inclusion_probability=0.125, uniform=False,
            prediction="repay", features={"income": 1250.5, "region": "EU", "debt": None})],
        reason="harm is suspected where region is EU", slice="region=EU", cost=0.5, budget_left=99,
        at=AT,
    ),
}  # fmt: skip
"""With fields that an event got after its first version: by the event, and what is new."""

SCHEMA = Schema(
    features=(
        Feature(name="income"),
        Feature(name="region", kind="category", values=("EU", "US")),
        Feature(name="age", kind="int"),
    ),
    classes=("repay", "default"),
)


def _read(name: str) -> Record:
    raw = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    key = raw["key"].encode() if raw["key"] is not None else None
    value = raw["value"]
    data = base64.b64decode(value) if isinstance(value, str) else json.dumps(value).encode()
    headers = [(k, v.encode()) for k, v in raw["headers"]]
    return Record("topic", 0, 0, 0, key, data, headers)


def test_every_type_has_a_golden_file() -> None:
    names = {name.removeprefix("redistill.") for name in events.TYPES}
    assert names == EXPECTED.keys()
    assert {f"{n}.json" for n in names} <= {p.name for p in GOLDEN.glob("*.json")}


@pytest.mark.parametrize("name", [*EXPECTED, *LATER])
def test_golden_event_decodes_to_what_it_meant(name: str) -> None:
    assert decode(_read(name)) == (EXPECTED | LATER)[name]


@pytest.mark.parametrize("name", [*EXPECTED, *LATER])
def test_golden_event_agrees_with_its_schema(name: str) -> None:
    schema = describe.load(".".join(name.split(".")[:2]))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(_read(name).value or b""), schema)


@pytest.mark.parametrize("name", [*EXPECTED, *LATER])
def test_encode_writes_the_golden_bytes(name: str) -> None:
    golden = _read(name)
    made = encode((EXPECTED | LATER)[name], source="/golden", event_id="golden-1")
    assert made.headers == golden.headers
    assert made.key == golden.key
    written, old = json.loads(made.value), json.loads(golden.value or b"")
    new = _since(written, old)
    assert not new if name in LATER else new <= NEW_FIELDS[name]


NEW_FIELDS = {name: frozenset[str]() for name in EXPECTED} | {
    "prediction.v1": {"failed", "prediction_interval"},
    "label.v1": {"uniform", "request_id", "arrival"},
    "drift.v1": {"localised_to", "outside", "mix_moved", "got_worse", "expected", "share"},
    "label-request.v1": {"slice", "cost", "budget_left", "prediction", "features"},
}
"""Fields that an event got since its golden file was written."""


def _since(written: Any, old: Any) -> set[str]:
    """Names of the fields that only the newer of two objects has; all others are as they were."""
    if isinstance(written, dict) and isinstance(old, dict):
        assert written.keys() >= old.keys()
        within = [_since(written[key], old[key]) for key in old]
        return (written.keys() - old.keys()).union(*within)
    if isinstance(written, list) and isinstance(old, list):
        assert len(written) == len(old)
        return set().union(*map(_since, written, old))
    assert written == old
    return set()


def test_structured_mode_decodes() -> None:
    assert decode(_read("structured.label.v1")) == EXPECTED["label.v1"]


def test_golden_batch_decodes_to_what_it_meant() -> None:
    decoded = decode_predictions([_read("prediction-batch.v1")], lambda model: SCHEMA)
    assert decoded.dead == []
    (block,) = decoded.blocks
    assert (block.model, block.version, block.ids) == ("credit", "7", ["a", "b", "c"])
    start = int(AT.timestamp()) * 1_000_000 + AT.microsecond
    assert block.served_at.tolist() == [start, start + 1, start + 2]
    np.testing.assert_array_equal(
        block.features, np.array([[1250.5, 0, 41], [np.nan, 1, 42], [3, np.nan, 43]], np.float32)
    )
    assert block.prediction.strings() == ["repay", "default", "repay"]  # type: ignore[union-attr]
    np.testing.assert_array_equal(
        block.scores, np.array([[0.75, 0.25], [0.25, 0.75], [np.nan, np.nan]], np.float32)
    )
    assert block.segments["channel"].strings() == ["web", None, "app"]
    np.testing.assert_array_equal(block.latency_ms, np.array([1.5, np.nan, 2], np.float32))
    np.testing.assert_array_equal(block.sample_rate, np.full(3, 0.5, np.float32))


def test_golden_batch_with_failed_rows_decodes_to_what_it_meant() -> None:
    decoded = decode_predictions([_read("prediction-batch.v1.failed")], lambda model: SCHEMA)
    assert decoded.dead == []
    (block,) = decoded.blocks
    assert block.failed is not None
    assert block.failed.strings() == [None, "error", "fallback"]
    assert block.prediction.strings() == ["repay", None, None]  # type: ignore[union-attr]
    np.testing.assert_array_equal(
        block.scores, np.array([[0.75, 0.25], [np.nan] * 2, [np.nan] * 2])
    )
    np.testing.assert_array_equal(
        block.prediction_interval, [[1.5, 2.5], [np.nan] * 2, [-1e300, 1e300]]
    )


def make_golden() -> None:
    """Write the files that do not exist yet (by hand, once per new version of an event)."""
    for name, event in (EXPECTED | LATER).items():
        made = encode(event, source="/golden", event_id="golden-1")
        _write(name, made.key, made.headers, json.loads(made.value))
    label = encode(EXPECTED["label.v1"], source="/golden", event_id="golden-1")
    _write(
        "structured.label.v1",
        label.key,
        [("content-type", b"application/cloudevents+json")],
        {
            "specversion": "1.0",
            "type": "redistill.label.v1",
            "id": "golden-1",
            "source": "/golden",
            "datacontenttype": "application/json",
            "data": json.loads(label.value),
        },
    )
    start = int(AT.timestamp()) * 1_000_000 + AT.microsecond
    nan = np.nan
    batch = encode_batch(
        model="credit",
        version="7",
        ids=["a", "b", "c"],
        served_at=np.array([start, start + 1, start + 2]),
        feature_names=["age", "income"],
        features=np.array([[41, 1250.5], [42, nan], [43, 3]], np.float32),
        categories={"region": ["EU", "US", None]},
        prediction=["repay", "default", "repay"],
        scores=np.array([[0.75, 0.25], [0.25, 0.75], [nan, nan]], np.float32),
        segments={"channel": ["web", None, "app"]},
        latency_ms=np.array([1.5, nan, 2], np.float32),
        sample_rate=np.full(3, 0.5, np.float32),
    )
    headers = headers_of(
        events.PredictionMade, source="/golden", event_id="golden-1", content_type=ARROW
    )
    _write("prediction-batch.v1", b"credit", headers, base64.b64encode(batch).decode())
    failed = encode_batch(
        model="credit",
        version="7",
        ids=["d", "e", "f"],
        served_at=np.array([start, start + 1, start + 2]),
        feature_names=["age", "income"],
        features=np.array([[41, 1250.5], [42, nan], [43, 3]], np.float32),
        prediction=["repay", "", "default"],
        scores=np.array([[0.75, 0.25], [nan, nan], [0.5, 0.5]], np.float32),
        failed=[None, "error", "fallback"],
        prediction_interval=np.array([[1.5, 2.5], [nan, nan], [-1e300, 1e300]]),
    )
    _write("prediction-batch.v1.failed", b"credit", headers, base64.b64encode(failed).decode())


def _write(name: str, key: bytes | None, headers: list[tuple[str, bytes]], value: Any) -> None:
    path = GOLDEN / f"{name}.json"
    if not path.exists():
        body = {"key": key and key.decode(), "headers": [(k, v.decode()) for k, v in headers]}
        path.write_text(json.dumps(body | {"value": value}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    make_golden()
