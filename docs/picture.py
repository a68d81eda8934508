"""Picture of the rooms: ``python docs/picture.py`` draws ``architecture.svg`` from the imports.

Rooms are the folders that ``redistill`` is made of; an arrow says that modules of one room import
modules of another. Arrows that follow from others (a transitive reduction) are left out, so that
the order of the rooms can be seen. A test holds the file to what this script draws.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "architecture.svg"
SIDES = ("streams", "compress", "workers")
GROUND = "redistill"

WORDS = {
    "streams/wire": "events and rows as bytes",
    "streams/kafka": "reaching a broker",
    "streams/monitor": "drift and harm, found",
    "streams/store": "SQL of this side",
    "streams/engine": "the stream worker",
    "streams/client": "what services import",
    "streams/replay": "the monitor over a file",
    "compress": "pipeline and its modes",
    "compress/plan, data": "a job's words and rows",
    "compress/judge": "evidence and gates",
    "compress/shrink": "training, quantizing",
    "workers/settings": "the environment, read once",
    "workers/store": "SQL of this side",
    "workers/models": "what a model is",
    "workers/releases": "signed releases, pointers",
    "workers/incidents": "findings become incidents",
    "workers/jobs": "recompression jobs",
    "workers/onboarding": "versions from outside",
    "workers/alerts": "telling people",
    "workers/invariants": "proof that nothing was lost",
    "workers/web": "HTTP, health, metrics",
    "workers/processes": "processes and their tasks",
    "workers/demo": "the loop before your eyes",
    "workers/cli": "the commands",
    GROUND: "the common ground: times, files, statistics, ONNX files, row files",
}
"""A room in a few words; a room that is missing here is drawn without."""

LEGEND = (
    "An arrow: modules of one room import modules of another.",
    "Blue: into another side. What follows from other arrows is not drawn,",
    "nor that every room may stand on the common ground.",
)

WIDTH, HEIGHT, GAP_X, GAP_Y, TOP = 214, 50, 46, 40, 64


def room_of(path: Path) -> str:
    """The room of a module, by its path in the repository.

    Examples
    --------
    >>> room_of(Path("streams/wire/codec.py")), room_of(Path("compress/gate.py"))
    ('streams/wire', 'compress')
    >>> room_of(Path("workers/demo/scenes/start.py")), room_of(Path("redistill/times.py"))
    ('workers/demo', 'redistill')
    """
    return "/".join(path.parts[:-1][:2])


def imports(root: Path = ROOT) -> dict[str, set[str]]:
    """Room -> rooms that its modules import, function-local imports included.

    ``errors.py`` of a side and the package's own doors (``__init__``, ``__main__``) stay out.
    """
    modules: dict[str, str] = {}
    texts: dict[str, str] = {}
    for side in (*SIDES, GROUND):
        for path in sorted((root / side).rglob("*.py")):
            short = path.relative_to(root)
            if short.name.startswith("__") or "migrations" in short.parts:
                continue
            if len(short.parts) == 2 and short.stem == "errors":
                continue
            if side == GROUND and len(short.parts) > 2:
                continue  # a side again, through its link
            name = ".".join(short.with_suffix("").parts)
            name = name if side == GROUND else f"redistill.{name}"
            modules[name] = room_of(short)
            texts[name] = path.read_text(encoding="utf-8")
    uses: dict[str, set[str]] = {name: set() for name in modules}
    for name, text in texts.items():
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.ImportFrom) or node.module is None:
                continue
            for alias in node.names:
                for target in (f"{node.module}.{alias.name}", node.module):
                    if target in modules:
                        uses[name].add(target)
                        break
    for name in split(modules, uses, "compress"):
        modules[name] = "compress/plan, data"
    out: dict[str, set[str]] = {room: set() for room in modules.values()}
    for name, targets in uses.items():
        out[modules[name]] |= {modules[target] for target in targets}
    return {room: targets - {room} for room, targets in sorted(out.items())}


def split(modules: dict[str, str], uses: dict[str, set[str]], room: str) -> set[str]:
    """Modules at the top of a side that its own rooms stand on, unlike those that use the rooms.

    Parameters
    ----------
    modules
        Module -> room.
    uses
        Module -> modules that it imports.
    room
        The side, ``compress``: its plan and data lie below its rooms, its pipeline above them.
    """
    base = {
        target
        for name, targets in uses.items()
        if modules[name].startswith(f"{room}/")
        for target in targets
        if modules[target] == room
    }
    todo = list(base)
    while todo:
        for target in uses[todo.pop()] - base:
            if modules[target] == room:
                base.add(target)
                todo.append(target)
    return base


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """A graph without the arrows that follow from others.

    Raises
    ------
    ValueError
        Rooms import each other in a circle.

    Examples
    --------
    >>> reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()})
    {'a': {'b'}, 'b': {'c'}, 'c': set()}
    """
    below: dict[str, set[str]] = {}

    def reach(room: str, way: tuple[str, ...]) -> set[str]:
        if room in way:
            raise ValueError(f"rooms import each other: {' -> '.join((*way, room))}")
        if room not in below:
            below[room] = set()
            found = set(graph[room])
            for target in graph[room]:
                found |= reach(target, (*way, room))
            below[room] = found
        return below[room]

    for room in graph:
        reach(room, ())
    return {
        room: {t for t in targets if not any(t in below[o] for o in targets - {t})}
        for room, targets in graph.items()
    }


def levels(graph: dict[str, set[str]]) -> dict[str, int]:
    """How far above the ground a room stands: one more than the highest room that it imports."""
    out: dict[str, int] = {}

    def level(room: str) -> int:
        if room not in out:
            out[room] = 1 + max((level(t) for t in graph[room]), default=-1)
        return out[room]

    for room in graph:
        level(room)
    return out


def places(graph: dict[str, set[str]]) -> tuple[dict[str, tuple[float, float]], float, float]:
    """Upper left corner of each room's box, and the picture's width and height.

    Each side has columns of its own; a room stands as high as its imports ask for.
    """
    height = levels({room: targets - {GROUND} for room, targets in graph.items() if room != GROUND})
    rows: dict[tuple[str, int], list[str]] = defaultdict(list)
    for room, level in height.items():
        rows[room.split("/")[0], level].append(room)
    wide = {s: max(len(r) for (side, _), r in rows.items() if side == s) for s in SIDES}
    top = max(height.values())
    left, start = float(GAP_X), {}
    for side in SIDES:
        start[side] = left
        left += wide[side] * (WIDTH + GAP_X) + GAP_X
    where = {}
    for (side, level), rooms in rows.items():
        y = TOP + (top - level) * (HEIGHT + GAP_Y)
        span = wide[side] * (WIDTH + GAP_X) - GAP_X
        inset = (span - len(rooms) * (WIDTH + GAP_X) + GAP_X) / 2
        for i, room in enumerate(sorted(rooms)):
            where[room] = (start[side] + inset + i * (WIDTH + GAP_X), y)
    full = left - GAP_X
    where[GROUND] = (float(GAP_X), TOP + (top + 1) * (HEIGHT + GAP_Y))
    return where, full + GAP_X, TOP + (top + 2) * (HEIGHT + GAP_Y)


def draw(graph: dict[str, set[str]]) -> str:
    """The picture as SVG text."""
    arrows = reduced({r: t - {GROUND} for r, t in graph.items() if r != GROUND})
    where, width, height = places(graph)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}"'
        f' width="{width:.0f}" height="{height:.0f}" role="img"'
        ' font-family="ui-sans-serif, system-ui, sans-serif">',
        "<title>The rooms of redistill and what imports what</title>",
        "<style>",
        "text{fill:#1f2933} .few{fill:#52606d;font-size:12px}",
        ".name{font-size:14px;font-weight:600}",
        ".side{font-size:17px;font-weight:700} rect{fill:#fff;stroke:#9aa5b1;rx:7px}",
        ".back{fill:#f5f7fa;stroke:none} path{fill:none;stroke:#7b8794;stroke-width:1.4}",
        ".across{stroke:#2b6cb0} #tip path,#tip2 path{stroke:none;fill:#7b8794}",
        "#tip2 path{fill:#2b6cb0}",
        "</style>",
        "<defs>",
        *(
            f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"'
            ' markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker>'
            for name in ("tip", "tip2")
        ),
        "</defs>",
        f'<rect class="back" x="0" y="0" width="{width:.0f}" height="{height:.0f}"/>',
    ]
    for side in SIDES:
        xs = [x for room, (x, _) in where.items() if room.split("/")[0] == side]
        out.append(f'<text class="side" x="{min(xs):.0f}" y="34">{side}/</text>')
    out += [
        f'<text class="few" x="{GAP_X}" y="{62 + 18 * i}">{escape(line)}</text>'
        for i, line in enumerate(LEGEND)
    ]
    ends: dict[str, int] = defaultdict(int)
    total = {r: sum(r in t for t in arrows.values()) for r in arrows}
    for room in sorted(arrows, key=lambda r: (where[r][0], r)):
        targets = sorted(arrows[room], key=lambda t: (where[t][0], t))
        for i, target in enumerate(targets):
            (x1, y1), (x2, y2) = where[room], where[target]
            ax = x1 + WIDTH * (i + 1) / (len(targets) + 1)
            ends[target] += 1
            bx = x2 + WIDTH * ends[target] / (total[target] + 1)
            ay, by = y1 + HEIGHT, y2
            bend = max(26.0, (by - ay) / 2)
            across = room.split("/")[0] != target.split("/")[0]
            kind = (
                ' class="across" marker-end="url(#tip2)"' if across else ' marker-end="url(#tip)"'
            )
            out.append(
                f'<path{kind} d="M{ax:.0f} {ay:.0f}C{ax:.0f} {ay + bend:.0f}'
                f' {bx:.0f} {by - bend:.0f} {bx:.0f} {by - 1:.0f}"/>'
            )
    for room, (x, y) in sorted(where.items()):
        wide = width - 2 * GAP_X if room == GROUND else WIDTH
        name = "redistill/*.py" if room == GROUND else room
        out += [
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{wide:.0f}" height="{HEIGHT}"/>',
            f'<text class="name" x="{x + 12:.0f}" y="{y + 21:.0f}">{escape(name)}</text>',
            f'<text class="few" x="{x + 12:.0f}" y="{y + 38:.0f}">'
            f"{escape(WORDS.get(room, ''))}</text>",
        ]
    return "\n".join([*out, "</svg>", ""])


def main() -> int:
    """Draw the picture, or with ``--check`` say whether the one that is there is current."""
    made = draw(imports())
    if "--check" in sys.argv:
        return int(PICTURE.read_text(encoding="utf-8") != made)
    PICTURE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
