"""The folders of papers that a configuration lists, and the experiments that are found."""

import os
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from sharpflow.config.explain import explain
from sharpflow.config.home import HOME
from sharpflow.config.types import Paper, Recorded
from sharpflow.config.yaml_files import read_yaml
from sharpflow.errors import ConfigError
from sharpflow.parts.names import files_in, name_of

PAPER_FILE, RECORDED_FILE = "paper.yaml", "recorded.yaml"
TARGETS = frozenset(
    {"all", "figures", "claims", "report", "manifest", "generate_data", "train", "aggregate"}
    | {"integrate_flow", "evaluate_sharpness", "judge_claims", "collect_claims", "plot_figure"}
)
"""Names of Snakemake's rules, which no paper can have: each paper is a target."""


@dataclass(frozen=True)
class PaperFolder:
    """A paper's folder.

    Attributes:
        folder: as paths to it are written: relative where the configuration's was.
        paper: what its `paper.yaml` says.
    """

    folder: Path
    paper: Paper

    @property
    def key(self) -> str:
        """The paper's key."""
        return self.paper.key

    def recorded(self) -> dict[str, Any] | None:
        """What is kept of a finished run at the paper's own scale; None where nothing is.

        Raises:
            ConfigError: the file has another form.
        """
        file = self.folder / RECORDED_FILE
        if not file.is_file():
            return None
        found = validated(Recorded, read_yaml(file), lambda keys: str(file))
        return found.model_dump(mode="json")


@dataclass(frozen=True)
class Found:
    """An experiment that was found.

    Attributes:
        name: its name.
        file: where it stands, for messages.
        read: gives its document.
        home: the paper whose folder it stands in, if any.
    """

    name: str
    file: str
    read: Callable[[], dict[str, Any]]
    home: PaperFolder | None = None


def validated(
    model: type[BaseModel],
    document: Any,
    file_of: Callable[[list[str]], str],
    further: Mapping[str, type[BaseModel]] | None = None,
) -> Any:
    """A document as a model; the last two arguments are those of `explain`.

    Raises:
        ConfigError: one paragraph for what is wrong first.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigError(explain(error, model, document, file_of, further)) from None


def is_paper(folder: str | Path) -> bool:
    """Whether a folder has a `paper.yaml` that is no configuration: a paper names no results.

    Raises:
        ConfigError: the file is not YAML.
    """
    file = Path(folder) / PAPER_FILE
    return file.is_file() and "results" not in read_yaml(file)


def beside(name: str, folders: Sequence[str | Path]) -> Path | None:
    """A path that is relative to the first of the folders in which it exists; None if to none."""
    try:
        path = Path(name).expanduser()
        if path.is_absolute():
            return path if path.exists() else None
        places = (Path(os.path.normpath(Path(folder) / path)) for folder in folders)
        return next((place for place in places if place.exists()), None)
    except (OSError, ValueError, RuntimeError):  # a name that the system cannot have
        return None


def read_papers(file: str | Path, folders: Sequence[str]) -> dict[str, PaperFolder]:
    """The papers of a configuration by key, in its order.

    Args:
        file: the configuration's, beside which folders are looked for first.
        folders: paths of the papers' folders, relative to the file, to the working directory or to
            the workflow's own folder, in this order.

    Raises:
        ConfigError: a folder is not there, has no `paper.yaml` or a wrong one, or a key of another.
    """
    papers: dict[str, PaperFolder] = {}
    for name in folders:
        folder = beside(name, (Path(file).parent, ".", HOME))
        if folder is None or not folder.is_dir():
            shipped = ", ".join(f"papers/{place.parent.name}" for place in _shipped())
            raise ConfigError(
                f"{file}: papers names {name!r}, which is no folder beside that file or in the "
                f"working directory, {Path.cwd()}, and none that comes with sharpflow ({shipped})."
            )
        described = folder / PAPER_FILE
        if not described.is_file():
            raise ConfigError(
                f"{file}: papers names {name!r}, but {folder} has no {PAPER_FILE}, which makes a "
                "folder a paper: a file with `key: a_short_name` and `title: …` is enough."
            )
        paper = validated(Paper, read_yaml(described), lambda keys, at=described: str(at))
        if paper.key in TARGETS:
            raise ConfigError(
                f"{described}: key = {paper.key!r} is the name of one of the workflow's targets; "
                "give the paper another key."
            )
        if paper.key in papers:
            raise ConfigError(
                f"{file}: two papers have the key {paper.key!r}: {papers[paper.key].folder} and "
                f"{folder}. Give one of them another key in its {PAPER_FILE}."
            )
        papers[paper.key] = PaperFolder(folder, paper)
    return papers


def _shipped() -> list[Path]:
    return sorted((HOME / "papers").glob(f"*/{PAPER_FILE}"))


def shipped_papers() -> dict[str, PaperFolder]:
    """Every paper that comes with sharpflow, by key."""
    folder = HOME / "papers"
    return read_papers(folder / PAPER_FILE, [file.parent.name for file in _shipped()])


def find_experiments(papers: Mapping[str, PaperFolder], folder: str | Path) -> dict[str, Found]:
    """Every experiment by name: those of the papers, then those of the further folder.

    Raises:
        ConfigError: two have one name.
    """
    found: dict[str, Found] = {}

    def add(item: Found) -> None:
        if item.name in found:
            raise ConfigError(
                f"Two experiments are called {item.name!r}: {found[item.name].file} and "
                f"{item.file}. Rename one of them."
            )
        found[item.name] = item

    for home in papers.values():
        for file in yaml_files(home.folder / "experiments"):
            name = name_of(file, "experiments")
            add(_of_file(name, file, home))
        where = home.folder / PAPER_FILE
        for name, document in home.paper.experiments.items():
            add(Found(name, f"{where} (experiments.{name})", lambda d=document: dict(d), home))
    for file in yaml_files(folder):
        name = name_of(file, "experiments")
        add(_of_file(name, file))
    return found


def _of_file(name: str, file: Path, home: PaperFolder | None = None) -> Found:
    """An experiment that a file holds, which is read once, when it is first asked for."""
    once = cache(partial(read_yaml, file))
    return Found(name, str(file), lambda: deepcopy(once()), home)


def yaml_files(folder: str | Path) -> list[Path]:
    """The YAML files of a folder, sorted; none where there is no folder.

    Raises:
        ConfigError: one ends in `.yml`, which would be passed over.
    """
    for file in files_in(Path(folder), ".yml"):
        raise ConfigError(f"{str(file)!r}: the file of an experiment ends in '.yaml'; rename it.")
    return files_in(Path(folder), ".yaml")
