"""In what a configuration falls short of another one of the same experiments."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sharpflow.config.home import HOME
from sharpflow.config.load import Settings, merge
from sharpflow.config.papers import beside, find_experiments, read_papers
from sharpflow.config.yaml_files import read_yaml
from sharpflow.errors import ConfigError

BESIDE_THE_SCALE = ("figures", "claims", "title", "paper", "seeds_per_job", "cases")
"""Keys of an experiment that say nothing of the scale at which it is run."""

Difference = tuple[str, str, str]
"""A setting, its value here, and its value at full scale."""


def shortfalls(file: str, settings: Settings) -> dict[str, list[Difference]] | None:
    """What differs, by experiment, from the configuration that `full_scale` names.

    Args:
        file: the configuration's own.
        settings: what it says.

    Returns:
        Differences by experiment, none for one that is run at full scale; an experiment that the
        other configuration does not run is left out. None where no other one is named.

    Raises:
        ConfigError: there is no such file.
    """
    named = settings.configuration.full_scale
    if named is None:
        return None
    other = beside(named, (Path(file).parent, ".", HOME))
    if other is None or not other.is_file():
        raise ConfigError(
            f"{file}: full_scale names {named!r}, which is no file beside it, in the working "
            "directory, or that comes with sharpflow."
        )
    configuration = settings.configuration
    full = read_yaml(other)
    changes, left_out = full.get("overrides") or {}, full.get("leave_out") or []
    found = find_experiments(settings.papers, configuration.experiments_folder)
    listed = read_papers(other, full.get("papers") or [])
    documents = {
        name: found[name].read()
        for name in settings.experiments
        if name not in left_out and (home := found[name].home) and home.key in listed
    }
    seeds = configuration.seeds, full.get("seeds")
    return {
        name: differences(
            _changed(document, configuration.overrides.get(name, {}), seeds[0]),
            _changed(document, changes.get(name, {}), seeds[1]),
        )
        for name, document in documents.items()
    }


def _changed(
    document: Mapping[str, Any], override: Mapping[str, Any], seeds: int | None
) -> dict[str, Any]:
    return merge(document, override) | ({} if seeds is None else {"seeds": seeds})


def differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[Difference]:
    """Settings of an experiment's document that another one has otherwise.

    Of the cases, those of `here` that `there` has too are compared; one that is missing here is
    named.
    """
    kept = ({k: v for k, v in each.items() if k not in BESIDE_THE_SCALE} for each in (here, there))
    found = list(_compared(*kept))
    own, others = here.get("cases") or {}, there.get("cases") or {}
    for case, setup in others.items():
        if case in own:
            found += [(f"{case}: {key}", a, b) for key, a, b in _compared(own[case], setup)]
        else:
            found.append((f"case {case}", "left out", "run"))
    return found


def _compared(here: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[Difference]:
    return differing(dict(_flat(here)), dict(_flat(there)), "default")


def differing(
    here: Mapping[str, str], there: Mapping[str, str], absent: str
) -> Iterator[Difference]:
    """Keys whose values differ, with both; `absent` stands for the value that one lacks."""
    for key in dict.fromkeys([*here, *there]):
        values = here.get(key, absent), there.get(key, absent)
        if values[0] != values[1]:
            yield key, *values


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield f"{prefix}{key}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{key}", "none" if value is None else str(value)
