"""The architecture is a test: lean imports, explicit packages, words that may not be written."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redistill.streams.wire.events import TYPES

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("streams", "compress", "workers")
STARTS = {"subprocess.run", "subprocess.Popen", "subprocess.check_output", "subprocess.check_call"}
GROUND = [p for p in (ROOT / "redistill").glob("*.py") if not p.name.startswith("__")]
ABOVE_THE_GROUND = {*(f"redistill.{room}" for room in ROOMS), "scipy", "onnx", "onnxruntime"}


def imported_by(statement: str) -> set[str]:
    """Packages, and rooms of ours, that a fresh interpreter holds after a statement."""
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=120,
    )
    parts = [m.split(".") for m in done.stdout.split()]
    return {".".join(p[: 2 if p[0] == "redistill" else 1]) for p in parts}


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("from redistill import PredictionLogger", {"faust", "river", "sqlalchemy", "torch", "scipy", "onnxruntime"}),
        ("from redistill import ModelClient", {"faust", "river", "sqlalchemy", "torch", "scipy", "onnxruntime"}),
        (f"from redistill import {', '.join(p.stem for p in GROUND)}", ABOVE_THE_GROUND),
        ("import redistill.streams.wire.codec", {"kafka", "faust", "sqlalchemy", "river"}),
        ("import redistill.streams.engine.app", {"torch", "redistill.compress", "redistill.workers"}),
        ("import redistill.streams.replay.run", {"torch", "faust", "sqlalchemy", "redistill.workers", "kafka"}),
        ("import redistill.compress.plan", {"torch", "redistill.streams", "redistill.workers", "sqlalchemy"}),
        ("import redistill.compress.pipeline", {"redistill.streams", "sqlalchemy", "kafka", "torch"}),
        ("import redistill.compress.once", {"torch"}),
        ("import redistill.compress.judge.probe", {"torch", "scipy", "pyarrow"}),
        ("from redistill.compress.shrink import export, quantize", {"torch", "onnxscript"}),
        ("import redistill.workers.cli.main", {"torch", "faust", "sqlalchemy", "river", "onnxruntime", "fastapi"}),
        ("from redistill.workers.models import explain, registration", {"torch", "faust", "river"}),
        ("from redistill.workers.onboarding import baseline, external_version", {"torch", "faust", "river"}),
        ("from redistill.workers.releases import repository_writer", {"torch", "faust", "river"}),
        ("import redistill.workers.web.app", {"torch", "faust"}),
        ("import redistill.workers.processes.repair_worker", {"faust"}),
    ],
)  # fmt: skip
def test_import_stays_lean(statement: str, forbidden: set[str]) -> None:
    assert not imported_by(statement) & forbidden


def imported_on_load(path: Path) -> Iterator[str]:
    """Modules that a file names in its imports, but for those inside functions."""
    open_nodes: list[ast.AST] = [ast.parse(path.read_text())]
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            open_nodes.extend(ast.iter_child_nodes(node))


def test_the_common_ground_stands_on_little() -> None:
    allowed = sys.stdlib_module_names | {"numpy", "msgspec", "pyarrow", "redistill"}
    heavy = {
        f"{path.name} imports {name}"
        for path in GROUND
        for name in imported_on_load(path)
        if name.partition(".")[0] not in allowed
    }
    assert heavy == set()


@pytest.mark.parametrize(("own", "expected"), [(None, "1"), ("0", "0")])
def test_no_library_reports_to_its_makers_unless_it_is_asked_to(
    own: str | None, expected: str
) -> None:
    env = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", "import os, redistill; print(os.environ['ORT_DISABLE_TELEMETRY'])"],
        env=env if own is None else env | {"ORT_DISABLE_TELEMETRY": own},
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout.strip() == expected


def test_only_one_home_for_each_framework() -> None:
    homes = {
        "faust": "streams/engine/",
        "river": "streams/monitor/detectors.py",
    }
    for framework, home in homes.items():
        pattern = re.compile(rf"^\s*(import|from) {framework}\b", re.M)
        strangers = [
            str(p.relative_to(ROOT))
            for room in ROOMS
            for p in (ROOT / room).rglob("*.py")
            if pattern.search(p.read_text()) and not str(p.relative_to(ROOT)).startswith(home)
        ]
        assert strangers == [], f"{framework} belongs in {home}"


def test_onnx_files_are_opened_and_walked_on_the_common_ground_only() -> None:
    """A second check in a room would give a second answer. Writing a graph
    (``compress/shrink/export.py``) is no walk."""
    opened = re.compile(r"\bInferenceSession\(|\bonnx\.load|\bload_model|\bSessionOptions\(")
    walked = re.compile(
        r"\.opset_import\b|\.functions\b|\bgraph\.(node|initializer)\b(?!\()|HasField\(.g.\)"
    )
    sources = [p for room in ROOMS for p in (ROOT / room).rglob("*.py")]
    homes = {
        str(p.relative_to(ROOT))
        for p in [*sources, *(ROOT / "redistill").glob("*.py")]
        if opened.search(p.read_text()) or walked.search(p.read_text())
    }
    family = ("onnxadopt", "onnxclasses", "onnxcorrected", "onnxfile", "onnxhalved", "onnxscaled")
    family += ("onnxsizes", "onnxwalk")
    assert homes == {f"redistill/{name}.py" for name in family}


def _names(tree: ast.AST) -> set[str]:
    """All names and attributes in a piece of code."""
    return {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute)
    }


def _called(tree: ast.AST) -> set[str]:
    """Last names of what is called in a piece of code."""
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {
        f.id if isinstance(f, ast.Name) else f.attr
        for f in calls
        if isinstance(f, ast.Name | ast.Attribute)
    }


def forces_to_disk(function: ast.AST) -> bool:
    """It calls ``fsync``."""
    return bool(_called(function) & {"fsync", "fdatasync"})


def hashes_file(function: ast.AST) -> bool:
    """It reads and hashes."""
    called = _called(function)
    hashes = {"sha256", "blake2b", "md5", "new", "file_digest"} & called
    return bool(hashes and {"read_bytes", "read", "open", "file_digest"} & called)


def is_softmax(function: ast.AST) -> bool:
    """It divides powers by their sum."""

    def is_sum(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and _names(node.func) & {"sum", "fsum"} != set()

    sums = {
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and is_sum(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    divides = any(
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Div)
        and (is_sum(node.right) or (isinstance(node.right, ast.Name) and node.right.id in sums))
        for node in ast.walk(function)
    )
    return divides and bool(_names(function) & {"exp", "exp2"})


def is_time_conversion(function: ast.AST) -> bool:
    """It makes a datetime of a number, a number of a datetime, or microseconds of a clock."""
    of_clock = any(
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Div | ast.Mult | ast.FloorDiv)
        and _called(node.left) & {"clock", "_clock", "time", "time_ns"}
        for node in ast.walk(function)
    )
    of_datetime = any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "timestamp"
        and not node.args
        for node in ast.walk(function)
    )
    keywords = {node.arg for node in ast.walk(function) if isinstance(node, ast.keyword)}
    called = _called(function)
    of_microseconds = "timedelta" in called and "microseconds" in keywords
    return of_clock or of_datetime or of_microseconds or "fromtimestamp" in called


def functions(path: Path) -> Iterator[ast.AST]:
    """The functions of a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


IDIOMS = {
    forces_to_disk: (
        "redistill/files.py",
        ["def f(file): os.fsync(file.fileno())", "def f(fd): fsync(fd)"],
        ["def f(file): file.flush()"],
    ),
    hashes_file: (
        "redistill/files.py",
        [
            "def f(path): return hashlib.sha256(path.read_bytes()).hexdigest()",
            "def f(path): return file_digest(path.open('rb'), 'sha256')",
            "def f(path):\n data = path.read_bytes()\n return sha256(data).hexdigest()",
        ],
        ["def f(text): return hashlib.sha256(text.encode())", "def f(p): return sha256_of(p)"],
    ),
    is_softmax: (
        "redistill/stats.py",
        [
            "def f(x):\n e = np.exp(x - x.max())\n return e / e.sum(axis=1)",
            "def f(x):\n e = [math.exp(v) for v in x]\n t = sum(e)\n return [v / t for v in e]",
        ],
        ["def f(x): return 1 / (1 + np.exp(-x))", "def f(x): return x / x.sum()"],
    ),
    is_time_conversion: (
        "redistill/times.py",
        [
            "def f(us): return datetime.fromtimestamp(us / 1e6, UTC)",
            "def f(self): return round(self._clock() * 1e6)",
            "def f(): return time.time_ns() // 1000",
            "def f(us): return EPOCH + timedelta(microseconds=us)",
        ],
        ["def f(rows): return rows / 1e6", "def f(clock): return to_us(clock())"],
    ),
}


ELSEWHERE = {is_time_conversion: {"workers/models/label_import.py"}}  # a file's time is a float


@pytest.mark.parametrize("idiom", IDIOMS)
def test_what_all_rooms_need_stands_in_one_module(idiom: Callable[[ast.AST], bool]) -> None:
    home, caught, free = IDIOMS[idiom]
    assert [code for code in caught if not idiom(ast.parse(code))] == []
    assert [code for code in free if idiom(ast.parse(code))] == []
    rooms = [p for room in ROOMS for p in (ROOT / room).rglob("*.py")]
    found = {
        str(path.relative_to(ROOT))
        for path in [*rooms, *GROUND]
        if any(map(idiom, functions(path)))
    }
    assert found - ELSEWHERE.get(idiom, set()) == {home}


def test_only_settings_read_the_environment() -> None:
    readers = [
        str(p.relative_to(ROOT))
        for room in ROOMS
        for p in (ROOT / room).rglob("*.py")
        if re.search(r"os\.(environ|getenv)\b", p.read_text())
        and p.name not in {"environment.py", "settings.py", "child_process.py"}
    ]
    assert readers == []


def test_no_promise_that_cannot_be_kept() -> None:
    spoken = re.compile(r"exactly[- ]once", re.I)
    allowed = {"docs/decisions.md", "tests/unit/test_architecture.py"}
    tracked = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    guilty = [
        f
        for f in tracked
        if f not in allowed
        and f.endswith((".py", ".md", ".toml"))
        and spoken.search((ROOT / f).read_text())
    ]
    assert guilty == []


def test_old_import_roots_are_refused_by_the_linter() -> None:
    """They exist in a checkout, at its top, and in no wheel."""
    done = subprocess.run(
        ["ruff", "check", "--output-format=concise", "--stdin-filename=tests/x.py", "-"],
        input="import streams\nimport compress.plan\nfrom workers.cli import main\n",
        env={"PATH": str(Path(sys.executable).parent)},
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout.count("TID251") == 3


def test_doctests_are_collected_below_one_root() -> None:
    """Below its real folder as well, a file would be two modules."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert options["testpaths"] == ["tests", "redistill"]
    assert not re.search(
        r"pytest[^#\n]* (streams|workers|compress)\b", (ROOT / "Makefile").read_text()
    )


def test_no_init_below_tests() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_no_module_is_named_like_the_standard_library() -> None:
    names = {p.stem for room in ROOMS for p in (ROOT / room).rglob("*.py")} - {
        "__init__",
        "__main__",
    }
    assert names & set(sys.stdlib_module_names) == set()


def test_each_process_of_ours_is_given_its_environment() -> None:
    """Without one it imports what lies in the current folder: see :mod:`redistill.child_path`."""
    calls = [
        (path, node)
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in STARTS
    ]
    assert len(calls) >= 5
    assert [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, node in calls
        if "env" not in {word.arg for word in node.keywords}
    ] == []


def test_arrays_are_not_compared_as_one_truth_value() -> None:
    """`==` of a dataclass with arrays raises, or did not only where Python saw the same object."""
    guilty = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and _holds_arrays(node) and _compares_fields(node)
    ]
    assert guilty == [], "say eq=False, and compare the arrays where equality is meant"


def _holds_arrays(node: ast.ClassDef) -> bool:
    return any(
        isinstance(field, ast.AnnAssign) and "NDArray" in ast.unparse(field.annotation)
        for field in node.body
    )


def _compares_fields(node: ast.ClassDef) -> bool:
    if any(
        "NamedTuple" in ast.unparse(base) or "Struct" in ast.unparse(base) for base in node.bases
    ):
        return "eq=False" not in map(ast.unparse, node.keywords)
    made = [d for d in node.decorator_list if "dataclass" in ast.unparse(d)]
    return any("eq=False" not in ast.unparse(d) for d in made)


def _named(node: ast.AST | None) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} if node is not None else set()


def test_types_are_known_to_msgspec_before_threads_decode_them() -> None:
    """Two threads that decode a type for the first time crash the process (`decodable`)."""
    decoded: dict[str, str] = {}
    known = {"str", "dict", "list", "tuple"} | {t.__name__ for t in TYPES.values()}
    for path in (p for room in ROOMS for p in (ROOT / room).rglob("*.py")):
        for node in ast.walk(tree := ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and "decodable" in {
                n for d in node.decorator_list for n in _named(d)
            }:
                known.add(node.name)
        for owner in [tree, *(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef))]:
            for call in (n for n in ast.walk(owner) if isinstance(n, ast.Call)):
                said = ast.unparse(call.func)
                given = next((k.value for k in call.keywords if k.arg == "type"), None)
                if said == "msgspec.convert":
                    given = given or call.args[-1]
                elif said == "msgspec.json.Decoder" and call in [
                    getattr(statement, "value", None) for statement in tree.body
                ]:
                    known |= _named(call.args[0])
                    continue
                elif said not in ("msgspec.json.decode", "msgspec.msgpack.decode"):
                    continue
                for name in _named(given):
                    if name == "cls" and isinstance(owner, ast.ClassDef):
                        decoded[owner.name] = str(path)
                    elif name[0].isupper() or name[0] == "_":
                        decoded[name] = str(path)
    assert len(decoded) > 10  # or this test sees nothing
    assert {name: at for name, at in decoded.items() if name not in known} == {}
