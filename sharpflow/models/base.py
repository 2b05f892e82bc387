"""What training and evaluation ask of a network."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sharpflow.data.population import Population
from sharpflow.losses.base import Loss
from sharpflow.models.input_product import InputProduct
from sharpflow.parts.loading import load_part

Parameters = dict[str, Tensor]
Batch = tuple[Tensor, Tensor, float]
"""Inputs (R, S, ...) and targets (R, S, ...) of a step, and its learning rate.

Where all runs take the same samples, R is 1.
"""
BUFFERS = "buffers/"
"""What the names of a state's tensors that are not parameters begin with, running means say."""


@dataclass(frozen=True)
class Gradient:
    """What a pass through a network gives.

    Attributes:
        losses: of each run, (R,).
        gradients: by parameter; zero for one that the loss does not use.
        buffers: the network's buffers after the pass, by name; empty where it has none.
    """

    losses: Tensor
    gradients: Parameters
    buffers: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class Pass:
    """What a pass through a network needs beside parameters and samples.

    Attributes:
        buffers: the network's buffers, each (R, ...).
        seeds: of the random numbers that the network draws, one a run.
    """

    buffers: Parameters = field(default_factory=dict)
    seeds: tuple[int, ...] = ()


STATELESS = Pass()


class Model(ABC):
    """A network as pure functions of its parameters, for R runs at once.

    Attributes:
        layers: names of the parameters of each layer, from the input to the output layer.
        capabilities: what can be done with it beyond what this class asks for:
            `dense stack`: `dense_stack(parameters)` gives weights and biases, `activation` names φ;
            `kept pass`: `keep_pass(parameters, inputs)` gives the forward pass of a dense stack for
            all runs, and saves the step from the same parameters its own;
            `convolution stack`: `convolution_stack(parameters)` gives kernels and biases;
            `population loss`: `population_loss` is the loss over the population in closed form;
            `written-out steps`: `descend` takes steps of SGD without automatic differentiation,
            and `descend_population` does, where the network has a population loss, those of GD.
        draws: whether a pass in training draws random numbers.
        stateless: whether it has no buffers and draws nothing, so that calling it says all.
    """

    layers: list[list[str]]
    capabilities: frozenset[str] = frozenset()
    draws: bool = False
    stateless: bool = True

    def data_inputs(self, dataset: Mapping[str, Tensor]) -> Tensor:
        """The form of a dataset's inputs that this network takes, (n, ...)."""
        return dataset["inputs"]

    @abstractmethod
    def initialise(self, dataset: Mapping[str, Tensor], generator: torch.Generator) -> Parameters:
        """Parameters of one run (no run dimension), drawn from `generator`."""

    def buffers(self) -> Parameters:
        """Buffers of one run at the start, by name."""
        return {}

    @abstractmethod
    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Outputs (R, m, k) for inputs (n, ...) that all runs share, or (R, n, ...).

        m is n, or n times the length of a sequence.
        """

    def loss_and_gradient(
        self,
        parameters: Parameters,
        inputs: InputProduct,
        targets: Tensor,
        loss: Loss,
        moment: Pass = STATELESS,
    ) -> Gradient:
        """Loss of each run over rows of samples, and its gradient; by automatic differentiation."""
        return Gradient(*differentiate(lambda p: loss(self(p, inputs.matrix), targets), parameters))

    def network(self, moment: Pass, run: int) -> Callable[[Parameters, Tensor], Tensor]:
        """Outputs (m, k) of one run as a function of its parameters (no run dimension) and inputs.

        It is the function whose loss is measured: it draws nothing and changes no buffer.
        """

        def outputs(parameters: Parameters, inputs: Tensor) -> Tensor:
            return self({name: t.unsqueeze(0) for name, t in parameters.items()}, inputs)[0]

        return outputs

    def population_loss(self, parameters: Parameters, population: Population) -> Tensor:
        """The squared error over a population, (R,), where it is known in closed form."""
        raise NotImplementedError

    def descend(
        self, parameters: Parameters, batches: Iterable[Batch], weight_decay: float
    ) -> Parameters:
        """The parameters after a step of SGD a batch on the squared error, written out."""
        raise NotImplementedError

    def descend_population(
        self,
        parameters: Parameters,
        population: Population,
        learning_rates: Iterable[float],
        weight_decay: float,
    ) -> Parameters:
        """The parameters after a step a learning rate on `population_loss`, written out."""
        raise NotImplementedError


@dataclass(frozen=True)
class Setting:
    """What a network is built for.

    Attributes:
        width: of the run.
        input_shape: of one sample's inputs.
        outputs: numbers a row.
        compressed: whether inputs in more dimensions than there are samples may be rotated into
            the space that they span, which leaves any rotation-invariant training as it is.
        vocabulary: number of different tokens, where the inputs are tokens.
    """

    width: int
    input_shape: tuple[int, ...]
    outputs: int
    compressed: bool = True
    vocabulary: int | None = None


def differentiate(
    loss: Callable[[Parameters], Tensor], parameters: Parameters
) -> tuple[Tensor, Parameters]:
    """The loss of each run, (R,), and its gradient by automatic differentiation."""
    leaves = {name: t.detach().requires_grad_() for name, t in parameters.items()}
    losses = loss(leaves)
    gradients = torch.autograd.grad(
        losses.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    return losses.detach(), dict(zip(leaves, gradients, strict=True))


def build(options: Mapping[str, Any], setting: Setting) -> Model:
    """The network that the `model` part of an experiment describes.

    `options["kind"]` names the part whose `build(options, setting)` makes it.
    """
    return load_part("models", options).build(options, setting)
