"""No secret in what is said: each secret setting holds a canary, and everything goes wrong.

In one process all commands run into a database, a broker and settings that are wrong, and what
they print is read together with the whole chain of what they raised, as a traceback would show it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from processes import environment
from waiting import eventually

from redistill.workers.cli.main import app

CANARY = "canary0123456789abcdef0123456789"
KEY = "ca0a51" * 8
SECRETS = {
    "KAFKA_USERNAME": "ann",
    "KAFKA_PASSWORD": CANARY,
    "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "BROKER": "127.0.0.1:1",
    "STATE_KEY": KEY,
    "KEY_PASSPHRASE": CANARY,
    "WEB_TOKEN": CANARY,
    "COMMAND_WAIT_SECONDS": "0.1",
}
DATABASES = {
    "away": f"postgresql://ann:{CANARY}@127.0.0.1:1/x",
    "away, in the query": f"postgresql://127.0.0.1:1/x?user=ann&password={CANARY}",
    "no port": f"postgresql://ann:{CANARY}@127.0.0.1:port/x",
    "another kind": f"mysql://ann:{CANARY}@127.0.0.1/x",
    "odd signs": f"mysql://ann:a/{CANARY}@{CANARY}@127.0.0.1/x",
    "unknown option": f"postgresql://ann:{CANARY}@127.0.0.1:1/x?nonsense={CANARY}",
}
COMMANDS = (
    ("db", "upgrade"), ("models",), ("keys", "init"), ("topics", "apply"), ("check-history",),
    ("rollback", "credit"), ("run", "web"),
)  # fmt: skip


def said_by(command: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> str:
    """What a command prints, and what it raises with all its causes."""
    raised = ""
    try:
        app(args=list(command), standalone_mode=False)
    except SystemExit:
        pass
    except Exception:
        raised = traceback.format_exc()
    out, err = capfd.readouterr()
    return out + err + raised


@pytest.fixture
def signals() -> object:
    """Commands install handlers; the test process gets its own back."""
    before = {sign: signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM)}
    yield before
    for sign, handler in before.items():
        signal.signal(sign, handler)


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("database", DATABASES.values(), ids=DATABASES)
def test_no_command_says_a_secret(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    for name, value in {**SECRETS, "HOME": str(tmp_path), "DATABASE": database}.items():
        monkeypatch.setenv(f"REDISTILL_{name}", value)
    kept = dict(os.environ)
    for command in COMMANDS if database == DATABASES["away"] else COMMANDS[:1]:
        said = said_by(command, capfd) + caplog.text
        assert said, command
        assert "canary" not in said.lower(), command
        assert KEY not in said, command
        os.environ.update(kept)  # a process takes away what it does not read


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WEB_TOKEN", "short-canary"),
        ("WEB_TOKEN", f"{CANARY} {CANARY}"),
        ("STATE_KEY", "canary"),
        ("BROKER", f"kafka://ann:{CANARY}@host"),
        ("BROKER", f"ann:{CANARY}@host"),
        ("KAFKA_USERNAME", ""),
    ],
)
def test_no_setting_that_is_wrong_says_a_secret(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for key, secret in {**SECRETS, "HOME": str(tmp_path), name: value}.items():
        monkeypatch.setenv(f"REDISTILL_{key}", secret)
    said = said_by(("models",), capfd)
    assert "REDISTILL_" in said
    assert "canary" not in said.lower()


@pytest.mark.parametrize("process", ["stream", "repair"])
def test_no_worker_that_cannot_start_says_a_secret(process: str, tmp_path: Path) -> None:
    settings = {**SECRETS, "HOME": str(tmp_path), "LOG_LEVEL": "debug"}
    if process == "repair":  # the stream worker gets as far as the broker
        settings["DATABASE"] = DATABASES["away"]
    env = environment(**{k.lower(): v for k, v in settings.items()})
    if process == "stream":
        upgrade = [sys.executable, "-m", "redistill", "db", "upgrade"]
        subprocess.run(upgrade, env=env, check=True, capture_output=True)
    command = [sys.executable, "-m", "redistill", "run", process]
    log = tmp_path / "said"
    with log.open("w") as out:
        ran = subprocess.Popen(command, env=env, stdout=out, stderr=out)
    try:  # one that waits for its broker has said what it has to say
        eventually(
            lambda: ran.poll() is not None or '"broker_away"' in log.read_text(), log.read_text()
        )
    finally:
        ran.terminate()
        ran.wait()
    said = log.read_text()
    assert said
    assert "canary" not in said.lower()
    assert KEY not in said
