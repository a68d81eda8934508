"""The commands of incidents and jobs: what they show, refuse and change."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import feeds
import loop
import pytest
import repairable
import sqlalchemy as sa
from loop import LIMITS, NOW, Clock, finding
from ports import free_port
from served_rows import said
from typer.testing import CliRunner, Result
from waiting import eventually

from redistill.compress.plan import Diagnosis
from redistill.streams.store import tables as t
from redistill.streams.store.database import Database
from redistill.times import now_us
from redistill.workers.cli import main, recompress
from redistill.workers.errors import WorkersError
from redistill.workers.incidents import ingest
from redistill.workers.incidents.causes import REMEDIES
from redistill.workers.store import checkpoints, job_queue, opening
from redistill.workers.store.tables import audit, incidents, jobs


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setenv("REDISTILL_HOME", str(tmp_path / "home"))
    settings = repairable.settings_of(tmp_path / "home")
    opening.upgrade(settings)
    opened = opening.open(settings)
    with opened.begin() as conn:
        loop.register(conn, loop.spec(approval="on_request"))
        loop.register(conn, loop.spec("watched", level="watch"))
        loop.store(conn, finding(contributors=("x",)), finding(model="watched"))
    ingest.ingest(opened, fleet_limits=LIMITS, actor="worker:test", clock=Clock())
    yield opened
    opened.dispose()


def call(*args: str) -> Result:
    return CliRunner().invoke(main.app, list(args))


def done(*args: str) -> str:
    result = call(*args)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def refused(*args: str) -> str:
    result = call(*args)
    assert isinstance(result.exception, WorkersError), result.output
    return str(result.exception)


def rows(database: Database, table: sa.Table) -> list[Any]:
    with database.read() as conn:
        return list(conn.execute(sa.select(table)).mappings())


def incident_of(database: Database, model: str = "credit") -> str:
    return next(str(i["incident_id"]) for i in rows(database, incidents) if i["model"] == model)


def test_list_shows_open_incidents_in_words_and_in_json(database: Database) -> None:
    text = done("incidents", "list")
    assert incident_of(database)[:8] in text
    assert "awaiting_person" in text
    found = json.loads(done("incidents", "list", "--json", "--model", "credit"))
    assert [i["incident_id"] for i in found] == [incident_of(database)]


def test_models_say_why_the_lag_is_not_known_where_the_broker_is_away(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDISTILL_BROKER", f"127.0.0.1:{free_port()}")
    (line,) = [x for x in done("models").splitlines() if x.startswith("stream lag: ")]
    assert line.startswith("stream lag: not known (")
    assert line.endswith("); none so far")
    progress = dict.fromkeys(("partition", "first_offset", "counted", "dead", "skipped", "rows"), 0)
    row = {"topic_id": "t", "topic": "predictions", "next_offset": 1, "updated_at": NOW, **progress}
    with database.begin() as conn:
        conn.execute(t.offsets.insert().values(**row))
    assert "); records were last counted " in json.loads(done("models", "--json"))["lag_unknown"]


def test_show_tells_the_findings_and_every_step(database: Database) -> None:
    found = json.loads(done("incidents", "show", incident_of(database)[:8], "--json"))
    assert [s["what"] for s in found["timeline"]] == ["opened", "decided"]
    assert found["findings"][0]["contributors"][0]["column"] == "x"
    text = done("incidents", "show", incident_of(database))
    assert "needs approval" in " ".join(text.split()) or "need approval" in " ".join(text.split())
    assert "PSI" in text


def test_show_begins_with_how_bad_since_when_where_and_what_to_type(database: Database) -> None:
    number = incident_of(database)
    lines = done("incidents", "show", number).splitlines()
    told = " ".join(" ".join(lines[: lines.index("why")]).split())
    assert told.startswith("credit v1: error 5.0% → 60.0% [")
    assert ", measured on 25 labels, since 20" in told
    assert " everywhere, or not localised yet next: " in told
    assert f"`redistill incidents approve {number[:8]}`" in told
    assert lines.index("why") < lines.index("what redistill does")


def test_a_finding_that_cannot_be_put_into_words_hides_no_incident(database: Database) -> None:
    with database.begin() as conn:
        body = {
            "kind": "accuracy",
            "scope": "all",
            "status": "open",
            "reason": "odd",
            "impact": [3],
        }
        conn.execute(sa.update(t.findings).values(body=json.dumps(body)))
    number = incident_of(database)
    for words in (("incidents",), ("incidents", "show", number)):
        assert "its effect on accuracy is not known" in done(*words)
    assert f"`redistill incidents show {number[:8]}`" in done("models")


def test_broken_feed_is_said_once_and_each_of_its_incidents_names_the_others(
    database: Database,
) -> None:
    names = [f"m{i}" for i in range(7)]
    with database.begin() as conn:
        numbers = feeds.break_column(conn, names)
        (apart,) = feeds.break_column(conn, ["churn"], column="age")
    text = " ".join(done("incidents").split())
    assert text.startswith("column `income` has missing values in 7 models since 20")
    assert "m0, m1, m2, m3, m4 and 2 more all of them: `redistill incidents show " in text
    assert all(number[:8] in text for number in [*numbers, apart])
    assert text.count("missing rate 0.0%") == 1, "that of churn: the feed says it for the others"
    assert "column `income`" not in done("incidents", "list", "--model", "churn")
    alone = " ".join(done("incidents", "list", "--model", "m3").split())
    assert "in 7 models" in alone
    assert "missing rate 0.0%" in alone, "whoever asks for one model is told all of it"

    shown = " ".join(done("incidents", "show", numbers[0]).split())
    assert "broken in other models, too column `income` has missing values in 7 models" in shown
    others = shown.split("the others: ")[1]
    assert all(f"{m} ({n[:8]})" in others for m, n in zip(names[1:], numbers[1:], strict=True))
    assert "m0 (" not in others
    (feed,) = json.loads(done("incidents", "show", numbers[0], "--json"))["broken_feeds"]
    assert feed["incidents"] == dict(zip(numbers, names, strict=True))
    assert json.loads(done("incidents", "show", apart, "--json"))["broken_feeds"] == []

    for number in numbers[1:]:
        done("incidents", "resolve", number, "--reason", "the feed was mended")
    assert "models since" not in done("incidents"), "those that are over leave it"
    assert json.loads(done("incidents", "show", numbers[0], "--json"))["broken_feeds"] == []


LONG = "a" * 40 + "." + "b" * 39


@pytest.mark.parametrize(
    "words", [("incidents",), ("incidents", "list", "--all"), ("models",)], ids=" ".join
)
def test_lists_fit_eighty_columns_whatever_the_names(
    database: Database, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with database.begin() as conn:
        loop.register(conn, loop.spec(LONG, level="watch"))
        loop.store(conn, finding(model=LONG, contributors=("c" * 200,)))
        feeds.break_column(conn, ["m1", "m2"], column="c" * 200)
    ingest.ingest(database, fleet_limits=LIMITS, actor="worker:test", clock=Clock())
    with database.begin() as conn:
        conn.execute(sa.update(incidents).values(version="v" * 80))
    lines = done(*words).splitlines()
    assert max(map(len, lines)) <= 80
    assert LONG in "".join(line.strip() for line in lines)
    assert any("`redistill incidents show " in line for line in lines)


def test_show_wraps_what_it_says_and_breaks_no_command(database: Database) -> None:
    found = Diagnosis(
        cause="concept_change", why="w " * 60, student_loss_points=None, teacher_loss_points=None,
        disagreement=None, labelled=40,
    )  # fmt: skip
    why = REMEDIES["concept_change"](found).why
    with database.begin() as conn:
        conn.execute(sa.update(incidents).values(why=why))
    lines = done("incidents", "show", incident_of(database)).splitlines()[1:]
    told = lines[: next(i for i, line in enumerate(lines) if line.startswith("  id "))]
    command = "`redistill recompress MODEL --train-on labels --waive trusted --reason TEXT`"
    assert sum(command in line for line in told) == 1
    assert [line for line in told if len(line) > 80 and command not in line] == []
    assert sum(line.startswith("    (") for line in told) == 4


def test_show_puts_each_choice_of_a_question_on_a_line(database: Database) -> None:
    why = "needs a person: trusted rows. trusted: few. Choose: (1) bring rows; (2) waive it"
    with database.begin() as conn:
        conn.execute(sa.update(incidents).values(why=why))
    lines = done("incidents", "show", incident_of(database)).splitlines()
    assert "    (1) bring rows;" in lines
    assert "    (2) waive it" in lines


def test_unknown_and_ambiguous_ids_are_refused_in_words(database: Database) -> None:
    assert "there is no incident" in refused("incidents", "show", "zzz")
    assert "several incidents begin" in refused("incidents", "show", "")


def test_approve_makes_the_job_and_says_so(database: Database) -> None:
    text = done("incidents", "approve", incident_of(database))
    assert "attempt 1" in text
    (job,) = rows(database, jobs)
    assert job["state"] == "queued"
    assert "cannot be repaired now" in refused("incidents", "approve", incident_of(database))
    why = refused("incidents", "approve", incident_of(database, "watched"))
    assert "level watch" in why


def test_resolve_ends_the_incident_with_its_reason_in_the_audit(database: Database) -> None:
    incident = incident_of(database)
    assert "empty" in refused("incidents", "resolve", incident, "--reason", " ")
    done("incidents", "resolve", incident, "--reason", "the feed was mended")
    row = next(i for i in rows(database, incidents) if i["incident_id"] == incident)
    assert (row["status"], row["resolution"]) == ("resolved", "person")
    assert "resolved already" in refused("incidents", "resolve", incident, "--reason", "again")
    entry = rows(database, audit)[-1]
    assert entry["actor"].startswith("cli:")
    assert "the feed was mended" in entry["body"]
    assert "no open incidents" in done("incidents", "list", "--model", "credit")
    assert incident[:8] in done("incidents", "list", "--all")


def test_jobs_are_listed_shown_and_cancelled(database: Database) -> None:
    assert "no jobs" in done("jobs", "list")
    done("incidents", "approve", incident_of(database))
    assert "queued" in done("jobs", "list", "--live")
    claim = job_queue.claim(database, "w", now=now_us())
    assert claim is not None
    gates = [
        {"name": "trusted_points", "value": -3.2, "limit": -1.0, "passed": False, "why": "worse"}
    ]
    m = {"value": 0.1, "low": 0.05, "high": 0.15, "n": 90}
    gaps = [
        {
            "key": "sex", "chance": 0.02, "accuracy": {"candidate": {"f": m, "m": m}},
            "gap": {"candidate": m}, "added": {"teacher": m},
        }
    ]  # fmt: skip
    cost = {"cpu_seconds": 2.5, "earlier_cpu_seconds": 1.5, "wall_seconds": 3.0, "peak_bytes": 4e8}
    cost |= {"package_joules": None, "estimated_joules": None, "no_energy": "no counters here"}
    with job_queue.fenced(database, claim, now_us) as conn:
        checkpoints.record(
            conn, claim, "gate", "done", now=NOW, seconds=0.31,
            detail={"gates": gates, "gaps": gaps, "cost": cost},
        )  # fmt: skip
    text = done("jobs", "show", "1")
    assert "trusted_points" in text
    assert "FAILED" in text
    assert "0.31 s" in text
    assert "added to that of its teacher: +10.0 points [+5.0, +15.0]" in text
    assert "cost: 2.5 s of CPU (1.5 s before), 400 MB at the peak" in text
    assert "energy not known: no counters here" in text
    found = json.loads(done("jobs", "show", claim.job.job_id[:8], "--json"))
    assert (found["gates"], found["gaps"], found["cost"]) == (gates, gaps, cost)
    assert found["recipes"] == []
    with job_queue.fenced(database, claim, now_us) as conn:
        wait = {"count": "gate_labelled", "rows": 32}
        job_queue.park(conn, claim, outcome={"wait": wait}, gate_rows=7, now=NOW)
    assert "had 7 labelled gate rows" in done("jobs", "show", "1")
    done("jobs", "cancel", "1", "--reason", "wrong labels")
    assert rows(database, jobs)[0]["state"] == "cancelled"
    assert "is over: cancelled" in refused("jobs", "cancel", "1")
    assert "there is no job" in refused("jobs", "show", "99")
    row = next(i for i in rows(database, incidents) if i["model"] == "credit")
    assert row["stage"] == "awaiting_person"


def test_job_tells_what_was_tried_and_which_candidate_of_its_incident_it_judges(
    database: Database,
) -> None:
    done("incidents", "approve", incident_of(database))
    claim = job_queue.claim(database, "w", now=now_us())
    assert claim is not None
    tried = [
        {"name": "requantize", "number": None, "sha256": "aa", "reasons": ["size: large"]},
        {"name": "warm", "number": 1, "sha256": "bb", "reasons": ["trusted: few"], "open": True},
    ]
    with job_queue.fenced(database, claim, now_us) as conn:
        checkpoints.remember(conn, claim.job, {"tried": tried})
        recipe = {"name": "scratch", "number": 2, "sha256": "cc"}
        checkpoints.record(conn, claim, "gate", "done", now=NOW, detail={"recipe": recipe})
    lines = [line.strip() for line in done("jobs", "show", "1").splitlines()]
    told = "candidate {} of at most 3 on the incident's fresh rows"
    assert [line for line in lines if line.startswith("recipe ")] == [
        "recipe requantize (the weights that serve, quantized anew with the ranges of fresh rows):"
        " refused before it faced fresh rows",
        f"recipe warm (distilled again, from the weights that serve), {told.format(1)}: open, a person can"
        " decide",
        f"recipe scratch (a built-in student, distilled from scratch), {told.format(2)}",
    ]
    assert {"size: large", "trusted: few"} <= set(lines)


def test_job_of_a_person_says_nothing_of_numbers_on_fresh_rows(database: Database) -> None:
    """It pays for no look, so that its candidates have none."""
    done("recompress", "credit")
    with database.begin() as conn:
        tried = [{"name": "warm", "number": None, "sha256": "aa", "reasons": ["gain: none"]}]
        conn.execute(sa.update(jobs).values(outcome=json.dumps({"tried": tried})))
    (line,) = [x for x in done("jobs", "show", "1").splitlines() if x.startswith("  recipe warm")]
    assert line.endswith("from the weights that serve): refused")


REMEMBERED: dict[str, tuple[Any, str]] = {
    "phase": ("gate", "next: judge the candidate again"),
    "cause": ("concept_change", "cause concept_change"),
    "incumbent": ("v1", "compared with v1"),
    "why": ("few rows", "few rows"),
    "reasons": (["few rows"], "few rows"),
    "wait": (
        {"count": "gate_labelled", "rows": 32},
        "had 7 labelled gate rows at the last look, goes on at 32",
    ),
    "asked": (
        [
            {
                "at": NOW,
                "answered_at": NOW,
                "why": "needs a person: rows",
                "waived": {"f1": "cli:ann: known"},
            }
        ],
        "needs a person: rows",
    ),
    "failures": (2, "failed tries: 2"),
    "last_error": ("SIGKILL", "was stopped before: SIGKILL"),
    "recipes": (["warm", "scratch"], "recipes in this order: warm, scratch"),
    "remedies": (
        [
            {
                "name": "warm",
                "recipes": ["warm"],
                "why_not": None,
                "estimated_cpu_seconds": 1.5,
            },
        ],
        "remedy warm: 1.2 CPU seconds, measured (1.5 estimated)",
    ),
    "cpu_seconds": ({"warm": 1.2}, "1.2 CPU seconds, measured"),
    "tried": (
        [{"name": "warm", "number": 1, "sha256": "aa", "reasons": ["fresh: worse"]}],
        "fresh: worse",
    ),
    "again": ("warm", "goes on with the candidate of recipe warm"),
    "asked_about": ("warm", "a person was asked about the candidate of recipe warm"),
    "sha256": ("ab" * 32, "candidate " + "ab" * 32),
    "epoch": (7, "epoch 7"),
    "version": ("r9-abab", "r9-abab"),
    "seconds": (75.0, "took 1.2 min"),
}
"""All that is kept in the outcome of a job, and what is said of it."""


def test_job_tells_all_that_its_outcome_remembers(database: Database) -> None:
    done("recompress", "credit", "--train-on", "labels", "--source", "s")
    outcome = {key: value for key, (value, _) in REMEMBERED.items()}
    options = {"train_on": "labels", "source": "s", "waived": {"trusted": "cli:ann: old rows"}}
    with database.begin() as conn:
        conn.execute(
            sa.update(jobs).values(
                state="waiting_labels", gate_rows=7,
                outcome=json.dumps(outcome), options=json.dumps(options),
            )
        )  # fmt: skip
    text = done("jobs", "show", "1")
    assert [said for _, said in REMEMBERED.values() if said not in text] == []
    assert "learns from labels of source s" in text
    assert "gate trusted is waived by cli:ann: old rows" in text


def test_outcome_has_no_key_that_is_not_told() -> None:
    """Who keeps one more in a job's outcome says what `jobs show` tells of it."""
    kept: set[str] = set()
    for path in Path(job_queue.__file__).parents[1].rglob("*.py"):
        kept |= set(re.findall(r"\boutcome\.get\(\"(\w+)\"", path.read_text()))
    assert kept <= REMEMBERED.keys()


def test_recompress_makes_a_job_or_says_why_not(database: Database) -> None:
    assert "there is no model named 'nobody'" in refused("recompress", "nobody")
    assert "level watch" in refused("recompress", "watched")
    assert "--source needs" in refused("recompress", "credit", "--source", "s")
    found = json.loads(
        done("recompress", "credit", "--train-on", "labels", "--source", "s", "--json")
    )
    (job,) = rows(database, jobs)
    assert (job["job_id"], job["trigger_kind"]) == (found["job_id"], "actor")
    assert json.loads(job["options"]) == {"train_on": "labels", "source": "s"}
    assert "cancel it with" in refused("recompress", "credit")


def test_recompress_warns_of_a_source_that_nobody_has_seen(database: Database) -> None:
    """Mistyped, it would keep the model's one live job until its deadline."""
    said(database, range(1, 3), "contractor", "default")
    by_labels = ("recompress", "credit", "--train-on", "labels", "--json", "--source")
    assert "--source has 0 characters" in refused(*by_labels, "")
    assert "--source has 81 characters" in refused(*by_labels, "s" * 81)
    mistyped = call(*by_labels, "contractr")
    assert mistyped.exit_code == 0
    assert json.loads(mistyped.stdout)["source"] == "contractr"
    assert "no label of source 'contractr' is stored for credit" in mistyped.stderr
    assert "did you mean 'contractor'?" in mistyped.stderr
    assert "`redistill jobs cancel 1` takes it back" in mistyped.stderr
    done("jobs", "cancel", "1")
    known = call(*by_labels, "contractor")
    assert (known.exit_code, known.stderr) == (0, "")


def test_waiver_answers_the_question_that_was_asked_though_other_jobs_came_since(
    database: Database,
) -> None:
    """A schedule goes on, and somebody tries another candidate: the question stays."""
    asked = json.loads(done("recompress", "credit", "--json"))["job_id"]
    ended = {"incumbent": "v1"}
    for state, following in (
        ("needs_person", ()),
        ("rejected", ("--train-on", "labels")),
        ("rejected", None),
    ):
        with database.begin() as conn:
            job = job_queue.live(conn, "credit")
            assert job is not None
            job_queue.finish(conn, job, state, outcome=ended, now=NOW)
        if following is not None:
            done("recompress", "credit", *following)
    taken = done("recompress", "credit", "--waive", "trusted", "--reason", "old rows", "--json")
    assert json.loads(taken)["job_id"] == asked


def test_only_gates_of_trusted_rows_are_waived_and_never_without_a_reason(
    database: Database,
) -> None:
    for command in (("incidents", "approve", incident_of(database)), ("recompress", "credit")):
        why = refused(*command, "--waive", "fresh", "--reason", "r")
        assert why.startswith("--waive fresh: only gates of trusted rows can be waived: ")
        assert "needs --reason" in refused(*command, "--waive", "trusted", "--reason", " ")
        assert "name it with --waive" in refused(*command, "--reason", "r")
    assert rows(database, jobs) == []


def test_recompress_with_a_waiver_takes_up_the_job_that_asked(database: Database) -> None:
    waive = ("--waive", "trusted", "--reason", "old rows", "--json")
    made = json.loads(done("recompress", "credit", "--json"))

    def ended_with_a_question() -> None:
        with database.begin() as conn:
            job = job_queue.live(conn, "credit")
            assert job is not None
            job_queue.finish(conn, job, "needs_person", outcome={"incumbent": "v1"}, now=NOW)

    ended_with_a_question()
    taken = json.loads(done("recompress", "credit", *waive))
    assert (taken["job_id"], taken["number"]) == (made["job_id"], made["number"])
    (job,) = rows(database, jobs)
    (told,) = json.loads(job["options"])["waived"].values()
    assert told.startswith("cli:")
    assert told.endswith(": old rows")
    entry = rows(database, audit)[-1]
    assert (entry["action"], json.loads(entry["body"])["waived"]) == (
        "job.gates_waived", {"trusted": told},
    )  # fmt: skip
    ended_with_a_question()
    other = json.loads(done("recompress", "credit", "--train-on", "labels", *waive))
    assert other["job_id"] != made["job_id"]  # another candidate than the one that was asked about
    assert "waived" in json.loads(rows(database, jobs)[-1]["options"])


ENDS = {
    "succeeded": (0, "0 published"),
    "rejected": (1, "1 rejected or cancelled"),
    "waiting_labels": (3, "3 it waits for labels or they did not come"),
    "needs_person": (5, "5 it needs a person"),
    "failed": (69, "69 it failed"),
    "expired": (3, "3 it waits for labels or they did not come"),
    "cancelled": (1, "1 rejected or cancelled"),
}
"""State of a job -> exit status of ``recompress --wait``, and how ``--help`` says it."""


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["words", "json"])
@pytest.mark.parametrize("state", ENDS)
def test_waiting_for_a_job_ends_with_the_status_that_is_documented(
    database: Database, monkeypatch: pytest.MonkeyPatch, state: str, as_json: tuple[str, ...]
) -> None:
    monkeypatch.setattr(recompress, "WAIT_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(recompress, "SETTLED_SECONDS", 0.05)

    def work() -> None:
        def asked() -> job_queue.Job | None:
            with database.read() as conn:
                return job_queue.live(conn, "credit")

        job = eventually(asked, "the job is there")
        live = {"live_mark": 1} if state in job_queue.LIVE else {"live_mark": None}
        with database.begin() as conn:
            conn.execute(
                sa.update(jobs)
                .where(jobs.c.job_id == job.job_id)
                .values(state=state, outcome=json.dumps({"why": "so it is"}), **live)
            )

    with ThreadPoolExecutor(1) as worker:
        working = worker.submit(work)
        result = call("recompress", "credit", "--wait", *as_json)
        working.result()
    status, said = ENDS[state]
    assert result.exit_code == status, (result.output, result.exception)
    assert said in " ".join(done("recompress", "--help").split())
    if as_json:
        assert json.loads(result.stdout)["state"] == state
    else:
        assert f": {state}: so it is" in result.output


def test_every_end_of_a_job_has_an_exit_status() -> None:
    assert set(ENDS) == {*job_queue.DONE, "waiting_labels"}


def test_waiting_for_a_job_without_a_worker_ends_with_a_hint(database: Database) -> None:
    why = refused("recompress", "credit", "--wait", "--timeout", "1")
    assert "is a repair worker running?" in why
