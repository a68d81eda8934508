"""The events: frozen, complete in their tables, and with topics of their own."""

from __future__ import annotations

import dataclasses

import pytest

from redistill.streams.wire import events
from redistill.streams.wire.events import COMPACTED, TOPICS, TYPES, topic_name


def test_every_event_has_a_type_and_a_topic() -> None:
    assert set(TYPES.values()) == set(TOPICS)
    assert len(set(TOPICS.values())) == len(TOPICS), "one event a topic"
    assert all(name.startswith("redistill.") and name.endswith(".v1") for name in TYPES)
    assert set(TOPICS.values()) > COMPACTED


@pytest.mark.parametrize("event", TYPES.values(), ids=lambda e: e.__name__)
def test_event_is_a_value_given_by_names(event: type) -> None:
    parameters = event.__dataclass_params__
    assert parameters.frozen
    assert all(f.kw_only for f in dataclasses.fields(event))
    assert event.__doc__


@pytest.mark.parametrize(
    ("namespace", "name"),
    [("", "labels"), ("staging", "staging.labels"), ("eu.staging", "eu.staging.labels")],
)
def test_namespace_stands_before_a_topic(namespace: str, name: str) -> None:
    assert topic_name("labels", namespace) == name


def test_classes_that_are_parts_have_no_topic() -> None:
    parts = {
        c for c in vars(events).values() if dataclasses.is_dataclass(c) and c not in TOPICS
    }  # fmt: skip
    assert {events.Window, events.Impact, events.Trigger} <= parts
