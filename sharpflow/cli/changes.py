"""A configuration that runs one experiment with some of its settings changed."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sharpflow.config.home import HOME
from sharpflow.config.keys import all_places, places
from sharpflow.config.load import Settings, merge, settings_of
from sharpflow.config.papers import find_experiments
from sharpflow.config.types import TAGS, WORD, ExperimentKeys
from sharpflow.config.yaml_files import parse_yaml, read_yaml
from sharpflow.errors import ConfigError
from sharpflow.parts.words import nearest
from sharpflow.storage.files import VOUCHED, fingerprint

PARTS = {word.lower(): TAGS.get(kind, "kind") for kind, word in WORD.items()}
"""Keys of a set-up that hold a part, with the key that names it."""
_LONGEST, _LONGEST_LABEL = 80, 40


@dataclass(frozen=True)
class Changed:
    """What is to be run.

    Attributes:
        name: of the results folder below `results/`.
        document: the configuration, as it will be written.
    """

    name: str
    document: dict[str, Any]

    @property
    def file(self) -> Path:
        """Where the configuration is written."""
        return Path(self.document["results"]) / "config.yaml"


def pair(text: str) -> tuple[str, Any]:
    """A key and its value, from `key=value` with the value in YAML.

    Raises:
        ConfigError: there is no `=`, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not (key.strip() and equals):
        raise ConfigError(f"--set {text}: write key=value, such as activation=gelu.")
    return key.strip(), parse_yaml(value, f"--set {text}")


def key_of(key: str, settings: Settings, experiment: str) -> str:
    """The whole dotted key of an experiment that a key, or the end of one, stands for.

    Raises:
        ConfigError: there is none, or there are several.
    """
    own = set(ExperimentKeys.model_fields) - {"cases", "paper"}
    cases = settings.cases[experiment].values()
    found = {place for setup in cases for place in places(setup, key)} | ({key} & own)
    if key in found:
        return key
    if len(found) == 1:
        return found.pop()
    if found:
        raise ConfigError(
            f"--set {key}=…: the experiment {experiment!r} has several such keys; write one of "
            f"{', '.join(sorted(found))}."
        )
    elsewhere = places(settings.types.experiment, key)
    if "." in key and elsewhere:
        return elsewhere[0]  # of another part than it has now, which is perhaps set too
    known = {place.rpartition(".")[2] for setup in cases for place in all_places(setup)} | own
    if elsewhere:
        raise ConfigError(
            f"--set {key}=…: nothing that the experiment {experiment!r} is made of has such a key."
            f"{nearest(key, known)} {elsewhere[0]} is one: to set it, choose the part that has it "
            f"too, by --set {elsewhere[0].partition('.')[0]}=NAME, and write this key whole."
        )
    raise ConfigError(
        f"--set {key}=…: the experiment {experiment!r} has no such key.{nearest(key, known)} "
        f"`sharpflow show experiment {experiment}` shows its settings."
    )


def changed(
    file: Path,
    settings: Settings,
    experiment: str,
    pairs: Sequence[tuple[str, Any]] = (),
    cases: Sequence[str] = (),
    seeds: int | None = None,
    name: str | None = None,
) -> Changed:
    """The configuration that runs one experiment of another configuration, changed.

    A value holds for every case. Where cases differ in its key, those that are then alike become
    one, and each such case is named by the value and by what else it changes: a case that was named
    by the old value would lie.

    Args:
        file: of the other configuration.
        settings: what `load` made of it.
        experiment: its name.
        pairs: keys, whole or their ends, and values.
        cases: names of the cases to keep; all by default.
        seeds: their number.
        name: of the results folder; made of the changes by default.

    Raises:
        ConfigError: a key, a case or a value is wrong.
    """
    top = read_yaml(file)
    found = find_experiments(settings.papers, settings.configuration.experiments_folder)
    written = found[experiment].read()
    wanted = merge(written, top.get("overrides", {}).get(experiment, {}))
    if unknown := [case for case in cases if case not in wanted["cases"]]:
        raise ConfigError(
            f"--case {unknown[0]}: the experiment {experiment!r} has the cases "
            f"{', '.join(wanted['cases'])}.{nearest(unknown[0], wanted['cases'])}"
        )
    kept = {case: own for case, own in wanted["cases"].items() if not cases or case in cases}
    for short, value in pairs:
        key = key_of(short, settings, experiment)
        if key == "seeds":
            seeds = value
            continue
        if key in PARTS and isinstance(value, str):
            value = {PARTS[key]: value}
        setups = settings.cases[experiment]
        having = [case for case in kept if case not in setups or places(setups[case], key)]
        kept, shared = _alike(kept, key, value, having)
        wanted = merge(wanted, _nested(key, value)) if shared else wanted
    wanted["cases"] = kept
    changes = difference(written, wanted)
    if merge(written, changes) != wanted:
        raise ConfigError(
            f"The experiment {experiment!r} has a case with a null, which no override can say: "
            f"copy {found[experiment].file} into config/experiments/, under another name, and "
            "change it there."
        )
    name = name or _name(experiment, pairs, cases, seeds)
    # with other settings it is no smaller version of the paper's experiment
    replaced = (*_REPLACED, *(["full_scale"] if pairs else []))
    result = Changed(
        name,
        {
            "results": f"results/{name}",
            "papers": [_portable(paper.folder) for paper in settings.papers.values()],
            "experiments": [experiment],
            **{key: value for key, value in top.items() if key not in replaced},
            **({"seeds": seeds} if seeds is not None else {}),
            **({"overrides": {experiment: changes}} if changes else {}),
        },
    )
    by_set = any(key_of(key, settings, experiment) == "seeds" for key, _ in pairs)
    options = {"seeds": "--set" if by_set else "--seeds", "results": "--name"}
    settings_of(result.document, result.file, options, overrides_from="--set")
    return result


_REPLACED = ("results", "papers", "experiments", "leave_out", "overrides")


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What `merge` puts over one mapping to have another; a null in `new` is beyond it."""
    changes: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if value == before and key in old:
            continue
        changes[key] = value
        if not (isinstance(value, Mapping) and isinstance(before, Mapping)):
            continue
        if all(value.get(tag) == before.get(tag) for tag in ("source", "kind")):
            changes[key] = difference(before, value)
    return changes


def _portable(folder: Path) -> str:
    """A paper's folder as any working directory can name it."""
    whole = folder.resolve()
    return str(whole.relative_to(HOME)) if whole.is_relative_to(HOME) else str(whole)


def _nested(key: str, value: Any) -> dict[str, Any]:
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def _removed(document: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """A mapping without a nested key, and without the mappings that it leaves empty."""
    first, *rest = keys
    kept = {k: v for k, v in document.items() if k != first}
    inner = document.get(first)
    if rest and isinstance(inner, Mapping) and (left := _removed(inner, rest)):
        kept = {k: (left if k == first else v) for k, v in document.items()}
    elif rest and not isinstance(inner, Mapping) and first in document:
        kept = dict(document)
    return kept


def _alike(
    cases: Mapping[str, dict[str, Any]], key: str, value: Any, having: Sequence[str]
) -> tuple[dict[str, Any], bool]:
    """Cases with one value of a key, those that are then alike as one.

    Args:
        cases: what each changes.
        key: dotted.
        value: of all cases from now on.
        having: names of the cases whose parts have the key.

    Returns:
        The cases, and whether the value is to stand beside them: a case that brings the part that
        the key is of has it itself.
    """
    made: dict[str, Any] = {}
    shared = not having
    keys = key.split(".")
    for name, own in cases.items():
        left = _removed(own, keys)
        brings = _brings(own, keys[:-1])
        new = merge(left, _nested(key, value)) if brings and name in having else left
        shared = shared or (name in having and not brings)
        if left == own:
            made[name] = new
        elif new not in made.values():
            made[_free(_label(name, key, value, left), made)] = new
    return made, shared


def _brings(case: Mapping[str, Any], keys: Sequence[str]) -> bool:
    """Whether a case names the part that a key is of."""
    inner: Any = case
    for key in keys:
        inner = inner.get(key) if isinstance(inner, Mapping) else None
        if isinstance(inner, Mapping) and {"kind", "source"} & inner.keys():
            return True
    return False


def _free(name: str, taken: Iterable[str]) -> str:
    names = [name, *(f"{name}_{n}" for n in range(2, 1000))]
    return next(each for each in names if each not in taken)


def _label(name: str, key: str, value: Any, left: Mapping[str, Any]) -> str:
    """The name of a case: the value that all have, and what else it changes.

    Where that is long, its old name and the key with the value.
    """
    short = key.rpartition(".")[2]
    text = _clean("_".join([*_words(value), *_words(left)]))
    if len(text) > _LONGEST_LABEL:
        text = _clean("_".join([name, short, *_words(value)]))
    return (text if text[:1].isalpha() else f"{short}_{text}")[:_LONGEST]


def _words(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [word for inner in value.values() for word in _words(inner)]
    if isinstance(value, list | tuple):
        return [word for inner in value for word in _words(inner)]
    return [str(value)]


def _clean(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")


def _name(
    experiment: str, pairs: Sequence[tuple[str, Any]], cases: Sequence[str], seeds: int | None
) -> str:
    """A folder's name that says what was changed."""
    words = [experiment, *cases]
    for key, value in (each for each in pairs if each[0] != "seeds"):
        words += [key.rpartition(".")[2], *_words(value)]
    words += [] if seeds is None else ["seeds", str(seeds)]
    text = "-".join(re.sub(r"[^A-Za-z0-9._-]+", "-", word).strip("-.") for word in words)
    whole = [list(map(str, each)) for each in pairs]
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}-{fingerprint(whole)[:8]}"


HEADER = "# Written by `{command}`, and written over by the next run of this name.\n"


def whole(file: Path) -> Changed:
    """A configuration as it is."""
    document = read_yaml(file)
    return Changed(document.get("results", ""), document)


def write(result: Changed, command: str) -> Path:
    """Write a configuration into its results folder; its path.

    Raises:
        ConfigError: the folder holds the results of a configuration that was not written here.
    """
    file = result.file
    start = HEADER.partition("{")[0]
    theirs = any((file.parent / name).is_dir() for name in VOUCHED) and not file.is_file()
    if theirs or (file.is_file() and not file.read_text(encoding="utf-8").startswith(start)):
        raise ConfigError(
            f"{file.parent} holds results of another configuration, or one that was not written by "
            "`sharpflow run`; choose another folder with --name."
        )
    text = yaml.safe_dump(result.document, sort_keys=False, allow_unicode=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(HEADER.format(command=command) + text, encoding="utf-8")
    return file
