"""Digests of the code that a job runs, blind to comments, docstrings and layout.

Snakemake sees edits of a script but not of the modules that it imports; with a digest of
everything the script reaches in its `params`, an edit reruns what depends on it and no more.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent.parent
_PACKAGE = "sharpflow"


def module_file(module: str) -> Path | None:
    """The source file of a dotted module of sharpflow, or None if there is none."""
    base = _ROOT.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _imports(tree: ast.AST) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _strip(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [
                child
                for child in body
                if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant))
            ]
    return tree


@cache
def _parsed(path: Path, stamp: tuple[int, int]) -> tuple[str, tuple[str, ...]]:
    tree = ast.parse(path.read_bytes())
    imports = {name for name in _imports(tree) if name.split(".")[0] == _PACKAGE}
    return ast.dump(_strip(tree)), tuple(sorted(imports))


def _parse(path: Path) -> tuple[str, tuple[str, ...]]:
    status = path.stat()
    return _parsed(path, (status.st_mtime_ns, status.st_size))


def closure(modules: Iterable[str]) -> dict[str, Path]:
    """Every module of sharpflow that importing `modules` runs, packages included."""
    reached: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            name = ".".join(parts[:end])
            path = module_file(name)
            if name not in reached and path is not None:
                reached[name] = path
                waiting.extend(_parse(path)[1])
    return reached


def digest(script: str | Path, entries: Iterable[str] = ()) -> str:
    """Digest of a script, of the modules that it names at run time, and of all they import."""
    dump, imports = _parse(Path(script))
    total = hashlib.sha256(dump.encode())
    for name, path in sorted(closure([*imports, *entries]).items()):
        total.update(f"\n{name}\n{_parse(path)[0]}".encode())
        if (page := path.with_name("template.html")).is_file():
            total.update(page.read_bytes())
    return total.hexdigest()[:16]
