"""Validation errors as one paragraph: file, key, value, what is allowed, the nearest key."""

import json
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from sharpflow.config.keys import models_in, places
from sharpflow.parts.words import nearest


def _models_at(model: type[BaseModel], location: Sequence[Any]) -> list[type[BaseModel]]:
    """The model classes that stand at a location, discriminator tags skipped."""
    current: list[Any] = [model]
    for part in location:
        following: list[Any] = []
        for item in current:
            if isinstance(part, str) and part in item.model_fields:
                following += models_in(item.model_fields[part].annotation)
            elif isinstance(part, int) or part not in item.model_fields:
                following.append(item)
        current = following or current
    return current


def _tag(model: type[BaseModel], name: int | str) -> bool:
    for key in ("source", "kind"):
        field = model.model_fields.get(key)
        if field is not None and typing.get_args(field.annotation) == (name,):
            return True
    return False


def _walk(document: Any, location: Sequence[Any]) -> tuple[list[str], Any]:
    """The keys of a location that stand in the document (union tags drop out), and its value."""
    keys: list[str] = []
    for part in location:
        if isinstance(document, Mapping) and part in document:
            keys.append(str(part))
            document = document[part]
        elif isinstance(document, list) and isinstance(part, int) and part < len(document):
            keys[-1] += f"[{part}]"
            document = document[part]
    return keys, document


def _allowed(error: Mapping[str, Any], key: str, models: Sequence[type[BaseModel]]) -> str:
    """What may stand at a key, in words."""
    context = error.get("ctx", {})
    kind = error["type"]
    if kind == "list_type":
        one = isinstance(error["input"], str | int | float) and key
        return "a list of values" + (f"; write {key}: [{_shown(error['input'])}]" if one else "")
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return "a mapping of keys to values" + _as_mapping(error, key, models)
    if kind in ("literal_error", "union_tag_invalid"):
        return f"allowed: {context.get('expected') or context.get('expected_tags')}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return "this key is required"
    message = error["msg"]
    return message[0].lower() + message[1:]


def _shown(value: Any) -> str:
    """A value as YAML has it in a line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _as_mapping(error: Mapping[str, Any], key: str, models: Sequence[type[BaseModel]]) -> str:
    """What to write where a name, names, or one value stand in the place of a mapping."""
    value = error["input"]
    typed = error["type"] != "dict_type"
    fields = [name for model in models for name in model.model_fields] if typed else []
    tag = next((each for each in ("source", "kind") if each in fields), None)
    names = value if isinstance(value, list) else [value]
    if tag and isinstance(value, str):
        return f"; write {key}: {{{tag}: {value}}}"
    if names and all(isinstance(n, str) and (not fields or n in fields) for n in names):
        return f"; write {key}: {{{', '.join(f'{name}: {{}}' for name in names)}}}"
    return f"; its keys: {', '.join(dict.fromkeys(fields))}" if fields else ""


def _elsewhere(
    key: str,
    value: Any,
    model: type[BaseModel],
    at: Sequence[str],
    further: Mapping[str, type[BaseModel]],
) -> str:
    """Where an unknown key would be known: deeper down, or in one of the further models; or ""."""
    found = [p for p in places(model, key) if p.split(".")[:-1] != list(at)]
    for above, other in further.items():
        found += [f"{above}.{place}" for place in places(other, key)[:1]]
    if not found:
        return ""
    written = "".join(f"{part}: {{" for part in found[0].split(".")[:-1])
    closed = "}" * written.count("{")
    return f" Where {key!r} is a key: {written}{key}: {_shown(value)}{closed}."


def _other(error: Mapping[str, Any]) -> bool:
    """Whether a mapping was given where this branch of a union wants a list, or the reverse."""
    given = {"list_type": Mapping, "dict_type": list}.get(error["type"])
    return given is not None and isinstance(error["input"], given)


def explain(
    error: ValidationError,
    model: type[BaseModel],
    document: Any,
    file_of: Any,
    further: Mapping[str, type[BaseModel]] | None = None,
) -> str:
    """One paragraph for the first error of a validation.

    Args:
        error: what the validation raised.
        model: the class that the document was validated against.
        document: what was validated.
        file_of: function of a list of keys that names the file in which they stand.
        further: further models, by the dotted key at which such a document may stand.
    """
    first = min(
        error.errors(), key=lambda e: (e["type"] != "extra_forbidden", _other(e), len(e["loc"]))
    )
    location = first["loc"]
    keys, value = _walk(document, location)
    if first["type"] == "extra_forbidden":
        parents = _models_at(model, location[:-1])
        tags = [part for part in location if any(_tag(m, part) for m in parents)]
        if tags:
            parents = [m for m in parents if _tag(m, tags[-1])]
        known = sorted({name for m in parents for name in m.model_fields})
        key = str(location[-1])
        hint = nearest(key, known) + _elsewhere(key, value, model, keys[:-1], further or {})
        return (
            f"{file_of(keys)}: unknown key {'.'.join(keys)!r} (value {value!r}). "
            f"Keys allowed here: {', '.join(known)}.{hint}"
        )
    if first["type"] == "missing":
        keys.append(str(location[-1]))
        return f"{file_of(keys[:-1])}: the key {'.'.join(keys)!r} is missing."
    if first["type"] == "union_tag_not_found":
        wanted = first.get("ctx", {})["discriminator"].strip("'")
        return f"{file_of(keys)}: the key '{'.'.join([*keys, wanted])}' is missing."
    key = keys[-1] if keys else ""
    allowed = _allowed(first, key, _models_at(model, location))
    if first["type"] == "literal_error":  # of a union whose other branch may be a list
        others = (e for e in error.errors() if e["type"] == "list_type")
        lists = [e for e in others if _walk(document, e["loc"])[0] == keys]
        allowed = ", or ".join([allowed, *(_allowed(e, key, ()) for e in lists)])
    if location and location[-1] == "[key]":
        return f"{file_of(keys)}: the name {location[-2]!r} in {'.'.join(keys[:-1])}: {allowed}."
    if not keys:
        named = [file_of([key]) for key in re.findall(r"(\w+) = ", allowed)]
        file = next((file for file in named if file != file_of([])), file_of([]))
        return f"{file}: {allowed}."
    return f"{file_of(keys)}: {'.'.join(keys)} = {value!r}: {allowed}.{_guess(first, value)}"


def _guess(error: Mapping[str, Any], value: Any) -> str:
    """The nearest of the words that an error allows, or nothing."""
    text = _allowed(error, "", ())
    if error["type"] == "union_tag_invalid":
        value = error["ctx"]["tag"]
    if error["type"] == "value_error":
        member = re.match(r"'(.*)' is not one of (.*)", text)
        return nearest(member[1], member[2].split(", ")) if member else ""
    return nearest(value, re.findall(r"'([^']*)'", text)) if isinstance(value, str) else ""
