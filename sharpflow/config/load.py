"""From YAML files to validated settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sharpflow.config.alone import is_experiment
from sharpflow.config.feasible import check_claim, check_figure, check_parts
from sharpflow.config.limits import check_jobs, check_memory, check_results
from sharpflow.config.papers import (
    PAPER_FILE,
    Found,
    PaperFolder,
    beside,
    find_experiments,
    read_papers,
    validated,
)
from sharpflow.config.types import ConfigurationKeys, Statement, Types, parts_in, user_paths
from sharpflow.config.yaml_files import read_yaml
from sharpflow.errors import ConfigError, DataError, PartError
from sharpflow.parts.options import Options, UserPath
from sharpflow.parts.registry import Declared, Registry
from sharpflow.parts.words import nearest

FileOf = Callable[[list[str]], str]
_SHOWN = 200


@dataclass(frozen=True)
class Settings:
    """A validated configuration.

    Attributes:
        configuration: the top-level file.
        papers: the papers that it lists, by key.
        types: types of the configuration, with the registry of parts.
        experiments: the experiments to run, by name, overrides merged in; each has its paper's key.
        cases: each experiment's cases, each a whole set-up.
        claims: each experiment's claims.
        figures: each experiment's figures, by name.
    """

    configuration: Any
    papers: dict[str, PaperFolder]
    types: Types
    experiments: dict[str, Any]
    cases: dict[str, dict[str, Any]]
    claims: dict[str, list[Declared]]
    figures: dict[str, dict[str, Declared]]


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`changes` over `base`, mapping by mapping; `None` removes a key.

    A mapping that names another `source` or `kind` than its base replaces it whole.
    """
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            other = isinstance(old, Mapping) and any(
                tag in value and value[tag] != old.get(tag) for tag in ("source", "kind")
            )
            merged[key] = merge(old if isinstance(old, Mapping) and not other else {}, value)
        else:
            merged[key] = value
    return merged


def _set_paths(document: Mapping[str, Any], paths: Mapping[str, str]) -> None:
    """Have data without a `path` read from that of their source, in an experiment and its cases."""
    shared = document.get("data")
    cases = document.get("cases")
    parts = [document, *(cases.values() if isinstance(cases, Mapping) else [])]
    for part in parts:
        data = part.get("data") if isinstance(part, Mapping) else None
        if not isinstance(data, dict):
            continue
        inherited = shared.get("source") if isinstance(shared, Mapping) else None
        source = data.get("source", inherited)
        if isinstance(source, str) and source in paths:
            data.setdefault("path", paths[source])


def _set_seeds(document: dict[str, Any], seeds: int) -> None:
    """Give an experiment so many seeds, in jobs of at most as many as it has now."""
    together = document.get("seeds_per_job", 1)
    document["seeds"] = seeds
    if isinstance(together, int) and together > 1:
        most = min(together, seeds)
        document["seeds_per_job"] = next(n for n in range(most, 0, -1) if seeds % n == 0)


def _holds(document: Any, keys: list[str]) -> bool:
    for key in keys:
        name = key.partition("[")[0]
        if not isinstance(document, Mapping) or name not in document:
            return False
        document = document[name]
    return True


def load(path: str | Path, changes: Mapping[str, Any] | None = None) -> Settings:
    """Read and validate a configuration and the experiments that it runs.

    Args:
        path: file such as `config/config.yaml`.
        changes: top-level keys that take the place of the file's.

    Raises:
        ConfigError: anything is wrong; the message is one paragraph that names the file and key.
        PartError: the file of a part is not one.
    """
    top = read_yaml(path)
    if is_experiment(top):
        name = Path(path).stem
        raise ConfigError(
            f"{path} is the file of an experiment, and not a configuration, which says what is run "
            f"and where results go: `sharpflow run {name}` makes one for a file in "
            f"{ConfigurationKeys.model_fields['experiments_folder'].default}, `sharpflow check` "
            "checks the file by itself, and a configuration names it under `experiments:`."
        )
    return settings_of(merge(top, changes or {}), path, dict.fromkeys(changes or {}, "--config"))


def settings_of(
    top: Mapping[str, Any],
    path: str | Path,
    options: Mapping[str, str] | None = None,
    overrides_from: str = "",
) -> Settings:
    """Validate a configuration's document and the experiments that it runs.

    Args:
        top: what the file holds, or will hold.
        path: the file, beside which papers are looked for and which messages name.
        options: what messages name in place of the file, by top-level keys that came from there.
        overrides_from: what messages name in place of the file where an override is wrong.

    Raises:
        ConfigError: as for `load`.
        PartError: likewise.
    """

    def file_of(keys: list[str]) -> str:
        return (options or {}).get(keys[0] if keys else "", str(path))

    listed = validated(_Listed, {k: top[k] for k in ("papers",) if k in top}, file_of)
    papers = read_papers(path, listed.papers)
    types = Types(Registry({key: paper.folder for key, paper in papers.items()}))
    further = {"overrides.NAME": types.experiment}
    configuration = validated(types.configuration, top, file_of, further)
    check_results(configuration.results, file_of(["results"]))
    found = find_experiments(papers, configuration.experiments_folder)
    paths = {key.removesuffix("_path"): value for key, value in configuration if _is_path(key)}
    given = {source: value for source, value in paths.items() if value is not None}
    settings = Settings(configuration, papers, types, {}, {}, {}, {})
    for name in _chosen(path, configuration, list(found)):
        override = configuration.overrides.get(name, {})
        document = merge(found[name].read(), override)
        if configuration.seeds is not None:
            _set_seeds(document, configuration.seeds)
        _set_paths(document, given)
        where = overrides_from or f"{path} (overrides.{name})"
        _add(settings, found[name], document, _namer(where, found[name], override))
    _check_figures(settings, found)
    _check_statements(settings, found)
    return settings


def _is_path(key: str) -> bool:
    return key.endswith("_path")


class _Listed(ConfigurationKeys):
    """The part of a configuration that has to be known before the rest can be validated."""

    model_config = ConfigurationKeys.model_config
    results: str = "results"


def _chosen(path: str | Path, configuration: Any, available: list[str]) -> list[str]:
    """Names of the experiments to run."""
    if not available:
        raise ConfigError(
            f"{path}: there is no experiment: none of its papers has a folder `experiments` with a "
            f"YAML file, and neither has experiments_folder = "
            f"'{configuration.experiments_folder}'."
        )
    chosen = available if configuration.experiments == "all" else configuration.experiments
    for key, names in (
        ("experiments", chosen),
        ("leave_out", configuration.leave_out),
        ("overrides", configuration.overrides),
    ):
        for name in names:
            if name not in available:
                raise ConfigError(
                    f"{path}: {key} names {name!r}, but there is no such experiment. There are "
                    f"{', '.join(available)}.{nearest(name, available)}"
                )
    return [name for name in chosen if name not in configuration.leave_out]


def _namer(where: str, found: Found, override: Mapping[str, Any]) -> FileOf:
    def file_of(keys: list[str]) -> str:
        return where if keys and _holds(override, keys) else found.file

    return file_of


def _add(settings: Settings, found: Found, document: dict[str, Any], file_of: FileOf) -> None:
    """Validate an experiment and its cases."""
    types, name = settings.types, found.name
    experiment = validated(types.experiment, document, file_of)
    if found.home is not None and experiment.paper not in (None, found.home.key):
        raise ConfigError(
            f"{file_of(['paper'])}: paper = {experiment.paper!r}, but the file stands in the "
            f"folder of {found.home.key!r}; leave the key out."
        )
    paper = found.home.key if found.home else experiment.paper
    if paper is None:
        raise ConfigError(f"{file_of([])}: the key 'paper' is missing.")
    experiment = experiment.model_copy(update={"paper": paper})
    home = found.home or settings.papers.get(paper)
    folders = ([home.folder] if home else []) + [Path()]
    cases = {
        case: _case(types, document, case, file_of, experiment, folders)
        for case in experiment.cases
    }
    check_jobs(experiment, cases, file_of(["seeds"]))
    claims, figures = _named(settings, experiment, paper, file_of)
    for claim in claims:
        check_claim(claim, cases, types, file_of(["claims"]))
    settings.experiments[name] = experiment
    settings.cases[name] = cases
    settings.claims[name] = claims
    settings.figures[name] = figures


def _named(
    settings: Settings, experiment: Any, paper: str, file_of: FileOf
) -> tuple[list[Declared], dict[str, Declared]]:
    """Claims and figures that an experiment names."""
    registry = settings.types.registry
    try:
        keys = ["claims"]
        claims = [registry.claim(name, paper) for name in experiment.claims]
        keys = ["figures"]
        figures = {n: registry.figure(m, paper) for n, m in experiment.figure_modules.items()}
    except ConfigError as error:
        raise ConfigError(f"{file_of(keys)}: {keys[0]}: {error}") from None
    return claims, figures


def _case(
    types: Types,
    document: Mapping[str, Any],
    case: str,
    file_of: FileOf,
    experiment: Any,
    folders: list[Path],
) -> Any:
    own = document["cases"][case]
    shared = {key: document[key] for key in types.setup.model_fields if key in document}
    where = ["cases", case]

    def case_file_of(keys: list[str]) -> str:
        inside = _holds(own, keys) and bool(keys)
        file = file_of(where + keys if inside else keys)
        return f"{file}, cases.{case}" if inside else file

    setup = validated(types.setup, merge(shared, own), case_file_of)
    setup = _resolved(setup, folders, case_file_of, [])
    _check_files(setup, case_file_of)
    check_parts(setup, experiment.seed_range, types, case_file_of)
    check_memory(setup, experiment.seeds_per_job, case_file_of)
    return setup


def _check_files(setup: Any, file_of: FileOf) -> None:
    """Refuse a user's files that the parts of a set-up could not use.

    Raises:
        ConfigError: it is so.
    """
    for key in type(setup).model_fields:
        value = getattr(setup, key)
        for part in parts_in(value) if isinstance(value, BaseModel) else ():
            try:
                part.check_files()
            except (PartError, DataError) as error:
                raise ConfigError(f"{file_of([key])}: {key}: {error}") from None


def _resolved(options: Any, folders: list[Path], file_of: FileOf, keys: list[str]) -> Any:
    """Options with the paths to a user's files as jobs will open them.

    Raises:
        ConfigError: there is no such file, or its folder has none of the kind.
    """
    changes: dict[str, Any] = {}
    for name in type(options).model_fields:
        value = getattr(options, name)
        if isinstance(value, BaseModel):
            changed = _resolved(value, folders, file_of, [*keys, name])
            if changed is not value:
                changes[name] = changed
    if isinstance(options, Options):
        for name, mark in user_paths(options):
            value = getattr(options, name)
            changes[name] = _user_path(value, mark, folders, file_of, [*keys, name])
    return options.model_copy(update=changes) if changes else options


def _user_path(
    value: str, mark: UserPath, folders: list[Path], file_of: FileOf, keys: list[str]
) -> str:
    shown = repr(value if len(value) < _SHOWN else f"{value[:_SHOWN]}…")
    key = f"{file_of(keys)}: {'.'.join(keys)} = {shown}"
    wanted = "" if mark.pattern == "*" else f" with {mark.pattern}"
    found = beside(value, folders)
    if found is None or (mark.holds == "code" and not found.is_file()):
        places = (
            "" if Path(value).is_absolute() else f" in {' or '.join(map(_named_folder, folders))}"
        )
        kind = "file" if mark.holds == "code" else f"file or folder{wanted}"
        raise ConfigError(f"{key}: there is no such {kind}{places}. {mark.advice}".rstrip())
    if found.is_dir() and not any(found.glob(mark.pattern)):
        raise ConfigError(f"{key} holds no {mark.pattern}. {mark.advice}".rstrip())
    return str(found)


def _named_folder(folder: Path) -> str:
    return "the working directory" if folder == Path() else str(folder)


def _check_statements(settings: Settings, found: Mapping[str, Found]) -> None:
    """Refuse what a paper says of claims and experiments that do not exist."""
    for key, home in settings.papers.items():
        named = [
            name for each in home.paper.says if isinstance(each, Statement) for name in each.claims
        ]
        paper = home.paper
        where = f"{home.folder / PAPER_FILE}"
        for experiment, claims in paper.explanations.items():
            if experiment not in found:
                raise ConfigError(
                    f"{where}: explanations has {experiment!r}, which is no experiment."
                    f"{nearest(experiment, found)}"
                )
            known = ["all", *(found[experiment].read().get("cases") or {})]
            for case in (case for texts in claims.values() for case in texts):
                if case not in known:
                    raise ConfigError(
                        f"{where}: explanations.{experiment} has {case!r}, which is no case of it."
                        f"{nearest(case, known)}"
                    )
        explained = [name for claims in paper.explanations.values() for name in claims]
        for name in [*named, *paper.published, *paper.sources, *explained]:
            try:
                settings.types.registry.claim(name, key)
            except ConfigError as error:
                raise ConfigError(f"{where}: {error}") from None


def _check_figures(settings: Settings, found: Mapping[str, Found]) -> None:
    """Refuse figures that no experiment can feed, and two modules for one figure."""
    users: dict[tuple[str, str], dict[str, Declared]] = {}
    for experiment, figures in settings.figures.items():
        for name, declared in figures.items():
            key = (settings.experiments[experiment].paper, name)
            users.setdefault(key, {})[experiment] = declared
    for (paper, name), chosen in users.items():
        modules = {figure.part.module for figure in chosen.values()}
        if len(modules) > 1:
            raise ConfigError(
                f"The figure {paper}/{name} is given different modules by the experiments "
                f"{', '.join(sorted(chosen))}: {', '.join(sorted(modules))}."
            )
        cases = {experiment: settings.cases[experiment] for experiment in chosen}
        first = next(iter(chosen))
        check_figure(name, chosen[first], cases, settings.types, found[first].file)
