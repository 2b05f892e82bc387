"""A frozen dense network with low-rank adapters (Hu et al. 2021), of one hidden layer of ReLUs."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from sharpflow.models.base import Model
from sharpflow.parts.options import ModelOptions, Seed

LAYERS = ("first", "last")


class Options(ModelOptions):
    """W + BA in the place of each of two weights W, which stay; the run's width is that of W.

    A is (rank, inputs), B is (outputs, rank). One of them starts at zero, the other one as
    PyTorch's linear layers do, so that training starts at the frozen network.
    """

    rank: Annotated[int, Field(ge=1, le=256)] = 4
    """Rank of the adapters."""
    zero: Literal["A", "B"] = "B"
    """Which of the two starts at zero; B is the usual choice."""
    start: Annotated[float, Field(gt=0, le=100)] = 1.0
    """What the start of the other one is multiplied by."""
    base: Seed = 0
    """Of the frozen network."""

    def check(self, form, width):
        """Adapters are of lower rank than their weights."""
        sizes = [size for size in (form.size, width, form.outputs) if size is not None]
        if self.rank > min(sizes):
            raise ValueError(
                f"rank = {self.rank} is above that of a weight; the layers have {sizes} units"
            )

    def parameter_count(self, form, width):
        """A and B of both layers."""
        if form.size is None or form.outputs is None:
            return None
        return self.rank * (form.size + 2 * width + form.outputs)

    def multiplications(self, form, width):
        """Those of the frozen weights and of the adapters."""
        if form.size is None or form.outputs is None:
            return None
        return (self.rank + width) * (form.size + form.outputs) + 2 * self.rank * width


def base_weights(inputs: int, width: int, outputs: int, seed: int) -> dict[str, Tensor]:
    """The frozen network of a seed: (width, inputs) and (outputs, width), float64.

    Normal numbers of variance 2/inputs and 1/width.
    """
    source = torch.Generator().manual_seed(seed)
    first, last = (
        torch.randn(*shape, dtype=torch.float64, generator=source)
        for shape in ((width, inputs), (outputs, width))
    )
    return {"first": first * math.sqrt(2 / inputs), "last": last / math.sqrt(width)}


def dense(weights: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Outputs (..., n, k) of the network that a pair of weights is."""
    return torch.relu(inputs @ weights["first"].mT) @ weights["last"].mT


class Adapted(Model):
    """`first.A`, `first.B`, `last.A` and `last.B`, each (R, …)."""

    def __init__(self, setting, rank: int, zero: str, start: float, base: int):
        self.layers = [[f"{name}.A", f"{name}.B"] for name in LAYERS]
        self.rank, self.zero, self.start = rank, zero, start
        self.base = base_weights(setting.input_shape[0], setting.width, setting.outputs, base)

    def initialise(self, dataset, generator):
        """One run's adapters, float64."""
        found = {}
        for name, weight in self.base.items():
            outputs, inputs = weight.shape
            shapes = {"A": (self.rank, inputs), "B": (outputs, self.rank)}
            for side, shape in shapes.items():
                drawn = torch.rand(*shape, dtype=torch.float64, generator=generator)
                factor = 0.0 if side == self.zero else self.start / math.sqrt(shape[1])
                found[f"{name}.{side}"] = factor * (2 * drawn - 1)
        return found

    def __call__(self, parameters, inputs):
        """Outputs (R, n, k) for inputs (n, d) or (R, n, d)."""
        weights = {
            name: weight.to(inputs) + parameters[f"{name}.B"] @ parameters[f"{name}.A"]
            for name, weight in self.base.items()
        }
        return dense(weights, inputs)


def build(options, setting):
    """The network of `{kind: adapters, rank, zero, start, base}`."""
    names = ("rank", "zero", "start", "base")
    return Adapted(setting, *(options[name] for name in names))
