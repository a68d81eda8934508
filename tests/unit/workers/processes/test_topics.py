"""Topics as they should be, and what is said of those that differ.

The broker's answers are simulated here; real ones are in tests/integration/test_topics.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from redistill.streams.kafka.broker import Broker
from redistill.streams.wire.events import COMPACTED, TOPICS
from redistill.workers.processes import topics

BROKER = Broker("127.0.0.1:1", namespace="x")


class SimulatedAdmin:
    """A broker's controller as kafka-python shows it, with topics from a table."""

    def __init__(self, there: dict[str, tuple[int, dict[str, str]]]) -> None:
        self.there = there
        self.asked: dict[str, dict[str, Any]] = {}
        self.closed = False

    def describe_topics(self, names: list[str] | None = None) -> list[dict[str, Any]]:
        return [
            {"name": n, "error_code": 0, "partitions": [None] * self.there[n][0]}
            for n in (names or self.there)
        ]

    def describe_configs(self, resources: list[Any], **_: Any) -> dict[str, Any]:
        (resource,) = resources
        values = self.there[resource.name][1]
        return {"topic": {resource.name: {k: {"value": v} for k, v in values.items()}}}

    def create_topics(self, asked: dict[str, Any], **_: Any) -> dict[str, Any]:
        self.asked |= asked
        return {"topics": [{"name": n, "error_code": 0} for n in asked]}

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> SimulatedAdmin:
    simulated = SimulatedAdmin({})
    monkeypatch.setattr(topics, "admin", lambda broker: simulated)
    return simulated


def test_each_bound_source_has_a_topic_where_it_alone_may_write() -> None:
    made = topics.wanted(BROKER, partitions=12, bound=["ledger", "bank", "ledger"])
    common = next(t for t in made if t.name == "x.labels")
    assert [t.name for t in made[-2:]] == ["x.labels.bank", "x.labels.ledger"]
    for topic in made[-2:]:
        assert (topic.partitions, topic.configs) == (12, common.configs)
    assert (made[-1].writers, made[-1].readers) == ("the source ledger", "stream workers")
    (*_, write, read) = topics.grants(BROKER, made)
    assert write.endswith("User:USER_OF_LEDGER --operation Write --topic x.labels.ledger")
    assert read.endswith("User:USER_OF_STREAM_WORKERS --operation Read --topic x.labels.ledger")
    assert topics.grants(BROKER, topics.wanted(BROKER)) == []


def test_every_topic_of_the_contract_is_wanted_in_the_namespace() -> None:
    made = {t.name: t for t in topics.wanted(BROKER, partitions=12)}
    assert made.keys() == {f"x.{name}" for name in TOPICS.values()}
    assert made["x.predictions"].partitions == made["x.labels"].partitions == 12
    assert made["x.drift"].partitions == 1
    for name in TOPICS.values():
        compacted = made[f"x.{name}"].configs["cleanup.policy"] == "compact"
        assert compacted == (name in COMPACTED)
    assert made["x.predictions"].configs["retention.ms"] == str(7 * topics.DAY_MS)
    assert made["x.dlq"].configs["retention.ms"] == str(30 * topics.DAY_MS)


def test_missing_topics_are_created_with_their_copies(admin: SimulatedAdmin) -> None:
    found = topics.apply(BROKER, topics.wanted(BROKER), replication=3)
    assert {f.state for f in found} == {"created"}
    asked = admin.asked["x.predictions"]
    assert (asked["num_partitions"], asked["replication_factor"]) == (topics.PARTITIONS, 3)
    assert asked["configs"]["min.insync.replicas"] == "2"
    assert admin.closed


def test_a_look_creates_nothing(admin: SimulatedAdmin) -> None:
    found = topics.apply(BROKER, topics.wanted(BROKER), create=False)
    assert {f.state for f in found} == {"missing"}
    assert admin.asked == {}


@pytest.mark.parametrize(
    ("partitions", "configs", "said"),
    [
        (8, {}, None),
        (16, {"retention.ms": "-1"}, None),  # without end is longer than anything
        (8, {"retention.ms": "60000"}, "retention.ms is 60000"),
        (8, {"max.message.bytes": "1000"}, "large batches are refused"),
        (8, {"cleanup.policy": "compact"}, "rows are lost"),
        (2, {}, "at most 2 stream workers share it"),
    ],
)
def test_what_differs_is_said_with_its_consequence_and_never_changed(
    admin: SimulatedAdmin, partitions: int, configs: dict[str, str], said: str | None
) -> None:
    topic = topics.wanted(BROKER)[0]
    admin.there[topic.name] = (partitions, topic.configs | configs)
    (found,) = topics.apply(BROKER, [topic])
    assert found.partitions == partitions
    assert found.state == ("fine" if said is None else "differs")
    assert (said is None) == (found.notes == ())
    assert said is None or said in found.notes[0]
    assert admin.asked == {}


@pytest.mark.parametrize(("days", "said"), [(30, False), (31, True), (-1, True)])
def test_dead_letters_that_are_kept_longer_are_told_to_be_personal(
    admin: SimulatedAdmin, days: int, said: bool
) -> None:
    topic = next(t for t in topics.wanted(BROKER) if t.name == "x.dlq")
    kept = str(days * topics.DAY_MS if days > 0 else -1)
    admin.there[topic.name] = (1, topic.configs | {"retention.ms": kept})
    (found,) = topics.apply(BROKER, [topic])
    assert found.state == "fine", "somebody may have a reason"
    assert any("personal data" in note for note in found.notes) == said


def test_pointers_that_are_not_compacted_would_be_lost(admin: SimulatedAdmin) -> None:
    topic = next(t for t in topics.wanted(BROKER) if t.name == "x.pointers")
    admin.there[topic.name] = (1, topic.configs | {"cleanup.policy": "delete"})
    (found,) = topics.apply(BROKER, [topic])
    assert "pointers of quiet models" in found.notes[0]
