"""Recipes: the ways to make a candidate. Pure.

Which of them a job tries, and in which order, is said by the remedies
(``redistill.compress.remedies``). Where the candidate of one is refused, or only a person could
decide about it, the same job goes on with the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from redistill.compress.plan import JobSpec

__all__ = ["RECIPES", "named", "scope", "used"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One way to make a candidate; ``redistill.compress.weights`` has what it does, and
    ``redistill.compress.reuse`` where nothing is made."""

    told: str
    """What it does, for people."""
    warm: bool
    """Whether it begins with the weights of the version that serves."""
    step: str = "train"
    """The step that gives its weights: ``weights`` takes those that serve as they are."""
    family: str = "mlp"
    """Of ``redistill.compress.shrink.families``: what is made where nothing serves that can be gone
    on with."""


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "reuse": Recipe(
            told="an earlier release that does better, as it is", warm=False, step="reuse"
        ),
        "temper": Recipe(
            told="what serves, its scores corrected to the new mix of classes",
            warm=False,
            step="temper",
        ),
        "warm": Recipe(told="distilled again, from the weights that serve", warm=True),
        "scratch": Recipe(told="a built-in student, distilled from scratch", warm=False),
        "trees": Recipe(
            told="boosted trees, fitted to the teacher's scores", warm=False, family="trees"
        ),
        "requantize": Recipe(
            told="the weights that serve, quantized anew with the ranges of fresh rows",
            warm=True,
            step="weights",
        ),
    }
)


def named(job: JobSpec) -> str:
    """Name of the recipe that a run is about: the first that was not tried yet, or the one whose
    candidate is judged again."""
    return job.again or job.recipes[len(job.tried)]


def used(job: JobSpec, *, weights: bool) -> str:
    """Name of the recipe that is followed: from scratch where weights are asked for that are not
    known."""
    name = named(job)
    return name if weights or not RECIPES[name].warm else "scratch"


def scope(job: JobSpec) -> str:
    """What the names of a run's steps begin with: nothing for the first recipe, whose steps are
    named as when there was one only.

    Examples
    --------
    >>> from redistill.compress.plan import GraphSpec, Tried
    >>> graph = GraphSpec(features=("x",), classes=("no", "yes"))
    >>> first = Tried(name="warm", number=1, sha256="", reasons=())
    >>> both = ("warm", "scratch")
    >>> scope(JobSpec(job_id="", model="", graph=graph, recipes=both))
    ''
    >>> scope(JobSpec(job_id="", model="", graph=graph, recipes=both, tried=(first,)))
    'scratch.'
    """
    name = named(job)
    return "" if name == job.recipes[0] else f"{name}."
