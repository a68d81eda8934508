"""Recipes: the ways to make a candidate, which of them a cause calls for, and in which order. Pure.

The order is fixed before anything is made, so that no label that judges a candidate has a say in
which candidates there are. Where one is refused, the same job goes on with the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from redistill.compress.plan import JobSpec

__all__ = ["RECIPES", "named", "scope", "sequence", "used"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One way to make a candidate; ``redistill.compress.weights`` has what it does."""

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

USUAL = ("warm", "scratch")
BY_CAUSE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"stale_quantization": ("requantize", *USUAL)}
)
"""What is tried first where a diagnosis calls for more than to distil again."""


def sequence(cause: str | None, *, weights: bool) -> tuple[str, ...]:
    """What is tried about an incident, in this order.

    Parameters
    ----------
    cause
        What the diagnosis found; ``None``: nothing is known of it.
    weights
        Whether the weights of the version that serves are known.

    Examples
    --------
    >>> sequence("stale_quantization", weights=True)
    ('requantize', 'warm', 'scratch')
    >>> sequence("compression_gap", weights=False)
    ('scratch',)
    """
    names = BY_CAUSE.get(cause or "", USUAL)
    return tuple(n for n in names if weights or not RECIPES[n].warm)


def named(job: JobSpec) -> str:
    """Name of the recipe that a run is about: the first that was not tried yet."""
    return job.recipes[len(job.tried)]


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
    return f"{named(job)}." if job.tried else ""
