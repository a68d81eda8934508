"""Who may write to a bound topic, as the ACLs of a broker say; a real one is asked in
``tests/integration/test_acls.py``."""

from __future__ import annotations

from typing import Any

import pytest
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
)
from kafka.errors import ClusterAuthorizationFailedError, SecurityDisabledError

from redistill.streams.kafka.broker import Broker
from redistill.workers.processes import topic_writers
from redistill.workers.processes.topic_writers import doubts, writers

BROKER = Broker("kafka:9092", namespace="x")


def acl(
    user: str,
    operation: str = "WRITE",
    *,
    permission: str = "ALLOW",
    host: str = "*",
    name: str = "x.labels.ledger",
) -> ACL:
    return ACL(
        principal=f"User:{user}",
        host=host,
        operation=ACLOperation[operation],
        permission_type=ACLPermissionType[permission],
        resource_pattern=ResourcePattern(ResourceType.TOPIC, name, ACLResourcePatternType.LITERAL),
    )


class Admin:
    def __init__(self, answer: Any) -> None:
        self.answer, self.asked, self.closed = answer, list[Any](), 0

    def describe_acls(self, which: Any) -> Any:
        self.asked.append(which)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer, None

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_up(answer: Any) -> Admin:
        made = Admin(answer)
        monkeypatch.setattr(topic_writers, "admin", lambda broker: made)
        return made

    return set_up


@pytest.mark.parametrize(
    ("acls", "users"),
    [
        ([], set()),
        ([acl("ledger"), acl("stream", "READ"), acl("ledger", "DESCRIBE")], {"ledger"}),
        ([acl("ledger"), acl("ops", "ALL", name="*"), acl("feed", name="x.")], {"ledger", "ops", "feed"}),
        ([acl("ledger"), acl("*")], {"ledger", "*"}),
        ([acl("ledger"), acl("feed"), acl("feed", permission="DENY")], {"ledger"}),
        ([acl("feed"), acl("feed", permission="DENY", host="10.0.0.1")], {"feed"}),
        ([acl("feed"), acl("*", "ALL", permission="DENY")], set()),
    ],
)  # fmt: skip
def test_writers_are_those_that_an_acl_lets_write(
    asked: Any, acls: list[ACL], users: set[str]
) -> None:
    admin = asked(acls)
    assert writers(BROKER, "x.labels.ledger") == {f"User:{u}" for u in users}
    assert admin.closed == 1
    assert admin.asked[0].resource_pattern.resource_name == "x.labels.ledger"
    assert admin.asked[0].resource_pattern.pattern_type is ACLResourcePatternType.MATCH


def test_broker_without_acls_lets_everybody_and_one_that_refuses_says_nothing(asked: Any) -> None:
    asked(SecurityDisabledError("no authorizer"))
    assert writers(BROKER, "x.labels.ledger") == {"User:*"}
    for error in (ClusterAuthorizationFailedError("no"), ConnectionError("away")):
        asked(error)
        assert writers(BROKER, "x.labels.ledger") is None
        assert doubts(BROKER, ["ledger"]) == []


@pytest.mark.parametrize(
    ("acls", "said"),
    [
        ([acl("ledger")], None),
        ([acl("*")], "everybody may write to x.labels.ledger"),
        ([acl("*"), acl("ledger")], "everybody may write"),
        ([acl("a"), acl("b")], "2 users may write to x.labels.ledger (User:a, User:b)"),
        ([acl(f"u{i}") for i in range(7)], "User:u4, ...): each of them speaks for ledger"),
        ([], "no ACL names who may write to x.labels.ledger"),
    ],
)
def test_source_that_is_not_alone_on_its_topic_is_told(
    asked: Any, acls: list[ACL], said: str | None
) -> None:
    asked(acls)
    found = doubts(BROKER, ["ledger"])
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_dev_broker_is_not_asked(asked: Any) -> None:
    admin = asked([])
    assert doubts(Broker("dev://127.0.0.1:1?start=x"), ["ledger"]) == []
    assert admin.asked == []
