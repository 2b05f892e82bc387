"""What a file declares, read from its syntax tree: nothing of it runs that is not asked for."""

import ast
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from sharpflow.errors import PartError
from sharpflow.parts.loading import explained, parse

HEAVY = ("torch", "numpy", "pandas", "scipy", "matplotlib", "sklearn", "pyarrow")
"""Packages that options may not import: reading a configuration has to be quick."""


def constant(tree: ast.Module, name: str, default: Any = None) -> Any:
    """The literal value of a module's constant; `default` if it has none.

    Raises:
        ValueError: the value is computed.
    """
    values = _values(tree)
    return _literal(values[name], values) if name in values else default


def decorated(tree: ast.Module, decorator: str) -> dict[str, dict[str, ast.expr]]:
    """Functions of a module under a decorator that is called, with its keyword arguments.

    Returns:
        Expressions by keyword, by the function's name.
    """
    found = {}
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == decorator:
                found[node.name] = {k.arg: k.value for k in call.keywords if k.arg}
    return found


def literal(tree: ast.Module, expression: ast.expr) -> Any:
    """The value of an expression of literals and of the module's constants.

    Raises:
        ValueError: it has anything else in it.
    """
    return _literal(expression, _values(tree))


def _values(tree: ast.Module) -> dict[str, ast.expr]:
    values = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                values |= _bound(target, node.value)
        elif isinstance(node, ast.AnnAssign) and node.value and isinstance(node.target, ast.Name):
            values[node.target.id] = node.value
    return values


def _bound(target: ast.expr, value: ast.expr) -> dict[str, ast.expr]:
    if isinstance(target, ast.Name):
        return {target.id: value}
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        pairs = zip(target.elts, value.elts, strict=False)
        return {name: v for t, v in pairs for name, v in _bound(t, v).items()}
    return {}


def _literal(expression: ast.expr, values: dict[str, ast.expr]) -> Any:
    if isinstance(expression, ast.Name) and expression.id in values:
        return _literal(values[expression.id], values)
    if isinstance(expression, ast.Tuple | ast.List | ast.Set):
        return [_literal(item, values) for item in expression.elts]
    if isinstance(expression, ast.Dict) and all(expression.keys):
        keys = (_literal(key, values) for key in expression.keys if key is not None)
        return dict(zip(keys, (_literal(v, values) for v in expression.values), strict=True))
    return ast.literal_eval(expression)


def names(statement: ast.stmt) -> set[str]:
    """Top-level names that a statement defines."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(a.asname or a.name).partition(".")[0] for a in statement.names}
    targets: Iterable[ast.expr] = ()
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    return {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}


def sliced(tree: ast.Module, wanted: str) -> ast.Module:
    """What a module needs to define one name: the statements it refers to, and theirs."""
    owners = {name: node for node in tree.body for name in names(node)}
    chosen: set[int] = set()
    waiting = [wanted]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in owners:
            continue
        seen.add(name)
        chosen.add(id(owners[name]))
        used = (n.id for n in ast.walk(owners[name]) if isinstance(n, ast.Name))
        waiting.extend(used)
    body = [_narrowed(node, seen) for node in tree.body if id(node) in chosen]
    return ast.Module(body=body, type_ignores=[])


def _narrowed(node: ast.stmt, wanted: set[str]) -> ast.stmt:
    """An import of the wanted names alone; any other statement as it is."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        kept = [a for a in node.names if (a.asname or a.name).partition(".")[0] in wanted]
        if isinstance(node, ast.Import):
            return ast.copy_location(ast.Import(names=kept), node)
        return ast.copy_location(ast.ImportFrom(node.module, kept, node.level), node)
    return node


def imported(tree: ast.AST) -> set[str]:
    """Top-level packages that a tree imports absolutely."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def run_slice(file: Path, wanted: str, module: str) -> Any:
    """Define one name of a file, by running only what that name needs.

    Args:
        file: the Python file.
        wanted: the name, of a class, function or constant at its top level.
        module: dotted name that the definition gets; relative imports are relative to it.

    Raises:
        PartError: the file does not define it, needs a heavy package for it, or raises an error.
    """
    held = sys.modules.get(module)
    if hasattr(held, wanted) and getattr(held, "__source__", None) == file.read_bytes():
        return getattr(held, wanted)
    tree = parse(file)
    if not any(wanted in names(node) for node in tree.body):
        raise PartError(f"{file} has no {wanted!r}, which a part must have.")
    part = sliced(tree, wanted)
    if heavy := sorted(imported(part).intersection(HEAVY)):
        raise PartError(_too_heavy(file, wanted, heavy))
    spec = importlib.util.spec_from_loader(module, loader=None, origin=str(file))
    assert spec is not None
    fresh: ModuleType = importlib.util.module_from_spec(spec)
    fresh.__file__ = str(file)
    fresh.__source__ = file.read_bytes()  # type: ignore[attr-defined]
    sys.modules[module] = fresh
    # descriptions of keys are looked for in the module of the file, and that among all modules
    for path in (file.absolute(), file.resolve()):
        known = inspect.modulesbyfile  # pyright: ignore[reportAttributeAccessIssue]
        known[os.path.normcase(path)] = module
    loaded = {*sys.modules}
    try:
        with explained(str(file)):
            exec(compile(part, str(file), "exec"), fresh.__dict__)
            found = getattr(fresh, wanted)
        if heavy := sorted((sys.modules.keys() - loaded) & {*HEAVY}):
            raise PartError(_too_heavy(file, wanted, heavy))
    except PartError:
        del sys.modules[module]
        raise
    return found


def _too_heavy(file: Path, wanted: str, heavy: list[str]) -> str:
    return (
        f"{file}: {wanted} needs {', '.join(heavy)}, which takes too long to import where a "
        "configuration is read; keep its annotations and bounds to pydantic's, or import inside "
        "a function. What it imports counts, and a package's __init__.py is imported first."
    )
