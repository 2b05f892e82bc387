"""The registry: every part of the library and of the papers that a configuration lists."""

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sharpflow.errors import ConfigError, PartError
from sharpflow.parts import outline
from sharpflow.parts.loading import module_name, parse, register
from sharpflow.parts.names import files_in, name_of
from sharpflow.parts.options import (
    DataOptions,
    InitialisationOptions,
    LossOptions,
    MeasurementOptions,
    ModelOptions,
    OptimiserOptions,
    Options,
    ScheduleOptions,
)
from sharpflow.parts.words import nearest

LIBRARY = Path(__file__).resolve().parent.parent
OPTIONS: Mapping[str, type[Options]] = {
    "data": DataOptions,
    "models": ModelOptions,
    "losses": LossOptions,
    "initialisations": InitialisationOptions,
    "optimisers": OptimiserOptions,
    "schedules": ScheduleOptions,
    "measurements": MeasurementOptions,
}
"""The class that the options of each kind of part derive from."""
ENTRY = {
    "data": "generate",
    "models": "build",
    "losses": "build",
    "initialisations": "draw",
    "optimisers": "build",
    "schedules": "build",
    "measurements": "build",
    "figures": "draw",
}
"""The function that a part of each kind must have."""
_HAS_OPTIONS = re.compile(rb"^class Options\b", re.M)


@dataclass(frozen=True)
class Part:
    """A part that was found.

    Attributes:
        kind: its folder's name, `models` say.
        name: of its file or folder.
        file: holds its code.
        paper: key of its paper; empty for the library's.
    """

    kind: str
    name: str
    file: Path
    paper: str = ""

    @property
    def module(self) -> str:
        """Dotted name under which jobs import it."""
        return module_name(self.kind, self.name, self.paper)

    @property
    def options_file(self) -> Path:
        """Where its options stand."""
        return self.file.with_name("options.py") if self.folder else self.file

    @property
    def folder(self) -> bool:
        """Whether it is a folder of several files."""
        return self.file.name == "__init__.py"

    @property
    def options_module(self) -> str:
        """Dotted name of the module that its options are defined in, apart from its code."""
        return f"{self.module}.options" if self.folder else f"{self.module}__options"


@dataclass(frozen=True)
class Declared:
    """What a claim or a figure says of itself, read without running it.

    Attributes:
        part: the module it stands in.
        name: of the claim or figure.
        reads: quantities that it needs.
        draws: quantities that a figure draws too, where they were measured.
        cases: shell-style patterns of the cases it is about.
        controls: patterns of the cases on which a claim must fail.
        scope: what a verdict is about; empty for a figure.
    """

    part: Part
    name: str
    reads: tuple[str, ...] = ()
    cases: tuple[str, ...] = ("*",)
    scope: str = ""
    draws: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Registry:
    """Parts by kind and name.

    Args:
        papers: folder of each paper, by its key.
    """

    papers: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self):
        register(self.papers)

    # --- parts with options

    def parts(self, kind: str) -> dict[str, Part]:
        """Parts of a kind by name.

        Raises:
            ConfigError: two of them have one name.
        """
        return self._found[kind]

    @cached_property
    def _found(self) -> dict[str, dict[str, Part]]:
        return {kind: self._search(kind) for kind in OPTIONS}

    def _search(self, kind: str) -> dict[str, Part]:
        found: dict[str, Part] = {}
        for paper, folder in [("", LIBRARY), *self.papers.items()]:
            for part in _parts_in(folder / kind, kind, paper):
                if part.name in found:
                    raise ConfigError(
                        f"Two parts of the kind {kind!r} are called {part.name!r}: "
                        f"{found[part.name].file} and {part.file}. Rename one of them."
                    )
                found[part.name] = part
        return found

    def options_class(self, part: Part) -> type[Options]:
        """The class of a part's options, as its author wrote it.

        Raises:
            PartError: the file does not define it, or it is not of its kind's class.
        """
        found = outline.run_slice(part.options_file, "Options", part.options_module)
        base = OPTIONS[part.kind]
        if not (isinstance(found, type) and issubclass(found, base)):
            raise PartError(
                f"{part.options_file}: the class Options of a part of the kind {part.kind!r} must "
                f"derive from sharpflow.parts.options.{base.__name__}."
            )
        if again := sorted({*found.__annotations__} & {*base.model_fields}):
            raise PartError(
                f"{part.options_file}: every part of the kind {part.kind!r} has the option "
                f"{again[0]!r} already, with a meaning of its own; give this one another name."
            )
        if not _defines(part.file, ENTRY[part.kind]):
            raise PartError(
                f"{part.file} has no function {ENTRY[part.kind]!r}, which a part of the kind "
                f"{part.kind!r} must have."
            )
        return found

    # --- claims and figures

    def claim(self, name: str, paper: str) -> Declared:
        """The claim that an experiment of a paper names.

        Names are looked up in the paper, then in the library, then in the other papers;
        `paper/name` names another paper's.

        Raises:
            ConfigError: there is none, or several other papers have one.
        """
        return self._named("claims", name, paper)

    def figure(self, name: str, paper: str) -> Declared:
        """The figure that an experiment of a paper names; looked up as a claim is."""
        return self._named("figures", name, paper)

    def declared(self, kind: str, paper: str) -> dict[str, Declared]:
        """Claims or figures of one paper, or of the library, by name."""
        return self._declared[kind].get(paper, {})

    @cached_property
    def _declared(self) -> dict[str, dict[str, dict[str, Declared]]]:
        read = {"claims": _claims_in, "figures": _figures_in}
        homes = [("", LIBRARY), *self.papers.items()]
        return {
            kind: {paper: _collect(folder / kind, paper, reader) for paper, folder in homes}
            for kind, reader in read.items()
        }

    def _named(self, kind: str, name: str, paper: str) -> Declared:
        owner, _, short = name.rpartition("/")
        by_paper = self._declared[kind]
        if owner:
            if owner not in self.papers:
                raise ConfigError(
                    f"{kind[:-1]} {name!r}: there is no paper {owner!r} among "
                    f"{', '.join(self.papers) or 'none'}.{nearest(owner, self.papers)}"
                )
            homes = [owner]
        else:
            homes = [paper, ""] if paper else [""]
        for home in homes:
            if short in by_paper.get(home, {}):
                return by_paper[home][short]
        others = [p for p in self.papers if short in by_paper[p]] if not owner else []
        if len(others) == 1:
            return by_paper[others[0]][short]
        if others:
            raise ConfigError(
                f"{kind[:-1]} {name!r} is one of several papers': write "
                f"{' or '.join(f'{other}/{short}' for other in others)}."
            )
        known = sorted({n for home in by_paper.values() for n in home})
        raise ConfigError(
            f"there is no {kind[:-1]} {name!r}; there are {', '.join(known) or 'none'}."
            f"{nearest(short, known)}"
        )


def _parts_in(folder: Path, kind: str, paper: str) -> Iterable[Part]:
    """Parts of one folder: folders with an `options.py`, and files with a class `Options`."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith(("_", ".")):
            continue
        if (path / "options.py").is_file():
            yield Part(kind, name_of(path, kind), path / "__init__.py", paper)
        elif path.suffix == ".py" and _HAS_OPTIONS.search(path.read_bytes()):
            yield Part(kind, name_of(path, kind), path, paper)


def _defines(file: Path, function: str) -> bool:
    """Whether a file defines a name at its top level, or imports it there."""
    return any(function in outline.names(node) for node in parse(file).body)


Reader = Callable[[Part, ast.Module], Iterable[Declared]]


def _collect(folder: Path, paper: str, read: Reader) -> dict[str, Declared]:
    found: dict[str, Declared] = {}
    kind = folder.name
    for file in files_in(folder, ".py"):
        if file.name.startswith("_"):
            continue
        part = Part(kind, file.stem, file, paper)
        for item in read(part, parse(file)):
            name_of(file, kind)
            if item.name in found:
                raise ConfigError(
                    f"Two {kind} of one paper are called {item.name!r}: "
                    f"{found[item.name].part.file} and {file}. Rename one of them."
                )
            found[item.name] = item
    return found


def _literals(part: Part, tree: ast.Module, expressions: Mapping[str, ast.expr]) -> dict[str, Any]:
    try:
        return {key: outline.literal(tree, value) for key, value in expressions.items()}
    except ValueError as error:
        raise PartError(
            f"{part.file}: what a claim reads, its cases, controls and scope are read without "
            "running the file, so they must be texts, or constants of the same file."
        ) from error


def _claims_in(part: Part, tree: ast.Module) -> Iterable[Declared]:
    for name, keywords in outline.decorated(tree, "claim").items():
        read = ("reads", "cases", "controls", "scope")
        asked = {key: keywords[key] for key in read if key in keywords}
        said = _literals(part, tree, asked)
        yield Declared(
            part,
            name,
            tuple(said.get("reads", ())),
            tuple(said.get("cases", ("*",))),
            said.get("scope", "run"),
            controls=tuple(said.get("controls", ())),
        )


def _figures_in(part: Part, tree: ast.Module) -> Iterable[Declared]:
    if not any("draw" in outline.names(node) for node in tree.body):
        return
    try:
        reads, draws, cases = (
            tuple(outline.constant(tree, name, default))
            for name, default in (("READS", ()), ("DRAWS", ()), ("CASES", ("*",)))
        )
    except ValueError as error:
        raise PartError(
            f"{part.file}: READS, DRAWS and CASES are read without running the file, so they must "
            "be lists of texts."
        ) from error
    yield Declared(part, part.name, reads, cases, draws=draws)
