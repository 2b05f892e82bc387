"""The reference of the configuration, made from its types and from the parts that are found."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from sharpflow.config.papers import shipped_papers
from sharpflow.config.types import BY_KEY, Paper, Training, Types
from sharpflow.parts.registry import Registry

_FIRST = ("data", "model", "loss", "optimiser", "schedule", "widths", "learning_rates")
"""Keys of a set-up that come first, in this order."""


def shipped() -> Types:
    """Types of the configuration with all parts that ship: the library's and those of papers."""
    return Types(Registry({key: paper.folder for key, paper in shipped_papers().items()}))


def schema(types: Types) -> str:
    """JSON schema of the three kinds of file, as text."""
    documents = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sharpflow configuration",
        "description": "$defs/Configuration: config/*.yaml; $defs/Experiment: the experiments/ of "
        "a paper; $defs/Paper: paper.yaml.",
    }
    definitions: dict[str, Any] = {}
    for model in (types.configuration, types.experiment, Paper):
        part = model.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= part.pop("$defs", {})
        definitions[model.__name__] = part
    return json.dumps(documents | {"$defs": definitions}, indent=2, sort_keys=True) + "\n"


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    for key in ("anyOf", "oneOf"):
        if key in field:
            found = [_type(part) for part in field[key]]
            return " or ".join(dict.fromkeys(found))
    kind = field.get("type", "anything")
    if kind == "array":
        return f"list of {_type(field['items'])}"
    if kind == "object":
        inner = field.get("additionalProperties")
        return f"mapping to {_type(inner)}" if isinstance(inner, dict) else "mapping"
    signs = {
        "minimum": "≥",
        "maximum": "≤",
        "exclusiveMinimum": ">",
        "exclusiveMaximum": "<",
        "multipleOf": "multiple of",
        "minItems": "at least",
        "maxItems": "at most",
    }
    bounds = [f"{signs[key]} {field[key]:g}" for key in signs if key in field]
    return " ".join(["`null`" if kind == "null" else kind, ", ".join(bounds)]).strip()


def _default(field: dict[str, Any], required: bool) -> str:
    if required:
        return "required"
    if isinstance(field.get("default"), dict) and field["default"]:
        return "its keys' defaults"
    return f"`{json.dumps(field.get('default'))}`"


def _table(part: dict[str, Any], keys: list[str]) -> list[str]:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key in keys:
        field = part["properties"][key]
        kind = _CHOICES.get(key)
        cells = [
            f"`{key}`",
            f"one of the [{kind}](#{kind})" if kind else _type(field).replace("|", "\\|"),
            _default(field, key in part.get("required", [])),
            field.get("description", "").replace("|", "\\|").replace("\n", " "),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def option_lines(options: type[BaseModel]) -> list[str]:
    """The options of a part, a line each: key, type, default, meaning."""
    part = options.model_json_schema(ref_template="#/$defs/{model}")
    lines = []
    for key, field in part.get("properties", {}).items():
        kind = f"one of the {_CHOICES[key]}" if key in _CHOICES else _type(field)
        default = _default(field, key in part.get("required", []))
        meaning = " ".join(field.get("description", "").split())
        lines.append(f"  {key}: {kind}; {default}. {meaning}".replace("`", ""))
    return lines


_HEADER = """# Configuration

`config.yaml` is the default; `paper.yaml` has the papers' scale, `smoke.yaml` a toy scale and
`demo.yaml` one network. Choose one with `snakemake --cores 8 --configfile config/paper.yaml`. Each
names its own results folder, the papers whose experiments it runs and, if not all, which;
`overrides` changes an experiment for this configuration only, key by key (`null` removes a key).
One key can also be changed for one run, as in `--config device=cpu seeds=2`. Snakemake reads every
word after `--configfile` and `--config` as a value: write `--` before targets.

A paper is a folder with a `paper.yaml`; an experiment is one file of its `experiments/`, or of
`config/experiments/`. Every combination of case × width × learning rate × seed is a run; its
figures go to `<results>/figures/<paper>/`.

Networks, sources of data, losses, initialisations, optimisers, schedules, measurements and flows
are *parts*: each is named by its `kind` (data by `source`, measurements and flows by their key) and
brings its own options, whether it is of the library, of a paper here, or of a folder of your own
([how to add one](../docs/how-to/extending.md)). A part without options, or with all at their
defaults, may stand as its name alone: `loss: mse`.

Check a file without running anything: `python -m sharpflow.config check config/config.yaml`.
This page and `schema.json` are generated: `make config-reference`.
"""

_CHOICES = {
    "data": "data",
    "model": "models",
    "loss": "losses",
    "initialisation": "initialisations",
    "optimiser": "optimisers",
    "schedule": "schedules",
}
"""Keys that hold a part, and the section that has them."""
_SECTIONS = {
    "data": "Data",
    "models": "Models",
    "losses": "Losses",
    "initialisations": "Initialisations",
    "optimisers": "Optimisers",
    "schedules": "Schedules",
    "measurements": "Measurements",
    "flows": "Flows",
}


def readme(types: Types) -> str:
    """The text of `config/README.md`."""
    definitions = json.loads(schema(types))["$defs"]
    lines = [_HEADER]
    written: set[str] = {"Setup"}

    def write(name: str, heading: str, fields: Mapping[str, Any], home: str = "") -> None:
        part = definitions[name]
        keys = [key for key in fields if key in part["properties"]]
        keys.sort(key=lambda key: _FIRST.index(key) if key in _FIRST else len(_FIRST))
        keys.sort(key=lambda key: key not in ("kind", "source"))
        description = " ".join(part.get("description", "").split())
        lines.extend([f"{heading} {name}", "", f"{home}{description}", "", *_table(part, keys), ""])
        written.add(name)

    write("Configuration", "##", types.configuration.model_fields)
    write("Experiment", "##", types.experiment.model_fields)
    write("Training", "##", Training.model_fields)
    write("Paper", "##", Paper.model_fields)
    for kind, title in _SECTIONS.items():
        lines += [f"## {title}", ""]
        if kind in BY_KEY:
            write(title, "###", getattr(types, kind).model_fields)
        for name, options in types.options(kind).items():
            owner = f"papers/{options.paper_key}" if options.paper_key else "sharpflow"
            home = f"`{owner}/{kind}/{name}`. "
            write(options.__name__, "###", options.model_fields, home)
    rest = [n for n, part in definitions.items() if n not in written and "properties" in part]
    lines += ["## Further mappings", ""] if rest else []
    for name in rest:
        write(name, "###", definitions[name]["properties"])
    return "\n".join(lines).rstrip() + "\n"
