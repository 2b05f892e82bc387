"""The reference of the configuration, made from its types."""

import json
from typing import Any

from sharpflow.config import types
from sharpflow.config.types import Configuration, Experiment


def schema() -> str:
    """JSON schema of both kinds of file, as text."""
    documents = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sharpflow configuration",
        "description": "$defs/Configuration: config/*.yaml; $defs/Experiment: config/experiments.",
    }
    definitions: dict[str, Any] = {}
    for model in (Configuration, Experiment):
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
            return " or ".join(_type(part) for part in field[key])
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
    return " ".join([{"null": "`null`"}.get(kind, kind), ", ".join(bounds)]).strip()


def _default(field: dict[str, Any], required: bool) -> str:
    if required:
        return "required"
    if isinstance(field.get("default"), dict) and field["default"]:
        return "its keys' defaults"
    return f"`{json.dumps(field.get('default'))}`"


def _table(part: dict[str, Any]) -> list[str]:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, field in part["properties"].items():
        cells = [
            f"`{key}`",
            _type(field).replace("|", "\\|"),
            _default(field, key in part.get("required", [])),
            field.get("description", "").replace("|", "\\|").replace("\n", " "),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


_HEADER = """# Configuration

`config.yaml` is the default; `paper.yaml` has the papers' scale and `smoke.yaml` a toy scale.
Choose one with `snakemake --cores 8 --configfile config/paper.yaml`. Each names its own results
folder and the experiments that it runs; `overrides` changes an experiment for this configuration
only, key by key (`null` removes a key). One key can also be changed for one run, as in
`--config device=cpu`.

An experiment is one file of `experiments/`: **a new experiment made of existing parts is a new
file here, and no code**. With `experiments: all` it is picked up by itself. Every combination of
case × width × learning rate × seed is a run; its figures go to `<results>/figures/<paper>/`.

Check a file without running anything: `python -m sharpflow.config check config/config.yaml`.
This page and `schema.json` are generated from `sharpflow/config/types.py`: `make config-reference`.
"""


def readme() -> str:
    """The text of `config/README.md`."""
    definitions = json.loads(schema())["$defs"]
    order = ["Configuration", "Experiment"]
    order += [name for name in definitions if name not in (*order, "Setup")]
    lines = [_HEADER]
    for name in order:
        part = definitions[name]
        if "properties" not in part:
            continue
        description = part.get("description", "").replace("\n", " ")
        lines += [f"## {name}", "", description, "", *_table(_ordered(name, part)), ""]
    return "\n".join(lines).rstrip() + "\n"


def _ordered(name: str, part: dict[str, Any]) -> dict[str, Any]:
    fields = getattr(types, name).model_fields
    return part | {"properties": {key: part["properties"][key] for key in fields}}
