"""The command `gate` as it is typed: answers, forms, and whatever people name in place of files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import linear
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from redistill import child_path
from redistill.workers.cli import main
from redistill.workers.errors import SpecError, UsageError
from redistill.workers.exit_codes import ExitCode
from redistill.workers.onboarding import file_gate

GOOD = np.array([[-1, 1], [-1, 1], [0, 0]], np.float32)
BAD = np.array([[-1, 1], [1, -1], [0, 0]], np.float32)
JSON = ("--format", "json")
POLICY = """
[gates.trusted]
scheduled_margin_points = 2
[schema]
features = { a = "float", b = "float", region = ["EU", "US"] }
classes = ["no", "yes"]
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a linear model, of worse ones, and their rows."""
    folder = tmp_path_factory.mktemp("given")
    rng = np.random.default_rng(0)
    linear.graph(folder / "base.onnx", GOOD)
    linear.graph(folder / "same.onnx", 2 * GOOD)
    linear.graph(folder / "bad.onnx", BAD)
    linear.forest(folder / "forest.onnx")
    linear.graph(folder / "two.onnx", GOOD[:2], features=2)
    linear.graph(folder / "swapped.onnx", GOOD[:, ::-1])
    linear.write_rows(folder / "rows.parquet", linear.rows(rng, 1_000))
    linear.write_rows(folder / "few.parquet", linear.rows(rng, 120))
    (folder / "gates.toml").write_text(POLICY)
    return folder


def gate(given: Path, candidate: str, *options: str, rows: str = "rows.parquet") -> Result:
    """Call it in a folder of files with the policy there, unless the options name another."""
    policy = () if "--policy" in options else ("--policy", str(given / "gates.toml"))
    files = ("--baseline", str(given / "base.onnx"), "--data", str(given / rows))
    return CliRunner().invoke(main.app, ["gate", str(given / candidate), *files, *policy, *options])


@pytest.mark.parametrize(
    ("candidate", "rows", "code", "said"),
    [
        ("same.onnx", "rows.parquet", ExitCode.OK, "PASSED"),
        ("bad.onnx", "rows.parquet", ExitCode.REFUSED, "REFUSED"),
        ("same.onnx", "few.parquet", ExitCode.UNDECIDED, "UNDECIDED"),
    ],
)
def test_answer_is_told_and_is_the_exit_code(
    given: Path, candidate: str, rows: str, code: ExitCode, said: str
) -> None:
    result = gate(given, candidate, rows=rows)
    assert result.exit_code == code, (result.output, result.exception)
    assert result.output.startswith(said)
    assert "trusted: against the incumbent" in result.output
    assert " ".join(file_gate.REPEATED_LOOKS.split()) in " ".join(result.output.split())
    assert max(map(len, result.output.splitlines())) <= 80


def test_one_run_writes_every_form(given: Path, tmp_path: Path) -> None:
    files = {end: tmp_path / f"gate{end}" for end in (".xml", ".md", ".json", ".txt")}
    options = [word for path in files.values() for word in ("--report", str(path))]
    result = gate(given, "bad.onnx", "--format", "json", *options)
    assert result.exit_code == ExitCode.REFUSED
    found = json.loads(result.stdout)
    assert json.loads(files[".json"].read_text()) == found
    assert found["answer"] == "refused"
    assert found["repeated_looks"] == file_gate.REPEATED_LOOKS
    assert found["candidate"]["sha256"] == found["sha256"]["candidate"]
    failed = {g["name"] for g in found["gates"] if g["passed"] is False}
    assert "trusted" in failed

    suite = ET.parse(files[".xml"]).getroot()[0]
    cases = {c.get("name"): c for c in suite.iter("testcase")}
    assert {n for n, c in cases.items() if c.find("failure") is not None} == failed
    assert (suite.get("tests"), suite.get("failures")) == (str(len(cases)), str(len(failed)))
    assert suite.get("errors") == "0"
    assert file_gate.REPEATED_LOOKS in (suite.findtext("system-out") or "")

    page = files[".md"].read_text()
    assert "REFUSED" in page
    assert file_gate.REPEATED_LOOKS in page
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert {line.count("|") for line in rows} == {6}
    assert files[".txt"].read_text().startswith("REFUSED")


def test_undecided_gate_is_no_success_of_a_test_suite(given: Path) -> None:
    result = gate(given, "same.onnx", "--format", "junit", rows="few.parquet")
    suite = ET.fromstring(result.stdout)[0]
    assert (suite.get("errors"), suite.get("failures")) == ("1", "0")


def test_models_with_other_outputs_are_compared(given: Path) -> None:
    """One gives logits, the other a label and probabilities."""
    result = gate(given, "forest.onnx", "--format", "json")
    assert result.exit_code == ExitCode.REFUSED
    measured = json.loads(result.stdout)["candidate"]["trusted_accuracy"]["value"]
    assert 0.6 < measured < 0.85


def test_columns_of_the_rows_may_stand_in_any_order(given: Path, tmp_path: Path) -> None:
    rows = linear.rows(np.random.default_rng(0), 1_000)
    other = {k: rows[k] for k in ("label", "region", "b", "a")} | {"id": np.arange(1_000)}
    linear.write_rows(tmp_path / "other.parquet", other)
    result = gate(given, "same.onnx", *JSON, rows=str(tmp_path / "other.parquet"))
    assert result.exit_code == ExitCode.OK, result.output
    found = json.loads(result.stdout)
    assert found["baseline"]["trusted_accuracy"]["value"] > 0.85
    assert any("no features are ignored: id" in note for note in found["notes"])


def test_without_a_policy_columns_and_classes_are_read_off_the_files(
    given: Path, tmp_path: Path
) -> None:
    rows = linear.rows(np.random.default_rng(0), 1_000)
    rows["c"] = (rows.pop("region") == "US").astype(float)
    linear.write_rows(tmp_path / "rows.parquet", {k: rows[k] for k in ("a", "b", "c", "label")})
    files = ["--baseline", str(given / "base.onnx"), "--data", str(tmp_path / "rows.parquet")]
    called = ["gate", str(given / "same.onnx"), *files, "--format", "json"]
    result = CliRunner().invoke(main.app, called)
    assert result.exit_code == ExitCode.OK, (result.output, result.exception)
    notes = json.loads(result.stdout)["notes"]
    assert any("as the file orders them: a, b, c" in note for note in notes)
    assert any("the labels of the file in their order: no, yes" in note for note in notes)


def test_missing_values_and_unseen_categories_count_as_production_has_them(
    given: Path, tmp_path: Path
) -> None:
    rows = linear.rows(np.random.default_rng(0), 1_000)
    rows["a"][:100] = np.nan
    rows["region"][:50] = "MARS"
    linear.write_rows(tmp_path / "odd.parquet", rows)
    odd = str(tmp_path / "odd.parquet")
    forest = str(given / "forest.onnx")
    result = gate(given, "forest.onnx", "--baseline", forest, *JSON, rows=odd)
    notes = " ".join(json.loads(result.stdout)["notes"])
    assert "50 values that are not declared (MARS)" in notes
    told = refused(gate(given, "same.onnx", rows=odd))
    assert told.startswith(f"the baseline {given / 'base.onnx'} answers NaN or infinity"), told


def refused(result: Result) -> str:
    """What a call that is wrong is answered."""
    assert isinstance(result.exception, UsageError | SpecError), (result.output, result.exception)
    assert result.exception.exit_code == ExitCode.USAGE
    return str(result.exception)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("folder", "is a folder: name the ONNX file in it"),
        ("nothing.onnx", "nothing.onnx does not exist or is no file"),
        ("pickle.onnx", "a pickle: export the model as ONNX"),
        ("broken.onnx", "broken.onnx is no readable ONNX file"),
        ("two.onnx", "one float32 input of shape (n, 3) was expected"),
    ],
)
def test_file_that_is_no_model_is_refused_in_a_sentence(
    given: Path, tmp_path: Path, what: str, said: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "pickle.onnx").write_bytes(b"\x80\x04\x95\xff\xff\xff")
    (tmp_path / "broken.onnx").write_bytes((given / "base.onnx").read_bytes()[:60])
    path = given / what if what == "two.onnx" else tmp_path / what
    told = refused(gate(given, str(path)))
    assert said in told
    assert "candidate" in told


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"label": None}, "has no column 'label': it needs labels (--labels names their column)"),
        ({"b": None}, "missing columns: b"),
        ({"label": [None] * 200}, "all values of label are missing: it has no labels"),
        ({"label": ["yes"] * 200}, "one class only"),
        ({"label": ["maybe"] * 200}, "200 values of label are no classes"),
        ({"a": ["x"] * 200}, "a is declared as float, holds text (x) in 200 rows"),
        ({"region": ["MARS"] * 200}, "200 of 200 values of region are not declared"),
        ("no rows", "has 0 rows; at least 100 are needed"),
        ("no file", "there is no such file"),
        ("no table", "is not a readable Parquet file"),
    ],
)
def test_rows_that_judge_nothing_are_refused_with_what_is_wrong(
    given: Path, tmp_path: Path, rows: Any, said: str
) -> None:
    path = tmp_path / "r.parquet"
    columns = linear.rows(np.random.default_rng(0), 0 if rows == "no rows" else 200)
    if isinstance(rows, dict):
        columns = {k: v for k, v in (columns | rows).items() if v is not None}
    if rows == "no table":
        path.write_bytes(b"PAR1 not at all")
    elif rows != "no file":
        linear.write_rows(path, columns)
    told = refused(gate(given, "same.onnx", rows=str(path)))
    assert said in told or (rows in ("no file", "no table") and str(path) in told), told
    assert "[data]" not in told


def test_labels_column_is_named_by_its_option(given: Path, tmp_path: Path) -> None:
    rows = linear.rows(np.random.default_rng(0), 1_000)
    rows["y"] = rows.pop("label")
    linear.write_rows(tmp_path / "r.parquet", rows)
    path = str(tmp_path / "r.parquet")
    assert gate(given, "same.onnx", "--labels", "y", rows=path).exit_code == ExitCode.OK
    assert "no column 'label'" in refused(gate(given, "same.onnx", rows=path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gates.trustd]\nx = 1", "[gates] trustd: there is no such key; did you mean trusted?"),
        ("[gates.trusted]\nmargin_points = -3", "a number from 0 to 50 was expected"),
        ("[gates", "is not TOML"),
        ("[repair]\nmax_p95_ms = 'fast'", "a number of milliseconds was expected"),
        ("[schema]\nclasses = ['a']", "[schema] features"),
        (None, "is a folder"),
    ],
)
def test_policy_that_is_wrong_is_refused_with_the_key(
    given: Path, tmp_path: Path, text: str | None, said: str
) -> None:
    path = tmp_path
    if text is not None:
        path = tmp_path / "gates.toml"
        path.write_text(text)
    assert said in refused(gate(given, "same.onnx", "--policy", str(path)))


def test_limits_of_the_policy_hold(given: Path, tmp_path: Path) -> None:
    policy = tmp_path / "gates.toml"
    policy.write_text(POLICY + "[repair]\nmax_bytes = 100\n")
    result = gate(given, "same.onnx", "--policy", str(policy), "--format", "json")
    assert result.exit_code == ExitCode.REFUSED
    failed = [g["name"] for g in json.loads(result.stdout)["gates"] if g["passed"] is False]
    assert failed == ["size"]


def test_whole_model_toml_will_do_as_a_policy(given: Path, tmp_path: Path) -> None:
    spec = linear.build(tmp_path / "m")
    (tmp_path / "m" / "teacher.onnx").unlink()  # a file that it names is not read
    result = gate(given, "same.onnx", "--policy", str(spec), "--format", "json")
    assert "answer" in json.loads(result.stdout), result.output


def test_classes_in_another_order_than_the_scores_are_refused(given: Path) -> None:
    called = ["gate", str(given / "swapped.onnx"), "--baseline", str(given / "swapped.onnx")]
    rest = ["--data", str(given / "rows.parquet"), "--policy", str(given / "gates.toml")]
    told = refused(CliRunner().invoke(main.app, [*called, *rest]))
    assert "outputs stand in another order than [schema] classes" in told
    worse = gate(given, "swapped.onnx")
    assert worse.exit_code == ExitCode.REFUSED, "a candidate in another order is a bad one"


@pytest.mark.parametrize("name", ["gone/gate.xml", "", "gate.pdf"])
def test_report_that_cannot_be_written_is_told_before_the_work(
    given: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_gate, "judge", lambda *_, **__: pytest.fail("it was judged"))
    path = tmp_path / name if name else tmp_path
    assert str(path) in refused(gate(given, "same.onnx", "--report", str(path)))


def test_report_in_a_folder_that_is_read_only_is_told_before_the_work(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() == 0:
        monkeypatch.setattr(Path, "open", _read_only)  # root may write anywhere
    tmp_path.chmod(0o500)
    told = refused(gate(given, "same.onnx", "--report", str(tmp_path / "gate.xml")))
    assert "cannot be written: " in told


def _read_only(path: Path, *_: Any, **__: Any) -> Any:
    raise PermissionError(13, "Permission denied", str(path))


def test_interrupted_run_ends_without_a_traceback_and_leaves_nothing(
    given: Path, tmp_path: Path
) -> None:
    code = (
        "import os, signal, sys\n"
        "from redistill.compress import pipeline\n"
        "pipeline.run = lambda folder: os.kill(os.getpid(), signal.SIGINT)\n"
        "from redistill.workers.cli.main import main\n"
        "main(sys.argv[1:])\n"
    )
    files = ["--baseline", "base.onnx", "--data", "rows.parquet", "--policy", "gates.toml"]
    done = subprocess.run(
        [sys.executable, "-c", code, "gate", "same.onnx", *files],
        env={**child_path.variables(), "TMPDIR": str(tmp_path)},
        cwd=given, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode in (ExitCode.INTERRUPTED, -signal.SIGINT), done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
