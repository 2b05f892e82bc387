"""Commented, working files to begin with: an experiment, a paper, a part."""

import re
from pathlib import Path

from sharpflow.config.home import HOME
from sharpflow.config.papers import (
    PAPER_FILE,
    TARGETS,
    PaperFolder,
    find_experiments,
    is_paper,
    read_papers,
    shipped_papers,
)
from sharpflow.config.types import ConfigurationKeys
from sharpflow.errors import ConfigError
from sharpflow.parts import names
from sharpflow.parts.registry import OPTIONS, Registry

SKELETONS = Path(__file__).with_name("skeletons")
PART_KINDS = (*OPTIONS, "claims", "figures")
"""Folders of a paper that parts lie in."""
_PLACEHOLDER = re.compile(r"\bNAME\b")


def new_experiment(name: str, paper: str | Path | None = None) -> list[Path]:
    """Write an experiment of existing parts.

    Args:
        name: the experiment's.
        paper: folder of the paper that it belongs to; by default it stands in `config/experiments`,
            beside all papers.

    Returns:
        The files.

    Raises:
        ConfigError: the name is none or that of another experiment, the paper's folder is none, or
            the file is there already.
    """
    _named(name)
    papers, beside = _papers(paper), ConfigurationKeys.model_fields["experiments_folder"].default
    taken = find_experiments(papers, beside).get(name)
    _refuse_taken("experiment", name, taken and taken.file)
    text = _text("experiment.yaml", name)
    if paper is None:
        return _written({Path("config", "experiments", f"{name}.yaml"): text})
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith("paper:")]
    return _written({paper_folder(paper) / "experiments" / f"{name}.yaml": "".join(lines)})


def new_paper(name: str) -> list[Path]:
    """Write the folder `papers/<name>`: an experiment, a claim, a figure, and what runs them.

    Args:
        name: the paper's key.

    Returns:
        The files.

    Raises:
        ConfigError: the name is none or that of a target or of another paper, or a file is there
            already.
    """
    _named(name)
    if name in TARGETS:
        raise ConfigError(f"{name!r} is the name of one of the workflow's targets; choose another.")
    taken = _papers(None).get(name)
    _refuse_taken("paper", name, taken and taken.folder)
    folder = Path("papers", name)
    files = {folder / n: _text(f"paper/{n}", name) for n in (PAPER_FILE, "config.yaml")}
    files[folder / "experiments" / "first.yaml"] = _text("paper/first.yaml", name)
    files[folder / "claims" / "first.py"] = _text("part/claims.py", "loss_falls")
    files[folder / "figures" / "first.py"] = _text("part/figures.py", "first")
    return _written(files)


def new_part(name: str, kind: str, paper: str | Path | None = None) -> list[Path]:
    """Write a part of a paper.

    Args:
        name: the part's, and for a claim that of its function too.
        kind: one of `PART_KINDS`.
        paper: folder of the paper; by default the one paper of the user's here.

    Returns:
        The files.

    Raises:
        ConfigError: the name or the kind is none, the name is that of another part of the kind,
            there is no such paper, or the file is there already.
    """
    _named(name)
    if kind == "claims" and not name.isidentifier():
        raise ConfigError(f"{name!r}: a claim is a Python function, so its name has no '-'.")
    folder = paper_folder(paper)
    own = _read(folder)
    registry = Registry({key: home.folder for key, home in _papers(folder).items()})
    if kind in OPTIONS:
        taken = registry.parts(kind).get(name)
    else:  # one of another paper, or of the library, may have the name
        declared = registry.declared(kind, own.key).get(name)
        taken = declared and declared.part
    _refuse_taken(f"part of the kind {kind!r}", name, taken and taken.file)
    return _written({folder / kind / f"{name}.py": _text(f"part/{kind}.py", name)})


def _read(folder: str | Path) -> PaperFolder:
    (paper,) = read_papers(Path(folder) / PAPER_FILE, ["."]).values()
    return paper


def _papers(folder: str | Path | None) -> dict[str, PaperFolder]:
    """The papers that ship, and one of the user's, which stands for the one of its key."""
    own = [] if folder is None else [_read(paper_folder(folder))]
    return shipped_papers() | {paper.key: paper for paper in own}


def _refuse_taken(what: str, name: str, where: object) -> None:
    if where is not None:
        raise ConfigError(
            f"the {what} {name!r} exists already; nothing was written: it is {where}. Choose "
            "another name."
        )


def paper_folder(folder: str | Path | None = None) -> Path:
    """A paper's folder: the one that is named, or the only one here that does not ship.

    Raises:
        ConfigError: it has no `paper.yaml`, or there is none or several.
    """
    if folder is not None:
        if not is_paper(folder):
            raise ConfigError(
                f"{folder} has no {PAPER_FILE} of a paper: `sharpflow new paper NAME` makes a "
                "paper's folder."
            )
        return Path(folder)
    places = [*Path(".").glob(PAPER_FILE), *sorted(Path("papers").glob(f"*/{PAPER_FILE}"))]
    shipped = {path.resolve() for path in (HOME / "papers").glob("*")}
    folders = [place.parent for place in places if place.parent.resolve() not in shipped]
    found = [folder for folder in folders if is_paper(folder)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"There are several papers here; choose with --in: {_list(found)}.")
    raise ConfigError(
        "A part lies in a paper's folder, and there is none here: `sharpflow new paper NAME` makes "
        "one, and --in names one elsewhere."
    )


def _list(paths: list[Path]) -> str:
    return ", ".join(map(str, paths))


def _named(name: str) -> None:
    if not names.is_name(name):
        raise ConfigError(f"{name!r}: a name has {names.RULE}.")


def _text(skeleton: str, name: str) -> str:
    return _PLACEHOLDER.sub(name, (SKELETONS / skeleton).read_text(encoding="utf-8"))


def _written(files: dict[Path, str]) -> list[Path]:
    """Write files, none or all, and never over one that is there."""
    if there := [path for path in files if path.exists()]:
        raise ConfigError(f"{_list(there)} exists already; nothing was written.")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(files)
