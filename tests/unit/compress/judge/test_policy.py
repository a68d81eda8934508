"""Policy: complete, hashed alike, and old keys read as what they became."""

from __future__ import annotations

import dataclasses

import pytest

from redistill.compress.judge import limits, policy
from redistill.compress.judge.gates.rule import GateRule
from redistill.compress.judge.gates.table import RULES


def test_what_is_not_set_has_its_gates_default() -> None:
    made = policy.of({"fresh": {"e_value": 400}})
    assert set(made) == {rule.name for rule in RULES}
    assert made["fresh"].e_value == 400.0
    assert made["trusted"] == next(r.limit for r in RULES if r.name == "trusted")


def test_equal_limits_have_equal_hashes_however_they_were_given() -> None:
    default = policy.sha256(policy.of({}))
    assert policy.sha256(policy.of({"trusted": {"margin_points": 2}})) == default
    assert policy.sha256(policy.of({"trusted": {"margin_points": 2.5}})) != default
    again = policy.of(policy.complete(policy.of({})))
    assert policy.sha256(again) == default


def test_what_an_older_release_stored_whole_keeps_what_it_meant() -> None:
    """A job's policy: of the time when 0.05 ms were free, and no limit of `gain` knew of speed."""
    stored = policy.complete(policy.of({}))
    stored["latency"] |= {"free_ms": 0.05}
    stored["throughput"] |= {"enough_rows_per_s": 20_000.0}
    del stored["gain"]["max_latency_ratio"]
    read = policy.of(stored)
    assert (read["latency"].free_ms, read["throughput"].enough_rows_per_s) == (0.05, 20_000.0)
    assert read["gain"] == policy.of({})["gain"]
    assert policy.sha256(read) != policy.sha256(policy.of({}))
    assert policy.of({"latency": {"free_ms": 0}})["latency"].free_ms == 0.0


def test_limits_of_a_newer_release_are_left_alone() -> None:
    known = policy.of({"gate_of_tomorrow": {"x": 1}, "fresh": {"y": 2}})
    assert policy.sha256(known) == policy.sha256(policy.of({}))


def test_all_that_is_wrong_is_named_at_once() -> None:
    given = {"fresh": {"e_value": "much"}, "kept": {"margin_points": -5.0, "e_value": True}}
    with pytest.raises(ValueError, match=r"fresh\.e_value = 'much': a number") as found:
        policy.of(given)
    assert str(found.value).count("expected") == 3


def test_every_default_makes_sense() -> None:
    for rule in RULES:
        assert not [*limits.wrong(type(rule.limit), dataclasses.asdict(rule.limit))]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_no_limit_takes_every_number(rule: GateRule) -> None:
    """A limit without a range is one that somebody sets to -1, or to 1e400."""
    for field in dataclasses.fields(rule.limit):
        if isinstance(getattr(rule.limit, field.name), bool):
            continue
        for value in (-1.0, float("inf"), float("nan"), True, "1"):
            assert [*limits.wrong(type(rule.limit), {field.name: value})], (field.name, value)


def test_every_old_key_leads_to_a_limit_that_there_is() -> None:
    limits = {rule.name: rule.limit for rule in RULES}
    for old, (gate, limit, default) in policy.OLD_KEYS.items():
        assert hasattr(limits[gate], limit), old
        assert policy.wished({old: default}) == {}, "an old default was nobody's wish"
        assert policy.migrated({old: default})[gate][limit] == default, "but written down it is"
        other = 7 if default is None else default + 1
        assert policy.migrated({old: other})[gate][limit] == other


def test_the_loss_of_a_slice_was_that_of_a_class_too() -> None:
    assert policy.migrated({"max_worst_slice_loss_points": 3.0, "min_slice_rows": 80}) == {
        "worst_group": {"max_loss_points": 3.0, "min_rows": 80},
        "worst_class": {"max_loss_points": 3.0},
    }


def test_the_margin_of_scheduled_jobs_goes_to_both_of_its_gates() -> None:
    assert policy.migrated({"scheduled_margin_points": 3.0}) == {
        "kept": {"margin_points": 3.0},
        "trusted": {"scheduled_margin_points": 3.0},
    }
