"""The command `compress` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import linear
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from redistill.compress.plan import Accepted, Gate, NeedsPerson, Rejected
from redistill.workers.cli import compress as module
from redistill.workers.cli import main
from redistill.workers.errors import SpecError, UsageError
from redistill.workers.exit_codes import ExitCode
from redistill.workers.onboarding.compression import Compressed, Compression


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linear.build(tmp_path_factory.mktemp("m") / "m")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDISTILL_HOME", str(tmp_path / "home"))
    return tmp_path


def compress(*words: str) -> Result:
    return CliRunner().invoke(main.app, ["compress", *words])


def test_table_page_and_folder_without_a_broker_or_a_database(spec: Path, here: Path) -> None:
    result = compress(str(spec), "--budget", "60s", "--front", "front.html")
    assert result.exit_code == ExitCode.OK, (result.output, result.exception)
    assert "scratch: train" in result.stderr
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split()[:2] == ["MODEL", "ACCURACY"]
    assert sum("chosen" in line for line in lines) == 1
    assert {"mlp-fp32", "incumbent", "teacher"} <= {line.split()[0] for line in lines if line}
    assert (here / "linear-compressed" / "candidate" / "model.onnx").is_file()
    assert [p.name for p in (here / "linear-compressed").iterdir()] == ["candidate"]
    assert "<svg" in (here / "front.html").read_text()
    assert not (here / "home").exists()


def test_document_says_what_was_measured(spec: Path, here: Path) -> None:
    result = compress(str(spec), "--json", "--out", "small")
    found = json.loads(result.stdout)
    assert result.stderr == ""
    assert found["folder"] == "small/candidate"
    chosen = next(v for v in found["variants"] if v["name"] == found["chosen"])
    assert chosen["trusted_accuracy"]["low"] < chosen["trusted_accuracy"]["value"]
    assert found["decision"]["decision"] == "accepted"
    assert found["seconds"]["cpu"] > 0


def test_interrupted_run_goes_on_where_it_was(
    spec: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Compression.run

    def interrupted(job: Compression, **options: Any) -> Any:
        def stop(step: str, share: float) -> None:
            if step == "probe":
                raise KeyboardInterrupt

        return run(job, **options | {"progress": stop})

    monkeypatch.setattr(Compression, "run", interrupted)
    assert compress(str(spec), "--out", "o").exit_code == ExitCode.INTERRUPTED
    assert [p.name for p in (here / "o").iterdir()] == [".job"]
    assert (here / "o" / ".job").stat().st_mode & 0o077 == 0, "it holds the rows"

    done: list[tuple[str, float]] = []

    def watched(job: Compression, **options: Any) -> Any:
        return run(job, **options | {"progress": lambda step, share: done.append((step, share))})

    monkeypatch.setattr(Compression, "run", watched)
    assert compress(str(spec), "--out", "o").exit_code == ExitCode.OK
    assert ("scratch: train", 0.0) not in done, "it was trained before"
    assert ("scratch: train", 1.0) in done


def refused(result: Result) -> str:
    assert isinstance(result.exception, UsageError | SpecError), (result.output, result.exception)
    assert result.exception.exit_code == ExitCode.USAGE
    return str(result.exception)


@pytest.mark.parametrize("budget", ["soon", "-5s", "0s", "5 days", "1e9h", "", "nan"])
def test_budget_that_is_no_time_is_refused(spec: Path, here: Path, budget: str) -> None:
    assert "--budget" in refused(compress(str(spec), "--budget", budget))
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("1.5m", 90), ("2 min", 120), ("1H", 3_600), ("7", 7)]
)
def test_budget_is_read_as_people_write_it(text: str, seconds: float) -> None:
    assert module._seconds(text) == seconds


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--out", "file"), "--out file is a file: name a folder"),
        (("--out", "full"), "--out full holds other files (mine.txt)"),
        (("--out", "file/x"), "--out file/x cannot be written"),
        (("--front", "gone/f.html"), "--front gone/f.html cannot be written"),
        (("--front", "full"), "--front full cannot be written: Is a directory"),
    ],
)
def test_places_that_cannot_be_written_are_refused_before_the_work(
    spec: Path, here: Path, words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Compression, "run", lambda *_, **__: pytest.fail("it was begun"))
    (here / "file").write_text("x")
    (here / "full").mkdir()
    (here / "full" / "mine.txt").write_text("x")
    assert said in refused(compress(str(spec), *words))


def test_folder_that_is_read_only_is_refused(
    spec: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", read_only)  # a mode would not stop root
    told = refused(compress(str(spec), "--out", "small"))
    assert told == "--out small cannot be written: Permission denied"


@pytest.mark.parametrize("what", ["gone.toml", "rows"])
def test_spec_that_is_none_is_refused(spec: Path, here: Path, what: str) -> None:
    (here / "rows").mkdir()
    assert "there is no such file" in refused(compress(what))


def test_trusted_rows_without_a_label_are_refused(here: Path) -> None:
    spec = linear.build(here / "m")
    rows = linear.rows(np.random.default_rng(0), 200)
    rows["label"] = [None] * 200
    linear.write_rows(here / "m" / "trusted.parquet", rows)
    assert "all values of label are missing" in refused(compress(str(spec)))


@pytest.mark.parametrize(
    ("decision", "code"),
    [
        (Accepted(variant="x"), ExitCode.OK),
        (Rejected(reasons=("size: too large",)), ExitCode.REFUSED),
        (NeedsPerson(gate="trusted", have=1, need=2, why="", ask=""), ExitCode.UNDECIDED),
    ],
)
def test_code_is_the_answer_of_the_gates(decision: Any, code: ExitCode) -> None:
    from job_worker import report

    assert module._code(report("compress", decision)) is code


def test_gate_that_is_open_says_how_many_rows_would_decide(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from job_worker import faced

    gates = (
        Gate(name="trusted", value=0.0, limit=-1.0, passed=None, why="few", need=1_234),
        Gate(name="size", value=9.0, limit=1.0, passed=False, why="large"),
    )
    found = faced(1, Rejected(reasons=("size: large",)), gates=gates)
    module._say(Compressed(report=found, folder=Path()), Path("o"), as_json=False)
    said = capsys.readouterr().out
    assert "undecided trusted: few; about 1,234 rows would decide it" in said
    assert "FAILED size: large" in said
    assert "fails a gate" in said
