"""Data of the user's own: what a function of their file returns."""

from collections.abc import Mapping
from typing import Any

from sharpflow.data.base import Dataset
from sharpflow.data.user_arrays import dataset
from sharpflow.errors import PartError
from sharpflow.parts.loading import explained
from sharpflow.parts.user_code import user_function
from sharpflow.storage.files import sha256_of


def returned(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Call the function of `{file, function, options}`.

    Returns:
        What it returns.

    Raises:
        PartError: the file cannot be imported or has no such function, the function does not take
            the options or fails, or it returns no mapping.
    """
    file, name = spec["file"], spec["function"]
    function = user_function(file, name, spec["options"], {}, "data.options")
    with explained(f"the function {name!r} of {file}"):
        result = function()
    if not isinstance(result, Mapping):
        raise PartError(
            f"The function {name!r} of {file} returns a {type(result).__name__}; it must return a "
            "mapping with 'inputs', and 'targets' or 'labels'."
        )
    return result


def generate(spec: Mapping[str, Any]) -> Dataset:
    """Make the dataset of `{source: function, file, function, options, input_form, …}`.

    Returns:
        The dataset's tensors, and where they come from.

    Raises:
        PartError: the function cannot be called, or what it returns lacks an array.
        DataError: an array is not what it must be.
    """
    file, name = spec["file"], spec["function"]
    result = returned(spec)
    names = ("inputs", "targets" if spec["task"] == "regression" else "labels")
    for key in names:
        if key not in result:
            raise PartError(
                f"The function {name!r} of {file} returns a mapping without {key!r}, which task = "
                f"{spec['task']} needs; it has {', '.join(map(repr, result)) or 'nothing'}."
            )
    where = f"the function {name!r} of {file}"
    tensors = dataset(result["inputs"], result[names[1]], names, spec, where)
    return tensors, {"source": "function", "function": name, "sha256": sha256_of(file)}
