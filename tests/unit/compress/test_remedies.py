"""Which remedies a job may try, in which order, and what they are expected to cost."""

from __future__ import annotations

import pytest

from redistill.compress import remedies
from redistill.compress.recipes import RECIPES
from redistill.compress.remedies import REMEDIES, RemedyFacts, consider, sequence

ALL = RemedyFacts(cause="stale_quantization", weights=True, releases=2)


def test_every_remedy_says_what_it_does_and_its_recipes_exist() -> None:
    assert all(r.told and r.recipes for r in REMEDIES)
    assert len({r.name for r in REMEDIES}) == len(REMEDIES)
    assert {name for r in REMEDIES for name in r.recipes} <= RECIPES.keys()


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        (ALL, ("reuse", "requantize", "warm", "scratch", "trees")),
        (RemedyFacts(cause="compression_gap", weights=True), ("warm", "scratch", "trees")),
        (RemedyFacts(cause="stale_quantization"), ("scratch", "trees")),
        (
            RemedyFacts(cause="a cause of a later release", weights=True),
            ("warm", "scratch", "trees"),
        ),
        (RemedyFacts(weights=True, releases=1), ("reuse", "warm", "scratch", "trees")),
        (
            RemedyFacts(cause="prior_shift", weights=True, releases=1, recoverable=False),
            ("temper",),
        ),
        (RemedyFacts(cause="prior_shift", weights=True), ("temper", "warm", "scratch", "trees")),
        (RemedyFacts(incident=False, weights=True, releases=1), ("warm", "scratch", "trees")),
    ],
)
def test_what_is_tried_follows_from_the_facts(facts: RemedyFacts, names: tuple[str, ...]) -> None:
    assert sequence(consider(facts)) == names


def test_remedy_that_is_not_possible_says_why_and_makes_nothing() -> None:
    found = {c.name: c for c in consider(RemedyFacts())}
    assert {n: c.why_not for n, c in found.items() if c.why_not} == {
        "reuse": "no earlier release may serve again",
        "requantize": "the ranges of the quantization are not to blame",
        "temper": "the mix of classes is not to blame",
        "warm": "the weights of the version that serves are not known",
    }
    assert all(
        not c.recipes and c.estimated_cpu_seconds is None for c in found.values() if c.why_not
    )


def test_cost_is_what_the_same_recipe_took_before_or_not_known() -> None:
    facts = RemedyFacts(weights=True, measured={"warm": 1.5, "other": 9.0})
    found = {c.name: c.estimated_cpu_seconds for c in consider(facts)}
    assert (found["warm"], found["scratch"]) == (1.5, None)


def test_order_of_the_table_is_that_of_the_work() -> None:
    assert [r.name for r in remedies.REMEDIES] == [c.name for c in consider(ALL)]
