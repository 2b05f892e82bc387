"""Normal inputs, and what a frozen network makes of them after a change of low rank, with noise."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import Form, Seed

from ..models.adapters import base_weights, dense
from ._teacher import Draws
from ._teacher_options import TeacherOptions


class Options(TeacherOptions):
    """Normal x, y = teacher(x) + ε, of a teacher that is a frozen network but for low-rank changes.

    Each of its two weights W is changed by one of the given rank, of norm ‖W‖ times `change`.
    """

    inputs: Annotated[int, Field(ge=1, le=4096)] = 20
    """Numbers in an input."""
    hidden: Annotated[int, Field(ge=1, le=4096)] = 32
    """Hidden units of the teacher."""
    outputs: Annotated[int, Field(ge=1, le=4096)] = 8
    """Numbers in an output."""
    rank: Annotated[int, Field(ge=1, le=256)] = 4
    """Rank of the changes."""
    change: Annotated[float, Field(ge=0, le=100)] = 0.5
    """Norm of a change over that of the weight that it changes."""
    base: Seed = 0
    """Of the frozen network: that of the model `adapters` with the same number and sizes."""

    def form(self):
        """Vectors in and out."""
        return Form("vectors", (self.inputs,), self.outputs, "real", self.samples)


def generate(spec):
    """Inputs (n, d) and targets (n, k)."""
    draws = Draws(spec)
    sizes = spec["inputs"], spec["hidden"], spec["outputs"]
    weights = base_weights(*sizes, spec["base"])
    for name, weight in weights.items():
        left, right = (draws.normal(size, spec["rank"]) for size in weight.shape)
        change = left @ right.T
        weights[name] = weight + spec["change"] * weight.norm() / change.norm() * change
    inputs = draws.inputs(spec["samples"], spec["inputs"])
    targets = draws.noisy(dense(weights, inputs))
    return {"inputs": inputs.float(), "targets": targets.float()}, {"source": "adapter_teacher"}
