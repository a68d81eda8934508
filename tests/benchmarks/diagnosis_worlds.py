"""Worlds in which it is known why a student got worse: generated tables, real small models trained on
them, and twelve kinds of trouble. Everything is drawn from a seed: 4 to 30 features, 2 to 6 classes,
sizes of drift, rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from redistill.compress.judge.graph import Graph, GraphCall
from redistill.compress.plan import Training
from redistill.compress.shrink import distill, export, quantize, students
from redistill.compress.shrink.trained import default_architecture

Floats = NDArray[np.float64]
LABELS = 300
MIN_HARM = 6.0
"""Points that the student loses, by the truth on many rows, wherever something is wrong: without
harm nobody is diagnosed."""
MAX_HARM = 30.0
"""The same at most, but for broken columns, which cost what they cost: large harm is easily told."""
MANY = 4_000
"""Rows by which that is measured."""
EDGE = 2.0
"""Standard deviations beyond which only the teacher has been, in one column, and nobody in another."""
MOST = 0.6
"""Part of the loss that a cause must make up, by the truth, to be the cause of a scenario."""


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """How rows come about."""

    kinds: tuple[str, ...]  # of each column
    loc: Floats
    scale: Floats
    mixing: Floats  # (F, F) of independent scores into those of the columns
    weights: Floats  # (F, K)
    waves: Floats  # (F, K) amplitudes
    speed: Floats  # (F,)
    pairs: Floats  # (F, K) products of neighbours
    bias: Floats  # (K,)
    noise: float
    known: int
    """Column beyond whose usual range the answers are others, as the teacher knows."""
    unknown: int
    """The same, and nobody knows."""
    balance: NDArray[np.int64]
    """Two columns of which only the difference matters: prices and incomes that rise together."""
    turn: int
    """By how many classes answers turn there."""

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(f"f{j}" for j in range(len(self.kinds)))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(f"c{k}" for k in range(len(self.bias)))

    def scores(self, rng: np.random.Generator, n: int) -> Floats:
        """Standard scores of ``n`` usual rows, ``(n, F)``."""
        return rng.normal(size=(n, len(self.kinds))) @ self.mixing

    def irrelevant(self) -> NDArray[np.int64]:
        """Columns on which no answer depends."""
        used = np.abs(self.weights).sum(axis=1) + np.abs(np.roll(self.pairs, -1, 0)).sum(axis=1)
        return np.flatnonzero(used == 0.0)

    def truth(self, z: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
        """Labels of rows, ``(n,)``."""
        logits = z @ self.weights + np.sin(z * self.speed) @ self.waves + self.bias
        logits += np.tanh(z * np.roll(z, 1, axis=1)) @ self.pairs
        for column in (self.known, self.unknown):
            beyond = z[:, column] > EDGE
            logits[beyond] = np.roll(logits[beyond], self.turn, axis=1)
        return np.asarray((logits + self.noise * rng.gumbel(size=logits.shape)).argmax(axis=1))

    def rows(self, z: Floats) -> NDArray[np.float32]:
        """What services see of them, ``(n, F)``."""
        x = np.empty_like(z)
        for j, kind in enumerate(self.kinds):
            match kind:
                case "normal":
                    x[:, j] = self.loc[j] + self.scale[j] * z[:, j]
                case "lognormal":
                    x[:, j] = self.scale[j] * np.exp(0.5 * np.clip(z[:, j], -9, 9))
                case "uniform":
                    x[:, j] = self.loc[j] + self.scale[j] * np.arctan(z[:, j])
                case _:  # a category of four values
                    x[:, j] = np.digitize(z[:, j], (-0.7, 0.0, 0.7))
        return x.astype(np.float32)


def world_of(seed: int) -> World:
    """A world."""
    rng = np.random.default_rng([seed, 11])
    f, k = int(rng.integers(4, 31)), int(rng.integers(2, 7))
    relevant = rng.permutation(f)[: max(4, min(f, int(rng.integers(4, 13))))]
    kinds = rng.choice(["normal", "lognormal", "uniform", "category"], f, p=[0.6, 0.2, 0.1, 0.1])
    known, unknown = (int(j) for j in relevant[:2])
    balance = relevant[2:4]
    kinds[[known, unknown, *balance]] = "normal"
    strength = np.zeros(f)
    strength[relevant] = rng.uniform(0.6, 1.4, len(relevant))
    mixing = np.eye(f) + rng.uniform(0.0, 0.25) * rng.normal(size=(f, f)) / np.sqrt(f)
    mixing /= np.linalg.norm(mixing, axis=0, keepdims=True)
    size = np.sqrt(len(relevant))
    weights = strength[:, None] * rng.normal(size=(f, k)) * 4.0 / size
    waves, pairs = (strength[:, None] * rng.normal(size=(f, k)) * 1.5 / size for _ in range(2))
    weights[balance[0]] *= rng.uniform(2.0, 4.0)
    weights[balance[1]] = -weights[balance[0]]
    waves[balance] = pairs[balance] = pairs[(balance + 1) % f] = 0.0
    return World(
        kinds=tuple(kinds.tolist()),
        loc=rng.uniform(1.0, 6.0, f) * 10.0 ** rng.integers(-1, 3, f),
        scale=10.0 ** rng.integers(-1, 3, f) * rng.uniform(0.5, 1.5, f),
        mixing=mixing,
        weights=weights,
        waves=waves,
        speed=rng.uniform(0.8, 1.8, f),
        pairs=pairs,
        bias=rng.normal(size=k) * rng.uniform(0.5, 2.5),
        noise=float(rng.uniform(0.1, 0.5)),
        known=known,
        unknown=unknown,
        balance=balance,
        turn=int(rng.integers(1, k)),
    )


Asked = Callable[[NDArray[np.float32]], NDArray[np.int64]]


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """A teacher, the student that serves, and one whose int8 ranges are too narrow, as files of
    ``folder``: ``NAME.onnx``, and ``NAME/`` for what it was trained as."""

    world: World
    folder: Path
    quantized: bool
    """Whether the student serves as int8, too."""

    def asks(self, name: str) -> Asked:
        """A model as a function."""
        call = GraphCall(features=self.world.features, classes=len(self.world.classes))
        return Graph(self.folder / f"{name}.onnx", call).classes


def models_of(seed: int, folder: Path) -> Models:
    """Train the models of a world; some seconds, the second time none."""
    world, rng = world_of(seed), np.random.default_rng([seed, 12])
    f, k = len(world.kinds), len(world.classes)
    models = Models(world, folder, bool(rng.random() < 0.5))
    if (folder / "done").exists():
        return models
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)

    def seen(n: int) -> Floats:
        """Usual rows, but for those that nobody but the teacher has seen."""
        z = world.scores(rng, 2 * n)
        return z[(z[:, [world.known, world.unknown]] < EDGE).all(axis=1)][:n]

    usual, beyond, wide = seen(3_000), seen(2_000), seen(2_000)
    beyond[:, world.known] += rng.uniform(2.0, 4.0, len(beyond))
    wide[:, world.balance] += rng.uniform(0.0, 8.0, (len(wide), 1))
    both = np.concatenate([usual, wide])
    everything = np.concatenate([both, beyond])
    kinds = tuple((j, 4) for j, kind in enumerate(world.kinds) if kind == "category")

    def student(hidden: tuple[int, ...]) -> students.Mlp:
        made = students.build(
            default_architecture(f, k, hidden=hidden, categories=kinds), seed=seed
        )
        made.fit_inputs(world.rows(usual))
        return made

    labels_only = Training(epochs=14, batch=128)
    teacher = distill.distill(
        student((96, 64)), world.rows(everything), None,
        world.truth(everything, rng), training=labels_only, seed=seed,
    )  # fmt: skip
    export.to_onnx(students.arrays(teacher), folder / "teacher.onnx")
    for name, scores in (("student", usual), ("wide", both)):
        x = world.rows(scores)
        width = int(rng.integers(16, 49))
        made = distill.distill(
            student((width, width)), x, distill.predict_logits(teacher, x),
            training=Training(epochs=16, batch=64), seed=seed,
        )  # fmt: skip
        arrays = students.arrays(made)
        arrays.save(folder / name)
        export.to_onnx(arrays, folder / f"{name}.fp32.onnx")
        quantize.static_int8(
            folder / f"{name}.fp32.onnx", folder / f"{name}.int8.onnx", world.rows(usual[:512])
        )
    kept = "student.int8.onnx" if models.quantized else "student.fp32.onnx"
    (folder / "student.onnx").write_bytes((folder / kept).read_bytes())
    (folder / "wide.onnx").write_bytes((folder / "wide.int8.onnx").read_bytes())
    (folder / "done").touch()
    return models


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Rows of a window as they were served, and what is said of them."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    """What is true."""
    told: NDArray[np.int64] | None = None
    """What the first source says; ``None``: the truth."""
    incumbent: str = "student"
    findings: tuple[str, ...] = ()
    """Columns with an open contract finding."""
    extra: dict[str, Any] = field(default_factory=dict)


Make = Callable[[Models, np.random.Generator, int], Traffic]


def nothing(models: Models, rng: np.random.Generator, n: int) -> Traffic:
    """Nothing changed; the alarm was false."""
    z = models.world.scores(rng, n)
    return Traffic(models.world.rows(z), models.world.truth(z, rng))


def unit_bug(models: Models, rng: np.random.Generator, n: int) -> Traffic:
    """A column arrives in another unit."""
    usual = nothing(models, rng, n)
    world = models.world
    weight = np.abs(world.weights).sum(axis=1)
    likely = [j for j, kind in enumerate(world.kinds) if kind != "category" and weight[j] > 0]
    j = int(rng.choice(likely))
    x = usual.x.copy()
    # one service in a while writes it, the others do not
    hit = rng.random(n) < (1.0 if rng.random() < 0.75 else rng.uniform(0.3, 0.7))
    old = x[hit, j]
    match rng.integers(6):
        case 0:
            x[hit, j] = 1000.0 * old
        case 1:
            x[hit, j] = 2.54 * old
        case 2:
            x[hit, j] = 0.4536 * old
        case 3:
            x[hit, j] = old / 100.0
        case 4:
            x[hit, j] = 1.8 * old + 32.0 * world.scale[j]
        case _:
            x[hit, j] = old + rng.choice([-1.0, 1.0]) * rng.uniform(3.0, 6.0) * np.std(old)
    return replace(usual, x=x, extra={"column": world.features[j]})


def unit_bug_seen(models: Models, rng: np.random.Generator, n: int) -> Traffic:
    """The same, and a contract finding is open."""
    bug = unit_bug(models, rng, n)
    return replace(bug, findings=(bug.extra["column"],))


def column_null(models: Models, rng: np.random.Generator, n: int) -> Traffic:
    """A column goes missing, in some rows or in all."""
    usual = nothing(models, rng, n)
    weight = np.abs(models.world.weights).sum(axis=1)
    j = int(rng.choice(np.flatnonzero(weight > 0)))
    x = usual.x.copy()
    x[rng.random(n) < rng.choice([0.2, 0.5, 1.0]), j] = np.nan
    return replace(usual, x=x, extra={"column": models.world.features[j]})


def _beyond(models: Models, rng: np.random.Generator, n: int, column: int) -> Traffic:
    world = models.world
    z = world.scores(rng, n)
    moved = rng.random(n) < rng.uniform(0.15, 0.8)
    z[moved, column] += rng.uniform(2.2, 3.5)
    return Traffic(world.rows(z), world.truth(z, rng))


def covariate_known(models: Models, rng: np.random.Generator, n: int) -> Traffic:
    """Inputs move to where only the teacher has been."""
    return _beyond(models, rng, n, models.world.known)


def covariate_known_and_finding(models: Models, rng: np.random.Generator, n: int) -> Traffic:
    """The same; and a finding is open about a column that has nothing to do with it, which is broken
    or was."""
    moved = covariate_known(models, rng, n)
    idle = models.world.irrelevant()
    others = np.delete(np.arange(len(models.world.kinds)), models.world.known)
    j = int(rng.choice(idle if len(idle) else others))
    x = moved.x.copy()
    if len(idle) and rng.random() < 0.5:
        x[rng.random(n) < rng.uniform(0.1, 0.5), j] = np.nan
    return replace(moved, x=x, findings=(models.world.features[j],))


def covariate_unknown(models: Models, rng: np.random.Generator, n: int) -> Traffic:
    """Inputs move to where nobody has been."""
    return _beyond(models, rng, n, models.world.unknown)


def prior_shift(models: Models, rng: np.random.Generator, n: int) -> Traffic:
    """The classes that are answered worst become frequent; each looks as it did."""
    pool = nothing(models, rng, 8 * n)
    answered = models.asks("student")(pool.x)
    k = len(models.world.classes)
    recall = np.array([(answered == pool.y)[pool.y == c].mean() if (pool.y == c).any() else 1.0 for c in range(k)])  # fmt: skip
    usual = np.bincount(pool.y, minlength=k) / len(pool.y)
    wanted = usual * np.exp(rng.uniform(10.0, 40.0) * (recall.max() - recall))
    share = rng.uniform(0.3, 1.0)
    wanted = share * wanted / wanted.sum() + (1.0 - share) * usual
    each = (wanted / np.maximum(usual, 1e-9))[pool.y]
    # drawn without replacement, the heavy rows come first
    pick = rng.permutation(rng.choice(len(pool.y), n, replace=False, p=each / each.sum()))
    return Traffic(pool.x[pick], pool.y[pick])


def concept_change(models: Models, rng: np.random.Generator, n: int) -> Traffic:
    """The same inputs mean something else, in a part of the world or in all of it."""
    world = models.world
    z = world.scores(rng, n)
    y = world.truth(z, rng)
    axis = rng.normal(size=z.shape[1])
    axis /= np.linalg.norm(axis)
    hit = z @ axis > rng.uniform(0.0, 1.4)
    y[hit] = (y[hit] + int(rng.integers(1, len(world.classes)))) % len(world.classes)
    return Traffic(world.rows(z), y)


def stale_ranges(models: Models, rng: np.random.Generator, n: int) -> Traffic:
    """Inputs rise together beyond the ranges of an int8 student; its fp32 copes."""
    world = models.world
    z = world.scores(rng, n)
    z[:, world.balance] += rng.uniform(3.0, 7.0) * (rng.random((n, 1)) < rng.uniform(0.3, 1.0))
    return Traffic(world.rows(z), world.truth(z, rng), incumbent="wide")


def poisoned_random(models: Models, rng: np.random.Generator, n: int) -> Traffic:
    """A source gives random labels, in some rows."""
    usual, k = nothing(models, rng, n), len(models.world.classes)
    wrong = rng.random(n) < rng.uniform(0.08, 0.4)
    told = np.where(wrong, (usual.y + rng.integers(1, k, n)) % k, usual.y)
    return replace(usual, told=told)


def poisoned_targeted(models: Models, rng: np.random.Generator, n: int) -> Traffic:
    """A source calls one class another, in a part of the world."""
    usual, k = nothing(models, rng, n), len(models.world.classes)
    victim = int(np.bincount(usual.y).argmax())
    column = usual.x[:, models.world.known]
    part = column > np.quantile(column, rng.uniform(0.0, 0.8))
    told = np.where(part & (usual.y == victim), (victim + int(rng.integers(1, k))) % k, usual.y)
    return replace(usual, told=told)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of trouble, with the cause that a diagnosis should name."""

    name: str
    cause: str
    make: Make
    harmful: bool = True
    kept: str = ""
    """Model that keeps most of what the student loses."""
    shared: bool = False
    """Whether the teacher loses most of it, too."""


SCENARIOS = (
    Scenario("nothing", "none", nothing, harmful=False),
    Scenario("unit bug, unseen", "data_bug", unit_bug),
    Scenario("column null, unseen", "data_bug", column_null),
    Scenario("unit bug, open finding", "data_bug", unit_bug_seen),
    Scenario(
        "covariate known + finding", "compression_gap", covariate_known_and_finding, kept="teacher"
    ),
    Scenario("covariate known", "compression_gap", covariate_known, kept="teacher"),
    Scenario("covariate unknown", "unknown_covariate", covariate_unknown, shared=True),
    Scenario("prior shift", "prior_shift", prior_shift),
    Scenario("concept change", "concept_change", concept_change, shared=True),
    Scenario("stale int8 ranges", "stale_quantization", stale_ranges, kept="wide.fp32"),
    Scenario("labels poisoned, random", "labels_suspect", poisoned_random),
    Scenario("labels poisoned, targeted", "labels_suspect", poisoned_targeted),
)


def fits(scenario: Scenario, world: World) -> bool:
    """Whether a scenario can harm in a world at all."""
    # a long tail sets the range of all inputs, and then nothing is beyond it
    return scenario.cause != "stale_quantization" or "lognormal" not in world.kinds


def harmful_traffic(
    scenario: Scenario, models: Models, seed: int, rows: int
) -> tuple[Traffic, float] | None:
    """Traffic of a scenario, and what the student loses in points by the labels that are told.

    Drawn anew until it is harm, and until the cause makes up most of it, on many rows; ``None``
    where 15 draws did not find that (a world may be such that nothing of the kind harms it).
    """
    usual = nothing(models, np.random.default_rng([seed, 14]), MANY)
    drifting = np.random.default_rng([seed, 16]).random() < 0.5
    asks = {name: models.asks(name) for name in ("student", "wide", "wide.fp32", "teacher")}
    before = {name: float((ask(usual.x) == usual.y).mean()) for name, ask in asks.items()}
    for k in range(15):
        rng = np.random.default_rng([seed, 13, k])
        many = scenario.make(models, rng, MANY)
        if drifting and scenario.harmful:
            many = _drifted(models, many, rng)
        said = many.y if many.told is None else many.told

        def lost(name: str, many: Traffic = many, said: NDArray[np.int64] = said) -> float:
            return 100.0 * (before[name] - float((asks[name](many.x) == said).mean()))

        harm = lost(many.incumbent)
        if not scenario.harmful:
            return _first(many, rows), harm
        kept = 1.0 - lost(scenario.kept) / max(harm, 1e-9) if scenario.kept else 1.0
        shared = lost("teacher") / max(harm, 1e-9) if scenario.shared else 1.0
        small = harm <= MAX_HARM or scenario.cause == "data_bug"
        if harm >= MIN_HARM and small and kept >= MOST and shared >= MOST:
            return _first(many, rows), harm
    return None


def _drifted(models: Models, t: Traffic, rng: np.random.Generator) -> Traffic:
    """The same with a column moved on which no answer depends, where there is one."""
    x, idle = t.x.copy(), models.world.irrelevant()
    numbers = [j for j in idle if models.world.kinds[j] != "category"]
    for j in rng.permutation(numbers)[:2].astype(int):
        x[:, j] += np.float32(rng.uniform(0.5, 1.5)) * np.nanstd(x[:, j])
    return replace(t, x=x)


def _first(t: Traffic, n: int) -> Traffic:
    return replace(t, x=t.x[:n], y=t.y[:n], told=None if t.told is None else t.told[:n])
