"""A product of scalars: the simplest networks whose gradient descent has an edge of stability.

Source: Zhu, Wang, Wang, Zhou, Ge 2023, "Understanding Edge-of-Stability Training Dynamics with a
Minimalist Example", with four scalars.
"""

from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field

from sharpflow.models.base import Model
from sharpflow.parts.options import ModelOptions


class Options(ModelOptions):
    """f(x) = x·θ₁θ₂⋯, of which the first half of the scalars starts large and the others small."""

    scalars: Annotated[int, Field(ge=2, le=16, multiple_of=2)] = 4
    """Number of scalars."""
    large: Annotated[float, Field(gt=0, le=1e3)] = 2.0
    """Start of the large ones; that of the small ones is its inverse, so that the product is 1."""
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Standard deviation of the logarithm of each start, about those."""
    descended: Literal["loss", "root"] = "loss"
    """Whether training descends the loss L or √L; L is what is recorded and measured."""

    def capabilities(self):
        """Its Hessian is formed whole."""
        return frozenset({"few parameters"})

    def check(self, form, width):
        """One number goes in and one comes out."""
        if (form.size, form.outputs) != (1, 1):
            raise ValueError(f"it takes 1 input and 1 output, not {form.size} and {form.outputs}")

    def parameter_count(self, form, width):
        """The scalars."""
        return self.scalars


class Product(Model):
    """The product, with `scalars` (R, count)."""

    def __init__(self, count: int, large: float, jitter: float, root: bool):
        self.layers = [["scalars"]]
        self.capabilities = frozenset({"few parameters"})
        self.start = torch.tensor([large, 1 / large], dtype=torch.float64)
        self.start = self.start.repeat_interleave(count // 2)
        self.jitter, self.root = jitter, root

    def initialise(self, dataset, generator):
        """One run's scalars, float64."""
        drawn = torch.randn(len(self.start), dtype=torch.float64, generator=generator)
        return {"scalars": self.start * torch.exp(self.jitter * drawn)}

    def __call__(self, parameters, inputs):
        """Outputs (R, n, 1) for inputs (n, 1) or (R, n, 1)."""
        return inputs * parameters["scalars"].prod(-1)[:, None, None]

    def loss_and_gradient(self, parameters, inputs, targets, loss, *args, **kwargs):
        """L of each run, and the gradient of what is descended; 0 for √L where L is 0."""
        found = super().loss_and_gradient(parameters, inputs, targets, loss, *args, **kwargs)
        if not self.root:
            return found
        factor = (0.5 / found.losses.sqrt()).where(found.losses > 0, 0.0)
        scaled = {name: factor[:, None] * each for name, each in found.gradients.items()}
        return replace(found, gradients=scaled)


def build(options, setting):
    """The network of `{kind: product, scalars, …}`; the width means nothing to it."""
    root = options["descended"] == "root"
    return Product(options["scalars"], options["large"], options["jitter"], root)
