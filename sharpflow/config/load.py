"""From YAML files to validated settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from sharpflow.config.explain import explain, nearest
from sharpflow.config.limits import check_jobs, check_memory
from sharpflow.config.types import (
    Cifar10,
    Configuration,
    Experiment,
    Gaussian,
    Setup,
    Whitened,
)
from sharpflow.config.yaml_files import read_yaml
from sharpflow.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """A validated configuration.

    Attributes:
        configuration: the top-level file.
        experiments: the experiments to run, by name, overrides merged in.
        cases: each experiment's cases, each a whole set-up.
    """

    configuration: Configuration
    experiments: dict[str, Experiment]
    cases: dict[str, dict[str, Setup]]


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


def _set_path(document: Mapping[str, Any], path: str) -> None:
    """Have CIFAR-10 data without a `path` read from `path`, in an experiment and its cases."""
    shared = document.get("data")
    cases = document.get("cases")
    parts = [document, *(cases.values() if isinstance(cases, Mapping) else [])]
    for part in parts:
        data = part.get("data") if isinstance(part, Mapping) else None
        if not isinstance(data, dict):
            continue
        inherited = shared.get("source") if isinstance(shared, Mapping) else None
        if data.get("source", inherited) == "cifar10":
            data.setdefault("path", path)


def _holds(document: Any, keys: list[str]) -> bool:
    for key in keys:
        name = key.partition("[")[0]
        if not isinstance(document, Mapping) or name not in document:
            return False
        document = document[name]
    return True


def _files(folder: str | Path, pattern: str) -> list[Path]:
    try:
        return sorted(Path(folder).glob(pattern))
    except (OSError, ValueError):  # a name that the system cannot have
        return []


def _validate(model: type[BaseModel], document: Any, file_of) -> Any:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigError(explain(error, model, document, file_of)) from None


def load(path: str | Path, changes: Mapping[str, Any] | None = None) -> Settings:
    """Read and validate a configuration and the experiments that it runs.

    Args:
        path: file such as `config/config.yaml`.
        changes: top-level keys that take the place of the file's.

    Raises:
        ConfigError: anything is wrong; the message is one paragraph that names the file and key.
    """
    top = merge(read_yaml(path), changes or {})
    configuration = _validate(Configuration, top, lambda keys: str(path))
    folder = Path(configuration.experiments_folder)
    available = [file.stem for file in _files(folder, "*.yaml")]
    if not available:
        raise ConfigError(f"{path}: experiments_folder = '{folder}' holds no YAML file.")
    chosen = available if configuration.experiments == "all" else configuration.experiments
    for key, names in (
        ("experiments", chosen),
        ("leave_out", configuration.leave_out),
        ("overrides", configuration.overrides),
    ):
        for name in names:
            if name not in available:
                raise ConfigError(
                    f"{path}: {key} names {name!r}, but {folder} has no {name}.yaml. Experiments "
                    f"there: {', '.join(available)}.{nearest(name, available)}"
                )
    experiments: dict[str, Experiment] = {}
    cases: dict[str, dict[str, Setup]] = {}
    for name in (name for name in chosen if name not in configuration.leave_out):
        file = folder / f"{name}.yaml"
        override = configuration.overrides.get(name, {})
        document = merge(read_yaml(file), override)
        if configuration.cifar10_path is not None:
            _set_path(document, configuration.cifar10_path)

        def file_of(keys: list[str], override=override, file=file, name=name) -> str:
            found = keys and _holds(override, keys)
            return f"{path} (overrides.{name})" if found else str(file)

        experiments[name] = _validate(Experiment, document, file_of)
        runs = experiments[name].seeds_per_job
        cases[name] = {
            case: _case(document, case, file_of, runs) for case in experiments[name].cases
        }
        check_jobs(experiments[name], cases[name], file_of(["seeds"]))
        _check_pictured_seed(experiments[name], cases[name], file_of)
    return Settings(configuration, experiments, cases)


def _case(document: Mapping[str, Any], case: str, file_of, runs: int) -> Setup:
    own = document["cases"][case]
    shared = {key: document[key] for key in Setup.model_fields if key in document}
    where = ["cases", case]

    def case_file_of(keys: list[str]) -> str:
        inside = _holds(own, keys) and bool(keys)
        file = file_of(where + keys if inside else keys)
        return f"{file}, cases.{case}" if inside else file

    setup = _validate(Setup, merge(shared, own), case_file_of)
    _check_dataset(setup, case_file_of)
    check_memory(setup, runs, case_file_of)
    return setup


def _check_pictured_seed(experiment: Experiment, cases: Mapping[str, Setup], file_of) -> None:
    first, last = experiment.first_seed, experiment.first_seed + experiment.seeds - 1
    for case, setup in cases.items():
        options = setup.measurements.representations
        if options is None or options.grams_of is None or first <= options.grams_of <= last:
            continue
        file = file_of(["measurements", "representations", "grams_of"])
        raise ConfigError(
            f"{file}: measurements.representations.grams_of = {options.grams_of} in the case "
            f"{case!r}: the matrices are those of one of the experiment's seeds, {first} to {last}."
        )


def _check_dataset(setup: Setup, file_of) -> None:
    data = setup.data
    where = file_of(["data"])
    local = isinstance(data, Cifar10) and data.path is not None
    if local and not _files(data.path, "data_batch_*.bin"):
        raise ConfigError(
            f"{where}: data.path = {data.path!r} holds no data_batch_*.bin. Give the folder of the "
            "unpacked binary version of CIFAR-10 (cifar-10-batches-bin, from "
            "https://www.cs.toronto.edu/~kriz/cifar.html), leave data.path out to have it "
            "downloaded, or set data.source to 'photos'."
        )
    batch, samples = setup.training.batch, data.samples
    if batch is not None and samples is not None and batch > samples:
        raise ConfigError(
            f"{file_of(['training', 'batch'])}: training.batch = {batch} is larger than the "
            f"dataset (data.samples = {samples})."
        )
    gaussian, kind = isinstance(data, Gaussian), setup.model.kind
    takes_gaussian = kind in ("two_layer", "scale_invariant", "circle")
    if gaussian != takes_gaussian:
        allowed = "'gaussian'" if takes_gaussian else "'photos', 'cifar10' or 'whitened'"
        raise ConfigError(
            f"{where}: data.source = {data.source!r} does not go with model.kind = {kind!r}, "
            f"which takes {allowed}."
        )
    if kind == "cnn" and isinstance(data, Whitened):
        raise ConfigError(
            f"{where}: data.source = 'whitened' does not go with model.kind = 'cnn', which takes "
            "images: 'photos' or 'cifar10'."
        )
    if not gaussian:
        return
    if kind == "circle" and (data.inputs, data.outputs, data.teacher) != (2, 1, "identity"):
        raise ConfigError(
            f"{where}: model.kind = 'circle' takes data with 2 inputs, 1 output and teacher "
            f"'identity', not {data.inputs}, {data.outputs} and {data.teacher!r}."
        )
    closed_form = kind == "circle" or getattr(setup.model, "activation", "") == "linear"
    if batch is None and samples is None and not closed_form:
        raise ConfigError(
            f"{where}: training.batch = null with data.samples = null is gradient descent on the "
            "population's loss, which only linear networks and 'circle' have in closed form; give "
            "data.samples a number."
        )
