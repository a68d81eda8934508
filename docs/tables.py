"""Tables of the documents that stand in the code already: ``python docs/tables.py`` writes them.

``docs/model-toml.md`` lists the keys of ``[gates.NAME]`` and ``[training]``: the fields of
dataclasses with their defaults, and what the line under each field says. ``docs/commands.md`` has
the exit codes, and the documents that commands print with ``--json``; ``docs/channels.md`` the keys
of each channel. A test holds them to the code.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redistill.compress import plan
from redistill.compress.judge.gates.table import RULES
from redistill.streams.wire.describe import field_texts
from redistill.workers import exit_codes as exit_code_module
from redistill.workers.alerts.channels.table import KINDS, keys
from redistill.workers.cli.answers import ANSWERS
from redistill.workers.documents import (
    alert,
    compression,
    doctor,
    gate,
    incident,
    installation,
    job,
    label,
    model,
)
from redistill.workers.exit_codes import ExitCode
from redistill.workers.invariants import check
from redistill.workers.models.spec_gates import ELSEWHERE

MODEL_TOML = Path(__file__).resolve().parent / "model-toml.md"
COMMANDS = MODEL_TOML.with_name("commands.md")
CHANNELS = MODEL_TOML.with_name("channels.md")
TABLES: dict[str, dict[str, type]] = {
    "gates": {f"gates.{rule.name}": type(rule.limit) for rule in RULES},
    "training": {"training": plan.Training},
}
"""Table -> its sections of model.toml, each with the dataclass that it fills."""

SHAPES: dict[str, tuple[type, ...]] = {
    "models": (model.ModelList, model.ModelLine, model.Measure, model.ModelIncident),
    "models MODEL": (model.ModelDocument, model.VersionLine, model.Move),
    "models MODEL VERSION": (model.JudgedVersion,),
    "unbar": (model.UnbarredBytes,),
    "incidents list": (incident.IncidentLine,),
    "incidents show": (
        incident.IncidentDocument,
        incident.TimelineEntry,
        incident.BrokenFeedLine,
    ),
    "alerts list": (alert.AlertLine, alert.DeliveryLine),
    "alerts test": (alert.TrialLine,),
    "incidents ack": (alert.HoldDocument,),
    "compress": (compression.CompressionDocument,),
    "gate": (gate.GateDocument,),
    "jobs list": (job.JobLine, job.JobOutcome, job.JobWait),
    "jobs show": (job.JobDocument, job.JobStep),
    "label requests": (label.LabelRequests, label.LabelRequestLine),
    "topics apply": (installation.TopicLine,),
    "db show": (installation.DatabaseDocument,),
    "doctor": (doctor.DoctorReport, doctor.DoctorCheck),
    "check-history": (check.CheckedInvariant,),
}
"""Command -> the shapes of its document; the first is the document, or an item of its list."""
OTHER_FORMS = {"gate": "--format json"}
"""How it is asked for where there are more forms than two."""
LISTS = ("incidents list", "alerts list", "alerts test", "jobs list", "topics apply")

LINES = ("check-history",)
"""These print a document a line; the last is a ``summary``."""


def shown(value: Any) -> str:
    """A default as TOML has it; nothing where there is none.

    Examples
    --------
    >>> shown(0.97), shown((384, 384)), shown(False), shown(None)
    ('`0.97`', '`[384, 384]`', '`false`', '')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def table(name: str) -> str:
    """The rows of a table.

    Raises
    ------
    ValueError
        A field has no line under it that says what it means.
    """
    rows = []
    for section, owner in TABLES[name].items():
        texts = field_texts(sys.modules[owner.__module__])
        for field in dataclasses.fields(owner):
            if (section.removeprefix("gates."), field.name) in ELSEWHERE:
                continue
            text = texts.get((owner.__name__, field.name))
            if text is None:
                raise ValueError(f"{section}: {field.name} does not say what it means")
            said = " ".join(text.split()).replace("``", "`")
            rows.append(f"| `[{section}] {field.name}` | {shown(field.default)} | {said} |")
    return "\n".join(rows)


def exit_codes() -> str:
    """The table of exit codes."""
    texts = field_texts(exit_code_module)
    rows = [f"| {code.value} | {_line(texts['ExitCode', code.name])} |" for code in ExitCode]
    return "\n".join(["| code | meaning |", "|---|---|", *rows])


def answers() -> str:
    """What the codes above 2 mean, by command."""
    rows = [
        f"| `redistill {command}` | {code.value} | {said} |"
        for command, codes in ANSWERS.items()
        for code, said in codes.items()
    ]
    return "\n".join(["| command | code | what it means there |", "|---|---|---|", *rows])


def documents() -> str:
    """A table for each shape of a document."""
    parts = []
    for command, shapes in SHAPES.items():
        asked = OTHER_FORMS.get(command, "--json")
        parts.append(f"### `redistill {command} {asked}`\n")
        for n, shape in enumerate(shapes):
            said = _line(inspect.getdoc(shape) or "")
            kind = "a list; each item: " if n == 0 and command in LISTS else ""
            kind = kind or ("each line but the last: " if command in LINES else "")
            parts.append(f"**{shape.__name__}**: {kind}{said[:1].lower()}{said[1:]}\n")
            parts.append(_fields(shape))
    return "\n".join(parts).rstrip()


def channels() -> str:
    """A table of keys for each kind of channel."""
    parts = []
    for kind in KINDS:
        said = keys(kind.name)
        parts.append(f'### `kind = "{kind.name}"`\n\n{kind.said[:1].upper()}{kind.said[1:]}.\n')
        parts.append("| key | default | meaning |\n|---|---|---|")
        for field in dataclasses.fields(kind.options):
            needed = field.default is dataclasses.MISSING
            default = "needed" if needed else shown(field.default or None)
            parts.append(f"| `{field.name}` | {default} | {_line(said[field.name])} |")
        parts[-1] += "\n"
    return "\n".join(parts).rstrip()


def _fields(shape: type) -> str:
    texts: dict[str, str] = {}
    for owner in reversed(shape.__mro__[:-1]):
        known = field_texts(sys.modules[owner.__module__])
        texts |= {field: text for (name, field), text in known.items() if name == owner.__name__}
    base = shape.__mro__[1]
    rows = ["| field | type | meaning |", "|---|---|---|"]
    if base is not object:
        rows.append(f"| all of {base.__name__} | | |")
    for field in dataclasses.fields(shape):
        if base is object or field.name in shape.__annotations__:
            kind = str(field.type).replace("None", "null").replace("|", "or")
            rows.append(f"| `{field.name}` | {kind} | {_line(texts.get(field.name, ''))} |")
    return "\n".join(rows) + "\n"


def _line(text: str) -> str:
    return " ".join(text.split()).replace("``", "`")


PLACES: dict[Path, dict[str, Callable[[], str]]] = {
    COMMANDS: {"exit codes": exit_codes, "answers": answers, "documents": documents},
    CHANNELS: {"channels": channels},
}
"""Document -> its places, each with what makes their content."""


def filled(text: str, document: Path) -> str:
    """A document with its places filled anew."""
    for name, made in PLACES[document].items():
        pattern = rf"(<!-- {name}: made by docs/tables.py -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, lambda m, f=made: m[1] + f() + "\n" + m[2], text, flags=re.S)
        if count != 1:
            raise ValueError(f"{document.name} has {count} places for {name}, not one")
    return text


def written(text: str) -> str:
    """The document of model.toml with its tables made anew."""
    for name in TABLES:
        pattern = rf"(?:^\| `\[{name}[\].][^\n]*\n)+"
        text, count = re.subn(pattern, lambda _, n=name: table(n) + "\n", text, flags=re.M)
        if count != 1:
            raise ValueError(f"{MODEL_TOML.name} has {count} tables of [{name}], not one")
    return text


def main() -> int:
    """Write the tables, or with ``--check`` say whether those that are there are current."""
    stale = 0
    for path in (MODEL_TOML, *PLACES):
        old = path.read_text(encoding="utf-8")
        new = filled(old, path) if path in PLACES else written(old)
        stale |= old != new
        if "--check" not in sys.argv:
            path.write_text(new, encoding="utf-8")
    return int(stale and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
