"""The sweep as lists of jobs: pure data, known before the first job starts."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sharpflow.config.feasible import BY_THE_WAY, claimed, matching, measured
from sharpflow.config.load import Settings
from sharpflow.config.numbers import canonical
from sharpflow.config.parts import in_parts
from sharpflow.config.types import parts_in, user_paths
from sharpflow.errors import ConfigError
from sharpflow.parts.loading import PAPERS
from sharpflow.parts.names import RULE, is_name
from sharpflow.parts.registry import Declared
from sharpflow.storage.files import fingerprint

TRAINED_BY = ("model", "loss", "optimiser", "schedule")
"""Parts of a set-up that training uses, beside its data."""


@dataclass(frozen=True)
class Shard:
    """The runs of one (experiment, case, width, learning rate) for one block of seeds.

    Attributes:
        datasets: keys of `Plan.datasets`: the one of all runs, or one a run.
        training: plain values that the training job needs.
        measurements: plain options of each measurement that the evaluation job makes.
        training_code, measuring_code: modules and files that the jobs load by name.
        measuring_papers: folder of each paper whose measurements are made, by its key.
    """

    experiment: str
    case: str
    width: int
    learning_rate: str
    seeds: str
    datasets: tuple[str, ...]
    training: dict[str, Any]
    measurements: dict[str, Any]
    training_code: tuple[str, ...]
    measuring_code: tuple[str, ...]
    measuring_papers: dict[str, str]

    @property
    def folder(self) -> str:
        """Path below the results root, unique to the shard."""
        return (
            f"runs/{self.experiment}/{self.case}/width={self.width}/lr={self.learning_rate}/"
            f"seeds={self.seeds}"
        )

    @property
    def evaluation(self) -> dict[str, Any]:
        """Plain values that the evaluation job needs."""
        papers = self.training.get("paper_folders", {}) | self.measuring_papers
        plain = {"training": self.training, "measurements": self.measurements}
        return plain | ({"paper_folders": papers} if papers else {})

    @property
    def described(self) -> dict[str, Any]:
        """What aggregation needs: the run's columns, and whose tables it expects."""
        return {
            "case": self.case,
            "width": self.width,
            "learning_rate": float(self.learning_rate),
            "trajectories": fingerprint(self.training),
            "measured": fingerprint(self.evaluation),
        }


@dataclass(frozen=True)
class Dataset:
    """A dataset that is made once.

    Attributes:
        spec: plain values that the job needs.
        code: modules and files that the job loads by name.
        inputs: the user's files that it is made from.
    """

    spec: dict[str, Any]
    code: tuple[str, ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """One figure, and the experiments whose tables it draws.

    Attributes:
        paper, name: what it is called.
        module: dotted name of the module that draws it.
        experiments: names, in the configuration's order.
    """

    paper: str
    name: str
    module: str
    experiments: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """One claim that is judged on one experiment.

    Attributes:
        module: dotted name of the module that the claim stands in.
        reads: quantities that a figure has to draw for the claim to be judged on what is seen.
        cases: those of the experiment that it is about.
        figure: name of the figure of the experiment that draws what the claim reads; empty if none
            does.
    """

    name: str
    module: str
    figure: str
    reads: tuple[str, ...]
    cases: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that a configuration asks for.

    Attributes:
        papers: what the page says of each paper that has an experiment, by key, in order.
        folders: folder of each listed paper, by key.
    """

    datasets: dict[str, Dataset]
    shards: dict[str, Shard]
    figures: list[Figure]
    settings: dict[str, dict[str, Any]]
    claims: dict[str, list[Verdict]]
    papers: dict[str, dict[str, Any]]
    folders: dict[str, str]

    def shards_of(self, experiment: str) -> list[Shard]:
        """The shards of one experiment."""
        return self._by_experiment.get(experiment, [])

    @cached_property
    def _by_experiment(self) -> dict[str, list[Shard]]:
        found: dict[str, list[Shard]] = {}
        for shard in self.shards.values():
            found.setdefault(shard.experiment, []).append(shard)
        return found

    def parts_of(self, experiment: str) -> dict[str, list[Shard]]:
        """The shards of one experiment by the part of its table that they go to."""
        return self._parts[experiment]

    @cached_property
    def _parts(self) -> dict[str, dict[str, list[Shard]]]:
        return {
            name: in_parts(((s.case, str(s.width), s.learning_rate), s) for s in shards)
            for name, shards in self._by_experiment.items()
        }

    def folders_of(self, modules: Iterable[str]) -> dict[str, str]:
        """Folders of the papers that modules stand in, by key."""
        return folders_of(modules, self.folders)


def folders_of(modules: Iterable[str], folders: Mapping[str, str]) -> dict[str, str]:
    """Of the folders of papers, by key, those that modules stand in."""
    keys = {m.split(".")[1] for m in modules if m.startswith(f"{PAPERS}.")}
    return {key: folder for key, folder in folders.items() if key in keys}


def _code(options: Iterable[Any]) -> tuple[str, ...]:
    """Modules and files that a job loads for some parts and those that they name."""
    found: dict[str, None] = {}
    for part in (part for one in options for part in parts_in(one)):
        found[part.part.module] = None
        for name, mark in user_paths(part):
            if mark.holds == "code":
                found[str(getattr(part, name))] = None
    return tuple(found)


def _files(options: Any) -> tuple[str, ...]:
    """The user's data files that a source reads."""
    found: set[str] = set()
    for name, mark in user_paths(options):
        path = Path(getattr(options, name))
        if mark.holds == "data":
            found |= {str(p) for p in path.glob(mark.pattern) if p.is_file()} or {str(path)}
    return tuple(sorted(found))


def _dataset_name(data: Mapping[str, Any], label: str) -> str:
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:8]
    parts = [data["source"], str(data.get("samples") or ""), label, digest]
    name = "-".join(part for part in parts if part)
    if not is_name(name):
        raise ConfigError(
            f"The label {label!r} of the data source {data['source']!r} stands in the name of a "
            f"file, which may have {RULE}."
        )
    return name


def _with_papers(spec: dict[str, Any], folders: Mapping[str, str]) -> dict[str, Any]:
    return spec | ({"paper_folders": dict(folders)} if folders else {})


class _Planner:
    """Collects the jobs of a configuration."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.folders = {key: str(paper.folder) for key, paper in settings.papers.items()}
        self.datasets: dict[str, Dataset] = {}
        self.shards: dict[str, Shard] = {}

    def dataset(self, data: Any) -> str:
        """Name of a dataset, which is planned."""
        spec, code = data.model_dump(mode="json"), _code([data])
        name = _dataset_name(spec, data.label)
        self.datasets[name] = Dataset(
            _with_papers(spec, folders_of(code, self.folders)), code, _files(data)
        )
        return name

    def datasets_of(self, data: Any, seeds: list[int]) -> tuple[str, ...]:
        """Names of the datasets of some seeds, which are planned: one if they share it."""
        names = [self.dataset(data.of_seed(seed)) for seed in seeds]
        return tuple(names) if len(set(names)) > 1 else (names[0],)

    def stream(self, experiment: str, case: str, width: int, rate: str) -> str:
        """Name of the stream of a run's random numbers."""
        if self.settings.experiments[experiment].common_random_numbers:
            return experiment
        return f"{experiment}/{case}/{width}/{rate}"

    def case(self, experiment: str, case: str, setup: Any) -> None:
        """Plan the shards of a case."""
        options = self.settings.experiments[experiment]
        configuration = self.settings.configuration
        plain = setup.model_dump(mode="json")
        trained = _code(getattr(setup, key) for key in TRAINED_BY)
        chosen = dict(measured(setup))
        measuring = _code(chosen.values())
        common = {key: plain[key] for key in (*TRAINED_BY, "training", "dtype")}
        seeds = list(options.seed_range)
        size = options.seeds_per_job
        blocks = [seeds[first : first + size] for first in range(0, len(seeds), size)]
        data = [self.datasets_of(setup.data, members) for members in blocks]
        papers = folders_of(trained, self.folders)
        measuring_papers = folders_of(measuring, self.folders)
        chosen_options = {name: plain["measurements"][name] for name in chosen}
        for width in setup.widths:
            for rate in setup.learning_rates:
                for members, datasets in zip(blocks, data, strict=True):
                    training = {
                        "stream": self.stream(experiment, case, width, canonical(rate)),
                        "seeds": members,
                        "width": width,
                        "learning_rate": float(canonical(rate)),
                        "device": configuration.device,
                    } | common
                    shard = Shard(
                        experiment,
                        case,
                        width,
                        canonical(rate),
                        f"{members[0]}-{members[-1]}",
                        datasets,
                        _with_papers(training, papers),
                        chosen_options,
                        trained,
                        measuring,
                        measuring_papers,
                    )
                    self.shards[shard.folder] = shard


def _figures(settings: Settings, papers: Iterable[str]) -> list[Figure]:
    users: dict[tuple[str, str], dict[str, Declared]] = {}
    for experiment, figures in settings.figures.items():
        for name, declared in figures.items():
            key = (settings.experiments[experiment].paper, name)
            users.setdefault(key, {})[experiment] = declared
    order = list(papers)

    def place(key: tuple[str, str]) -> tuple[int, int, str]:
        paper, name = key
        folder = settings.papers.get(paper)
        listed = folder.paper.figures if folder else []
        return order.index(paper), listed.index(name) if name in listed else len(listed), name

    return [
        Figure(paper, name, next(iter(chosen.values())).part.module, tuple(chosen))
        for (paper, name), chosen in sorted(users.items(), key=lambda item: place(item[0]))
    ]


def _verdicts(settings: Settings, experiment: str) -> list[Verdict]:
    """The claims of an experiment, each beside the first figure that draws what it reads."""
    figures, found = settings.figures[experiment], []
    for claim in settings.claims[experiment]:
        cases = claimed(claim, settings.cases[experiment])
        wanted = set(claim.reads) - BY_THE_WAY or set(claim.reads)
        beside = (
            name
            for name, f in figures.items()
            if wanted <= {*f.reads, *f.draws} and set(cases) <= {*matching(f.cases, cases)}
        )
        found.append(
            Verdict(
                claim.name,
                claim.part.module,
                next(beside, ""),
                tuple(sorted(wanted)),
                tuple(cases),
            )
        )
    return found


def _described(settings: Settings, name: str) -> dict[str, Any]:
    """An experiment's settings as tables, figures and the page get them."""
    experiment = settings.experiments[name].model_dump(mode="json")
    cases = {}
    for case, setup in settings.cases[name].items():
        plain = setup.model_dump(mode="json")
        plain["measurements"] = {k: v for k, v in plain["measurements"].items() if v is not None}
        cases[case] = plain | {
            "threshold_symbol": setup.optimiser.threshold_symbol,
            "rate_symbol": setup.schedule.rate_symbol,
            "preconditioned": "preconditioner" in setup.optimiser.capabilities(),
        }
    return experiment | {"cases": cases}


def _told(settings: Settings, key: str) -> dict[str, Any]:
    """What the page says of a paper."""
    if key not in settings.papers:
        return {"key": key, "title": key}
    home = settings.papers[key]
    recorded = home.recorded()
    told = home.paper.model_dump(mode="json", exclude={"experiments"})
    return told | ({"recorded": recorded} if recorded else {})


def differences(settings: Settings) -> dict[str, dict[str, Any]]:
    """The settings of each experiment that are not the defaults; under `cases` those of each."""
    found = {}
    elsewhere = {*settings.types.setup.model_fields, "cases", "paper", "title", "figures", "claims"}
    for name, experiment in settings.experiments.items():
        cases = {case: _chosen(setup) for case, setup in settings.cases[name].items()}
        plain = {k: v for k, v in _chosen(experiment).items() if k not in elsewhere}
        found[name] = plain | {"cases": cases}
    return found


def _chosen(options: BaseModel) -> dict[str, Any]:
    """What differs from the defaults; a part with all at its defaults is that where it is one."""
    plain = options.model_dump(mode="json", exclude_defaults=True)
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        if isinstance(value, BaseModel) and name in plain:
            plain[name] = _chosen(value)
            if plain[name] == {"kind": field.default}:
                del plain[name]
    return plain


def make_plan(settings: Settings) -> Plan:
    """Every dataset, shard, figure and verdict of a configuration."""
    planner = _Planner(settings)
    for experiment, cases in settings.cases.items():
        for case, setup in cases.items():
            planner.case(experiment, case, setup)
    used = [experiment.paper for experiment in settings.experiments.values()]
    keys = [key for key in settings.papers if key in used]
    keys += sorted(set(used) - set(keys))
    papers = {key: _told(settings, key) for key in keys}
    return Plan(
        planner.datasets,
        planner.shards,
        _figures(settings, keys),
        {name: _described(settings, name) for name in settings.experiments},
        {name: _verdicts(settings, name) for name in settings.experiments},
        papers,
        planner.folders,
    )
