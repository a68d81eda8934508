"""Remedies: what a job may try about a loss, cheapest first; each says whether it is possible, what
it is expected to cost, and which recipes it makes. Pure: facts in, values out.

The order is fixed before anything is made, so that no label that judges a candidate has a say in
which candidates there are. At most three of them face the fresh rows of an incident (gate
``recipe``); one that needs no training is refused before that where training rows show that it is
not worth it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from redistill.decodable import decodable

__all__ = ["ConsideredRemedy", "RemedyFacts", "consider", "sequence"]


PRIOR_SHIFT = "prior_shift"


@dataclass(frozen=True, kw_only=True, slots=True)
class RemedyFacts:
    """What is known before a job makes anything."""

    cause: str | None = None
    """What the diagnosis found; ``None``: nothing is known of it."""
    recoverable: bool = True
    """Whether the teacher kept something that the student lost: of what it lost as well it can
    teach nothing."""
    incident: bool = True
    """Whether the job answers an incident; a schedule or a person wants a student made."""
    weights: bool = False
    """Whether the weights of the version that serves are known."""
    releases: int = 0
    """Earlier releases that may serve again: their files are kept, their bytes are not barred."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds that each recipe took in the newest job of the model that tried it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Remedy:
    """A line of the table."""

    name: str
    told: str
    """What it does, for people."""
    why_not: Callable[[RemedyFacts], str | None]
    """Why it is not possible; ``None``: it is."""
    recipes: tuple[str, ...]
    """What it tries, in this order."""

    def cost(self, facts: RemedyFacts) -> float | None:
        """CPU seconds that it is expected to take, by what the same recipes took last; ``None``:
        nothing like it was measured for this model."""
        known = [facts.measured.get(recipe) for recipe in self.recipes]
        return None if None in known else sum(s for s in known if s is not None)


@decodable
@dataclass(frozen=True, kw_only=True, slots=True)
class ConsideredRemedy:
    """What was thought of a remedy when the job began."""

    name: str
    recipes: tuple[str, ...]
    """What it makes; empty where it is not possible."""
    why_not: str | None = None
    """Why it is not tried; ``None``: it is, when its turn comes."""
    estimated_cpu_seconds: float | None = None
    """By the newest job of the model that did the same; ``None``: nothing like it was measured."""


def _reuse(facts: RemedyFacts) -> str | None:
    if not facts.incident:
        return "a job that answers no incident is asked for a new student"
    if not facts.releases:
        return "no earlier release may serve again"
    return _teachable(facts)


def _requantize(facts: RemedyFacts) -> str | None:
    if facts.cause != "stale_quantization":
        return "the ranges of the quantization are not to blame"
    return _known(facts)


def _temper(facts: RemedyFacts) -> str | None:
    return None if facts.cause == PRIOR_SHIFT else "the mix of classes is not to blame"


def _known(facts: RemedyFacts) -> str | None:
    if not facts.weights:
        return "the weights of the version that serves are not known"
    return _teachable(facts)


def _teachable(facts: RemedyFacts) -> str | None:
    """Under other causes the policy starts no repair where there is nothing to teach."""
    if facts.cause == PRIOR_SHIFT and not facts.recoverable:
        return "the teacher lost as much to the new mix of classes, and can teach nothing"
    return None


REMEDIES: tuple[Remedy, ...] = (
    Remedy(
        name="reuse",
        told="go back to an earlier release that does better on these rows",
        why_not=_reuse,
        recipes=("reuse",),
    ),
    Remedy(
        name="requantize",
        told="keep the weights, quantize them with the ranges of fresh rows",
        why_not=_requantize,
        recipes=("requantize",),
    ),
    Remedy(
        name="temper",
        told="correct the scores of what serves to the new mix of classes",
        why_not=_temper,
        recipes=("temper",),
    ),
    Remedy(
        name="warm",
        told="distil again, from the weights that serve",
        why_not=_known,
        recipes=("warm",),
    ),
    Remedy(
        name="scratch",
        told="distil a new student from scratch",
        why_not=_teachable,
        recipes=("scratch",),
    ),
    Remedy(
        name="family",
        told="distil a student of another family",
        why_not=_teachable,
        recipes=("trees",),
    ),
)
"""Cheapest first, by what each has to do: run, quantize, correct, train some steps, train all;
another family last, since what it answers differs most from what served."""


def consider(facts: RemedyFacts) -> tuple[ConsideredRemedy, ...]:
    """What is thought of every remedy, in the order of the table.

    Examples
    --------
    >>> found = consider(RemedyFacts(cause="stale_quantization", weights=True))
    >>> sequence(found)
    ('requantize', 'warm', 'scratch', 'trees')
    >>> found[0].why_not
    'no earlier release may serve again'
    """
    out = []
    for remedy in REMEDIES:
        why_not = remedy.why_not(facts)
        possible = why_not is None
        out.append(
            ConsideredRemedy(
                name=remedy.name,
                recipes=remedy.recipes if possible else (),
                why_not=why_not,
                estimated_cpu_seconds=remedy.cost(facts) if possible else None,
            )
        )
    return tuple(out)


def sequence(considered: tuple[ConsideredRemedy, ...]) -> tuple[str, ...]:
    """Recipes of the remedies that are possible, in the order in which they are tried."""
    return tuple(recipe for remedy in considered for recipe in remedy.recipes)
