"""The benchmark of repairs, in small: what is drawn is what is said, and that it cannot praise itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import compression
import environments
import numpy as np
import pytest
from compressbench import outcomes, peers, repairing, world
from compressbench.cases import CASES, Case
from compressbench.drawing import CATEGORIES, DRAWS
from compressbench.outcomes import Outcome, Paired

from redistill.compress.judge.graph import GraphCall
from redistill.compress.plan import Accepted, JobSpec, NeedsPerson, Rejected, Training

TINY = Case(
    name="tiny",
    rows="veiled digits",
    teacher="torch",
    hidden=(32,),
    trusted=450,
    teacher_rows=1_500,
)

# -- what is drawn is what is said ------------------------------------------------------------------


def test_there_are_ten_cases_of_five_kinds_of_teachers() -> None:
    assert len({c.name for c in CASES}) == 10
    assert {c.teacher for c in CASES} >= {"torch", "forest", "xgboost", "lightgbm", "catboost"}
    assert {c.rows for c in CASES} == {*DRAWS, "mnist"}


@pytest.mark.parametrize("name", DRAWS)
def test_rows_are_the_same_for_the_same_seed_and_others_in_the_new_domain(name: str) -> None:
    draw = DRAWS[name]
    one, again = (draw("traffic", True, 500, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one[0], again[0])
    np.testing.assert_array_equal(one[1], again[1])
    old = draw("traffic", False, 500, np.random.default_rng(3))
    assert old[0].dtype == np.float32
    assert old[0].shape == one[0].shape
    assert not np.array_equal(np.nan_to_num(one[0]), np.nan_to_num(old[0]))


def test_digits_that_judge_and_measure_come_from_other_pictures() -> None:
    from compressbench.drawing import _digits, _wine

    parts = [
        {row.tobytes() for row in _digits()[p][0]} for p in ("train", "trusted", "traffic", "test")
    ]
    assert not any(a & b for i, a in enumerate(parts) for b in parts[i + 1 :])
    trained = {row.tobytes() for row in _wine()["train"][0]}
    assert not trained & {row.tobytes() for row in _wine()["test"][0]}


def test_rows_are_as_rare_as_coded_and_as_missing_as_their_names_say() -> None:
    rng = np.random.default_rng(0)
    _, y = DRAWS["one in fifty"]("train", False, 20_000, rng)
    assert y.mean() == pytest.approx(0.02, abs=0.005)
    x, _ = DRAWS["categories"]("train", True, 2_000, rng)
    assert (x[:, : len(CATEGORIES)].max(axis=0) < CATEGORIES).all()
    gone = [
        float(np.isnan(DRAWS["missing"]("train", new, 4_000, rng)[0][:, :5]).mean())
        for new in (False, True)
    ]
    assert gone == pytest.approx([0.02, 0.26], abs=0.02)


# -- a repair ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[world.World]:
    """A small world, made."""
    place = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "TEACHING", Training(epochs=3, batch=64))
        patch.setattr(world, "SERVING", Training(epochs=4, batch=64))
        patch.setattr(world, "REFERENCE", 1_000)
        patch.setattr(world, "TEST", 500)
        yield world.make(TINY, place / "world", kept=place / "kept", seed=0)


def test_drift_harms_the_student_and_not_its_teacher(tiny: world.World) -> None:
    served = tiny.folder / "incumbent" / "model.onnx"
    teacher = tiny.right(tiny.folder / "teacher" / "model.onnx", "teacher")
    assert teacher.mean() > tiny.right(served).mean() + 0.2
    assert tiny.right(served, old=True).mean() > tiny.right(served).mean() + 0.2


def test_a_repair_ends_as_a_job_ends_and_is_measured(tiny: world.World, tmp_path: Path) -> None:
    done = repairing.repair(tiny, tmp_path / "job")
    found = outcomes.outcome(tiny, done, tmp_path / "peers", tools=False)
    assert found.published == isinstance(done.report.decision, Accepted)
    assert found.cause == "compression_gap"
    assert done.tried or found.recipe == repairing.recipes_for(found.cause, weights=True)[0]
    assert found.labels is not None
    assert found.candidate is not None
    assert found.incumbent is not None
    assert found.teacher is not None
    assert found.incumbent + 20.0 < found.candidate < found.teacher + 2.0
    assert found.to_teacher is not None
    assert found.to_teacher.value == pytest.approx(found.candidate - found.teacher, abs=1e-4)
    assert found.p50_to_best is not None
    assert {s["name"] for s in found.settings} >= {
        "ours",
        "onnxruntime: fp32",
        "onnxruntime: dynamic",
    }
    assert Outcome.read(json.loads(json.dumps(found.json()))) == found


def test_refused_candidate_gives_the_next_recipe_its_turn(
    tiny: world.World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = repairing._judged
    seen: list[str] = []

    def refuse(folder: Path, spec: JobSpec, *rest: object) -> object:
        report, labels = judged(folder, spec, *rest)  # type: ignore[arg-type]
        seen.append(str(report.recipe_name))
        return replace(report, decision=Rejected(reasons=("no",))), labels

    monkeypatch.setattr(repairing, "LABELS", (300,))
    monkeypatch.setattr(repairing, "_judged", refuse)
    done = repairing.repair(tiny, tmp_path / "job", names=("requantize", "warm"))
    assert (seen, done.published) == (["requantize", "warm"], False)
    assert [t.name for t in done.tried] == ["requantize"]
    assert "warm" in done.why


def test_open_candidates_have_the_best_of_them_judged_again(
    tiny: world.World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged, losses = repairing._judged, iter((0.1, 0.2))

    def undecided(folder: Path, spec: JobSpec, *rest: object) -> object:
        report, labels = judged(folder, spec, *rest)  # type: ignore[arg-type]
        missing = NeedsPerson(gate="trusted", have=1, need=2, why="few", ask="rows")
        return replace(report, decision=missing, ranking_loss=next(losses)), labels

    monkeypatch.setattr(repairing, "LABELS", (300,))
    monkeypatch.setattr(repairing, "_judged", undecided)
    done = repairing.repair(tiny, tmp_path / "job", names=("requantize", "warm"))
    assert (done.report.recipe_name, done.report.mode) == ("requantize", "gate")
    assert [(t.name, t.open) for t in done.tried] == [("warm", True)]


def test_peers_are_graded_by_what_their_fp32_graph_answers(
    tiny: world.World, tmp_path: Path
) -> None:
    fp32 = tiny.folder / "fp32.onnx"
    call = GraphCall.made(tiny.graph)
    made = peers.made(fp32, tmp_path, tiny.fresh[0], tools=False)
    files = {name: path for name, path in made.items() if isinstance(path, Path)}
    (tmp_path / "no.onnx").write_bytes(b"no model")
    found, broken = peers.graded(
        files | {"broken": tmp_path / "no.onnx"}, fp32, tiny.test[0], call, batch=8
    )
    assert set(broken) == {"broken"}
    told = {g.name: g for g in found}
    assert told["onnxruntime: fp32"].agreement == 1.0
    assert told["onnxruntime: dynamic"].bytes < told["onnxruntime: fp32"].bytes
    wrong = replace(found[0], name="small and wrong", bytes=1, p50_ms=0.0, agreement=0.5)
    assert wrong not in peers.best([*found, wrong])


def test_a_peer_that_does_not_run_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: world.World
) -> None:
    monkeypatch.setattr(peers, "TOOLS", {"tool": ("nothing",)})
    monkeypatch.setattr(peers, "python_of", lambda tool, packages: "no such package")
    made = peers.made(tiny.folder / "fp32.onnx", tmp_path, tiny.fresh[0], tools=True)
    assert made["tool"] == "no such package"


def test_an_environment_is_made_once_for_a_list_of_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, ...]] = []

    def ran(command: list[str], **_: object) -> object:
        calls.append(tuple(command[1:3]))
        (tmp_path / "tool").mkdir(exist_ok=True)
        return type("Done", (), {"returncode": 0, "stderr": ""})

    monkeypatch.setattr(environments.subprocess, "run", ran)
    first = environments.python_of("tool", ("a",), folder=tmp_path)
    assert environments.python_of("tool", ("a",), folder=tmp_path) == first
    assert calls == [("venv", "--quiet"), ("pip", "install")]
    environments.python_of("tool", ("a", "b"), folder=tmp_path)
    assert len(calls) == 4


# -- bars -------------------------------------------------------------------------------------------


def of(case: int, *, published: bool = True, behind: float = -1.0, seconds: float = 5.0) -> Outcome:
    return Outcome(
        case=str(case), seed=0, published=published, cpu_seconds=seconds, agreement=1.0,
        to_teacher=Paired(value=behind, low=behind - 1, high=behind + 1),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "met"),
    [
        ([*(of(i) for i in range(8)), of(8, published=False), of(9, behind=-2.1)], [True, True, True]),
        ([*(of(i) for i in range(7)), *(of(i, behind=-3.0) for i in range(3))], [False, True, True]),
        ([of(i, seconds=10.0 + i) for i in range(10)], [True, False, True]),
    ],
    ids=["met", "too few", "too slow"],
)  # fmt: skip
def test_bars_are_held_to_what_was_published(found: list[Outcome], met: list[bool]) -> None:
    assert [line["met"] for line in outcomes.bars(found)] == met


def test_a_case_that_fails_is_told_counted_and_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = []

    def broken(case: Case, *_: object, **__: object) -> world.World:
        runs.append(case.name)
        raise RuntimeError("no environment for teachers")

    monkeypatch.setattr(world, "make", broken)
    words = ["wine", *(w for n in ("json", "kept") for w in (f"--{n}", str(tmp_path / n)))]
    words += ["--teachers", str(tmp_path / "teachers")]
    assert compression.main(words) == 1
    assert compression.main(words) == 1
    assert runs == ["wine, sklearn"]
    assert "no environment for teachers" in capsys.readouterr().out
    told = json.loads((tmp_path / "json").read_text())
    assert [c["near"] for c in told["cases"]] == [False]
    assert compression.main(["no such", *words[1:]]) == 2
