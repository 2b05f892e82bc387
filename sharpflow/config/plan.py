"""The sweep as lists of jobs: pure data, known before the first job starts."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sharpflow.config.load import Settings
from sharpflow.config.numbers import canonical
from sharpflow.config.types import Setup
from sharpflow.errors import ConfigError
from sharpflow.storage.files import fingerprint


@dataclass(frozen=True)
class Shard:
    """The runs of one (experiment, case, width, learning rate) for one block of seeds.

    Attributes:
        folder: path below the results root, unique to the shard.
        dataset: key of `Plan.datasets`.
        training: plain values that the training job needs.
        measurements: plain options of each measurement that the evaluation job makes.
    """

    experiment: str
    case: str
    width: int
    learning_rate: str
    seeds: str
    dataset: str
    training: dict[str, Any]
    measurements: dict[str, Any]

    @property
    def folder(self) -> str:
        return (
            f"runs/{self.experiment}/{self.case}/width={self.width}/lr={self.learning_rate}/"
            f"seeds={self.seeds}"
        )

    @property
    def evaluation(self) -> dict[str, Any]:
        """Plain values that the evaluation job needs."""
        return {"training": self.training, "measurements": self.measurements}

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
class Figure:
    """One figure: its module, and the experiments whose tables it draws."""

    paper: str
    name: str
    module: str
    experiments: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that a configuration asks for."""

    datasets: dict[str, dict[str, Any]]
    shards: dict[str, Shard]
    figures: list[Figure]
    settings: dict[str, dict[str, Any]]

    def shards_of(self, experiment: str) -> list[Shard]:
        """The shards of one experiment."""
        return [shard for shard in self.shards.values() if shard.experiment == experiment]


def _dataset_name(data: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:8]
    parts = [data["source"], str(data.get("samples") or ""), data.get("scaling", ""), digest]
    return "-".join(part for part in parts if part)


def _shards(settings: Settings, experiment: str, case: str, setup: Setup) -> list[Shard]:
    options = settings.experiments[experiment]
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    plain = setup.model_dump(mode="json")
    measurements = {n: o for n, o in plain["measurements"].items() if o is not None}
    shards = []
    for width in setup.widths:
        for rate in setup.learning_rates:
            for first in range(0, len(seeds), options.seeds_per_job):
                members = list(seeds[first : first + options.seeds_per_job])
                training = {
                    "experiment": experiment,
                    "seeds": members,
                    "width": width,
                    "learning_rate": float(canonical(rate)),
                    "device": settings.configuration.device,
                } | {key: plain[key] for key in ("model", "loss", "training", "dtype")}
                shards.append(
                    Shard(
                        experiment,
                        case,
                        width,
                        canonical(rate),
                        f"{members[0]}-{members[-1]}",
                        _dataset_name(plain["data"]),
                        training,
                        measurements,
                    )
                )
    return shards


def _figures(settings: Settings) -> list[Figure]:
    users: dict[tuple[str, str], dict[str, str]] = {}
    for experiment, options in settings.experiments.items():
        for name, module in options.figure_modules.items():
            users.setdefault((options.paper, name), {})[experiment] = module
    figures = []
    for (paper, name), chosen in sorted(users.items()):
        if len(set(chosen.values())) > 1:
            raise ConfigError(
                f"The figure {paper}/{name} is given different modules by the experiments "
                f"{', '.join(sorted(chosen))}: {', '.join(sorted(set(chosen.values())))}."
            )
        figures.append(Figure(paper, name, next(iter(chosen.values())), tuple(sorted(chosen))))
    return figures


def make_plan(settings: Settings) -> Plan:
    """Every dataset, shard and figure of a configuration."""
    datasets: dict[str, dict[str, Any]] = {}
    shards: dict[str, Shard] = {}
    for experiment, cases in settings.cases.items():
        for case, setup in cases.items():
            data = setup.data.model_dump(mode="json")
            datasets[_dataset_name(data)] = data
            for shard in _shards(settings, experiment, case, setup):
                shards[shard.folder] = shard
    described = {
        name: options.model_dump(mode="json")
        | {"cases": {c: s.model_dump(mode="json") for c, s in settings.cases[name].items()}}
        for name, options in settings.experiments.items()
    }
    return Plan(datasets, shards, _figures(settings), described)
