"""What modules log while a command runs is not among what it prints."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
from redistill.workers.cli import command_logs
{before}
command_logs.keep_off_stdout()
import structlog
log = structlog.get_logger("x")
log.info("unimportant", action="unimportant")
log.warning("important", action="important")
print("printed")
"""


@pytest.mark.parametrize("before", ["", "import structlog"])
def test_warnings_go_to_standard_error_and_the_rest_nowhere(before: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(before=before)],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout == "printed\n"
    (line,) = done.stderr.splitlines()
    assert "action=important" in line
