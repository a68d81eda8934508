"""Other tools on the same streams, each in an environment of its own that uv makes: what they say of
windows of 2,000 rows, as they come. They see features and scores, and no labels.

A tool that cannot be installed, or does not run, has a line that says why.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detectbench.cases import Case
from detectbench.detectors import Told
from detectbench.scores import line, record
from pyarrow import csv

__all__ = ["lines"]

FOLDER = Path("build/bench/peers")
WINDOW = 2_000
TOOLS = {
    "evidently": ("evidently", "pandas<3"),
    "nannyml": ("nannyml", "pandas<3", "statsmodels"),
    "alibi-detect": ("alibi-detect",),
}
"""What is installed for each: the newest, and what it needs without saying so (evidently 0.7.23 and
nannyml 0.13.1 do not run with pandas 3)."""
PYTHON = "3.11"
SCRIPT = Path(__file__).with_name("peer_tools.py")
SECONDS = 1_800


def _uv() -> str | None:
    own = Path(sys.executable).with_name("uv")
    return str(own) if own.exists() else shutil.which("uv")


def _python(tool: str) -> Path | str:
    """Its interpreter; or why there is none."""
    uv = _uv()
    if uv is None:
        return "uv is not installed"
    home = FOLDER / tool
    python = home / "bin" / "python"
    if (home / "installed").exists():
        return python
    for command in (
        [uv, "venv", "--quiet", "--python", PYTHON, "--clear", str(home)],
        [uv, "pip", "install", "--quiet", "--python", str(python), *TOOLS[tool]],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{command[1]}: {error}"
        if done.returncode:
            return " ".join(done.stderr.split())[-300:]
    (home / "installed").touch()
    return python


def lines(cases: list[Case], seeds: range) -> Iterator[dict[str, Any]]:
    """A line per tool and suite."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for tool in TOOLS:
        python = _python(tool)
        if isinstance(python, str):
            yield {"configuration": tool, "not_run": python}
            continue
        records = []
        why = ""
        for case in cases:
            for seed in seeds:
                drawn = case.draw(seed)
                for name in ("reference", "stream"):
                    csv.write_csv(getattr(drawn, name), FOLDER / f"{name}.csv")
                try:
                    done = subprocess.run(
                        [str(python), str(SCRIPT), tool, str(FOLDER), str(WINDOW)],
                        capture_output=True, text=True, timeout=SECONDS,
                    )  # fmt: skip
                except subprocess.TimeoutExpired:
                    why = f"a stream took more than {SECONDS} s"
                    break
                if done.returncode:
                    why = " ".join(done.stderr.split())[-300:]
                    break
                told = json.loads(done.stdout.splitlines()[-1])
                for rule, alarms in told["alarms"].items():
                    said = Told(alarms, label_share=0.0, seconds=told["seconds"])
                    records.append(record(f"{tool}: {rule}", case, drawn, said, seed))
            if why:
                break
        if why:
            yield {"configuration": tool, "not_run": why}
        for suite in dict.fromkeys(r.suite for r in records):
            for name in dict.fromkeys(r.configuration for r in records):
                some = [r for r in records if (r.suite, r.configuration) == (suite, name)]
                yield line(name, suite, some)
