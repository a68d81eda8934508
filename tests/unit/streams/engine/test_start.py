"""What is asked of a broker before the start: each fault has its own sentence, and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from redistill.streams.engine import start
from redistill.streams.errors import BrokerRefused, BrokerUnavailable
from redistill.streams.kafka.broker import Broker, Security

BROKER = Broker("kafka:9092", Security(username="svc"), "ns")
TOPICS = ["ns.predictions", "ns.labels"]


class GroupAuthorizationFailedError(Exception):
    """As kafka-python names it."""


class FakeAdmin:
    """The admin client's answers."""

    def __init__(self) -> None:
        self.topics: list[dict[str, Any]] = [
            {"name": name, "error_code": 0, "topic_id": f"id-{name}"} for name in TOPICS
        ]
        self.group_error: Exception | None = None
        self.settings: Any = [
            {"resources": [{"group.min.session.timeout.ms": {"value": "6000"}}]},
            ["group.max.session.timeout.ms"],
            {"group.max.session.timeout.ms": "1800000", "group.other": None},
        ]
        self.closed = 0

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        assert names == sorted(TOPICS)
        if isinstance(self.topics, Exception):
            raise self.topics
        return self.topics

    def list_group_offsets(self, groups: dict[str, Any]) -> None:
        assert groups == {"group": None}
        if self.group_error is not None:
            raise self.group_error

    def describe_cluster(self) -> Any:
        return {"brokers": [{"broker_id": 3}]}

    def describe_configs(self, resources: list[Any], config_filter: str) -> Any:
        assert resources[0].name == "3"
        if isinstance(self.settings, Exception):
            raise self.settings
        return self.settings

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeAdmin:
    made = FakeAdmin()
    monkeypatch.setattr(start, "admin", lambda broker, **_: made)
    return made


def check(seconds: float = 6.0) -> None:
    start.check(BROKER, TOPICS, group="group", session_seconds=seconds)


def test_broker_that_is_as_it_should_be_is_accepted(client: FakeAdmin) -> None:
    check()
    assert client.closed == 1
    assert start.topic_ids(BROKER, TOPICS) == {name: f"id-{name}" for name in TOPICS}
    assert client.closed == 2


def test_dev_broker_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "admin", None)
    dev = Broker("dev://127.0.0.1:1?start=11111111-1111-1111-1111-111111111111")
    start.check(dev, TOPICS, group="g", session_seconds=1)
    ids = start.topic_ids(dev, TOPICS)
    assert set(ids) == set(TOPICS)
    assert len(set(ids.values())) == 2


def test_even_a_dev_broker_is_asked_which_topics_it_was_made_to_have(client: FakeAdmin) -> None:
    dev = Broker("dev://127.0.0.1:1?start=11111111-1111-1111-1111-111111111111")
    client.topics[0]["error_code"] = 3
    assert start.existing(dev, TOPICS) == start.topic_ids(dev, [client.topics[1]["name"]])
    assert start.existing(BROKER, TOPICS) == {
        client.topics[1]["name"]: client.topics[1]["topic_id"]
    }
    assert client.closed == 2
    client.topics = RuntimeError("away")  # type: ignore[assignment]
    with pytest.raises(BrokerUnavailable):
        start.existing(dev, TOPICS)


def test_topic_without_an_id_is_none(client: FakeAdmin) -> None:
    client.topics[0]["topic_id"] = None
    client.topics[1]["error_code"] = 5
    assert start.topic_ids(BROKER, TOPICS) == {}


def test_topics_that_are_missing_are_named(client: FakeAdmin) -> None:
    client.topics[0] |= {"error_code": 3, "topic_id": None}
    with pytest.raises(BrokerRefused, match=r"missing topics: ns\.predictions;.*topics apply"):
        check()
    assert client.closed == 1
    assert start.topic_ids(BROKER, TOPICS) == {"ns.labels": "id-ns.labels"}


def test_topic_that_may_not_be_described_is_named(client: FakeAdmin) -> None:
    client.topics[1]["error_code"] = 29
    with pytest.raises(BrokerRefused, match=r"user 'svc' may not describe.*'ns\.labels'"):
        check()


def test_client_that_raises_is_closed_and_its_cause_told(
    client: FakeAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.topics = RuntimeError("gone")  # type: ignore[assignment]
    monkeypatch.setattr(start, "cause", lambda error, broker: BrokerRefused(f"because {error}"))
    with pytest.raises(BrokerRefused, match="because gone"):
        start.topic_ids(BROKER, TOPICS)
    assert client.closed == 1


def test_group_that_may_not_be_joined_is_named(client: FakeAdmin) -> None:
    client.group_error = GroupAuthorizationFailedError("no")
    with pytest.raises(BrokerRefused, match=r"'svc' may not use the consumer group 'group'"):
        check()
    client.group_error = RuntimeError("the watchdog is there for that")
    check()


@pytest.mark.parametrize("seconds", [5.9, 1_801.0])
def test_session_timeout_beyond_the_brokers_limits_is_refused(
    client: FakeAdmin, seconds: float
) -> None:
    with pytest.raises(BrokerRefused, match=r"allows \(6 to 1800 s\).*SESSION_TIMEOUT_SECONDS"):
        check(seconds)


def test_limits_that_may_not_be_read_are_not_checked(client: FakeAdmin) -> None:
    client.settings = RuntimeError("no permission")
    check(0.1)
    client.settings = []
    check(0.1)


# --- asked while a worker runs ------------------------------------------------------------------


def why_not(error: Exception | None = None) -> Any:
    return start.why_not(BROKER, TOPICS, group="group", error=error)


@pytest.fixture
def lets_in(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the handshake says; nothing, if it lets us in."""
    said: list[Any] = [None]
    monkeypatch.setattr(start.brokers, "check", lambda broker, **_: said[0])
    return said


def test_nothing_stands_in_the_way(client: FakeAdmin, lets_in: list[Any]) -> None:
    assert why_not() is None
    assert why_not(TimeoutError()) is None
    assert client.closed == 2


def test_broker_that_does_not_let_us_in_is_asked_nothing_more(
    client: FakeAdmin, lets_in: list[Any]
) -> None:
    lets_in[0] = BrokerUnavailable("away")
    assert why_not(TimeoutError()) is lets_in[0]
    assert client.closed == 0


def test_topic_or_group_that_stands_in_the_way_is_named(
    client: FakeAdmin, lets_in: list[Any]
) -> None:
    client.group_error = GroupAuthorizationFailedError("no")
    assert "may not use the consumer group 'group'" in str(why_not())
    client.topics[0] |= {"error_code": 3, "topic_id": None}
    assert "missing topics: ns.predictions" in str(why_not())
    client.topics = TimeoutError("late")  # type: ignore[assignment]
    assert isinstance(why_not(), BrokerUnavailable)


def test_permission_that_the_consumer_lacks_is_said_without_asking() -> None:
    error = GroupAuthorizationFailedError("the group")
    assert isinstance(why_not(error), BrokerRefused)
    assert "the group" in str(why_not(error))
