"""Importing parts: the library's by name, those of papers and of users by their path."""

import ast
import hashlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from sharpflow.errors import PartError, SharpflowError

PAPERS = "papers"
"""The package below which each paper's folder is importable, by the paper's key."""


def module_name(kind: str, name: str, paper: str = "") -> str:
    """Dotted name of a part's module; without a paper it is of the library."""
    return f"{PAPERS}.{paper}.{kind}.{name}" if paper else f"sharpflow.{kind}.{name}"


def register(papers: Mapping[str, str | Path]) -> None:
    """Make the folders of papers importable as `papers.<key>`.

    Args:
        papers: folder by key. A key that was registered with another folder is forgotten first.

    Raises:
        PartError: another package called `papers` has been imported.
    """
    if not papers:
        return
    root = sys.modules.get(PAPERS)
    if root is None or not hasattr(root, "__path__") or getattr(root, "__file__", None):
        if root is not None:
            raise PartError(
                f"Another package called {PAPERS!r} has been imported from {root.__file__}; "
                "sharpflow needs this name for the folders of papers."
            )
        root = _package(PAPERS, ())
    for key, folder in papers.items():
        name, path = f"{PAPERS}.{key}", str(Path(folder).resolve())
        held = sys.modules.get(name)
        if held is not None and list(held.__path__) == [path]:
            continue
        forget(name)
        setattr(root, key, _package(name, (path,)))


def forget(name: str) -> None:
    """Drop a module and everything below it, so that it is loaded anew."""
    for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
        del sys.modules[module]


def _package(name: str, folders: Iterable[str]) -> ModuleType:
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = list(folders)
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    return package


def load(kind: str, name: str, paper: str = "") -> ModuleType:
    """The module of a part.

    Args:
        kind: `models`, `data`, `losses`, …
        name: the part's.
        paper: key of the paper it belongs to, as `register` was told; empty for the library's.

    Raises:
        PartError: the paper's file cannot be imported; the message has the file and line.
    """
    module = module_name(kind, name, paper)
    if not paper:
        return import_module(module)
    with explained(f"{kind}/{name} of the paper {paper!r}"):
        return import_module(module)


def load_part(kind: str, spec: Mapping[str, Any], tag: str = "kind") -> ModuleType:
    """The module of the part that plain options name: `spec[tag]`, and `spec["paper"]` if any."""
    return load(kind, spec[tag], spec.get("paper", ""))


def load_file(path: str | Path) -> ModuleType:
    """The module of a user's Python file, which may import its neighbours by name or relatively.

    Raises:
        PartError: it cannot be imported, or a neighbour's name is that of another module.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise PartError(f"{path} is not a file.")
    folder = file.parent
    package = f"folder_{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    if package not in sys.modules:
        _package(package, (str(folder),))
    with explained(str(path)), _importable(file):
        return import_module(f"{package}.{file.stem}")


@contextmanager
def _importable(file: Path) -> Iterator[None]:
    """Let a file import its neighbours, and refuse a neighbour whose name is taken."""
    for name in neighbours(file):
        held = sys.modules.get(name)
        where = getattr(held, "__file__", None) or next(iter(getattr(held, "__path__", [])), None)
        if held is not None and (where is None or file.parent not in Path(where).parents):
            raise PartError(
                f"{file} imports {name!r} from its folder, but another module of this name is "
                f"loaded ({where or 'built in'}); rename it, or write `from .{name} import …`."
            )
    sys.path.insert(0, str(file.parent))
    try:
        yield
    finally:
        sys.path.remove(str(file.parent))


def neighbours(file: Path) -> list[str]:
    """Top-level names that a file imports and that stand beside it."""
    found = set()
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    beside = (name for name in found if _is_beside(file.parent, name))
    return sorted(beside)


def _is_beside(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()


def parse(file: Path) -> ast.Module:
    """The syntax tree of a file.

    Raises:
        PartError: it cannot be read, or is not Python; the message has the line.
    """
    try:
        return ast.parse(file.read_bytes(), str(file))
    except OSError as error:
        raise PartError(f"{file} cannot be read: {error.strerror or error}.") from error
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f"{file}, line {line}" if line else str(file)
        raise PartError(f"{where}: {getattr(error, 'msg', error)}.") from error


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn whatever a user's code raises into one paragraph with its file and line.

    Raises:
        PartError: the code in the block raised anything but an error of sharpflow's own.
        SharpflowError: the code in the block raised it; it stays as it is.
    """
    try:
        yield
    except SharpflowError:
        raise
    except Exception as error:
        raise PartError(f"{what}: {described(error)}") from error


@contextmanager
def guarded(kind: str, options: Mapping[str, Any], tag: str = "kind") -> Iterator[None]:
    """`explained` for the code of a paper's part; an error of the library's own stays as it is.

    Args:
        kind: what stands before the tag in messages, `model` say.
        options: of the part.
        tag: the key of `options` that names the part.
    """
    if "paper" not in options:
        yield
        return
    with explained(f"{kind}.{tag} = {options[tag]!r}"):
        yield


def described(error: BaseException) -> str:
    """An exception as a sentence: where it was raised, what it is, what it says."""
    library = str(Path(__file__).resolve().parent.parent)
    foreign = ("<", library, sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["purelib"])
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(foreign)]
    where = f"{own[-1].filename}, line {own[-1].lineno}: " if own else ""
    if isinstance(error, SyntaxError):
        where = f"{error.filename}, line {error.lineno}: "
    text = " ".join(str(error).split())
    return f"{where}{type(error).__name__}: {text}".rstrip(": ").rstrip(".") + "."
