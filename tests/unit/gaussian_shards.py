"""Shards of small Gaussian experiments, as the workflow hands them to training."""

from typing import Any

import torch
from specs import part, spec

from sharpflow.data.base import generate
from sharpflow.training import Problem


def population(inputs: int = 5, outputs: int = 4, **changes: Any) -> dict[str, torch.Tensor]:
    """The tensors of an anisotropic population with a rotated teacher."""
    options = {
        "inputs": inputs,
        "outputs": outputs,
        "input_std": {"first": 0.5, "last": 1.5},
        "noise_std": {"first": 1.5, "last": 0.5},
        "teacher": "rotation",
    }
    return generate(part("data", "gaussian", **options | changes))[0]


def shard(
    dataset: dict[str, torch.Tensor] | None = None,
    seeds: tuple[int, ...] = (0, 1, 2),
    model: dict[str, Any] | None = None,
    width: int = 6,
    learning_rate: float = 0.01,
    dtype: str = "float64",
    schedule: dict[str, Any] | None = None,
    optimiser: dict[str, Any] | None = None,
    **training: Any,
) -> Problem:
    """A shard; `training` changes its defaults (120 steps of SGD with S = 3)."""
    defaults = {"steps": 120, "batch": 3, "record_every": 10, "states_megabytes": 1.0}
    chosen = spec(
        {"kind": "two_layer"} | (model or {}),
        defaults | training,
        schedule=schedule,
        optimiser=optimiser,
        seeds=list(seeds),
        width=width,
        learning_rate=learning_rate,
        dtype=dtype,
    )
    return Problem(chosen, population() if dataset is None else dataset)
