"""Signatures near their end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from operational import NOW, Watched, watched

from redistill.times import DAY, HOUR
from redistill.workers.alerts.operational.checks import signing_expiry
from redistill.workers.alerts.operational.checks.signing_expiry import reading
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.store.tables import repository_roles


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[Watched]:
    with watched(database_url, tmp_path / "home", pointer_ttl_hours=100) as made:
        yield made


def test_it_opens_at_three_quarters_and_ends_when_it_was_signed_again(world: Watched) -> None:
    assert world.look(signing_expiry.near_expiry) == {}, "there is no repository"
    far = NOW + 365 * DAY
    world.insert(
        repository_roles,
        {"role": "root", "version": 1, "expires_at": far, "body": "{}"},
        {"role": "timestamp", "version": 1, "expires_at": NOW + 100 * HOUR, "body": "{}"},
    )
    assert world.firing(signing_expiry.near_expiry, later=74 * HOUR) == []
    assert world.firing(signing_expiry.near_expiry, later=HOUR) == ["repository"]
    found = world.look(signing_expiry.near_expiry)
    assert found is not None
    assert found["repository"].said.startswith("the signature of the role timestamp ends in 25 h:")
    world.update(repository_roles, expires_at=world.now + 365 * DAY)
    assert world.firing(signing_expiry.near_expiry) == []


def test_the_role_that_is_worst_off_is_named_with_the_number_of_the_others() -> None:
    lives = Lifetimes(snapshot=100.0, timestamp=100.0)
    ends = {"snapshot": NOW + 20 * HOUR, "timestamp": NOW - HOUR, "root": NOW + 300 * DAY}
    said = reading(ends, lives, NOW).said
    assert said.startswith("the signature of the role timestamp ended 1 h ago (2 roles near the")
