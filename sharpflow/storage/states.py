"""States of training, or of what runs beside it, in one file: tensors by step and name."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from sharpflow.storage.tensors import TensorFile, write_tensors


def _prefix(step: int) -> str:
    return f"{step:08d}/"


def write_states(
    path: str | Path, states: Mapping[int, Mapping[str, Tensor]], origin: str, device: str
) -> None:
    """Write states.

    Args:
        path: where to.
        states: tensors by name, by step.
        origin: fingerprint of what made them.
        device: what they were made on.
    """
    tensors = {
        f"{_prefix(step)}{name}": tensor
        for step, state in states.items()
        for name, tensor in state.items()
    }
    described = {"steps": sorted(states), "origin": origin, "device": device}
    write_tensors(path, tensors, described)


def state_at(file: TensorFile, step: int) -> dict[str, Tensor]:
    """The state of a step in a file that `write_states` wrote."""
    prefix = _prefix(step)
    tensors = file.read([name for name in file.names() if name.startswith(prefix)])
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
