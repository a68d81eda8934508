"""Which process reads which setting, and what each is given of the environment."""

from __future__ import annotations

import ast
import os
from functools import cache
from pathlib import Path

import pytest

from redistill.workers.cli import common
from redistill.workers.settings.environment import (
    READ_BY,
    Process,
    environment,
    unknown_variables,
    withhold,
)
from redistill.workers.settings.settings import Settings, env_name

ROOT = Path(__file__).parents[4]
READERS: dict[Process, tuple[str, ...]] = {
    "stream": ("cli/run.py:stream", "store/opening.py"),
    "repair": (
        "cli/run.py:repair", "processes/repair_worker.py", "incidents/model_context.py",
        "store/opening.py",
    ),
    "alerts": (
        "cli/run.py:alerts", "processes/alert_worker.py", "store/opening.py",
        *(f"alerts/operational/checks/{n}.py" for n in ("disk", "signing_expiry", "standstill")),
    ),
    "web": ("cli/run.py:web", "web/app.py", "store/opening.py"),
}  # fmt: skip
"""Where the settings of a process are read: a module, or a function in one."""
ELSEWHERE = {"cli", "demo", "doctor", "models", "onboarding", "settings"}
"""Rooms that are given settings by commands only."""
NOT_FOR_WEB = (
    "servers", "kafka_username", "kafka_password", "state_key", "key_passphrase", "group",
)  # fmt: skip


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in list(os.environ):
        if key.upper().startswith("REDISTILL_"):
            monkeypatch.delenv(key)


def read_in(tree: ast.AST, of: str = "settings") -> set[str]:
    """Names that are read of a variable or attribute ``settings``."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and ast.unparse(node.value) in (of, f"self._{of}", f"look.{of}")
    }  # fmt: skip


@cache
def members() -> dict[str, set[str]]:
    """Fields that stand behind each name of ``Settings``."""
    tree = ast.parse((ROOT / "workers/settings/settings.py").read_text())
    body = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Settings").body
    read = {n.name: read_in(n, "self") for n in body if isinstance(n, ast.FunctionDef)}

    def fields(name: str) -> set[str]:
        return {name} if name in Settings.model_fields else set().union(*map(fields, read[name]))

    return {name: fields(name) for name in [*Settings.model_fields, *read] if name != "load"}


@pytest.mark.parametrize("process", READERS)
def test_table_has_what_a_process_reads_and_nothing_else(process: Process) -> None:
    found: set[str] = set()
    for reader in READERS[process]:
        file, _, function = reader.partition(":")
        tree: ast.AST = ast.parse((ROOT / "workers" / file).read_text())
        if function:
            tree = next(
                n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == function
            )
        found |= set().union(*(members()[name] for name in read_in(tree)))
    assert found == READ_BY[process]


def test_settings_are_read_nowhere_else() -> None:
    modules = {
        str(path.relative_to(ROOT / "workers"))
        for path in (ROOT / "workers").rglob("*.py")
        if read_in(ast.parse(path.read_text())) & set(members())
    }
    known = {reader.partition(":")[0] for readers in READERS.values() for reader in readers}
    assert {m for m in modules if m.partition("/")[0] not in ELSEWHERE} == known - {
        "cli/run.py"
    }  # a module that reads settings belongs to READERS


def test_every_setting_is_read_by_a_process_or_a_command() -> None:
    workers = READ_BY["stream"] | READ_BY["repair"] | READ_BY["web"] | READ_BY["alerts"]
    assert set(Settings.model_fields) - workers == {"command_wait_seconds"}
    assert not READ_BY["none"]


@pytest.mark.parametrize("lower", [False, True])
def test_web_process_gets_no_secret_of_others(monkeypatch: pytest.MonkeyPatch, lower: bool) -> None:
    for name in Settings.model_fields:
        key = env_name(name)
        monkeypatch.setenv(key.lower() if lower else key, f"value of {name}")
    given = {key.upper(): value for key, value in environment({}, process="web").items()}
    assert given["REDISTILL_WEB_TOKEN"] == "value of web_token"
    assert not {env_name(name) for name in NOT_FOR_WEB} & set(given)
    none = environment({}, process="none")
    assert not [k for k in none if k.upper().startswith("REDISTILL_")]
    withhold("web")
    left = {key.upper() for key in os.environ}
    assert env_name("database") in left
    assert not {env_name(name) for name in NOT_FOR_WEB} & left


def test_variable_that_another_process_needs_stays_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_URL", "secret")
    assert environment({}, process="alerts")["SLACK_URL"] == "secret"
    assert "SLACK_URL" not in environment({}, process="web", without={"SLACK_URL"})


def test_settings_that_a_process_does_not_read_cannot_be_wrong_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDISTILL_KAFKA_USERNAME", "without a password")
    monkeypatch.setenv("REDISTILL_WEB_PORT", "8000")
    assert common.load("web").web_port == 8_000
    assert "REDISTILL_KAFKA_USERNAME" not in os.environ


def test_override_replaces_a_variable_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("redistill_home", "theirs")
    made = environment({"home": "ours", "servers": "kafka:1"}, process="web")
    assert {k: v for k, v in made.items() if k.upper().startswith("REDISTILL")} == {
        "REDISTILL_HOME": "ours"
    }


def test_a_variable_that_is_no_setting_is_told_once_and_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDISTILL_DATABSE", "sqlite:///x")
    monkeypatch.setenv("REDISTILL_OF_SOMEBODY_ELSE", "x")
    monkeypatch.setenv("REDISTILL_GROUP", "known")
    assert unknown_variables() == [
        "REDISTILL_DATABSE: there is no such setting; did you mean REDISTILL_DATABASE?",
        "REDISTILL_OF_SOMEBODY_ELSE: there is no such setting",
    ]
    common._tell_unknown.cache_clear()
    for _ in range(2):
        assert common.load().group == "known"
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.splitlines() == [f"redistill: warning: {x}" for x in unknown_variables()]
    assert not {"REDISTILL_DATABSE", "REDISTILL_OF_SOMEBODY_ELSE"} & set(
        environment({}, process="command")
    )
    assert environment({}, process="command")["REDISTILL_GROUP"] == "known"
