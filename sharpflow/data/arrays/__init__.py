"""A user's arrays, from a `.npz` or safetensors file."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from safetensors import safe_open

from sharpflow.data.base import Dataset, reason
from sharpflow.data.user_arrays import dataset
from sharpflow.errors import DataError
from sharpflow.parts.words import nearest
from sharpflow.storage.files import sha256_of


def read_arrays(path: str, names: Sequence[str]) -> list[Any]:
    """Arrays of a file, by name.

    Args:
        path: of a `.npz` or `.safetensors` file.
        names: of the arrays.

    Returns:
        NumPy arrays or tensors, in the order of the names.

    Raises:
        DataError: the file cannot be read, lacks an array, or holds one of pickled objects.
    """
    try:
        if path.endswith(".safetensors"):
            with safe_open(path, framework="pt") as file:
                return _taken(file.keys(), file.get_tensor, names, path)
        with open(path, "rb") as raw:
            file = np.load(raw, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise DataError(f"{path} holds one array without a name; save it with numpy.savez.")
            return _taken(file.files, file.__getitem__, names, path)
    except DataError:
        raise
    except Exception as error:  # what a broken file raises differs by format
        raise DataError(f"{path} cannot be read as arrays: {reason(error)}.") from error


def _taken(known: Sequence[str], get: Any, names: Sequence[str], path: str) -> list[Any]:
    for name in names:
        if name not in known:
            raise DataError(
                f"{path} has no array {name!r}; it has {', '.join(map(repr, known)) or 'none'}."
                f"{nearest(name, known)}"
            )
    return [get(name) for name in names]


def generate(spec: Mapping[str, Any]) -> Dataset:
    """Make the dataset of `{source: arrays, path, input_key, target_key, input_form, …}`.

    Returns:
        The dataset's tensors, and where they come from.

    Raises:
        DataError: the file cannot be read, or an array is not what it must be.
    """
    path = spec["path"]
    by_default = "targets" if spec["task"] == "regression" else "labels"
    names = (spec["input_key"], spec["target_key"] or by_default)
    inputs, answers = read_arrays(path, names)
    tensors = dataset(inputs, answers, names, spec, path)
    return tensors, {"source": "arrays", "sha256": sha256_of(path)}
