"""Columns that the code reads, found in its syntax: what is never read need not be stored.

A column counts as read where the code

1. names it: ``labels.c.check_at``, also through ``c = labels.c``, an import under another name, or
   ``labels.alias()``;
2. reads a row of a table that was selected whole (``sa.select(jobs)``): ``row.tries`` or
   ``row["tries"]``, in the module that selects it, in one that imports that module (the row is
   returned to it), or in one that it imports (the row is handed to it).

What stands in the new value of the same column (``.values(rows=c.rows + 1)``) is no reading: nobody
learns it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

TABLE_MODULES = ("redistill.streams.store.tables", "redistill.workers.store.tables")

Column = tuple[str, str]
"""Table and column."""


@dataclass
class Reading:
    """What one module reads."""

    columns: set[Column] = field(default_factory=set)
    """Columns that it names."""
    whole: set[str] = field(default_factory=set)
    """Tables of which it selects whole rows."""
    names: set[str] = field(default_factory=set)
    """Attributes and text keys that it reads of anything."""
    imports: set[str] = field(default_factory=set)


def read_columns(sources: Mapping[str, str], tables: Mapping[str, set[str]]) -> set[Column]:
    """Every column that the sources read.

    Parameters
    ----------
    sources
        Text of each module by its full name.
    tables
        Names of the columns by the name of the Python variable that holds the table.
    """
    readings = {name: _Reader(tables).read(ast.parse(text)) for name, text in sources.items()}
    found = {column for r in readings.values() for column in r.columns}
    for table, columns in tables.items():
        selecting = {name for name, r in readings.items() if table in r.whole}
        handed_to = {name for selector in selecting for name in readings[selector].imports}
        seeing = [
            r
            for name, r in readings.items()
            if name in selecting | handed_to or r.imports & selecting
        ]
        found |= {(table, c) for c in columns if any(c in r.names for r in seeing)}
    return found


class _Reader(ast.NodeVisitor):
    """Walks over one module."""

    def __init__(self, tables: Mapping[str, set[str]]) -> None:
        self._tables = tables
        self._reading = Reading()
        self._table_modules: set[str] = set()
        """Local names of the modules that hold the tables."""
        self._scopes: list[dict[str, str]] = [{}]
        """Local names of tables, the innermost function's last; ``NAME.c`` stands for its columns.
        """
        self._writing: list[str] = []
        """Columns whose new values are being walked over."""

    def read(self, tree: ast.AST) -> Reading:
        self.visit(tree)
        return self._reading

    # --- names ---

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        self._reading.imports |= {module, *(f"{module}.{a.name}" for a in node.names)}
        for alias in node.names:
            local = alias.asname or alias.name
            if module in TABLE_MODULES and alias.name in self._tables:
                self._scopes[-1][local] = alias.name
            elif f"{module}.{alias.name}" in TABLE_MODULES:
                self._table_modules.add(local)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._scopes.append({})
        self.generic_visit(node)
        self._scopes.pop()

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target, value in _pairs(node):
            table = self._table(value)
            of_columns = self._columns_of(value)
            if table is not None:
                self._scopes[-1][target] = table
            elif of_columns is not None:
                self._scopes[-1][f"{target} columns"] = of_columns

    def _known(self, name: str) -> str | None:
        return next((s[name] for s in reversed(self._scopes) if name in s), None)

    def _table(self, node: ast.expr) -> str | None:
        """The table that an expression stands for."""
        match node:
            case ast.Name(id=name):
                return self._known(name)
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                known = module in self._table_modules and name in self._tables
                return name if known else None
            case ast.Call(func=ast.Attribute(value=inner, attr="alias")):
                return self._table(inner)
        return None

    def _columns_of(self, node: ast.expr) -> str | None:
        """The table of whose columns an expression is the collection."""
        match node:
            case ast.Name(id=name):
                return self._known(f"{name} columns")
            case ast.Attribute(value=inner, attr="c"):
                return self._table(inner)
        return None

    # --- readings ---

    def visit_Attribute(self, node: ast.Attribute) -> None:
        table = self._columns_of(node.value)
        if table is not None:
            if node.attr not in self._writing:
                self._reading.columns.add((table, node.attr))
        elif isinstance(node.ctx, ast.Load) and node.attr not in self._writing:
            self._reading.names.add(node.attr)
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        match node.slice:
            case ast.Constant(value=str(key)) if isinstance(node.ctx, ast.Load):
                if key not in self._writing:
                    self._reading.names.add(key)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        match node.func:
            case ast.Attribute(attr="select"):
                whole = {self._table(argument) for argument in node.args}
                self._reading.whole |= {table for table in whole if table is not None}
            case ast.Attribute(attr="values" | "execute"):
                self._visit_writing(node)
                return
        self.generic_visit(node)

    def _visit_writing(self, node: ast.Call) -> None:
        """Rows that are written: each value under the name of its column."""
        self.visit(node.func)
        for argument in node.args:
            self._visit_row(argument)
        for keyword in node.keywords:
            self._visit_value(keyword.arg, keyword.value)

    def _visit_row(self, node: ast.expr) -> None:
        match node:
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    name = key.value if isinstance(key, ast.Constant) else None
                    self._visit_value(name if isinstance(name, str) else None, value)
            case ast.List(elts=rows):
                for row in rows:
                    self._visit_row(row)
            case ast.ListComp(elt=row, generators=generators):
                self._visit_row(row)
                for generator in generators:
                    self.visit(generator)
            case _:
                self.visit(node)

    def _visit_value(self, column: str | None, value: ast.expr) -> None:
        self._writing.append(column or "")
        self.visit(value)
        self._writing.pop()


def _pairs(node: ast.Assign) -> Iterator[tuple[str, ast.expr]]:
    """Names that an assignment binds, each with its value."""
    for target in node.targets:
        match target, node.value:
            case ast.Name(id=name), value:
                yield name, value
            case ast.Tuple(elts=names), ast.Tuple(elts=values):
                for one, value in zip(names, values, strict=False):
                    if isinstance(one, ast.Name):
                        yield one.id, value
