"""What reviewers ask of every wait and of every broad handler, asked by a test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("redistill", "streams", "compress", "workers")

SLEEPS = {
    "streams/engine/app.py": "at the start, in the main thread, where a signal raises SystemExit",
    "streams/client/cache.py": "between two tries at another process's lock, with a deadline",
    "workers/jobs/folder_lock.py": "between two tries at another process's lock, with a deadline",
    "workers/releases/submission.py": "a command's main thread, with a deadline",
    "workers/processes/log_file.py": "a daemon thread that lives as long as its process",
    "workers/invariants/check.py": "a command's main thread, with a deadline",
    "workers/cli/up.py": "the main thread, which looks for a signal five times a second",
    "workers/cli/recompress.py": "a command's main thread, with a deadline",
    "workers/demo/runner.py": "the demo's main thread, with a deadline",
}
"""Modules that sleep: why nothing waits for that sleep to end. Whatever somebody can close waits for
an event instead."""


def modules() -> Iterator[tuple[str, str]]:
    """Path below the root, and text, of every module."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if not path.is_symlink() and "tests" not in path.parts:
                yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def test_sleeps_are_those_that_nobody_waits_for() -> None:
    found = set()
    for name, text in modules():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep":
                found.add(name)
    assert found == set(SLEEPS)


def test_each_broad_handler_raises_or_says_why_it_does_not() -> None:
    bare = []
    for name, text in modules():
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.ExceptHandler) or not _is_broad(node):
                continue
            raises = any(isinstance(n, ast.Raise) for n in ast.walk(node))
            said = "#" in lines[node.lineno - 1] or lines[node.lineno].lstrip().startswith("#")
            if not raises and not said:
                bare.append(f"{name}:{node.lineno}: {lines[node.lineno - 1].strip()}")
    assert bare == [], "say in a comment why everything is caught here"


def _is_broad(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or ast.unparse(handler.type) in ("Exception", "BaseException")
