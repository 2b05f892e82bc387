"""Shards of small Gaussian experiments, as the workflow hands them to training."""

from typing import Any

import torch

from sharpflow.data.gaussian import generate
from sharpflow.training import Problem

FAN_IN = {"u": 1.0, "w": 1.0, "unit": "fan_in"}


def population(inputs: int = 5, outputs: int = 4, **changes: Any) -> dict[str, torch.Tensor]:
    """The tensors of an anisotropic population with a rotated teacher."""
    spec = {
        "source": "gaussian",
        "inputs": inputs,
        "outputs": outputs,
        "input_std": {"first": 0.5, "last": 1.5},
        "noise_std": {"first": 1.5, "last": 0.5},
        "teacher": "rotation",
        "teacher_scale": 1.0,
        "teacher_seed": 0,
        "samples": None,
    }
    return generate(spec | changes)[0]


def shard(
    dataset: dict[str, torch.Tensor] | None = None,
    seeds: tuple[int, ...] = (0, 1, 2),
    model: dict[str, Any] | None = None,
    width: int = 6,
    learning_rate: float = 0.01,
    dtype: str = "float64",
    **training: Any,
) -> Problem:
    """A shard; `training` changes its defaults (120 steps of SGD with S = 3)."""
    two_layer = {"kind": "two_layer", "activation": "linear", "initialisation": FAN_IN}
    defaults = {
        "steps": 120,
        "batch": 3,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "frozen": 0,
        "warmup": None,
        "record_every": 10,
        "states_megabytes": 1.0,
    }
    spec = {
        "experiment": "test",
        "seeds": list(seeds),
        "width": width,
        "learning_rate": learning_rate,
        "model": two_layer | (model or {}),
        "loss": "mse",
        "training": defaults | training,
        "dtype": dtype,
        "device": "cpu",
    }
    return Problem(spec, population() if dataset is None else dataset)
