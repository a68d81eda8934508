"""Ways to make a candidate: which ones, in which order, and whose steps are whose."""

from __future__ import annotations

from compress_rows import job_of

from redistill.compress import recipes
from redistill.compress.plan import Tried

WARM = Tried(name="warm", number=1, sha256="ab" * 32, reasons=("fresh: worse",))
BOTH = ("warm", "scratch")


def test_every_recipe_says_what_it_does() -> None:
    assert all(r.told for r in recipes.RECIPES.values())


def test_a_run_is_about_the_first_recipe_that_was_not_tried() -> None:
    first, second = job_of(recipes=BOTH), job_of(recipes=BOTH, tried=(WARM,))
    assert (recipes.named(first), recipes.scope(first)) == ("warm", "")
    assert (recipes.named(second), recipes.scope(second)) == ("scratch", "scratch.")


def test_weights_that_are_not_known_are_learned_from_scratch() -> None:
    for name in ("warm", "requantize"):
        assert recipes.used(job_of(recipes=(name,)), weights=False) == "scratch"
        assert recipes.used(job_of(recipes=(name,)), weights=True) == name
    assert recipes.used(job_of(recipes=("scratch",)), weights=True) == "scratch"
