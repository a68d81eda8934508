"""Topic writers: who may write to the topic of a bound source, by the broker's ACLs.

A source is believed on its topic because nobody else may write there. Where everybody may, binding
it tells nobody apart, and nothing that a worker reads would show it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redistill.streams.kafka.broker import Broker, admin
from redistill.streams.wire.events import bound_topic

__all__ = ["doubts", "writers"]

EVERYBODY = "User:*"
"""As ACLs name all users."""
SHOWN = 5


def writers(broker: Broker, topic: str) -> frozenset[str] | None:
    """Principals that an ACL lets write to a topic, as the broker names it; super users write
    everywhere, and no ACL names them.

    Returns
    -------
    frozenset or None
        With ``EVERYBODY`` where the broker has no ACLs at all, or one for all users; ``None``: we
        may not know, or the broker did not say.
    """
    try:
        client = admin(broker)
        try:
            found, _ = client.describe_acls(_filter(topic))
        finally:
            client.close()
    except Exception as error:  # kafka-python has no base class; it is a warning's business only
        return frozenset({EVERYBODY}) if type(error).__name__ == "SecurityDisabledError" else None
    return _allowed(found)


def _filter(topic: str) -> Any:
    """ACLs that are about a topic: of its name, of how it begins, and of all topics."""
    from kafka.admin import (
        ACLFilter,
        ACLOperation,
        ACLPermissionType,
        ACLResourcePatternType,
        ResourcePatternFilter,
        ResourceType,
    )

    return ACLFilter(
        principal=None,
        host=None,
        operation=ACLOperation.ANY,
        permission_type=ACLPermissionType.ANY,
        resource_pattern=ResourcePatternFilter(
            ResourceType.TOPIC, topic, ACLResourcePatternType.MATCH
        ),
    )


def _allowed(acls: Iterable[Any]) -> frozenset[str]:
    """Who may write by some ACLs; those who are denied it from everywhere may not."""
    by_permission: dict[str, set[str]] = {"ALLOW": set(), "DENY": set()}
    for acl in acls:
        if acl.operation.name in ("WRITE", "ALL"):
            known = by_permission.get(acl.permission_type.name)
            if known is not None and (acl.permission_type.name == "ALLOW" or acl.host == "*"):
                known.add(acl.principal)
    if EVERYBODY in by_permission["DENY"]:
        return frozenset()
    return frozenset(by_permission["ALLOW"] - by_permission["DENY"])


def doubts(broker: Broker, sources: Iterable[str]) -> list[str]:
    """Why a bound source may not be who writes to its topic, a sentence each."""
    out = []
    for source in sources:
        topic = broker.topic(bound_topic(source))
        users = None if broker.is_dev else writers(broker, topic)
        if users is None or len(users - {EVERYBODY}) == 1 == len(users):
            continue
        if EVERYBODY in users:
            out.append(
                f"everybody may write to {topic}, by the broker's ACLs: what stands there is no"
                f" more {source}'s word than any other label. Let {source} alone write there"
                " (`redistill topics apply` prints how)"
            )
        elif users:
            named = ", ".join(sorted(users)[:SHOWN]) + (", ..." if len(users) > SHOWN else "")
            out.append(
                f"{len(users)} users may write to {topic} ({named}): each of them speaks for"
                f" {source}"
            )
        else:
            out.append(
                f"no ACL names who may write to {topic}: the broker refuses {source}, or lets"
                " everybody write (allow.everyone.if.no.acl.found)"
            )
    return out
