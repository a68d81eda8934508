"""keys, register, add, publish and rollback as commands, with a service that follows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import linear
import numpy as np
import pytest
from processes import environment, redistill

from redistill.compress.shrink.trained import Architecture, Trained
from redistill.streams.client.model import ModelClient
from redistill.workers.exit_codes import ExitCode

pytestmark = pytest.mark.slow


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Nothing here trains: all of it must work where torch is not installed."""
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    (nowhere / "torch.py").write_text("raise ImportError('there is no torch here')")
    made = environment(home=str(tmp_path / "home"), key_passphrase="correct horse")
    return made | {"PYTHONPATH": f"{nowhere}:{made.get('PYTHONPATH', '')}"}


@pytest.fixture
def run(env: dict[str, str]) -> Callable[..., str]:
    def call(*args: str | Path, status: int = 0) -> str:
        done = redistill([str(a) for a in args], env)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    return call


def test_a_model_is_taken_in_added_to_published_and_rolled_back(
    run: Callable[..., str], tmp_path: Path
) -> None:
    assert "encrypted" in run("keys", "init")
    run("keys", "export", tmp_path / "root.json")
    assert "PRIVATE" not in (tmp_path / "root.json").read_text()
    spec = linear.build(tmp_path / "m", level="rollback")
    weights = np.array([[-1, -1, 0], [1, 1, 0]], np.float32)
    learned = {"layers.0.weight": weights, "layers.0.bias": np.zeros(2), "medians": np.zeros(3)}
    Trained(
        architecture=Architecture(inputs=3, hidden=(), outputs=2),
        tensors={k: v.astype(np.float32) for k, v in learned.items()},
    ).save(tmp_path / "m" / "student")
    onnx = 'onnx = "model.onnx"'
    spec.write_text(spec.read_text().replace(onnx, onnx + '\ntraining = "student/"'))
    run("register", spec)

    client = ModelClient(
        "linear",
        repository=tmp_path / "home" / "repository",
        trust=tmp_path / "root.json",
        cache=tmp_path / "cache",
        poll_s=3_600,
    )
    row = {"a": 1.0, "b": -0.4, "region": "EU"}
    first = (client.version, client.sha256, client.predict(row).prediction)
    assert first[0] == "v1"

    # the same answers from other weights: as good, so it may be added
    good = linear.graph(tmp_path / "good.onnx", np.array([[-2, 2], [-2, 2], [0, 0]], np.float32))
    said = json.loads(run("add", "linear", "v2", good, "--json"))
    assert (said["status"], said["version"]) == ("candidate", "v2")
    assert all(g["passed"] for g in said["gates"])
    client.refresh()
    assert client.version == "v1"  # adding publishes nothing

    # one that looks at the wrong column: entered with its report, but never published
    bad = linear.graph(tmp_path / "bad.onnx", np.array([[0, 0], [0, 0], [-1, 1]], np.float32))
    assert "FAIL" in run("add", "linear", "v3", bad, status=ExitCode.REFUSED)
    assert "did not pass its gates" in run("publish", "linear", "v3", status=ExitCode.REFUSED)
    assert "other bytes" in run("add", "linear", "v2", bad, status=2)

    # a name that nobody could log with
    assert "no name of a version" in run("add", "linear", "v" * 81, bad, status=2)

    # one with an input that the schema does not have
    wide = linear.graph(tmp_path / "wide.onnx", np.ones((5, 2), np.float32), features=5)
    told = run("add", "linear", "v4", wide, status=2)
    assert f"{wide.name} does not fit [model] of linear" in told
    assert "shape (n, 3)" in told

    assert json.loads(run("publish", "linear", "v2", "--json"))["epoch"] == 2
    assert client.refresh() is True
    assert client.version == "v2"
    again = run("add", "linear", "v2b", good, status=ExitCode.REFUSED)
    assert "the very bytes of linear v2, which serves already" in again
    assert "serves v1 (epoch 3)" in run("rollback", "linear", "--reason", "test")
    assert client.refresh() is True
    assert (client.version, client.sha256, client.predict(row).prediction) == first
    assert "before v1" in run("rollback", "linear", status=ExitCode.REFUSED)
    client.close()


def test_commands_without_keys_or_models_say_what_to_do(run: Callable[..., str]) -> None:
    for command in (["publish", "linear", "v1"], ["rollback", "linear"]):
        said = run(*command, status=2)
        assert "there is no model named 'linear'" in said
        assert "keys" not in said
    assert "keys init" in run("keys", "export", status=ExitCode.FAILED)
    run("keys", "init")
    assert "register it first" in run("publish", "linear", "v1", status=2)
    assert "register it first" in run("add", "linear", "v1", __file__, status=2)
