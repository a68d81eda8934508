"""Tables of the documents that stand in the code already: ``python docs/tables.py`` writes them.

``docs/model-toml.md`` lists the keys of ``[gates]`` and ``[training]``: the fields of two
dataclasses with their defaults, and what the line under each field says. A test holds the document
to the code.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

from redistill.compress import plan
from redistill.streams.wire.describe import field_texts
from redistill.workers.models.spec_file import ELSEWHERE

DOCUMENT = Path(__file__).resolve().parent / "model-toml.md"
SECTIONS: dict[str, type] = {"gates": plan.Limits, "training": plan.Training}


def shown(value: Any) -> str:
    """A default as TOML has it; nothing where there is none.

    Examples
    --------
    >>> shown(0.97), shown((384, 384)), shown(None)
    ('`0.97`', '`[384, 384]`', '')
    """
    if value is None:
        return ""
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def table(section: str) -> str:
    """The rows of a section.

    Raises
    ------
    ValueError
        A field has no line under it that says what it means.
    """
    owner = SECTIONS[section]
    texts = field_texts(plan)
    rows = []
    for field in dataclasses.fields(owner):
        if (section, field.name) in ELSEWHERE:
            continue
        text = texts.get((owner.__name__, field.name))
        if text is None:
            raise ValueError(f"{owner.__name__}.{field.name} does not say what it means")
        said = " ".join(text.split()).replace("``", "`")
        rows.append(f"| `[{section}] {field.name}` | {shown(field.default)} | {said} |")
    return "\n".join(rows)


def written(text: str) -> str:
    """The document with its tables made anew."""
    for section in SECTIONS:
        pattern = rf"(?:^\| `\[{section}\] [^\n]*\n)+"
        text, count = re.subn(pattern, lambda _, s=section: table(s) + "\n", text, flags=re.M)
        if count != 1:
            raise ValueError(f"{DOCUMENT.name} has {count} tables of [{section}], not one")
    return text


def main() -> int:
    """Write the tables, or with ``--check`` say whether those that are there are current."""
    old = DOCUMENT.read_text(encoding="utf-8")
    new = written(old)
    if "--check" in sys.argv:
        return int(old != new)
    DOCUMENT.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
