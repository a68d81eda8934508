"""``redistill replay`` on files: what it says, and what it makes of files that are odd."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import loop
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from click.testing import Result
from replay_tables import OPTIONS, REFERENCE, STREAM, lines_of, opened
from typer.testing import CliRunner

from redistill.streams.errors import FileError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.intervals import window_interval
from redistill.streams.replay.options import ReplayOptions
from redistill.streams.replay.run import run_replay
from redistill.streams.store.tables import specs
from redistill.workers.cli.main import main
from redistill.workers.cli.replay import app
from redistill.workers.errors import UsageError
from redistill.workers.settings.settings import Settings
from redistill.workers.store import opening


def test_harm_is_found_with_its_row_and_windows_tell_measured_accuracy(tmp_path: Path) -> None:
    pq.write_table(STREAM, tmp_path / "stream.parquet", row_group_size=1_700)
    pq.write_table(REFERENCE, tmp_path / "reference.parquet")
    out = tmp_path / "out.jsonl"
    result = CliRunner().invoke(
        app,
        [
            str(tmp_path / "stream.parquet"),
            *("--reference", str(tmp_path / "reference.parquet")),
            *("--label", "label", "--prediction", "prediction", "--scores", "score_a,score_b"),
            *("--label-rate", "0.2", "--label-delay", "500", "--seed", "0", "--tolerance", "2"),
            *("--slices", "region", "--json", str(out)),
        ],
    )
    assert result.exit_code == 0, result.output
    assert "HARM open" in result.output
    assert "region = EU" in result.output
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    harm = opened(lines, "accuracy")
    assert len(harm) == 1
    assert 6_500 < harm[0]["row"] < 7_500
    assert harm[0]["id"] == harm[0]["finding_id"]
    since = harm[0]["reason"].rpartition("since row ")[2].partition(";")[0]
    assert 5_500 < int(since) < 6_500
    assert harm[0]["impact"]["harmful"] is True
    assert harm[0]["impact"]["basis"] == "measured"
    windows = [x for x in lines if "accuracy" in x and "from" in x]
    assert [(w["from"], w["to"], w["row"]) for w in windows] == [
        (i, i + 1_999, min(i + 2_499, 11_999)) for i in range(0, 12_000, 2_000)
    ]
    for w in windows:
        a = w["accuracy"]
        assert 300 < a["n"] < 500
        assert a["low"] < a["current"] < a["high"]
        assert (a["low"], a["high"]) == window_interval(round(a["current"] * a["n"]), a["n"], 2_000)
    rows = [x["row"] for x in lines if "row" in x]
    assert rows == sorted(rows)
    summary = lines[-1]["summary"]
    assert summary["rows"] == 12_000
    assert summary["findings"] == {"accuracy": 1}
    assert summary["harm"] == {"opened": 1, "open": True}
    assert {s["value"] for s in summary["slices"]} == {"EU", "US", "APAC"}


def test_the_same_seed_draws_the_same_labels_however_the_file_is_cut(tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, label_rate=0.3, label_delay=100, seed=7)
    pq.write_table(STREAM, tmp_path / "small.parquet", row_group_size=333)
    one, two = lines_of(options=options), lines_of(tmp_path / "small.parquet", options=options)
    assert one[:-1] == two[:-1]
    other = lines_of(options=dataclasses.replace(options, seed=8))
    assert one[:-1] != other[:-1]


def test_every_label_at_once_measures_the_window_exactly() -> None:
    windows = [x for x in lines_of() if "from" in x]
    wrong = STREAM["label"].to_numpy() != STREAM["prediction"].to_numpy()
    for w in windows:
        truth = 1 - wrong[w["from"] : w["to"] + 1].mean()
        a = w["accuracy"]
        assert a["current"] == a["low"] == a["high"] == pytest.approx(truth)
        assert w["row"] == w["to"]


def test_a_stream_without_any_label_claims_nothing() -> None:
    nothing = STREAM.set_column(4, "label", pa.nulls(len(STREAM), pa.int64()))
    lines = lines_of(nothing)
    assert opened(lines, "accuracy") == []
    accuracy = {json.dumps(x["accuracy"]) for x in lines if "from" in x}
    assert accuracy == {'{"basis": "measured", "current": null, "low": null, "high": null, "n": 0}'}
    assert lines[-1]["summary"]["accuracy"] is None


def test_a_reference_without_predictions_says_that_the_base_error_is_unknown() -> None:
    bare = REFERENCE.drop_columns(["prediction"])
    lines = lines_of(reference=bare)
    assert any("no column 'prediction'" in note for note in lines[-1]["summary"]["notes"])
    assert all(x["provisional"] for x in opened(lines, "accuracy"))
    assert lines[-1]["summary"]["base_error"]["provisional"]


@pytest.mark.parametrize("drop", [["label"], ["label", "prediction", "score_a", "score_b"]])
def test_a_reference_without_labels_is_used_for_the_inputs(drop: list[str]) -> None:
    lines = lines_of(reference=REFERENCE.drop_columns(drop))
    assert lines[-1]["summary"]["rows"] == 12_000
    assert opened(lines, "quality") == []


def test_a_reference_of_ten_rows_says_so_and_goes_on() -> None:
    lines = lines_of(reference=REFERENCE.slice(0, 10))
    assert any("10 rows" in note for note in lines[-1]["summary"]["notes"])
    assert opened(lines, "quality") == []


def test_times_of_the_rows_are_those_of_the_findings() -> None:
    begin = np.datetime64("2026-03-01T00:00:00", "us")
    when = pa.array(begin + np.arange(12_000) * np.timedelta64(60_000_000, "us"))
    lines = lines_of(
        STREAM.append_column("at", when), options=dataclasses.replace(OPTIONS, time="at")
    )
    (harm,) = opened(lines, "accuracy")
    assert "since 2026-03-" in harm["reason"]
    assert harm["at"] == str((begin + harm["row"] * np.timedelta64(60, "s")).astype("M8[s]")) + "Z"
    windows = [x for x in lines if "from" in x]
    assert {w["to"] - w["from"] + 1 for w in windows} == {500}  # a row a minute: the hour closes it


@pytest.mark.parametrize("zone", ["", "Z", "+02:00"])
def test_times_may_be_texts_with_or_without_a_zone(zone: str) -> None:
    begin = np.datetime64("2026-03-01T00:00:00")
    when = pa.array([f"{begin + i * np.timedelta64(60, 's')}{zone}" for i in range(12_000)])
    lines = lines_of(
        STREAM.append_column("at", when), options=dataclasses.replace(OPTIONS, time="at")
    )
    (harm,) = opened(lines, "accuracy")
    utc = begin - np.timedelta64(2 if "+" in zone else 0, "h")
    assert harm["at"] == f"{utc + harm['row'] * np.timedelta64(60, 's')}Z"


def test_rows_without_a_time_have_that_of_a_neighbour() -> None:
    seconds = np.arange(12_000) + 1_700_000_000.0
    timed = dataclasses.replace(OPTIONS, time="at")
    whole = lines_of(STREAM.append_column("at", pa.array(seconds)), options=timed)
    holes = [None if i < 7 or i % 50 == 1 else x for i, x in enumerate(seconds.tolist())]
    lines = lines_of(STREAM.append_column("at", pa.array(holes)), options=timed)
    assert [x["row"] for x in lines[:-1]] == [x["row"] for x in whole[:-1]]
    with pytest.raises(
        FileError, match=r"'at' .option --time. has no time, from 1970 on, in the first 8,000 rows"
    ):
        lines_of(STREAM.append_column("at", pa.nulls(12_000, pa.float64())), options=timed)


def test_times_that_are_no_seconds_or_go_back_are_said() -> None:
    timed = dataclasses.replace(OPTIONS, time="at")
    seconds = np.arange(12_000) + 1_700_000_000
    with pytest.raises(FileError, match=r"'at' .option --time. holds 170000.*: seconds since 1970"):
        lines_of(STREAM.append_column("at", pa.array(seconds * 1_000)), options=timed)
    for times, noted in ((seconds, False), (seconds[::-1], True)):
        lines = lines_of(STREAM.append_column("at", pa.array(times)), options=timed)
        notes = lines[-1]["summary"]["notes"]
        assert any("times go back in 11,999 rows" in n for n in notes) == noted


def test_csv_is_read_like_parquet(tmp_path: Path) -> None:
    for name, table in (("stream", STREAM), ("reference", REFERENCE)):
        pyarrow.csv.write_csv(table, tmp_path / f"{name}.csv")
    found = lines_of(tmp_path / "stream.csv", tmp_path / "reference.csv")
    assert [(x["row"], x["status"]) for x in found if "status" in x] == [
        (x["row"], x["status"]) for x in lines_of() if "status" in x
    ]


def test_an_empty_stream_has_a_summary_only(tmp_path: Path) -> None:
    (summary,) = lines_of(STREAM.slice(0, 0))
    assert summary["summary"]["rows"] == 0
    with pytest.raises(FileError, match="has no rows"):
        lines_of(reference=REFERENCE.slice(0, 0))
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(FileError, match="cannot be read"):
        lines_of(tmp_path / "empty.csv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "truth"}, "no column 'truth' .option --label.; its columns are: x0, x1"),
        ({"prediction": "guess"}, "'guess' .option --prediction"),
        ({"scores": ("score_a", "s")}, "'s' .option --scores"),
        (
            {"scores": ("score_a", "region")},
            "'region' of the stream .option --scores. is string: num",
        ),
        ({"time": "at"}, "'at' .option --time"),
        ({"time": "region"}, "not a time"),
        ({"slices": ("city",)}, "'city' .option --slices"),
        ({"reference_label": "truth"}, "reference has no column 'truth' .option --reference-label"),
        (
            {"slices": ("pair",)},
            "'pair' of the stream .option --slices. is list.*one value per row",
        ),
    ],
)
def test_columns_that_are_not_there_are_named_with_those_that_are(
    change: dict[str, Any], message: str
) -> None:
    stream = STREAM.append_column("pair", pa.array([[1, 2]] * len(STREAM)))
    with pytest.raises(FileError, match=message):
        lines_of(stream, options=dataclasses.replace(OPTIONS, **change))


def test_impossible_options_are_told_all_at_once() -> None:
    with pytest.raises(FileError, match=r"label rate 2.*delay -1.*window of 0"):
        ReplayOptions(label_rate=2, label_delay=-1, window_rows=0)
    with pytest.raises(FileError, match=r"delay 9+ is not.*seed -1.*'a', 'b' cannot have two"):
        ReplayOptions(label_delay=10**20 - 1, seed=-1, label="a", prediction="a", scores=("b", "b"))
    with pytest.raises(FileError, match="'prediction' of the reference cannot have two meanings"):
        ReplayOptions(reference_label="prediction")


def test_files_that_are_none_end_the_command_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and nothing else")
    (tmp_path / "x.bin").write_bytes(b"\x00")
    (tmp_path / "latin.csv").write_bytes("größe,label\n1,1\n".encode("latin-1"))
    for name, message in (
        ("gone.parquet", "there is no file"),
        ("x.parquet", "cannot be read"),
        ("latin.csv", "cannot be read as CSV: 'utf-8' codec"),
        ("x.bin", "neither Parquet nor CSV"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["replay", str(tmp_path / name), "--reference", str(tmp_path / "x.bin")])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("option", ["--json", "--report"])
def test_a_full_disk_ends_the_command_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    pq.write_table(STREAM.slice(0, 1_000), tmp_path / "s.parquet")
    path = str(tmp_path / "s.parquet")
    with pytest.raises(SystemExit) as stopped:
        main(["replay", path, "--reference", path, option, "/dev/full"])
    assert stopped.value.code == 2
    assert "/dev/full cannot be written: No space left" in capsys.readouterr().err


def test_long_streams_are_read_in_bounded_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "long.parquet"
    with pq.ParquetWriter(path, STREAM.schema) as writer:
        for _ in range(15):
            writer.write_table(STREAM.slice(0, 6_000))
    options = dataclasses.replace(OPTIONS, label_rate=0.1, label_delay=500)
    lines = 0

    def count(_: dict[str, Any]) -> None:
        nonlocal lines
        lines += 1

    run_replay(STREAM.slice(0, 3_000), REFERENCE, options, write=count)  # imports are no rows
    tracemalloc.start()
    try:
        result = run_replay(path, REFERENCE, options, write=count)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.rows == 90_000
    assert peak < 15e6


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command on the stream in a home of its own."""
    pq.write_table(STREAM, tmp_path / "stream.parquet")
    pq.write_table(REFERENCE, tmp_path / "reference.parquet")
    monkeypatch.setenv("REDISTILL_HOME", str(tmp_path / "home"))

    def ask(*more: str) -> Result:
        files = [
            str(tmp_path / "stream.parquet"),
            "--reference",
            str(tmp_path / "reference.parquet"),
        ]
        return CliRunner().invoke(
            app, [*files, "--tolerance", "2", "--json", str(tmp_path / "out.jsonl"), *more]
        )

    return ask


def test_report_is_written_and_changes_nothing_that_is_said(
    asked: Callable[..., Result], tmp_path: Path
) -> None:
    plain = asked()
    lines = (tmp_path / "out.jsonl").read_text().splitlines()[:-1]  # the summary has seconds
    told = asked("--report", str(tmp_path / "out.html"))
    assert (told.exit_code, plain.exit_code) == (0, 0)
    assert (tmp_path / "out.jsonl").read_text().splitlines()[:-1] == lines
    assert told.output.splitlines()[:-3] == plain.output.splitlines()[:-3]
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "redistill replay of stream.parquet" in page


def test_what_cannot_be_written_is_said_before_anything_is_read(
    asked: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    for where, said in (
        (tmp_path / "gone" / "out.html", "No such file"),
        (tmp_path / "folder", "Is a directory"),
    ):
        told = asked("--report", str(where))
        assert isinstance(told.exception, FileError)
        assert said in str(told.exception)
        assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("option", ["--json", "--report"])
@pytest.mark.parametrize("name", ["stream.parquet", "reference.parquet"])
def test_what_is_read_is_not_written_over(
    asked: Callable[..., Result], tmp_path: Path, option: str, name: str
) -> None:
    asked_for = tmp_path / "link"
    asked_for.symlink_to(tmp_path / name)
    before = (tmp_path / name).read_bytes()
    for path in (tmp_path / name, asked_for):
        told = asked(option, str(path))
        assert "is read: what is written there would destroy it" in str(told.exception)
        assert (tmp_path / name).read_bytes() == before


def test_lines_and_page_are_two_files(asked: Callable[..., Result], tmp_path: Path) -> None:
    told = asked("--report", str(tmp_path / "out.jsonl"))
    assert "cannot be the file of both" in str(told.exception)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_what_was_found_is_told_though_the_page_fails(
    asked: Callable[..., Result], tmp_path: Path
) -> None:
    told = asked("--report", "/dev/full")
    assert "harm found once, still going on" in told.output
    assert "No space left" in str(told.exception)


def summary(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "out.jsonl").read_text().splitlines()[-1])["summary"]


@pytest.mark.parametrize(
    ("more", "rows"), [((), 1e6), (("--rows-per-alarm", "2e4"), 2e4)], ids=["default", "given"]
)
def test_replay_says_which_rows_per_alarm_it_used(
    asked: Callable[..., Result], tmp_path: Path, more: tuple[str, ...], rows: float
) -> None:
    result = asked(*more)
    assert f"rows per false alarm: {rows:,.0f}" in result.output.splitlines()
    assert summary(tmp_path)["rows_per_alarm"] == rows
    assert summary(tmp_path)["rows_per_alarm_from"] == "option"
    assert not (tmp_path / "home").exists()


def test_replay_takes_the_fleets_rows_per_alarm(
    asked: Callable[..., Result], tmp_path: Path
) -> None:
    database = opening.open(Settings.load({"home": tmp_path / "home"}))
    with database.begin() as conn:
        loop.register(conn, loop.spec())
        text = conn.execute(sa.select(specs.c.watch)).scalar_one()
        watch = dataclasses.replace(WatchConfig.from_json(text), rows_per_alarm=43_210.0)
        conn.execute(sa.update(specs).values(watch=watch.to_json().decode()))
    database.dispose()
    result = asked("--rows-per-alarm", "fleet")
    assert "rows per false alarm: 43,210 (the fleet's)" in result.output.splitlines()
    assert summary(tmp_path)["rows_per_alarm"] == 43_210
    assert summary(tmp_path)["rows_per_alarm_from"] == "fleet"
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    found = [line for line in map(json.loads, lines) if line.get("kind") == "accuracy"]
    # the whole model's test has half of the budget
    assert found[0]["statistic"]["threshold"] == pytest.approx(2 * 43_210, rel=0.01)


def test_replay_without_a_fleet_says_what_to_do(
    asked: Callable[..., Result], tmp_path: Path
) -> None:
    nothing = asked("--rows-per-alarm", "fleet").exception
    assert isinstance(nothing, UsageError)
    assert "there is no database" in str(nothing)
    assert str(tmp_path / "home") in str(nothing)
    assert not (tmp_path / "home").exists()
    opening.open(Settings.load({"home": tmp_path / "home"})).dispose()
    empty = asked("--rows-per-alarm", "fleet").exception
    assert isinstance(empty, UsageError)
    assert "no model is registered" in str(empty)
    odd = asked("--rows-per-alarm", "many").exception
    assert isinstance(odd, UsageError)
    assert "'many' is neither a number nor the word fleet" in str(odd)
