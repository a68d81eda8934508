"""A job's folder: everything that is wrong with job.json is named at once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compress_rows import GRAPH, context_of, job_of

from redistill.compress import folder
from redistill.compress.errors import BadJob, BadModel
from redistill.compress.plan import JobSpec, Training, Tried, to_json

WARM = Tried(name="warm", number=None, sha256=None, reasons=("too slow",))


def write(path: Path, job: JobSpec) -> None:
    (path / "job.json").write_bytes(to_json(job))


def test_limits_of_an_older_release_are_its_policy(tmp_path: Path) -> None:
    """A folder that an older worker filled, whose job goes on after the upgrade."""
    job = json.loads(to_json(job_of()))
    del job["policy"]
    job["limits"] = {"min_agreement": 0.9, "min_e_value": 100.0, "max_bytes": 5_000}
    (tmp_path / "job.json").write_text(json.dumps(job))
    policy = context_of(tmp_path, folder.read(tmp_path)).policy
    assert policy["agreement"].least == 0.9
    assert policy["size"].max_bytes == 5_000
    assert policy["fresh"].e_value == 200.0, "the old default was nobody's wish"


def test_a_good_job_is_read(tmp_path: Path) -> None:
    write(tmp_path, job_of())
    assert folder.read(tmp_path) == job_of()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"format": 2}, "format = 2"),
        ({"graph": replace(GRAPH, features=("a", "a"))}, "each input once"),
        ({"graph": replace(GRAPH, classes=("no",))}, "at least two different"),
        ({"graph": replace(GRAPH, categories={"z": ()})}, r"\['z'\]"),
        ({"candidates": ("fp8",)}, "fp8"),
        ({"candidates": ()}, "candidates is empty"),
        ({"serving_batch": 0}, "serving_batch = 0"),
        ({"deadline_s": 0.0}, r"deadline_s = 0\.0"),
        ({"training": Training(epochs=0)}, "epochs"),
        ({"training": Training(learning_rate=0.0)}, "learning_rate"),
        ({"training": Training(kd_weight=1.5)}, "kd_weight = 1.5"),
        ({"recipe": 0}, "recipe = 0"),
        ({"faced": {"ab": 0}}, "faced = {'ab': 0}"),
        ({"recipes": ("cold",)}, r"\['cold'\]: known are reuse, temper, warm, "),
        ({"recipes": ("warm",), "tried": (WARM,)}, "none is left to be tried"),
        ({"recipes": ("warm",), "again": "trees"}, "again = 'trees': is none of"),
        ({"recipes": ("scratch", "warm"), "tried": (WARM,), "again": "warm"}, "tried names other"),
        ({"recipes": ("scratch", "warm"), "tried": (WARM,)}, "tried names other recipes"),
        ({"policy": {"fresh": {"e_value": 0.0}}}, r"policy: fresh\.e_value = 0\.0: a number from"),
        ({"waived": {"trustd": "me"}}, r"waived = \['trustd'\]: gates are loads, "),
        ({"graph": replace(GRAPH, costs=((0.0, 1.0),))}, r"graph\.costs = "),
        (
            {"graph": replace(GRAPH, costs=((0.0, -1.0), (1.0, 0.0)))},
            r"graph\.costs\[0\]\[1\] = -1",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    write(tmp_path, job_of(**fields))
    with pytest.raises(BadJob, match=said):
        folder.read(tmp_path)


def test_all_problems_are_named_together(tmp_path: Path) -> None:
    write(tmp_path, job_of(format=2, serving_batch=0))
    with pytest.raises(BadJob, match=r"format = 2.*serving_batch = 0"):
        folder.read(tmp_path)


def test_a_folder_without_a_job_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadJob, match=r"job\.json is missing|is missing"):
        folder.read(tmp_path)
    (tmp_path / "job.json").write_text("{")
    with pytest.raises(BadJob, match=r"job\.json"):
        folder.read(tmp_path)


def test_a_model_is_called_as_its_role_says(tmp_path: Path) -> None:
    graph = replace(GRAPH, output="p", output_kind="probabilities", teacher_output="q")
    context = context_of(tmp_path, job_of(graph=graph, made_here=("incumbent",)))
    assert context.call("predecessor").output == "p"
    assert context.call("predecessor").output_kind == "probabilities"
    assert context.call("teacher").output == "q"
    for role in ("incumbent", folder.CANDIDATE):  # made here: one output, of logits
        assert (context.call(role).output, context.call(role).output_kind) == (None, "logits")


def test_a_recipe_that_needs_weights_is_followed_where_there_are_some(tmp_path: Path) -> None:
    context = context_of(tmp_path, job_of(recipes=("requantize",)))
    assert context.recipe == "scratch"
    (tmp_path / "incumbent" / "training").mkdir(parents=True)
    (tmp_path / "incumbent" / "training" / "architecture.json").write_text("{}")
    assert context.recipe == "requantize"


def test_a_missing_or_broken_model_is_named_by_its_role(tmp_path: Path) -> None:
    context = context_of(tmp_path, job_of())
    with pytest.raises(BadJob, match="needs teacher/model"):
        context.graph("teacher")
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(BadModel, match=r"^teacher: "):
        context.graph("teacher")


def test_a_report_tells_each_warning_once_and_the_policy_by_its_hash(tmp_path: Path) -> None:
    context = context_of(tmp_path, job_of())
    context.warnings += ["few rows", "odd rows", "few rows"]
    report = context.report({"fresh": 3})
    assert report.warnings == ("few rows", "odd rows")
    assert report.rows == {"fresh": 3}
    assert report.decision is None
    assert report.cost is not None
    assert report.seconds["total"] == report.cost.wall_seconds > 0.0
    assert report.seconds["cpu"] == report.cost.cpu_seconds
    assert (report.cost.package_joules is None) == (report.cost.no_energy is not None)
    stricter = {"fresh": {"e_value": 400.0}}
    other = context_of(tmp_path, job_of(policy=stricter)).report({})
    assert other.policy_sha256 != report.policy_sha256


def test_the_environment_names_versions_that_bytes_depend_on() -> None:
    found = folder.environment()
    assert {"python", "machine", "cpu_flags", "numpy", "onnx", "onnxruntime", "torch"} <= set(found)
