"""The threat model is true: the tests that it names exist, and so do the settings and keys; its ACLs are those
that `topics apply` tells, and each attack that somebody once made stands in it.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from redistill.streams.kafka.broker import Broker
from redistill.workers.processes import topics
from redistill.workers.settings.settings import Settings, env_name

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))
ATTACKS = ["pill", "cols", "names", "mask", "nulllab", "tamper", "fork3", "k2"]
BROKER = Broker("kafka:9093")
USERS = {
    "services": {"SERVICES"},
    "services and feeds of labels": {"SERVICES", "LABEL_FEEDS"},
    "stream workers": {"STREAM_WORKERS"},
    "repair workers": {"REPAIR_WORKERS"},
    topics.WORKERS: {"STREAM_WORKERS", "REPAIR_WORKERS"},
    "alert processes": {"ALERT_PROCESSES"},
    "the source ledger": {"LEDGER"},
    "whoever asks": set(),
}
"""Users of the document, by the words of `topics apply`."""


@cache
def functions(file: str) -> set[str]:
    """Names of the tests of a file, by its source: some need what is not installed here."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}


def attacks() -> list[list[str]]:
    """Cells of the rows of all tables of attacks, without heads and rules."""
    lines = TEXT.partition("## ACLs of Kafka")[0].splitlines()
    heads = {i - 1 for i, line in enumerate(lines) if line.startswith("|---")}
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for i, line in enumerate(lines)
        if line.startswith("| ") and i not in heads
    ]


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[f"{f}::{n}" for f, n in NAMED])
def test_test_that_is_named_exists(file: str, name: str) -> None:
    assert (ROOT / file).is_file(), f"{file} is gone"
    assert name in functions(file), f"{file} has no {name}: which test holds it now?"


def test_every_attack_has_a_test_or_says_that_nothing_stops_it() -> None:
    found = attacks()
    assert len(found) > 60
    silent = [row[0] for row in found if "::test_" not in row[-1] and row[-1] != "*nothing*"]
    assert silent == []


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_that_was_made_stands_in_it(name: str) -> None:
    (line,) = [line for line in TEXT.splitlines() if f"(`{name}`)" in line]
    assert "::test_" in line


def test_settings_and_keys_exist() -> None:
    settings = {env_name(name) for name in Settings.model_fields}
    named = set(re.findall(r"REDISTILL_[A-Z_]*[A-Z]", TEXT))
    assert named
    assert named - settings == set()
    keys = set(re.findall(r"`(\[\w+\] \w+)`", TEXT))
    known = set(re.findall(r"`(\[\w+\] \w+)`", (ROOT / "docs/model-toml.md").read_text()))
    assert keys
    assert keys - known == set()


def test_acls_are_those_that_topics_apply_tells() -> None:
    pattern = r"^\$ (kafka-acls .* User:USER_OF_(\w+) --operation (\w+) --(topic|group) (\S+))$"
    lines = re.findall(pattern, TEXT, re.M)
    assert len(lines) == TEXT.count("$ kafka-acls")
    wanted = topics.wanted(BROKER, bound=["ledger"])
    told = [line for line, *_ in lines]
    assert [x for x in told if "labels.ledger" in x] == topics.grants(BROKER, wanted)
    expected = {
        (user, operation, "topic", t.name)
        for t in wanted
        for words, operation in ((t.writers, "Write"), (t.readers, "Read"))
        for user in USERS[words]
    }
    group = Settings.load({}).consumer_group
    expected |= {
        ("STREAM_WORKERS", "Read", "group", group),
        ("REPAIR_WORKERS", "Read", "group", f"{group}.repair"),
    }
    assert {(user, op, kind, name) for _, user, op, kind, name in lines} == expected
    head = told[0].partition("--allow-principal")[0]
    assert all(line.startswith(head) for line in told)
