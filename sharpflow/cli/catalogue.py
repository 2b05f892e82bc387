"""What there is to run, to judge, to draw and to build from, and what each says of itself."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from sharpflow.config import load
from sharpflow.config.home import configurations
from sharpflow.config.load import merge
from sharpflow.config.papers import (
    PAPER_FILE,
    Found,
    PaperFolder,
    find_experiments,
    shipped_papers,
)
from sharpflow.config.reference import option_lines
from sharpflow.config.types import ConfigurationKeys, Types
from sharpflow.errors import ConfigError
from sharpflow.parts.registry import OPTIONS, Declared, Part, Registry
from sharpflow.parts.words import nearest


def configuration_file(name: str) -> Path:
    """The file of a configuration that is named as one that ships, or by its path.

    Raises:
        ConfigError: there is neither.
    """
    shipped = configurations()
    if name in shipped:
        return shipped[name]
    if Path(name).is_file():
        return Path(name)
    raise ConfigError(
        f"There is no configuration {name!r}: give the path of a YAML file, or one of "
        f"{', '.join(shipped)}.{nearest(name, shipped)}"
    )


def base_of(experiment: str) -> Path:
    """The first configuration that ships and runs an experiment, at the scale it was made for.

    Raises:
        ConfigError: none runs it.
    """
    known: dict[str, None] = {}
    for file in configurations().values():
        experiments = load(file).experiments
        if experiment in experiments:
            return file
        known |= dict.fromkeys(experiments)
    file = Path(ConfigurationKeys.model_fields["experiments_folder"].default, f"{experiment}.yaml")
    raise ConfigError(
        f"There is no experiment {experiment!r}.{nearest(experiment, known)} {file} is not in this "
        f"folder, {Path.cwd()}, and none that ships is called so (`sharpflow list`); one of a "
        "paper's folder of yours is run with --config and its configuration."
    )


@dataclass(frozen=True)
class Catalogue:
    """What some papers and the library hold.

    Attributes:
        papers: by key.
        experiments_folder: of experiments beside those of the papers.
    """

    papers: dict[str, PaperFolder]
    experiments_folder: str

    @cached_property
    def types(self) -> Types:
        """Types of the configuration, with the registry of parts."""
        return Types(Registry({key: paper.folder for key, paper in self.papers.items()}))

    @cached_property
    def experiments(self) -> dict[str, Found]:
        """Experiments by name."""
        return find_experiments(self.papers, self.experiments_folder)

    def declared(self, kind: str) -> dict[str, Declared]:
        """Claims or figures by name; `paper/name` where one of another paper has the name."""
        found: dict[str, Declared] = {}
        for paper in (*self.papers, ""):
            for name, item in self.types.registry.declared(f"{kind}s", paper).items():
                if item.reads:  # else it draws, and is no figure of its own
                    found[f"{paper}/{name}" if name in found else name] = item
        return found

    def parts(self) -> dict[str, Part]:
        """Parts by name; `kind/name` where one of another kind has the name."""
        found: dict[str, Part] = {}
        for kind in OPTIONS:
            for name, part in self.types.registry.parts(kind).items():
                found[f"{kind}/{name}" if name in found else name] = part
        return found

    def names(self, kind: str) -> list[str]:
        """Names of all experiments, claims, figures, parts or papers."""
        if kind == "paper":
            return list(self.papers)
        if kind == "experiment":
            return list(self.experiments)
        return list(self.parts() if kind == "part" else self.declared(kind))


def catalogue(file: str | Path | None = None) -> Catalogue:
    """What a configuration can name; without one, all that ships and `config/experiments` here."""
    if file is None:
        folder = ConfigurationKeys.model_fields["experiments_folder"].default
        return Catalogue(shipped_papers(), folder)
    settings = load(file)
    return Catalogue(settings.papers, settings.configuration.experiments_folder)


def listed(found: Catalogue, kind: str) -> Iterator[tuple[str, str, str]]:
    """Name, home and a line of text of each thing of a kind."""
    if kind == "paper":
        for key, home in found.papers.items():
            yield key, home.paper.venue, home.paper.title
    elif kind == "experiment":
        for name, item in found.experiments.items():
            document = item.read()
            home = item.home.key if item.home else str(document.get("paper", ""))
            yield name, home, str(document.get("title", ""))
    elif kind == "part":
        for name, part in found.parts().items():
            options = found.types.options(part.kind)[part.name]
            yield name, f"{part.kind}{f', {part.paper}' if part.paper else ''}", _first(options)
    else:
        for name, item in found.declared(kind).items():
            text = _claim(item)["statement"] if kind == "claim" else _figure(item)["title"]
            yield name, item.part.paper or "sharpflow", text


def _first(options: type) -> str:
    """The first sentence of a docstring."""
    return " ".join((options.__doc__ or "").split("\n\n")[0].split())


def shown(found: Catalogue, kind: str, name: str, changes: Mapping[str, Any] | None = None) -> str:
    """What is known of one thing, as text.

    Args:
        found: where it is looked for.
        kind: paper, experiment, claim, figure or part.
        name: as `Catalogue.names` has it.
        changes: to an experiment, of the configuration that runs it.

    Raises:
        ConfigError: there is no such thing.
    """
    known = found.names(kind)
    if name not in known:
        raise ConfigError(
            f"There is no {kind} {name!r}.{nearest(name, known)} `sharpflow list {kind}s` shows "
            "those there are. What a paper's folder of yours holds is found with --config and its "
            "configuration."
        )
    if kind == "paper":
        return _paper(found, found.papers[name])
    if kind == "experiment":
        return _experiment(found.experiments[name], changes or {})
    if kind == "part":
        return _part(found.types, found.parts()[name])
    users = [
        experiment
        for experiment, item in found.experiments.items()
        if name.rpartition("/")[2] in _named(item.read(), f"{kind}s")
    ]
    declared = found.declared(kind)[name]
    describe = _claim if kind == "claim" else _figure
    lines = {**describe(declared), "experiments": ", ".join(users) or "(none)"}
    if kind == "claim":
        for key, home in found.papers.items():
            paper, plain = home.paper, name.rpartition("/")[2]
            if plain in paper.sources:
                lines[f"source ({key})"] = paper.sources[plain]
            for experiment, why in paper.explanations.items():
                for case, text in why.get(plain, {}).items():
                    lines[f"where it fails ({experiment}, {case})"] = text
    return _lines(name, lines, declared.part.file)


def _named(document: Mapping[str, Any], key: str) -> list[str]:
    named = document.get(key, [])
    values = named.values() if isinstance(named, dict) else named
    return [str(value).rpartition("/")[2] for value in values]


def _lines(name: str, lines: Mapping[str, str], file: Path | str) -> str:
    kept = {key: text for key, text in lines.items() if text} | {"file": str(file)}
    width = max(map(len, kept))
    return "\n".join([name, *(f"  {key.ljust(width)}  {text}" for key, text in kept.items())])


def _paper(found: Catalogue, home: PaperFolder) -> str:
    """What a paper says, what stands for each statement, and what is run and drawn for it."""
    paper = home.paper
    lines = {
        "title": paper.title,
        "authors": paper.authors,
        "venue": paper.venue,
        "link": paper.link,
    }
    for number, said in enumerate(paper.says, 1):
        text, claims = (said, []) if isinstance(said, str) else (said.text, said.claims)
        lines[f"says ({number})"] = text
        lines[f"judged by ({number})"] = ", ".join(claims)
    lines |= {f"states ({claim})": value for claim, value in paper.published.items()}
    mine = (name for name, item in found.experiments.items() if item.home is home)
    lines |= {"experiments": ", ".join(mine), "figures": ", ".join(paper.figures)}
    return _lines(home.key, lines, home.folder / PAPER_FILE)


def _experiment(item: Found, changes: Mapping[str, Any]) -> str:
    document = merge(item.read(), changes)
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=None)
    return f"# {item.file}\n{text}".rstrip()


def _part(types: Types, part: Part) -> str:
    options = types.options(part.kind)[part.name]
    heading = f"{part.kind}/{part.name}: {_first(options)}"
    return "\n".join([heading, *option_lines(options), f"file: {part.options_file}"])


def _claim(declared: Declared) -> dict[str, str]:
    claim = import_module("sharpflow.claims.base").load_claim(declared.part.module, declared.name)
    band = import_module("sharpflow.report.text").band
    return {
        "statement": claim.statement,
        "statistic": " ".join((claim.statistic.__doc__ or "").split()),
        "method": claim.method,
        "estimand": claim.estimand,
        "band": band(*claim.band),
        "origin": claim.origin,
        "revised": claim.revised,
        "diverged": claim.diverged,
        "reads": ", ".join(claim.reads),
        "cases": ", ".join(claim.cases),
    }


def _figure(declared: Declared) -> dict[str, str]:
    module = import_module(declared.part.module)
    return {
        "title": module.TITLE,
        "about": " ".join((module.__doc__ or "").split()),
        "reads": ", ".join(declared.reads),
        "draws": ", ".join(declared.draws),
        "cases": ", ".join(declared.cases),
    }
