"""Doors between modules: what a module lends to others stands in its ``__all__``, and nothing imports in a circle."""

from __future__ import annotations

import ast
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
SIDES = ("redistill", "streams", "compress", "workers")
CALLED_BY_NAME = {"app", "main"}
"""The command line finds a command's ``app`` by its name, and Python a module's ``main``."""


def module_name(path: str) -> str:
    """The name by which a file of ours is imported."""
    dotted = path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    return dotted if dotted.startswith("redistill") else f"redistill.{dotted}"


@cache
def trees() -> dict[str, ast.Module]:
    """Path -> syntax tree, of all Python files that git knows, tests among them."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    ).stdout.split()  # fmt: skip
    files = [f for f in listed if (ROOT / f).is_file()]
    return {f: ast.parse((ROOT / f).read_text(encoding="utf-8"), f) for f in files}


@cache
def modules() -> dict[str, ast.Module]:
    """Name -> syntax tree, of every module of the product that defines something."""
    return {
        module_name(path): tree
        for path, tree in trees().items()
        if path.split("/")[0] in SIDES
        and tree.body
        and "/migrations/" not in path
        and not path.endswith("__main__.py")
    }


def listed_names(tree: ast.Module) -> list[str] | None:
    """A module's ``__all__``."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return None


def uses(path: str, tree: ast.Module) -> Iterator[tuple[str, str, int]]:
    """(Module, name, line) of every name of another module of ours that a file reads."""
    aliases: dict[str, str] = {}
    known = modules()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in known:
                    aliases[alias.asname or alias.name] = full
                elif node.module in known:
                    yield node.module, alias.name, node.lineno
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in aliases
        ):
            yield aliases[node.value.id], node.attr, node.lineno


def test_every_module_says_what_it_lends() -> None:
    silent = [name for name, tree in modules().items() if listed_names(tree) is None]
    assert silent == [], "add __all__: the names that other modules may use"


def test_nothing_is_used_that_is_not_lent() -> None:
    strangers = [
        f"{path}:{line} uses {module}.{name}"
        for path, tree in trees().items()
        if path.split("/")[0] in SIDES
        for module, name, line in uses(path, tree)
        if module_name(path) != module
        and name not in (listed_names(modules()[module]) or [])
        and not name.startswith("__")
    ]
    assert strangers == [], "add it to the module's __all__, or do without"


def test_what_is_lent_is_used() -> None:
    used: dict[str, set[str]] = defaultdict(set)
    for path, tree in trees().items():
        for module, name, _ in uses(path, tree):
            if module_name(path) != module:
                used[module].add(name)
    idle = [
        f"{module}.{name}"
        for module, tree in modules().items()
        if module != "redistill"
        for name in listed_names(tree) or []
        if name not in used[module] | CALLED_BY_NAME
    ]
    assert idle == [], "nobody uses these: take them out of __all__, or delete them"


@pytest.mark.parametrize("module", sorted(modules()))
def test_lent_names_exist(module: str) -> None:
    tree = modules()[module]
    bound = {
        name.id
        for node in tree.body
        for name in ast.walk(node)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    }
    bound |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    bound |= {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(listed_names(tree) or []) <= bound


def circles(graph: grimp.ImportGraph) -> list[list[str]]:
    """Strongly connected modules (Tarjan, 1972), two of them at least."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    out: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        stack.append(module)
        for target in sorted(graph.find_modules_directly_imported_by(module)):
            if target not in number:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], number[target])
        if low[module] == number[module]:
            members = [stack.pop()]
            while members[-1] != module:
                members.append(stack.pop())
            if len(members) > 1:
                out.append(sorted(members))

    for module in sorted(graph.modules):
        if module not in number:
            visit(module)
    return out


def test_no_module_imports_in_a_circle() -> None:
    # imports within functions count as well: they hide a circle, they do not break it
    assert circles(grimp.build_graph("redistill", cache_dir=None)) == []


def test_a_circle_would_be_found() -> None:
    graph = grimp.ImportGraph()
    for name in ("a", "b", "c"):
        graph.add_module(name)
    graph.add_import(importer="a", imported="b")
    graph.add_import(importer="b", imported="c")
    assert circles(graph) == []
    graph.add_import(importer="c", imported="a")
    assert circles(graph) == [["a", "b", "c"]]
