"""Validation errors as one paragraph: file, key, value, what is allowed, the nearest key."""

import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from sharpflow.parts.words import nearest


def _models_at(model: type[BaseModel], location: Sequence[Any]) -> list[type[BaseModel]]:
    """The model classes that stand at a location, discriminator tags skipped."""
    current: list[Any] = [model]
    for part in location:
        following: list[Any] = []
        for item in current:
            if isinstance(part, str) and part in item.model_fields:
                following += _models_in(item.model_fields[part].annotation)
            elif isinstance(part, int) or part not in item.model_fields:
                following.append(item)
        current = following or current
    return current


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in typing.get_args(annotation) for m in _models_in(part)]


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


def _allowed(error: Mapping[str, Any]) -> str:
    context = error.get("ctx", {})
    kind = error["type"]
    if kind in ("literal_error", "union_tag_invalid"):
        return f"allowed: {context.get('expected') or context.get('expected_tags')}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return "this key is required"
    message = error["msg"]
    return message[0].lower() + message[1:]


def _other(error: Mapping[str, Any]) -> bool:
    """Whether a mapping was given where this branch of a union wants a list, or the reverse."""
    given = {"list_type": Mapping, "dict_type": list}.get(error["type"])
    return given is not None and isinstance(error["input"], given)


def explain(error: ValidationError, model: type[BaseModel], document: Any, file_of: Any) -> str:
    """One paragraph for the first error of a validation.

    Args:
        error: what the validation raised.
        model: the class that the document was validated against.
        document: what was validated.
        file_of: function of a list of keys that names the file in which they stand.
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
        return (
            f"{file_of(keys)}: unknown key {'.'.join(keys)!r} (value {value!r}). "
            f"Keys allowed here: {', '.join(known)}.{nearest(str(location[-1]), known)}"
        )
    if first["type"] == "missing":
        keys.append(str(location[-1]))
        return f"{file_of(keys[:-1])}: the key {'.'.join(keys)!r} is missing."
    if first["type"] == "union_tag_not_found":
        wanted = first.get("ctx", {})["discriminator"].strip("'")
        return f"{file_of(keys)}: the key '{'.'.join([*keys, wanted])}' is missing."
    allowed = _allowed(first)
    if location and location[-1] == "[key]":
        return f"{file_of(keys)}: the name {location[-2]!r} in {'.'.join(keys[:-1])}: {allowed}."
    if not keys:
        named = [file_of([key]) for key in re.findall(r"(\w+) = ", allowed)]
        file = next((file for file in named if file != file_of([])), file_of([]))
        return f"{file}: {allowed}."
    return f"{file_of(keys)}: {'.'.join(keys)} = {value!r}: {allowed}.{_guess(first, value)}"


def _guess(error: Mapping[str, Any], value: Any) -> str:
    """The nearest of the words that an error allows, or nothing."""
    text = _allowed(error)
    if error["type"] == "union_tag_invalid":
        value = error["ctx"]["tag"]
    if error["type"] == "value_error":
        member = re.match(r"'(.*)' is not one of (.*)", text)
        return nearest(member[1], member[2].split(", ")) if member else ""
    return nearest(value, re.findall(r"'([^']*)'", text)) if isinstance(value, str) else ""
