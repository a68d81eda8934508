"""Documents that are made from the code are current: tables of keys, the picture of the rooms."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINKS = re.compile(r"(?<!!)\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("script", ["tables.py", "picture.py"])
def test_document_is_what_its_script_makes(script: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / script), "--check"],
        capture_output=True, text=True, cwd=ROOT, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"run `make docs` and commit what it writes\n{done.stderr}"


def documents() -> list[Path]:
    return [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "deploy").glob("*.md")]


@pytest.mark.parametrize("document", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = [link for link in LINKS.findall(text) if "://" not in link]
    missing = [link for link in links if not (document.parent / link).exists()]
    if document.name not in ("CHANGELOG.md", "decisions.md"):  # these tell of what was
        paths = re.findall(r"`((?:streams|workers|compress|redistill|tests|docs)/[\w./-]+)`", text)
        missing += [
            p for p in paths if not (ROOT / p).exists() and "NAME" not in p and "000N" not in p
        ]
    assert missing == []


def test_every_shape_that_a_document_holds_has_its_table() -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    tables = set(re.findall(r"^\*\*(\w+)\*\*:", text, re.M))
    kinds = re.findall(r"^\| `\w+` \| ([^|]+) \|", text, re.M)
    held = {name for kind in kinds for name in re.findall(r"\b[A-Z][A-Za-z]+\b", kind)}
    assert held - tables - {"Any"} == set()
