"""Where in a configuration a key may stand."""

import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The model classes that an annotation names, itself or as members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in models_in(part)]


def places(model: type[BaseModel] | BaseModel, key: str) -> list[str]:
    """The dotted keys that end in a key, those with the fewest dots first.

    Args:
        model: a class, whose options are all looked through; or a document of it, and then only
            the options that it has.
        key: one name, or the last names of a dotted key: `activation`, `model.activation`.
    """
    return _sorted(_ending(model, f".{key}", ""))


def all_places(model: type[BaseModel] | BaseModel) -> list[str]:
    """Every dotted key of a class or document, likewise."""
    return _sorted(_ending(model, "", ""))


def _sorted(names: Iterator[str]) -> list[str]:
    found = dict.fromkeys(names)
    return sorted(found, key=lambda name: name.count("."))


def _ending(model: type[BaseModel] | BaseModel, end: str, above: str) -> Iterator[str]:
    fields = (model if isinstance(model, type) else type(model)).model_fields
    for name, field in fields.items():
        full = f"{above}.{name}"
        if full.endswith(end):
            yield full[1:]
        if isinstance(model, type):
            inner: list[Any] = models_in(field.annotation)
            inner += [m for mark in field.metadata for m in models_in(mark)]
        else:
            value = getattr(model, name)
            inner = [value] if isinstance(value, BaseModel) else []
        for each in inner:
            yield from _ending(each, end, full)
