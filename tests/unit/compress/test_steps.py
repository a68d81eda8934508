from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from redistill.compress.errors import BadJob, DeadlineExceeded
from redistill.compress.steps import Deadline, Steps, array_key, key_of
from redistill.files import sha256_of


def steps(folder: Path, seen: list[tuple[str, float]] | None = None) -> Steps:
    log = [] if seen is None else seen
    return Steps(
        folder, deadline=Deadline(seconds=60.0), progress=lambda s, share: log.append((s, share))
    )


def test_make_does_a_step_once_per_key(tmp_path: Path) -> None:
    done: list[str] = []

    def make(text: str):
        def write_it(out: Path) -> None:
            done.append(text)
            out.write_text(text)

        return write_it

    first = steps(tmp_path).make("a", "key1", make("one"), suffix=".txt")
    again = steps(tmp_path).make("a", "key1", make("again"), suffix=".txt")
    other = steps(tmp_path).make("a", "key2", make("two"), suffix=".txt")
    assert done == ["one", "two"]
    assert first == again != other
    assert other.read_text() == "two"
    assert other.suffix == ".txt"


def test_make_does_a_step_again_when_its_result_was_damaged(tmp_path: Path) -> None:
    path = steps(tmp_path).make("a", "k", lambda out: out.write_text("whole") and None)
    path.write_text("dam")
    steps(tmp_path).make("a", "k", lambda out: out.write_text("whole") and None)
    assert path.read_text() == "whole"


def test_steps_of_another_scope_are_others(tmp_path: Path) -> None:
    def scoped() -> Steps:
        return Steps(tmp_path, deadline=Deadline(seconds=60.0), scope="scratch.")

    first = steps(tmp_path).make("a", "k", lambda out: out.write_text("one") and None)
    with pytest.raises(BadJob, match=r"'scratch\.a' was never done"):
        scoped().finished("a")
    other = scoped().make("a", "k2", lambda out: out.write_text("two") and None)
    assert other.name.startswith("scratch.a-")
    assert scoped().finished("a") == other
    assert steps(tmp_path).finished("a") == first
    assert scoped().make("a", "k2", lambda out: pytest.fail("done again")) == other


def test_a_step_may_make_a_folder(tmp_path: Path) -> None:
    def make(out: Path) -> None:
        out.mkdir()
        (out / "x").write_text("1")

    path = steps(tmp_path).make("a", "k", make)
    assert (path / "x").read_text() == "1"
    (path / "x").write_text("2")
    assert (steps(tmp_path).make("a", "k", make) / "x").read_text() == "1"


def test_a_step_that_fails_leaves_nothing_and_is_not_recorded(tmp_path: Path) -> None:
    def fail(out: Path) -> None:
        out.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        steps(tmp_path).make("a", "k", fail)
    again = steps(tmp_path)
    assert list((tmp_path / "work").iterdir()) == []
    with pytest.raises(BadJob, match="never done"):
        again.finished("a")


def test_progress_tells_the_start_and_the_end_of_each_step(tmp_path: Path) -> None:
    seen: list[tuple[str, float]] = []
    steps(tmp_path, seen).make("a", "k", lambda out: out.write_text("1") and None)
    steps(tmp_path, seen).make("a", "k", lambda out: out.write_text("1") and None)
    assert seen == [("a", 0.0), ("a", 1.0), ("a", 1.0)]


def test_the_record_says_what_each_step_made_and_cost(tmp_path: Path) -> None:
    path = steps(tmp_path).make("a", "k", lambda out: out.write_text("1") and None)
    record = json.loads((tmp_path / "steps.json").read_bytes())
    assert record["format"] == 1
    assert record["steps"]["a"]["path"] == str(path.relative_to(tmp_path))
    assert record["steps"]["a"]["sha256"] == sha256_of(path)
    assert record["steps"]["a"]["seconds"] >= 0


@pytest.mark.parametrize(
    ("content", "message"), [("{", "cannot be read"), ('{"format": 2, "steps": {}}', "newer")]
)
def test_a_record_that_cannot_be_read_is_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "steps.json").write_text(content)
    with pytest.raises(BadJob, match=message):
        steps(tmp_path)


def test_deadline_ends_at_its_seconds() -> None:
    now = [0.0]
    deadline = Deadline(seconds=5.0, clock=lambda: now[0])
    deadline.check("a")
    now[0] = 5.1
    with pytest.raises(DeadlineExceeded, match="'b'"):
        deadline.check("b")


def test_keys_tell_content_shape_and_type_apart() -> None:
    a = np.arange(6, dtype=np.float32)
    keys = {
        array_key(a),
        array_key(a.reshape(2, 3)),
        array_key(a.astype(np.float64)),
        array_key(a + 1),
    }
    assert len(keys) == 4
    assert key_of("a", 1) == key_of("a", 1) != key_of("a", 2)


def test_a_step_that_was_done_by_an_earlier_run_is_known(tmp_path: Path) -> None:
    steps(tmp_path).make("a", "k", lambda out: out.write_text("x") and None)
    assert steps(tmp_path).has("a")
    assert not steps(tmp_path).has("b")


def test_cpu_time_of_an_earlier_run_is_what_its_steps_took_and_not_what_is_done_now(
    tmp_path: Path,
) -> None:
    def work(out: Path) -> None:
        began = time.process_time()
        while time.process_time() - began < 0.05:
            pass
        out.write_text("done")

    first = steps(tmp_path)
    first.make("a", "k", work)
    first.make("b", "k", work)
    assert first.earlier_cpu_seconds == 0.0
    again = steps(tmp_path)
    assert again.earlier_cpu_seconds >= 0.1
    again.make("a", "k", work)  # taken over
    again.make("b", "k2", work)  # done now
    assert 0.05 <= again.earlier_cpu_seconds < 0.1
