"""Options of a user's arrays."""

from typing import Annotated

from pydantic import Field

from sharpflow.data.class_options import ArrayOptions
from sharpflow.parts.options import UserPath


class Options(ArrayOptions):
    """Arrays of a `.npz` or safetensors file; targets may have any number of outputs."""

    path: Annotated[str, UserPath("data"), Field(pattern=r"\.(npz|safetensors)$")]
    """A file `.npz`, as `numpy.savez` writes it, or `.safetensors`. Nothing in it is unpickled."""
    input_key: Annotated[str, Field(min_length=1)] = "inputs"
    """Name of the array of inputs."""
    target_key: Annotated[str, Field(min_length=1)] | None = None
    """Name of the array of targets or labels; by default `targets` for regression, else
    `labels`."""
