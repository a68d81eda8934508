"""docs/metrics.md lists what each process tells, by real scrapes. Run as a program, this file writes the table."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from metric_scrapes import PROCESSES, families, scrape, served_by_all

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
ROWS = re.compile(r"(?:^\| (?!process|---).*\|\n)+", re.M)
NO_METRICS = {
    *(f"redistill_{role}" for role in ("web", "stream", "repair", "alerts", "reader")),
    "redistill_key",
}
"""Roles of PostgreSQL, and a key of a receiver."""
UNITS = (
    (r"_timestamp_seconds$|_paused_until$", "seconds since 1970"),
    (r"_seconds$", "seconds"),
    (r"_ratio$", "share, 0 to 1"),
    (r"_up$|_stopped$", "0 or 1"),
    (r"_info$", "always 1"),
    (r"_psi$", "index"),
)


def table(folder: Path) -> str:
    """The rows, as the processes tell them."""
    lines = []
    with served_by_all(folder) as urls:
        assert set(urls) == set(PROCESSES)
        for process in PROCESSES:
            for name, family in sorted(families(scrape(urls[process])).items()):
                unit = next((unit for form, unit in UNITS if re.search(form, name)), "count")
                labels = sorted({f"`{x}`" for s in family.samples for x in s.labels} - {"`le`"})
                kind = "info" if name.endswith("_info") else family.type
                lines.append(
                    f"| {process} | `{name}` | {kind} | {' '.join(labels)} | {unit} |"
                    f" {family.documentation} |"
                )
    return "\n".join(lines) + "\n"


def test_document_lists_what_is_told(tmp_path: Path) -> None:
    (listed,) = ROWS.findall(DOCUMENT.read_text())
    assert listed == table(tmp_path), f"run python {Path(__file__).name} and commit what it writes"


def test_other_documents_name_only_metrics_that_there_are() -> None:
    told = set(re.findall(r"^\| \w+ \| `(\w+)` \|", DOCUMENT.read_text(), re.M))
    root = DOCUMENT.parents[1]
    for path in (root / "README.md", root / "deploy" / "RUNBOOK.md", *DOCUMENT.parent.glob("*.md")):
        if path.name == "decisions.md":  # what was once
            continue
        named = set(re.findall(r"`(redistill_\w+)(?:\{\w+\})?`", path.read_text())) - NO_METRICS
        assert named <= told, path.name


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))
    with tempfile.TemporaryDirectory() as folder:
        rows = table(Path(folder))
    DOCUMENT.write_text(ROWS.sub(lambda _: rows, DOCUMENT.read_text()))
