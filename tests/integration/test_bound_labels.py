"""Labels of bound sources on a broker: topics that workers come to read while they run, and forged
labels that change nothing."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from processes import Worker
from stream_lab import PARTITIONS, Lab
from stream_rows import CONFIG, label, prediction, truth, watch
from typer.testing import CliRunner
from waiting import eventually

from redistill.streams.kafka.dev_broker import DevBroker
from redistill.streams.monitor.label_trust import Cutover, partition_key
from redistill.streams.store import tables as t
from redistill.workers.errors import SpecError
from redistill.workers.invariants.log_offsets import logs
from redistill.workers.jobs import training_window
from redistill.workers.jobs.second_labels import with_second_labels

BOUND = replace(CONFIG, bound_sources=("ledger",))
OUTCOMES = sa.select(sa.func.count()).select_from(t.outcomes)


@pytest.fixture
def postgres_lab(kafka_server: Any, postgres_url: str, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(kafka_server.bootstrap, postgres_url, tmp_path)
    yield lab
    lab.close()


@pytest.fixture
def sqlite_lab(kafka_server: Any, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(kafka_server.bootstrap, f"sqlite:///{tmp_path / 'redistill.db'}", tmp_path)
    yield lab
    lab.close()


def bind(lab: Lab, *, cutover: bool = False) -> None:
    """As ``register`` does it."""
    config = BOUND
    if cutover:
        found = {
            partition_key(x.topic_id, x.partition): x.end for x in logs(lab.broker, ["labels"])
        }
        config = replace(BOUND, cutover=Cutover(sources=("ledger",), offsets=found))
    watch(lab.db, config)


def other(i: int) -> str:
    return "default" if truth(i) == "repay" else "repay"


def wait_outcomes(lab: Lab, n: int) -> None:
    try:
        eventually(lambda: lab.scalar(OUTCOMES) == n, f"{n} outcomes")
    except AssertionError as late:
        raise AssertionError(f"{late}; they are {lab.scalar(OUTCOMES)}\n{lab.logs()}") from None


def held(worker: Worker) -> list[str]:
    """What a worker was assigned last."""
    lines = [json.loads(x) for x in worker.log.read_text().splitlines() if '"assigned"' in x]
    return [p.partition("@")[0] for p in lines[-1]["partitions"]] if lines else []


@pytest.mark.kafka
def test_running_workers_come_to_read_a_topic_that_is_bound_and_lose_nothing(
    postgres_lab: Lab,
) -> None:
    lab = postgres_lab.make_topics()
    workers = [lab.worker(name).start() for name in ("a", "b")]
    # one that starts later reads the topic from its start on, and subscribes to nothing anew
    eventually(lambda: all(map(held, workers)), "both hold something")
    n = 400
    lab.send(prediction(i) for i in range(n))
    lab.send(label(i) for i in range(n // 2))
    wait_outcomes(lab, n // 2)

    lab.make_topics(["labels.ledger"])
    lab.send((label(i) for i in range(n // 2, n)), topic="labels.ledger")
    bind(lab)
    sent = n

    def all_subscribed() -> bool:  # the group's other work goes on
        nonlocal sent
        lab.send(prediction(i) for i in range(sent, sent + 40))
        sent += 40
        return all(w.says("subscribed") for w in workers)

    eventually(all_subscribed, "both come to read it", every=0.1)
    lab.wait_counted(n // 2, "ledger")
    lab.wait_counted(sent)
    wait_outcomes(lab, n)
    assert [w.starts for w in workers] == [1, 1]
    assert all(w.alive for w in workers)
    everything = {
        f"{lab.broker.topic(topic)}/{p}"
        for topic in ("predictions", "labels", "labels.ledger")
        for p in range(PARTITIONS)
    }
    eventually(  # the last of them may be joining still
        lambda: {p for w in workers for p in held(w)} == everything,
        "all of it is divided among them",
    )
    rows = lab.offsets()
    assert sum(r.counted for (topic, _), r in rows.items() if topic == "predictions") == sent
    assert sum(r.skipped + r.dead for r in rows.values()) == 0


@pytest.mark.kafka
def test_workers_of_an_older_release_leave_the_topic_to_those_that_know_it(
    postgres_lab: Lab,
) -> None:
    lab = postgres_lab.make_topics(["predictions", "labels", "labels.ledger", "dlq", "drift"])
    bind(lab)
    workers = [lab.deaf("old").start(), lab.worker("new").start()]
    eventually(lambda: all(map(held, workers)), "both hold something")
    n = 200
    lab.send(prediction(i) for i in range(n))
    lab.send((label(i) for i in range(n)), topic="labels.ledger")
    lab.send(label(i, label=other(i), seconds=90) for i in range(n))
    wait_outcomes(lab, n)
    for topic in ("predictions", "labels", "ledger"):
        lab.wait_counted(n, topic)
    assert {topic.rpartition(".")[2].partition("/")[0] for topic in held(workers[0])} <= {
        "predictions", "labels",
    }  # fmt: skip
    with lab.db.read() as conn:
        right = conn.execute(sa.select(t.outcomes.c.label, t.outcomes.c.id)).all()
    assert all(said == truth(int(i.removeprefix("row-"))) for said, i in right)


def judged(lab: Lab) -> dict[str, Any]:
    """All that alarms, diagnosis, training, gates, recovery and the post-release monitor go by."""
    query = training_window.WindowQuery(
        model="credit", version="7", features=("income", "age"), salt="s", train_rows=10**6,
        since=0,
    )  # fmt: skip
    with lab.db.read() as conn:
        out: dict[str, Any] = {
            "outcomes": conn.execute(sa.select(t.outcomes).order_by(t.outcomes.c.seq)).all(),
            "findings": conn.execute(sa.select(t.findings.c.finding_id)).all(),
            "profiles": conn.execute(sa.select(t.profiles)).all(),
            "labelled": training_window.labelled_outcomes(conn, "credit", "7", None),
        }
        window = training_window.read(conn, query)
        out["window"] = with_second_labels(conn, query, BOUND.bound_sources, window.table)
    return out


@pytest.mark.kafka
def test_forged_labels_change_nothing(sqlite_lab: Lab) -> None:
    lab = sqlite_lab.make_topics(["predictions", "labels", "labels.ledger", "dlq", "drift"])
    bind(lab)
    lab.worker().start()
    n = 300
    lab.send(prediction(i) for i in range(n))
    lab.send((label(i) for i in range(n)), topic="labels.ledger")
    wait_outcomes(lab, n)
    lab.wait_counted(n)
    before = judged(lab)
    assert before["labelled"] == n

    ahead = 86_000.0  # almost a day
    forged = [
        *(label(i, label=other(i), seconds=ahead) for i in range(n)),
        *(label(i, label=other(i)) for i in range(n)),  # with the key of the true one
        *(label(i, label=other(i), source="analyst") for i in range(n)),
        *(label(i, op="retract", label=None, seconds=ahead + 1) for i in range(n)),
        *(label(n + i, label="repay", version="7", prediction="default") for i in range(n)),
    ]
    lab.send(forged)
    lab.send((label(i, source="gossip") for i in range(20)), topic="labels.ledger")
    lab.wait_counted(len(forged), "labels")
    eventually(
        lambda: sum(r.dead for (topic, _), r in lab.offsets().items() if topic == "ledger") == 20,
        "labels of another source are dead letters",
    )
    lab.send([prediction(n)])
    lab.send([label(n)], topic="labels.ledger")
    wait_outcomes(lab, n + 1)  # whatever was waiting before was joined by then

    after = judged(lab)
    assert after["outcomes"][:n] == before["outcomes"]
    assert {o.source for o in after["outcomes"]} == {"ledger"}
    assert [after[k] for k in ("findings", "profiles")] == [
        before[k] for k in ("findings", "profiles")
    ]
    assert after["labelled"] == n + 1
    assert after["window"].slice(0, n).equals(before["window"])
    assert Counter(row.state for row in lab.rows(t.labels)) == {
        "joined": n + 1, "ignored": 4 * n - 1,  # a true label took the place of one of them
    }  # fmt: skip


@pytest.mark.kafka
def test_what_lay_on_the_common_topic_counts_up_to_the_cut_over(sqlite_lab: Lab) -> None:
    lab = sqlite_lab.make_topics(["predictions", "labels", "labels.ledger", "dlq", "drift"])
    n = 200
    lab.send(prediction(i) for i in range(2 * n))
    lab.send(label(i) for i in range(n))
    bind(lab, cutover=True)
    lab.send(label(i) for i in range(n, 2 * n))
    lab.worker().start()
    lab.wait_counted(2 * n, "labels")
    wait_outcomes(lab, n)
    assert {int(o.id.removeprefix("row-")) < n for o in lab.rows(t.outcomes)} == {True}


def test_dev_broker_has_topics_of_bound_sources_too(tmp_path: Path) -> None:
    with DevBroker(namespace="dev") as broker:
        url = f"sqlite:///{tmp_path / 'redistill.db'}"
        lab = Lab(broker.servers, url, tmp_path, namespace="dev")
        try:
            worker = lab.worker().start()
            lab.send(prediction(i) for i in range(40))
            lab.wait_counted(40)
            told = cli(lab, "topics", "apply", str(model_toml(tmp_path)))
            assert "the dev broker has all topics" in told
            bind(lab)
            eventually(lambda: worker.says("subscribed"), "it is subscribed")
            lab.send((label(i) for i in range(40)), topic="labels.ledger")
            wait_outcomes(lab, 40)
            assert worker.stop() == 0, worker.tail()
        finally:
            lab.close()


# --- from the command line ----------------------------------------------------------------------


def model_toml(folder: Path, bound: str = '"ledger"') -> Path:
    path = folder / "model.toml"
    path.write_text(
        f"""
name = "credit"
[schema]
features = {{ income = "float", age = "float", region = ["EU", "US"] }}
classes = ["repay", "default"]
[labels]
wait_days = 3650
bound = [{bound}]
[privacy]
retention_days = 3650
"""
    )
    return path


def cli(lab: Lab, *words: str) -> str:
    """What a command answers."""
    return str(run(lab, *words).stdout)


def run(lab: Lab, *words: str) -> Any:
    import importlib

    app = importlib.import_module(f"redistill.workers.cli.{words[0]}").app
    env = {k: v for k, v in lab.env.items() if k.startswith("REDISTILL_")}
    result = CliRunner().invoke(app, list(words[1:]), env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.kafka
def test_a_source_is_bound_from_the_command_line(kafka_server: Any, tmp_path: Path) -> None:
    lab = Lab(kafka_server.bootstrap, f"sqlite:///{tmp_path / 'redistill.db'}", tmp_path)
    try:
        with lab.db.begin() as conn:
            conn.execute(sa.delete(t.specs))
            conn.execute(sa.delete(t.profiles))
        cli(lab, "topics", "apply")
        assert "credit: registered" in cli(lab, "register", str(model_toml(tmp_path, "")))
        lab.send(prediction(i) for i in range(60))
        lab.send(label(i) for i in range(20))
        worker = lab.worker().start()
        wait_outcomes(lab, 20)

        bound = str(model_toml(tmp_path))
        topic = lab.broker.topic("labels.ledger")
        with pytest.raises(SpecError, match=rf"no topic {re.escape(topic)}.*topics apply"):
            cli(lab, "register", bound)
        told = cli(lab, "topics", "apply", bound)
        assert re.search(rf"^{re.escape(topic)} +the source ledger \(stream workers\)$", told, re.M)
        assert f"--operation Write --topic {topic}" in told
        said = " ".join(cli(lab, "register", bound).split())
        assert "until now counts as before" in said
        assert f"everybody may write to {topic}" in said, "this broker has no ACLs"
        file = tmp_path / "labels.csv"
        file.write_text("id,label\n" + "".join(f"row-{i},{truth(i)}\n" for i in range(20, 40)))
        words = ("label", "import", str(file), "--model", "credit", "--source", "ledger")
        assert "stored, and feed no detector" in run(lab, *words).stderr
        told = run(lab, *words, "--bound")
        assert "20 labels sent" in told.stdout
        assert "feed no detector" not in told.stderr
        wait_outcomes(lab, 40)
        config = msgspec.json.decode(lab.scalar(sa.select(t.specs.c.watch)))
        assert config["cutover"]["sources"] == ["ledger"]
        checked = cli(lab, "check_history")
        assert "counted once" in checked, checked
        assert worker.alive
    finally:
        lab.close()
