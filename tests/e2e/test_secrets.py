"""Secrets of an installation: each process has those that it uses, and none shows any."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ports import free_port
from processes import environment, redistill
from waiting import PATIENCE_SECONDS, eventually

SECRETS = {
    "key_passphrase": "passphrase-of-the-keys-0123456789abcdef",
    "state_key": "5ec4e7" * 8,
    "web_token": "token-of-the-web-process-0123456789abcdef",
}
HOOK = "whsec_c2VjcmV0LW9mLWEtY2hhbm5lbC0wMTIzNDU2Nzg5"
"""Of a channel: in a variable that is none of our settings."""
OWN = {
    "stream": {"state_key"},
    "repair": {"key_passphrase"},
    "web": {"web_token"},
    "alerts": {"hook"},
}
CHANNEL = """
[channels.team]
kind = "webhook"
url = "http://127.0.0.1:9/hook"
secret = "env:TEAM_HOOK"
allow_private = ["127.0.0.0/8"]
"""


def processes(home: Path) -> dict[str, Path]:
    """Folders in ``/proc`` of our processes that stand below a ``redistill up``, by name."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            given = (folder / "environ").read_bytes()
        except (OSError, ValueError):
            continue
        if "redistill.workers.jobs.fork_server" in words:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if f"REDISTILL_HOME={home}\0".encode() in _read(Path(f"/proc/{parent}/environ")):
                found["fork server"] = folder
        elif words[-3:-2] == ["run"] and f"REDISTILL_HOME={home}\0".encode() in given:
            found[words[-2]] = folder
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux shows what a process was given")
def test_each_process_has_its_own_secrets_and_none_is_shown(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    env = environment(home=str(home), web_port=str(port), log_level="debug", **SECRETS)
    env["TEAM_HOOK"] = HOOK
    assert redistill(["keys", "init"], env).returncode == 0
    (home / "alerts.toml").write_text(CHANNEL)
    values = {**SECRETS, "hook": HOOK}
    errors = tmp_path / "errors.txt"
    with errors.open("wb") as err:
        up = subprocess.Popen(
            [sys.executable, "-m", "redistill", "up"], env=env, stdout=err, stderr=err
        )
    try:
        wanted = {*OWN, "fork server"}
        eventually(lambda: wanted <= set(processes(home)), "all processes run")
        for name, folder in processes(home).items():
            held = {
                key for key, value in values.items() if value.encode() in _read(folder / "environ")
            }
            assert held == OWN.get(name, set()), name
            asks = name in ("stream", "repair", "alerts")
            assert b"REDISTILL_BROKER" not in _read(folder / "environ") or asks
        shown = [_read(f / "cmdline") for f in Path("/proc").iterdir() if f.name.isdigit()]
    finally:
        up.terminate()
        up.wait(PATIENCE_SECONDS)
    said = [p.read_bytes() for p in (errors, *(home / "logs").rglob("*"), *home.rglob("child.log"))]
    for value in values.values():
        assert not any(value.encode() in text for text in [*shown, *said])
    assert os.path.exists(home / "logs" / "repair.log")
