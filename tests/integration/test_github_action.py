"""The composite action: its shell steps are run as a runner runs them, without GitHub."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import linear
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
ACTION = ROOT / "deploy" / "github-action"
GOOD = np.array([[-1, 1], [-1, 1], [0, 0]], np.float32)
POLICY = """
[gates.trusted]
scheduled_margin_points = 2
[schema]
features = { a = "float", b = "float", region = ["EU", "US"] }
classes = ["no", "yes"]
"""
INPUT = re.compile(r"\$\{\{ inputs\.(\w+) \}\}")


@pytest.fixture(scope="module")
def action() -> dict[str, Any]:
    read: dict[str, Any] = importlib.import_module("yaml").safe_load(
        (ACTION / "action.yml").read_text()
    )
    return read


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Models and rows, in a checkout whose path has a blank."""
    folder = tmp_path / "check out"
    folder.mkdir()
    linear.graph(folder / "serving.onnx", GOOD)
    linear.graph(folder / "good.onnx", 2 * GOOD)
    linear.graph(folder / "bad.onnx", GOOD * np.array([[1], [-1], [1]], np.float32))
    rng = np.random.default_rng(0)
    linear.write_rows(folder / "rows.parquet", linear.rows(rng, 1_000))
    linear.write_rows(folder / "few.parquet", linear.rows(rng, 120))
    (folder / "gates.toml").write_text(POLICY)
    return folder


class Runner:
    """Runs the step ``gate`` of the action."""

    def __init__(self, action: dict[str, Any], checkout: Path) -> None:
        self.action, self.checkout = action, checkout
        self.home = checkout.parent / "runner"
        self.home.mkdir()

    def run(self, **given: str) -> tuple[int, dict[str, str], str, str]:
        """Exit code, outputs, summary and log of the step, for inputs of the action."""
        inputs = {k: str(v.get("default", "")) for k, v in self.action["inputs"].items()} | given
        (step,) = (s for s in self.action["runs"]["steps"] if s.get("id") == "gate")
        env = {k: INPUT.sub(lambda m: inputs[m[1]], v) for k, v in step["env"].items()}
        files = {name: self.home / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.write_text("")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            env={
                "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
                "HOME": str(self.home),
                "RUNNER_TEMP": str(self.home),
                "GITHUB_ACTION_PATH": str(ACTION),
                **{name: str(file) for name, file in files.items()},
                **env,
            },
            cwd=self.checkout, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        outputs = dict(
            line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines()
        )
        summary = files["GITHUB_STEP_SUMMARY"].read_text()
        return done.returncode, outputs, summary, done.stdout + done.stderr


@pytest.fixture
def runner(action: dict[str, Any], files: Path) -> Runner:
    return Runner(action, files)


ASKED = {"baseline": "serving.onnx", "policy": "gates.toml"}


@pytest.mark.parametrize(
    ("candidate", "rows", "code", "answer"),
    [
        ("good.onnx", "rows.parquet", 0, "passed"),
        ("bad.onnx", "rows.parquet", 1, "refused"),
        ("good.onnx", "few.parquet", 3, "undecided"),
    ],
)
def test_step_ends_with_the_answer_and_keeps_every_form_of_it(
    runner: Runner, candidate: str, rows: str, code: int, answer: str
) -> None:
    ended, outputs, summary, log = runner.run(candidate=candidate, data=rows, **ASKED)
    assert ended == code, log
    assert outputs["answer"] == answer
    assert json.loads(Path(outputs["json"]).read_text())["answer"] == answer
    suite = ET.parse(outputs["junit"]).getroot()
    assert (int(suite.get("failures", 0)) > 0) == (answer == "refused")
    assert f"redistill gate: {answer.upper()}" in summary
    assert "trusted" in log
    assert {p.name for p in Path(outputs["folder"]).iterdir()} == {
        "junit.xml", "page.md", "gate.json"
    }  # fmt: skip


def test_undecided_may_pass_with_a_warning(runner: Runner) -> None:
    ended, outputs, _, log = runner.run(
        candidate="good.onnx", data="few.parquet", undecided="pass", **ASKED
    )
    assert (ended, outputs["answer"]) == (0, "undecided")
    assert "::warning::" in log


def test_file_that_is_wrong_fails_the_step_and_no_answer_is_told(runner: Runner) -> None:
    ended, outputs, summary, log = runner.run(candidate="gone.onnx", data="rows.parquet", **ASKED)
    assert (ended, outputs) == (2, {"answer": ""})
    assert "nothing could be judged (exit code 2)" in summary
    assert "gone.onnx does not exist" in log


@pytest.mark.parametrize("name", ["$(touch hacked).onnx", "'; touch hacked; '.onnx", "--help"])
def test_names_of_files_are_never_run(runner: Runner, files: Path, name: str) -> None:
    ended, _, _, log = runner.run(candidate=name, data="rows.parquet", **ASKED)
    assert ended == 2, log
    assert not (files / "hacked").exists()


def test_inputs_reach_the_shell_in_variables_only(action: dict[str, Any]) -> None:
    steps = action["runs"]["steps"]
    assert [s for s in steps if "${{" in s.get("run", "")] == []
    assert all(s["shell"] == "bash" for s in steps if "run" in s)
    used = {name for s in steps for v in s.get("env", {}).values() for name in INPUT.findall(v)}
    assert used <= set(action["inputs"])


def test_other_actions_are_pinned_to_a_commit(action: dict[str, Any]) -> None:
    used = [s["uses"] for s in action["runs"]["steps"] if "uses" in s]
    assert used
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", name) for name in used)
