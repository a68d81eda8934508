"""Other tools on the same streams, each in an environment of its own that uv makes: what they say of
windows of 2,000 rows, as they come. They see features and scores, and no labels.

A tool that cannot be installed, or does not run, has a line that says why.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detectbench.cases import Case
from detectbench.detectors import Told
from detectbench.scores import line, record
from environments import FOLDER, SECONDS, last_words, python_of
from pyarrow import csv

__all__ = ["lines"]

WINDOW = 2_000
TOOLS = {
    "evidently": ("evidently", "pandas<3"),
    "nannyml": ("nannyml", "pandas<3", "statsmodels"),
    "alibi-detect": ("alibi-detect",),
}
"""What is installed for each: the newest, and what it needs without saying so (evidently 0.7.23 and
nannyml 0.13.1 do not run with pandas 3)."""
SCRIPT = Path(__file__).with_name("peer_tools.py")


def lines(cases: list[Case], seeds: range) -> Iterator[dict[str, Any]]:
    """A line per tool and suite."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for tool in TOOLS:
        python = python_of(tool, TOOLS[tool])
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
                    why = last_words(done.stderr)
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
