"""What a Python package imports and calls, read from its source: who, where in the tree, what."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One imported module, and whether it is loaded at import time, in a function, or for types."""

    by: str
    module: str
    where: str  # "top", "function" or "types"
    line: int

    def __str__(self) -> str:
        return f"{self.by}:{self.line} imports {self.module} ({self.where})"


@dataclass(frozen=True)
class Call:
    """One call, by the dotted text before its parenthesis; `.name` after anything but a name."""

    by: str
    name: str
    line: int
    n_positional: int

    def __str__(self) -> str:
        return f"{self.by}:{self.line} calls {self.name}"


def modules(root: Path) -> dict[str, Path]:
    """Every module of the package in a folder, by its dotted name."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path) -> list[Import]:
    """Every import of a package; `from a import b` names a.b where that is a module of it."""
    known = modules(root)
    found = []
    for name, path in known.items():
        for node, where in _read(path).imports:
            if isinstance(node, ast.Import):
                found += [Import(name, alias.name, where, node.lineno) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = _absolute(name, path, node)
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    target = inner if inner in known else base
                    found.append(Import(name, target, where, node.lineno))
            else:
                found.append(Import(name, node.args[0].value, where, node.lineno))
    return list(dict.fromkeys(found))


def calls(root: Path) -> list[Call]:
    """Every call of a package."""
    return [Call(name, *call) for name, path in modules(root).items() for call in _read(path).calls]


def function_lines(path: Path) -> list[tuple[str, int]]:
    """The functions of a file, each with its lines from `def` to its end, docstring left out."""
    return _read(path).functions


_IMPORTS = (ast.Import, ast.ImportFrom)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class _Source:
    """What one walk through a file has seen; the tree itself is not kept."""

    imports: list[tuple[ast.Import | ast.ImportFrom | ast.Call, str]]
    calls: list[tuple[str, int, int]]
    functions: list[tuple[str, int]]


@cache
def _read(path: Path) -> _Source:
    seen = _Source([], [], [])
    for node, where in _placed(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        kind = type(node)
        if kind in _IMPORTS:
            seen.imports.append((node, where))
        elif kind is ast.Call:
            seen.calls.append((_dotted(node.func), node.lineno, len(node.args)))
            if _is_dynamic(node):
                seen.imports.append((node, where))
        elif kind in _FUNCTIONS:
            n_lines = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) is not None:
                n_lines -= node.body[0].end_lineno - node.body[0].lineno + 1
            seen.functions.append((node.name, n_lines))
    return seen


def _placed(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Every node of a tree in the order of the source, with where its code runs."""
    waiting: list[tuple[ast.AST, str]] = [(tree, "top")]
    while waiting:
        node, where = waiting.pop()
        yield node, where
        kind = type(node)
        if kind is ast.If and "TYPE_CHECKING" in ast.dump(node.test):
            below = [(child, "types") for child in node.body]
            below += [(child, where) for child in [node.test, *node.orelse]]
        else:
            here = "function" if kind in _FUNCTIONS or kind is ast.Lambda else where
            below = [(child, here) for child in ast.iter_child_nodes(node)]
        waiting += reversed(below)


def _absolute(name: str, path: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = name.split(".")
    n_up = node.level - (path.name == "__init__.py")
    base = parts[: len(parts) - n_up] if n_up else parts
    return ".".join([*base, *([node.module] if node.module else [])])


def _is_dynamic(node: ast.AST) -> bool:
    """Whether a node is importlib.import_module or __import__ of a literal name."""
    return (
        isinstance(node, ast.Call)
        and _dotted(node.func).rsplit(".", 1)[-1] in ("import_module", "__import__")
        and bool(node.args)
        and isinstance(node.args[0], ast.Constant)
    )


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return f"{before}.{node.attr}" if before else f".{node.attr}"
    return ""
