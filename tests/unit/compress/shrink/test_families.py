"""Every family goes the same way: sized, fitted, exported, and the same again."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from redistill.compress.judge.graph import Graph, GraphCall
from redistill.compress.plan import Training
from redistill.compress.recipes import RECIPES
from redistill.compress.shrink.families import FAMILIES
from redistill.compress.shrink.lesson import Lesson, Wanted
from redistill.compress.shrink.quantizers import QUANTIZERS
from redistill.files import sha256_of, sha256_of_tree
from redistill.stats import softmax

CATEGORIES = ((2, 3),)
TRAINING = Training(epochs=30, hidden=(64,))


def wanted(most_bytes: float = 40_000) -> Wanted:
    return Wanted(
        inputs=3, outputs=3, categories=CATEGORIES, most_bytes=most_bytes, training=TRAINING
    )


def lesson(n: int = 1_500, seed: int = 0) -> Lesson:
    """What a teacher says that is sure of a rule in two columns, one of them a category."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    x[:, 2] = rng.integers(0, 3, n)
    truth = np.where(x[:, 2] == 1, 2, (x[:, 0] > 0.3).astype(int))
    logits = (4.0 * np.eye(3)[truth]).astype(np.float32)
    x[::17, 1] = np.nan
    x[::23, 2] = -1.0  # a category that nobody knew
    return Lesson(x=x, logits=logits, labels=None, training=TRAINING, seed=seed)


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    maker = FAMILIES[request.param].maker()
    size, _ = maker.sized(wanted())
    maker.fit(size, lesson(), folder / "learned")
    maker.to_onnx(folder / "learned", folder / "model.onnx", lesson(80).x)
    return request.param, folder


def graph(folder: Path) -> Graph:
    return Graph(folder / "model.onnx", GraphCall(features=("a", "b", "kind"), classes=3))


def test_it_learns_what_its_teacher_says(made: tuple[str, Path]) -> None:
    other = lesson(600, seed=1)
    assert other.logits is not None
    known = other.x[:, 2] >= 0
    right = graph(made[1]).classes(other.x) == other.logits.argmax(axis=1)
    assert right[known].mean() > 0.95
    assert softmax(graph(made[1]).logits(other.x)).max(axis=1).mean() > 0.7, "it is sure as well"


def test_it_answers_where_everything_is_missing_or_wild(made: tuple[str, Path]) -> None:
    wild = np.float32([[np.nan] * 3, [1e30, -1e30, 7.0], [0.0, 0.0, -1.0], [np.inf, -np.inf, 2.0]])
    assert np.isfinite(graph(made[1]).outputs(wild)).all()


def test_a_batch_changes_no_answer(made: tuple[str, Path]) -> None:
    graph(made[1]).self_test(lesson(20).x)


def test_its_file_is_as_small_as_it_has_to_be(made: tuple[str, Path], tmp_path: Path) -> None:
    maker = FAMILIES[made[0]].maker()
    for most in (12_000, 40_000):
        size, _ = maker.sized(wanted(most))
        maker.fit(size, lesson(), tmp_path / str(most))
        maker.to_onnx(tmp_path / str(most), tmp_path / "model.onnx", lesson(80).x)
        assert (tmp_path / "model.onnx").stat().st_size <= most


def test_it_says_what_was_cut(made: tuple[str, Path]) -> None:
    maker = FAMILIES[made[0]].maker()
    assert maker.sized(wanted(float("inf")))[1] == ""
    assert maker.sized(wanted(6_000))[1] != ""


def test_the_same_lesson_gives_the_same_bytes(made: tuple[str, Path], tmp_path: Path) -> None:
    maker = FAMILIES[made[0]].maker()
    size, _ = maker.sized(wanted())
    assert msgspec.json.encode(size), "what a step's key is made of"
    maker.fit(size, lesson(), tmp_path / "learned")
    maker.to_onnx(tmp_path / "learned", tmp_path / "model.onnx", lesson(80).x)
    assert sha256_of_tree(tmp_path / "learned") == sha256_of_tree(made[1] / "learned")
    assert sha256_of(tmp_path / "model.onnx") == sha256_of(made[1] / "model.onnx")


def test_it_can_be_gone_on_with_where_it_says_so(made: tuple[str, Path], tmp_path: Path) -> None:
    name, folder = made
    if not FAMILIES[name].warm:
        pytest.skip("it begins anew each time")
    FAMILIES[name].maker().fit_again(folder / "learned", lesson(seed=2), tmp_path / "more")
    assert sha256_of_tree(tmp_path / "more") != sha256_of_tree(folder / "learned")


def test_its_lesson_can_be_stopped(made: tuple[str, Path], tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def check(share: float) -> None:
        if share > 0.2:
            raise Stopped

    given = lesson()
    stopped = Lesson(
        x=given.x, logits=given.logits, labels=None, training=TRAINING, seed=0, check=check
    )
    maker = FAMILIES[made[0]].maker()
    with pytest.raises(Stopped):
        maker.fit(maker.sized(wanted())[0], stopped, tmp_path / "learned")


def test_its_graph_is_made_for_every_service(made: tuple[str, Path]) -> None:
    model = onnx.load(made[1] / "model.onnx")
    assert {o.domain: o.version for o in model.opset_import}[""] <= 20
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx.ml"}
    (x,) = model.graph.input
    (y,) = model.graph.output
    assert (x.name, y.name) == ("x", "y")


def test_what_is_quantized_and_what_a_recipe_makes_is_known() -> None:
    for family in FAMILIES.values():
        assert "fp32" in family.quantizers
        assert set(family.quantizers) <= QUANTIZERS.keys()
    assert {r.family for r in RECIPES.values()} <= FAMILIES.keys()
