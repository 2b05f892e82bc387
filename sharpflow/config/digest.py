"""Digests of the code that a job runs, blind to comments, docstrings and layout.

Snakemake sees edits of a script but not of the modules that it imports; with a digest of
everything the script reaches in its `params`, an edit reruns what depends on it and no more.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sharpflow.errors import IntegrityError, SharpflowError
from sharpflow.parts.loading import PAPERS
from sharpflow.storage.seal import read_json, write_json

_ROOT = Path(__file__).resolve().parent.parent.parent
_PACKAGE = "sharpflow"


class _Import(NamedTuple):
    """`from ..module import name`: level 2; `import module`: level 0, no name."""

    level: int
    module: str
    name: str


class _Outline(NamedTuple):
    """The SHA-256 of a file's syntax tree without its texts, and what the file imports."""

    digest: str
    imports: tuple[_Import, ...]


_File = tuple[str, Path]
"""A name for a file, and where it is."""
_MOST = 5_000
"""Outlines in a file of them, from which on it is begun anew."""


@dataclass(frozen=True, eq=False)
class Code:
    """The code that jobs can reach, as it is when it is first looked at.

    Args:
        papers: folder of each paper, by key.
        root: folder that holds the package `sharpflow`.
        kept: file, sealed, in which outlines are kept from one start to the next: to parse the
            code is most of what a small run's planning takes. It may be deleted at any time.
    """

    papers: Mapping[str, str | Path] = field(default_factory=dict)
    root: Path = _ROOT
    kept: Path | None = None
    _outlines: dict[tuple[Path, int, int], _Outline] = field(
        default_factory=dict, init=False, repr=False
    )
    _known: dict[str, _Outline] = field(default_factory=dict, init=False, repr=False)
    _openings: dict[str, tuple["_File", ...]] = field(default_factory=dict, init=False, repr=False)
    _steps: dict[str, dict[str, Path]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        if self.kept is not None:
            self._known.update(_load(self.kept))

    def file(self, module: str) -> Path | None:
        """The source file of a dotted module of sharpflow or of a paper; None for any other."""
        top, *rest = module.split(".")
        if top == _PACKAGE:
            return _source(self.root / _PACKAGE, rest)
        if top == PAPERS and rest and rest[0] in self.papers:
            return _source(Path(self.papers[rest[0]]), rest[1:])
        return None

    def closure(self, entries: Iterable[str]) -> dict[str, Path]:
        """Every file that importing `entries` runs, packages included, by a name for each.

        Args:
            entries: dotted modules, or paths of Python files of the user's.
        """
        reached: dict[str, Path] = {}
        waiting = [file for entry in entries for file in self._opened(entry)]
        while waiting:
            name, path = waiting.pop()
            if name not in reached:
                reached[name] = path
                waiting.extend(self._following(name, path).items())
        return reached

    def _opened(self, entry: str) -> tuple[_File, ...]:
        """The files that an entry runs: its own, and the packages that it stands in."""
        if entry.endswith(".py"):
            return ((entry, Path(entry)),)
        if entry not in self._openings:
            package, dot, _ = entry.rpartition(".")
            own = self.file(entry)
            above = self._opened(package) if dot else ()
            self._openings[entry] = above if own is None else (*above, (entry, own))
        return self._openings[entry]

    def _following(self, name: str, path: Path) -> dict[str, Path]:
        """The files that the imports of a file run."""
        if name not in self._steps:
            found = (self._opened(entry) for entry in self._imported(name, path))
            self._steps[name] = dict(file for files in found for file in files)
        return self._steps[name]

    def _imported(self, name: str, path: Path) -> Iterator[str]:
        for level, module, item in self._outline(path).imports:
            if name.endswith(".py"):
                yield from _neighbours(path.parent, level, module, item)
            base = _base(name, path, level)
            target = ".".join(part for part in (base, module) if part)
            yield from (target, f"{target}.{item}") if item else (target,)

    def digest(self, script: str | Path, entries: Iterable[str] = ()) -> str:
        """Digest of a script, of what it loads by name at run time, and of all they import."""
        before = len(self._known)
        own = self._outline(Path(script))
        total = hashlib.sha256(own.digest.encode())
        named = [f"{i.module}.{i.name}" if i.name else i.module for i in own.imports]
        for name, path in sorted(self.closure([*named, *entries]).items()):
            label = Path(name).name if name.endswith(".py") else name
            total.update(f"\n{label}\n{self._outline(path).digest}".encode())
            for text in _templates(path):
                total.update(f"\n{text.name}\n".encode() + text.read_bytes())
        if self.kept is not None and len(self._known) > before:
            _save(self.kept, self._known)
        return total.hexdigest()[:16]

    def _outline(self, path: Path) -> _Outline:
        """Of a file as it is now."""
        status = path.stat()
        place = (path, status.st_mtime_ns, status.st_size)
        if place not in self._outlines:
            content = path.read_bytes()
            key = hashlib.sha256(content).hexdigest()
            if key not in self._known:
                self._known[key] = _outlined(content)
            self._outlines[place] = self._known[key]
        return self._outlines[place]


def _templates(path: Path) -> list[Path]:
    """The files in the folder `templates` of a package, which its code reads."""
    if path.name != "__init__.py":
        return []
    return sorted(file for file in (path.parent / "templates").rglob("*") if file.is_file())


def _source(folder: Path, parts: list[str]) -> Path | None:
    base = folder.joinpath(*parts)
    candidates = [base / "__init__.py"] + ([base.with_suffix(".py")] if parts else [])
    return next((path for path in candidates if path.is_file()), None)


def _base(name: str, path: Path, level: int) -> str:
    """The package that a relative import of a module starts from; empty for an absolute one."""
    if not level or name.endswith(".py"):
        return ""
    parts = name.split(".")
    drop = level - 1 if path.name == "__init__.py" else level
    return ".".join(parts[: len(parts) - drop])


def _neighbours(folder: Path, level: int, module: str, item: str) -> Iterator[str]:
    """Files beside a user's file that an import of it opens."""
    start = folder if level <= 1 else folder.parents[level - 2]
    for name in (module, f"{module}.{item}" if module else item):
        if name and (found := _source(start, name.split("."))) is not None:
            yield str(found)


def _imports(tree: ast.AST) -> Iterator[_Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (_Import(0, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (_Import(node.level, node.module or "", a.name) for a in node.names)


def _strip(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = (c for c in body if not _is_text(c))
            node.body = list(kept)  # type: ignore[attr-defined]
    return tree


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def canonical(value: Any) -> str:
    """A syntax tree as text that is the same for every Python from 3.11 on.

    `ast.dump` is not: a new release adds fields (`type_params` in 3.12) and leaves out empty ones
    (3.13). Here a field that holds nothing is never written, nor are positions in the file.
    """
    if isinstance(value, ast.AST):
        fields = ((name, getattr(value, name, None)) for name in sorted(value._fields))
        kept = (f"{name}={canonical(item)}" for name, item in fields if _holds(value, name, item))
        return f"{type(value).__name__}({','.join(kept)})"
    if isinstance(value, list):
        return f"[{','.join(map(canonical, value))}]"
    return repr(value)


def _holds(node: ast.AST, name: str, item: Any) -> bool:
    return (item is not None and item != []) or (name == "value" and type(node) is ast.Constant)


def _outlined(content: bytes) -> _Outline:
    tree = ast.parse(content)
    imports = tuple(sorted(set(_imports(tree))))
    return _Outline(hashlib.sha256(canonical(_strip(tree)).encode()).hexdigest(), imports)


def _version() -> str:
    """What outlines depend on beside the file that they are of: how they are made."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def _load(path: Path) -> dict[str, _Outline]:
    """Outlines by the SHA-256 of their files; none of a file that is damaged, or of other code."""
    try:
        found = read_json(path)
    except IntegrityError:
        return {}
    if found["made_by"] != _version():
        return {}
    return {
        key: _Outline(digest, tuple(_Import(*each) for each in imports))
        for key, (digest, imports) in found["outlines"].items()
    }


def _save(path: Path, known: Mapping[str, _Outline]) -> None:
    kept = known if len(known) <= _MOST else {}
    with suppress(SharpflowError):  # a full or read-only disk: they are made anew each time
        write_json(path, {"made_by": _version(), "outlines": kept})
